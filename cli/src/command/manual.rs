//! `maglica manual DIR`: the manual pages, of the same source as `--help`. Hidden: packages call it.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::Cli;
use crate::{error::Error, exit::Exit};

/// Where to.
#[derive(Debug, Args)]
pub struct Manual {
    /// A folder that exists.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Manual {
    pub(super) fn run(self) -> Result<Exit, Error> {
        clap_mangen::generate_to(Cli::command(), &self.folder)
            .map_err(|source| Error::Write { path: self.folder, source })?;
        Ok(Exit::Ok)
    }
}
