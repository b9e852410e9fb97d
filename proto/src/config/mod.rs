//! `maglica.conf`: one schema for the one file that all three programs read.
//!
//! | file | owns |
//! | --- | --- |
//! | `mod` | where the file is looked for, and in which order sources count |
//! | [`schema`] | what the file says, checked |
//! | `bounds` | how much a text may make of itself |
//! | `build` | the type, default and bounds of every key |
//! | `read` | taking values out of the parsed tree, and what is said of a wrong one |
//! | `machine` | what the defaults ask of the machine |
//! | [`keyfile`] | key files: private ones only their owner can read, written whole or not at all |
//!
//! Looked for in: the path that was named (`--config`), `$MAGLICA_CONFIG`, `/etc/maglica.conf`,
//! `/etc/maglica/maglica.conf`; the first that there is counts. A named file must exist; without any file everything
//! has its default. Variables such as `MAGLICA__CLIENT__REP_PORT` override the file. Not here: what the programs do with it.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat};

mod bounds;
mod build;
pub mod folder;
pub mod keyfile;
mod machine;
mod read;
pub mod schema;

pub use read::BadKey;
pub use schema::{
    Accel, Client, Config, ConfiguredHost, Host, Jobs, Libvirt, Listen, Log, LogLevel, Operator, ServerAddress, Timing,
};

/// The variable that names the file.
pub const PATH_VARIABLE: &str = "MAGLICA_CONFIG";
/// Where the file is looked for when nobody names it.
pub const DEFAULT_PATHS: [&str; 2] = ["/etc/maglica.conf", "/etc/maglica/maglica.conf"];
/// What the variables that override single keys begin with.
const VARIABLE_PREFIX: &str = "MAGLICA";
/// What stands between the parts of such a variable; two, for keys have single ones inside.
const VARIABLE_SEPARATOR: &str = "__";

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was named and is not there, or cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not YAML.
    #[error("{} is not valid YAML: {why}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// The parser's words, with line and column.
        why: String,
    },
    /// It is YAML that takes more than a configuration ever does.
    #[error("{} is too much for a configuration: {why}", path.display())]
    TooMuch {
        /// Which file.
        path: PathBuf,
        /// What is too much.
        why: String,
    },
    /// A variable `MAGLICA__…` cannot be read.
    #[error("cannot read the environment: {0}")]
    Environment(String),
    /// A key that there is not, or a value that is not allowed.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// The machine's own name is no name for a host.
    #[error("the name of this machine cannot be its name as a host; set host.name")]
    MachineName(#[source] crate::name::InvalidName),
}

/// A configuration and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file it was read from; none if there is none and all is at its default.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Finds, reads and checks the configuration. `explicit` is the path that was given on the command line.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the key and what is allowed.
    pub fn load(explicit: Option<&Path>) -> Result<Loaded, ConfigError> {
        let variable = std::env::var_os(PATH_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let named = explicit.map(Path::to_owned).or(variable);
        load_from(named.as_deref(), &DEFAULT_PATHS.map(Path::new), None)
    }

    /// Reads a configuration from text, as a program that checks one does. `path` is only spoken of.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_yaml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        parse(Some((path, text)), Some(HashMap::new()))
    }
}

/// `variables` stands for the environment in tests.
fn load_from(
    named: Option<&Path>,
    defaults: &[&Path],
    variables: Option<HashMap<String, String>>,
) -> Result<Loaded, ConfigError> {
    let unreadable = |path: &Path, source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut found = None;
    if let Some(path) = named {
        found = Some((path, fs::read_to_string(path).map_err(|source| unreadable(path, source))?));
    } else {
        for &path in defaults {
            match fs::read_to_string(path) {
                Ok(text) => {
                    found = Some((path, text));
                    break;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(unreadable(path, source)),
            }
        }
    }
    let config = parse(found.as_ref().map(|(path, text)| (*path, text.as_str())), variables)?;
    Ok(Loaded { config, file: found.map(|(path, _)| path.to_owned()) })
}

fn parse(file: Option<(&Path, &str)>, variables: Option<HashMap<String, String>>) -> Result<Config, ConfigError> {
    let mut builder = config::Config::builder();
    if let Some((path, text)) = file {
        if let Some(why) = bounds::excess(text) {
            return Err(ConfigError::TooMuch { path: path.to_owned(), why });
        }
        // Built by itself first, so that an error of the file is not taken for one of the environment.
        let source = File::from_str(text, FileFormat::Yaml);
        let tree = config::Config::builder()
            .add_source(source)
            .build()
            .map_err(|error| ConfigError::Syntax { path: path.to_owned(), why: one_line(&error.to_string()) })?;
        builder = builder.add_source(tree);
    }
    let environment = Environment::with_prefix(VARIABLE_PREFIX)
        .prefix_separator(VARIABLE_SEPARATOR)
        .separator(VARIABLE_SEPARATOR)
        .source(variables.map(|map| map.into_iter().collect()));
    let tree = builder.add_source(environment).build().map_err(|error| ConfigError::Environment(error.to_string()))?;
    let name = file.map_or_else(|| "the configuration".to_owned(), |(path, _)| path.display().to_string());
    Ok(build::config(read::Section::root(tree.cache, name))?)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
