//! `maglica log …`: the old names of `job show` and `job list`.

use clap::Subcommand;

use super::job::{self, Last, Which};
use crate::{app::App, error::Error, exit::Exit};

/// The old names.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// The same as `job show`.
    Status(Which),
    /// The same as `job list`.
    Tail(Last),
}

impl Log {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        match self {
            Self::Status(which) => job::show(app, which).await,
            Self::Tail(last) => job::list(app, &last).await,
        }
    }
}
