//! The command line of the client worker.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use maglica_client_worker::{app, local};
use maglica_proto::{config::Config, log};

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
}

#[expect(clippy::print_stdout, reason = "what --check-config and init are asked for; the daemon itself only logs")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = (|| -> anyhow::Result<()> {
        let loaded = Config::load(arguments.config.as_deref())?;
        if arguments.check_config {
            let file =
                loaded.file.map_or_else(|| "no file, all defaults".to_owned(), |file| file.display().to_string());
            println!("the configuration is good ({file})");
            return Ok(());
        }
        if let Some(Command::Init) = arguments.command {
            let keys = local::server_keys(&loaded.config)?;
            println!("public key   {}\nfingerprint  {}", keys.public(), keys.public().fingerprint());
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

#[expect(
    clippy::print_stderr,
    reason = "an error before or after logging is set up must reach the terminal or the journal"
)]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("maglica-client-worker: {error:#}");
    ExitCode::FAILURE
}
