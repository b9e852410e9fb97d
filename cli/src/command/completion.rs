//! Completion on the command line: `maglica completion SHELL` prints the script; the script asks this program at each Tab. Names
//! of what there is come from the client worker, within a moment or not at all, and never with a word of trouble.
//!
//! What an argument wants is told by its value's name (`HOST`, `IMAGE` …), so that new commands have completion by themselves.

use std::{
    ffi::{OsStr, OsString},
    time::{Duration, Instant},
};

use clap::{Arg, Args, Command, CommandFactory, ValueEnum};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use maglica_proto::{
    config::Config,
    job::JobRow,
    request::{Answer, Request},
};

use super::Cli;
use crate::{app::App, client::Client, error::Error, exit::Exit};

/// The variable by which the script asks; its value is the shell's name.
const VARIABLE: &str = "MAGLICA_COMPLETE";
/// How long a Tab may take.
const LIMIT: Duration = Duration::from_millis(500);
/// How many of the last jobs are offered.
const JOBS: u32 = 50;
/// More names than this help nobody.
const MOST: usize = 500;

/// For which shell.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(super) fn run(&self, app: &App<'_>) -> Result<Exit, Error> {
        let name = match self.shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        };
        let mut script = Vec::new();
        let shells = Shells::builtins();
        let Some(shell) = shells.completer(name) else { return Err(Error::Usage(format!("no {name}"))) };
        shell.write_registration(VARIABLE, "maglica", "maglica", "maglica", &mut script).map_err(Error::Output)?;
        app.out.data(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Ok)
    }
}

/// Answers a shell that asks, if one does. Tells whether it did.
#[must_use]
pub(crate) fn answer(arguments: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let config = config_option(arguments);
    let factory = || with_names(Cli::command(), &[], config.as_ref());
    let here = std::env::current_dir().ok();
    // What went wrong is not to be read in the middle of somebody's command line.
    CompleteEnv::with_factory(factory)
        .var(VARIABLE)
        .completer("maglica")
        .try_complete(arguments.iter().cloned(), here.as_deref())
        .unwrap_or(true)
}

/// The configuration that is named on the line which is being typed.
fn config_option(arguments: &[OsString]) -> Option<OsString> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().cloned();
        }
        if let Some(file) = word.to_str().and_then(|word| word.strip_prefix("--config=")) {
            return Some(file.into());
        }
    }
    None
}

/// What an argument is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noun {
    Vm,
    Image,
    Host,
    Pool,
    Job,
    JobOrVm,
    Operator,
}

/// What this argument of this command wants, if it is the name of something that there is.
fn noun(path: &[&str], arg: &Arg) -> Option<Noun> {
    let value = arg.get_value_names()?.first()?.as_str();
    let makes = matches!(path, ["vm", "clone"] | ["host", "invite"] | ["operator", "add" | "join"]);
    match (value, path.first().copied()) {
        ("HOST", _) => Some(Noun::Host),
        ("IMAGE", _) => Some(Noun::Image),
        ("POOL", _) => Some(Noun::Pool),
        ("VM", _) => Some(Noun::Vm),
        ("JOB|VM", _) => Some(Noun::JobOrVm),
        ("JOB", _) | ("ID", Some("job" | "log")) => Some(Noun::Job),
        ("NAME", _) if makes => None,
        ("NAME" | "VM|GLOB" | "NAME|GLOB", Some("vm" | "snapshot")) => Some(Noun::Vm),
        ("NAME", Some("image")) => Some(Noun::Image),
        ("NAME", Some("host")) => Some(Noun::Host),
        ("NAME", Some("operator")) => Some(Noun::Operator),
        _ => None,
    }
}

fn with_names(command: Command, path: &[&str], config: Option<&OsString>) -> Command {
    let command = command.mut_args(|arg| match noun(path, &arg) {
        Some(noun) => {
            let config = config.cloned();
            arg.add(ArgValueCompleter::new(move |typed: &OsStr| candidates(noun, typed, config.as_deref())))
        }
        None => arg,
    });
    command.mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        with_names(command, &path, config)
    })
}

/// The names that begin with what is typed. Whatever goes wrong gives none.
fn candidates(noun: Noun, typed: &OsStr, config: Option<&OsStr>) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let mut names = ask(noun, config).unwrap_or_default();
    names.retain(|(name, _)| name.starts_with(typed));
    names.sort();
    names.dedup_by(|a, b| a.0 == b.0);
    names.truncate(MOST);
    names.into_iter().map(|(name, about)| CompletionCandidate::new(name).help(Some(about.into()))).collect()
}

