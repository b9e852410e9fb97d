//! The command line: the global options and one file a noun. Each command turns its options into requests and the
//! answers into what [`crate::output`] shows.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, Subcommand};

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    input,
    output::{Color, Format},
};

pub mod audit;
mod clone;
pub(crate) mod completion;
mod console;
pub mod host;
pub mod image;
pub mod job;
pub mod key;
pub mod log;
mod manual;
pub mod operator;
pub mod ping;
pub mod snapshot;
mod status;
mod version;
pub mod vm;
mod vm_log;
pub mod watch;
pub mod why;

/// A small private cloud of libvirt hosts.
#[derive(Debug, Parser)]
#[command(name = "maglica", version, after_help = "Exit codes: maglica help exit-codes")]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
pub struct Globals {
    /// The configuration to read instead of /etc/maglica.conf.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// The form of the output.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORM",
        help_heading = "Global options"
    )]
    pub output: Format,
    /// Give up after this time, such as 30 or 5m; a job goes on. By default 10 s for an answer, and no limit for a job.
    #[arg(long, global = true, value_parser = input::duration, value_name = "TIME", help_heading = "Global options")]
    pub timeout: Option<Duration>,
    /// Say more.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// When to use colour.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub color: Color,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Images: virtual machines kept to be cloned.
    #[command(subcommand)]
    Image(image::Image),
    /// Virtual machines.
    #[command(subcommand)]
    Vm(vm::Vm),
    /// Snapshots of virtual machines.
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Hosts.
    #[command(subcommand)]
    Host(host::Host),
    /// Jobs: what was asked for, and what became of it.
    #[command(subcommand)]
    Job(job::Job),
    /// The old names of `job show` and `job list`.
    #[command(subcommand)]
    Log(log::Log),
    /// People and programs that may use this command.
    #[command(subcommand)]
    Operator(operator::Operator),
    /// How the client worker is: hosts, jobs, store, what was refused.
    Status,
    /// Show who asked for what, the latest last; or check that nothing of it was changed.
    Audit(audit::Audit),
    /// The client worker's own key.
    #[command(subcommand)]
    Key(key::Key),
    /// Say why a machine is where it is, or a job waits.
    Why(why::Why),
    /// Show what happens, as it happens. Ctrl-C ends it.
    Watch(watch::Watch),
    /// The versions of all parts.
    Version,
    /// Print the script that completes this command's words in a shell.
    Completion(completion::Completion),
    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Manual(manual::Manual),
    /// The exit codes.
    #[command(hide = true, long_about = exit_codes())]
    ExitCodes,
}

fn exit_codes() -> String {
    format!("The exit codes of maglica:\n\n{}", Exit::table())
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        match self {
            Self::Image(command) => command.run(app).await,
            Self::Vm(command) => command.run(app).await,
            Self::Snapshot(command) => command.run(app).await,
            Self::Host(command) => command.run(app).await,
            Self::Job(command) => command.run(app).await,
            Self::Log(command) => command.run(app).await,
            Self::Operator(command) => command.run(app).await,
            Self::Status => status::run(app).await,
            Self::Audit(command) => command.run(app).await,
            Self::Key(command) => command.run(app).await,
            Self::Why(command) => command.run(app).await,
            Self::Watch(command) => command.run(app).await,
            Self::Version => version::run(app).await,
            Self::Completion(command) => command.run(app),
            Self::Manual(command) => command.run(),
            Self::ExitCodes => app.out.data(&Exit::table()).map(|()| Exit::Ok),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
