//! The folders of a daemon's own files: private, and one daemon each.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// A folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made, emptied or entered.
    #[error("cannot {what} the folder {path}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another daemon has it: two would each believe to be the only owner of what is in it.
    #[error("another {daemon} is running on {path}")]
    Locked {
        /// Which daemon.
        daemon: &'static str,
        /// The folder.
        path: PathBuf,
    },
}

/// A folder that only its owner can enter; made, with those above it, if it is not there.
///
/// # Errors
/// [`FolderError::Io`].
pub fn private(path: PathBuf) -> Result<PathBuf, FolderError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(FolderError::Io { what: "make", path, source }),
    }
}

/// The same without what an earlier run left in it when it was killed.
///
/// # Errors
/// [`FolderError::Io`].
pub fn emptied(path: PathBuf) -> Result<PathBuf, FolderError> {
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FolderError::Io { what: "empty", path, source }),
        Ok(()) | Err(_) => private(path),
    }
}

/// Takes the folder for this daemon alone, for as long as the file is held.
///
/// # Errors
/// [`FolderError`].
pub fn lock(folder: &Path, daemon: &'static str) -> Result<File, FolderError> {
    let io = |source| FolderError::Io { what: "lock", path: folder.to_owned(), source };
    let file = File::create(folder.join("lock")).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(FolderError::Locked { daemon, path: folder.to_owned() }),
        Err(errno) => Err(io(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_its_owners_only_and_one_daemons_at_a_time() {
        let above = tempfile::tempdir().unwrap();
        let folder = private(above.path().join("a/b")).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let held = lock(&folder, "daemon").unwrap();
        assert!(matches!(lock(&folder, "daemon"), Err(FolderError::Locked { .. })));
        drop(held);
        lock(&folder, "daemon").unwrap();
        assert!(std::fs::read_dir(emptied(folder).unwrap()).unwrap().next().is_none());
    }
}
