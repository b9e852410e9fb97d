//! The command line of the host worker.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use maglica_host_worker::{app, link::enrol};
use maglica_proto::{config::Config, join::Invitation, key::PublicKey, log};

/// Maglica's host worker: runs the jobs of one libvirt host.
#[derive(Parser)]
#[command(name = "maglica-host-worker", version)]
struct Arguments {
    /// The configuration file [default: $MAGLICA_CONFIG, /etc/maglica.conf, /etc/maglica/maglica.conf]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Reads the configuration, says whether it is good, and ends
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Joins a client worker by the line that 'maglica host invite' printed
    Join {
        /// The file with the line; without it the line is read from standard input, for it holds a secret
        #[arg(long, value_name = "FILE", conflicts_with = "server")]
        file: Option<PathBuf>,
        /// Without an invitation: the client worker's address; the host then waits for 'maglica host accept'
        #[arg(long, value_name = "ADDRESS:PORT", requires = "key")]
        server: Option<String>,
        /// Without an invitation: the client worker's public key, as 'maglica-client-worker init' prints it
        #[arg(long, value_name = "KEY", requires = "server")]
        key: Option<PublicKey>,
    },
    /// Prints this host's public key and fingerprint
    Key,
    /// Writes the manual pages into a folder
    #[command(hide = true)]
    Manual {
        /// A folder that exists
        folder: PathBuf,
    },
}

#[expect(clippy::print_stdout, reason = "what --check-config, join and key are asked for; the daemon itself only logs")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = (|| -> anyhow::Result<()> {
        if let Some(Command::Manual { folder }) = &arguments.command {
            return manual(folder);
        }
        let loaded = Config::load(arguments.config.as_deref())?;
        if arguments.check_config {
            let file =
                loaded.file.map_or_else(|| "no file, all defaults".to_owned(), |file| file.display().to_string());
            println!("the configuration is good ({file})");
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        match arguments.command {
            Some(Command::Join { server: Some(server), key: Some(key), .. }) => {
                let (keys, _) = enrol::load(&loaded.config)?;
                let server = enrol::pin(&loaded.config, &server, key)?;
                println!(
                    "this host will ask {} to be let in; there, say: maglica host accept {} --fingerprint {}",
                    server.rep,
                    loaded.config.host.name()?,
                    keys.public().fingerprint()
                );
                Ok(())
            }
            Some(Command::Join { file, .. }) => {
                let invitation = invitation(file)?;
                let (keys, _) = enrol::load(&loaded.config)?;
                let (joined, server) = runtime.block_on(enrol::join(&loaded.config, &keys, &invitation))?;
                println!("joined {} as {joined}; fingerprint {}", server.rep, keys.public().fingerprint());
                Ok(())
            }
            Some(Command::Key) => {
                let (keys, _) = enrol::load(&loaded.config)?;
                println!("public key   {}\nfingerprint  {}", keys.public(), keys.public().fingerprint());
                Ok(())
            }
            Some(Command::Manual { .. }) | None => {
                // A name that is not fit is told as what keeps the host worker from starting.
                log::start(&loaded.config.log, loaded.config.host.name().ok().as_ref());
                runtime.block_on(app::run(loaded.config))
            }
        }
    })();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// The manual pages, of the same source as `--help`.
fn manual(folder: &Path) -> anyhow::Result<()> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    for page in std::iter::once(&command).chain(shown) {
        clap_mangen::Man::new(page.clone())
            .section("8")
            .generate_to(folder)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
    }
    Ok(())
}

fn invitation(file: Option<PathBuf>) -> anyhow::Result<Invitation> {
    if let Some(file) = file {
        return Ok(enrol::read_invitation(&file)?);
    }
    let mut line = String::new();
    std::io::stdin().take(4096).read_to_string(&mut line).context("cannot read the invitation from standard input")?;
    Ok(line.parse()?)
}

#[expect(
    clippy::print_stderr,
    reason = "an error before or after logging is set up must reach the terminal or the journal"
)]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("maglica-host-worker: {error:#}");
    ExitCode::FAILURE
}
