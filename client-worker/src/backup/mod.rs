//! Backup and restore of the client worker's state: keys, register, jobs, audit. One `tar` file, so that an administrator can look
//! into it with what is there:
//!
//! ```text
//! manifest.json   of which form it is, by which version, from when
//! jobs.db key trust.json …   the files of the state folder
//! SHA256SUMS      of all of these, as sha256sum -c reads it
//! ```
//! [`pack`] makes one while the daemon runs; [`unpack`] believes one only as a whole. Not in it: virtual machines, the
//! hosts' ledgers, their keys.

pub mod pack;
mod settle;
pub mod unpack;

use std::{io, path::PathBuf};

use maglica_proto::{
    config::{folder::FolderError, keyfile::KeyFileError},
    units::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{job::store::StoreError, trust::TrustError};

/// The form of backup that this program writes, and the newest that it reads.
const FORM: u32 = 1;
const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";
const JOBS: &str = "jobs.db";
const TRUST: &str = "trust.json";
const KEY: &str = "key";
const LOCK: &str = "lock";

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of which form it is.
    pub form: u32,
    /// The version of the program that made it.
    pub program: String,
    /// When it was begun; what it holds is at least as new.
    pub made: Timestamp,
}

/// No backup was made, or none restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A folder, or the daemon runs.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The register.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The jobs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The jobs cannot be copied.
    #[error("cannot copy the job store")]
    Copy(#[source] rusqlite::Error),
    /// There is nothing yet.
    #[error("there is no state of a client worker in {}", .0.display())]
    Nothing(PathBuf),
    /// The files changed over and over while they were read.
    #[error("the state folder changes faster than it can be copied; try again")]
    Restless,
    /// Secrets do not belong on a terminal.
    #[error("a backup is not written to a terminal; name a file, or pipe it to a program that encrypts it")]
    Terminal,
    /// It is not one, or not as it was made.
    #[error("the backup is damaged or none: {0}; nothing was restored")]
    Damaged(String),
    /// Another, newer version made it.
    #[error("the backup is of form {found}, made by version {program}; this program knows form {FORM} at most")]
    Newer {
        /// Its form.
        found: u32,
        /// Who made it.
        program: String,
    },
    /// There is a state already.
    #[error("there is a client worker's state in {}; to put it aside and restore, say --force", .0.display())]
    Occupied(PathBuf),
}

fn io_error(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.into();
    move |source| BackupError::Io { what, path, source }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
