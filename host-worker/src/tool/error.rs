//! Why a program did not do its work.

use std::{io, process::ExitStatus, time::Duration};

/// An external program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not installed.
    #[error("the program {program} is not installed")]
    Missing {
        /// Its name.
        program: String,
    },
    /// It ended with a status other than 0.
    #[error("{program} failed ({status}){}{stderr}", if .stderr.is_empty() { "" } else { ": " })]
    Failed {
        /// Its name.
        program: String,
        /// Its arguments, those that are secret as `***`.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its stderr.
        stderr: String,
    },
    /// It was ended because it ran longer than allowed; what it had done by then is not known.
    #[error("{program} did not end within {} s and was stopped", .limit.as_secs())]
    TimedOut {
        /// Its name.
        program: String,
        /// Its arguments, those that are secret as `***`.
        arguments: String,
        /// How long it was allowed to run.
        limit: Duration,
    },
    /// It was ended because its job was cancelled; what it had done by then is not known.
    #[error("{program} was stopped because the job was cancelled")]
    Cancelled {
        /// Its name.
        program: String,
    },
    /// The system refused something.
    #[error("{doing} {program} failed")]
    Io {
        /// Its name.
        program: String,
        /// What was being done to it.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
