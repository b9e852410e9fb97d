//! `maglica-simulate`: enrols a simulated fleet into a running client worker and keeps it alive until it is told to stop.
//!
//! Reads the operator's key that the configuration names. Prints one line, `ready`, when the client worker knows every
//! host. The hosts are enrolled for good: run it against a client worker with a state folder of its own.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use maglica_proto::config::Config;
use maglica_tests::fleet::{Fleet, IMAGES, Plan};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Until all are there, before it gives up.
const LIMIT: Duration = Duration::from_secs(300);

/// Simulates hosts of a client worker that runs.
#[derive(Parser)]
#[command(name = "maglica-simulate", version)]
struct Arguments {
    /// The client worker's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Hosts in all
    #[arg(long, default_value_t = 50)]
    hosts: u32,
    /// Of these, hosts that say once what they have and fall silent
    #[arg(long, default_value_t = 0)]
    dead: u32,
    /// Virtual machines of each host, beside its two images
    #[arg(long, default_value_t = 40)]
    domains: u32,
    /// What the hosts' names begin with
    #[arg(long, default_value = "sim")]
    prefix: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("MAGLICA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the one line that a script waits for")]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { config, hosts, dead, domains, prefix } = arguments;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let config = Config::load(Some(&config))?.config;
    let plan = Plan { hosts, dead, domains, prefix };
    let mut fleet = tokio::select! {
        fleet = Fleet::start(&config, &plan, LIMIT) => fleet?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    println!("ready: {} hosts, {} of them dead, {} domains each", hosts, fleet.dead.len(), domains + IMAGES);
    tokio::select! {
        () = fleet.ended() => anyhow::bail!("a simulated host has ended"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