/// Names, each with a word about it.
type Names = Vec<(String, String)>;

fn ask(noun: Noun, config: Option<&OsStr>) -> Result<Names, Error> {
    let until = Instant::now() + LIMIT;
    let config = Config::load(config.map(std::path::Path::new))?.config;
    let mut client = Client::open(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let names = runtime.block_on(async {
        let asking = names(&mut client, noun, until);
        tokio::time::timeout_at(until.into(), asking).await.unwrap_or_else(|_| Ok(Names::new()))
    });
    runtime.shutdown_background();
    names
}

async fn names(client: &mut Client, noun: Noun, until: Instant) -> Result<Names, Error> {
    let mut names = Names::new();
    if matches!(noun, Noun::Vm | Noun::JobOrVm) {
        let mut after = None;
        loop {
            let request = Request::VmList { after: after.clone() };
            let Answer::Vms { listing, next } = client.ask(&request, Duration::ZERO, until).await? else { break };
            let about =
                listing.rows.iter().map(|vm| (vm.name.to_string(), format!("{} on {}", vm.state.as_str(), vm.host)));
            names.extend(about);
            if next.is_none() || next <= after {
                break;
            }
            after = next;
        }
    }
    let request = match noun {
        Noun::Vm => return Ok(names),
        Noun::Image => Request::ImageList,
        Noun::Host | Noun::Pool => Request::HostList,
        Noun::Job | Noun::JobOrVm => Request::JobList { limit: JOBS },
        Noun::Operator => Request::OperatorList,
    };
    let answer = client.ask(&request, Duration::ZERO, until).await?;
    if let Answer::Images(listing) = answer {
        names.extend(listing.rows.iter().map(|image| (image.name.to_string(), format!("image on {}", image.host))));
    } else if let Answer::Jobs { jobs } = answer {
        let about = |job: &JobRow| format!("{} {}, {}", job.verb, job.vm, job.state.as_str());
        names.extend(jobs.iter().map(|job| (job.id.to_string(), about(job))));
    } else if let Answer::Operators { operators } = answer {
        names.extend(operators.iter().map(|row| (row.name.to_string(), row.role.as_str().to_owned())));
    } else if let Answer::Hosts { hosts } = answer {
        if noun == Noun::Pool {
            let pools = hosts.iter().flat_map(|host| &host.pools);
            names.extend(pools.map(|pool| (pool.name.to_string(), format!("{} free", pool.available))));
        } else {
            names.extend(hosts.iter().map(|host| (host.name.to_string(), host.presence.as_str().to_owned())));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nouns(path: &[&str]) -> Vec<(String, Noun)> {
        let mut command = Cli::command();
        command.build();
        for name in path {
            command = command.find_subcommand(name).unwrap().clone();
        }
        let wanted = |arg: &Arg| Some((arg.get_id().to_string(), noun(path, arg)?));
        command.get_arguments().filter_map(wanted).collect()
    }

    #[test]
    fn arguments_are_known_by_what_their_values_are_called() {
        let of = |path: &[&str], id: &str| nouns(path).into_iter().find(|(known, _)| known == id).map(|(_, noun)| noun);
        assert_eq!(of(&["vm", "clone"], "image"), Some(Noun::Image));
        assert_eq!(of(&["vm", "clone"], "on"), Some(Noun::Host));
        assert_eq!(of(&["vm", "clone"], "pool"), Some(Noun::Pool));
        assert_eq!(of(&["vm", "clone"], "hostname"), None, "a new name is nobody's yet");
        assert_eq!(of(&["vm", "show"], "bare"), Some(Noun::Vm));
        assert_eq!(of(&["job", "show"], "bare"), Some(Noun::Job));
        assert_eq!(of(&["host", "revoke"], "bare"), Some(Noun::Host));
        assert_eq!(of(&["host", "invite"], "bare"), None);
        assert_eq!(of(&["why"], "what"), Some(Noun::JobOrVm));
    }

    #[test]
    fn the_configuration_that_is_being_typed_is_the_one_that_is_asked_with() {
        let line = |text: &str| config_option(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(line("maglica -- maglica --config /x vm show"), Some("/x".into()));
        assert_eq!(line("maglica -- maglica --config=/y vm"), Some("/y".into()));
        assert_eq!(line("maglica -- maglica vm"), None);
    }
}
