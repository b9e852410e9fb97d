//! `maglica`, the command: asks the client worker and shows the answers.
//!
//! | module | owns |
//! | --- | --- |
//! | [`command`] | the command line: one file a noun |
//! | [`app`] | what every command has at hand: configuration, output, deadline, the client worker |
//! | [`client`] | the sealed connection to the client worker, and repeating a question until it is answered |
//! | [`follow`] | staying with a job until it has ended |
//! | [`many`] | the same with several at once |
//! | [`story`] | what a job's events, steps and outcomes are called |
//! | [`input`] | files and texts that a person gives, checked before anything is sent |
//! | [`output`] | tables, JSON, YAML, names, progress: the only place that prints |
//! | [`release`] | which versions fit one another |
//! | [`error`] | everything that can go wrong, with its hints |
//! | [`exit`] | the exit codes |
//!
//! stdout is for data, stderr for talk. Nothing here knows libvirt; nothing here decides for the client worker.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

pub mod app;
pub mod client;
pub mod command;
pub mod error;
pub mod exit;
pub mod follow;
pub mod input;
pub mod many;
pub mod output;
pub mod release;
pub mod story;

use crate::{app::App, command::Cli, error::Error, exit::Exit, output::Output};

/// Runs the command with these arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if command::completion::answer(&arguments) {
        return Exit::Ok.into();
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error).into(),
    };
    let out = Output::new(&cli.globals);
    let exit = match execute(cli, &out) {
        Ok(exit) => exit,
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            out.error(&error);
            error.exit()
        }
    };
    exit.into()
}

fn execute(cli: Cli, out: &Output) -> Result<Exit, Error> {
    let mut app = App::new(&cli.globals, out)?;
    // One thread is enough for one question at a time, and starts faster than a pool.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let exit = runtime.block_on(cli.command.run(&mut app));
    app.say_notes();
    // What a lost answer left behind is not waited for.
    runtime.shutdown_background();
    exit
}
