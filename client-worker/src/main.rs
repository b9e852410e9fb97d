//! The command line of the client worker.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use maglica_client_worker::{
    app,
    backup::{self, unpack::Restored},
    local,
};
use maglica_proto::{config::Config, log, units::Timestamp};

/// Maglica's client worker: takes requests, keeps the jobs and broadcasts them to the host workers.
#[derive(Parser)]
#[command(name = "maglica-client-worker", version)]
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
    /// Makes the client worker's key, if there is none, and prints its public key and fingerprint
    Init,
    /// Writes a backup of keys, register, jobs and audit to a file; the daemon may run. It holds private keys: keep it as such
    Backup {
        /// The file; - writes to standard output, for a program that encrypts it
        file: PathBuf,
    },
    /// Restores a backup; the daemon must not run. Nothing is changed unless all of the backup is as it was made
    Restore {
        /// The file; - reads from standard input
        file: PathBuf,
        /// Puts the state that there is aside, under a name that is printed
        #[arg(long)]
        force: bool,
    },
    /// Writes the manual pages into a folder
    #[command(hide = true)]
    Manual {
        /// A folder that exists
        folder: PathBuf,
    },
}

#[expect(clippy::print_stdout, reason = "what --check-config and init are asked for; the daemon itself only logs")]
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
        if let Some(Command::Backup { file }) = &arguments.command {
            let manifest = backup::pack::backup(&loaded.config, file)?;
            say(&[format!("backup of {} written to {}", moment(manifest.made), file.display())]);
            return Ok(());
        }
        if let Some(Command::Restore { file, force }) = &arguments.command {
            #[cfg(feature = "failpoints")]
            let _scenario = fail::FailScenario::setup();
            say(&told(&backup::unpack::restore(&loaded.config, file, *force)?));
            return Ok(());
        }
        if let Some(Command::Init) = arguments.command {
            let keys = local::server_keys(&loaded.config)?.now();
            println!("public key   {}\nfingerprint  {}", keys.newest(), keys.newest().fingerprint());
            if keys.next.is_some() {
                println!("retiring     {}", keys.present.public().fingerprint());
            }
            return Ok(());
        }
        log::start(&loaded.config.log, None);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(app::run(loaded.config))
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

fn moment(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "an unknown moment".to_owned(), |at| at.to_string())
}

/// What an administrator has to know after a restore.
fn told(restored: &Restored) -> Vec<String> {
    let Restored { manifest, aside, settled } = restored;
    let made = moment(manifest.made);
    let names = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut lines = vec![format!("restored the backup of {made}, made by version {}", manifest.program)];
    if let Some(aside) = aside {
        lines.push(format!("the state of before is kept in {}; it holds private keys", aside.display()));
    }
    lines.push(format!("hosts enrolled in it: {}", names(settled.hosts.iter().map(ToString::to_string).collect())));
    lines.push(format!(
        "jobs open in it: {}; none is begun again, their hosts say how they ended. Jobs of after {made} are not known here",
        settled.open_jobs
    ));
    if settled.lapsed.invitations > 0 {
        let count = settled.lapsed.invitations;
        lines.push(format!("open invitations in it: {count}; they let nobody in any more, make new ones"));
    }
    if settled.knows_revoked {
        let hosts = settled.lapsed.hosts.iter().map(ToString::to_string);
        let gone = names(hosts.chain(settled.lapsed.operators.iter().map(ToString::to_string)).collect());
        lines.push(format!("keys revoked or replaced since then stay so; no longer let in: {gone}"));
    } else {
        lines.push(format!(
            "WARNING: keys revoked after {made} are good again. Revoke them before the client worker can be reached: \
             see docs/operations.md, \"Backup and restore\""
        ));
    }
    lines
}

#[expect(clippy::print_stderr, reason = "stdout may carry the backup; what is said beside it goes to the terminal")]
fn say(lines: &[String]) {
    for line in lines {
        eprintln!("{line}");
    }
}

#[expect(
    clippy::print_stderr,
    reason = "an error before or after logging is set up must reach the terminal or the journal"
)]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("maglica-client-worker: {error:#}");
    ExitCode::FAILURE
}
