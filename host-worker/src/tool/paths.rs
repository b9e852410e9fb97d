//! Where programs are looked for.

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The system's folders, not the `PATH` that the host worker happens to have been started with: a shell's additions
/// (language version managers, somebody's `~/bin`) must not decide what runs as root.
const SYSTEM_FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Folders in which programs are looked for, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolPaths(Vec<PathBuf>);

impl Default for ToolPaths {
    /// The system's folders.
    fn default() -> Self {
        Self(SYSTEM_FOLDERS.iter().map(PathBuf::from).collect())
    }
}

impl ToolPaths {
    /// These folders, then the system's.
    #[must_use]
    pub fn with_first(folders: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let mut all: Vec<PathBuf> = folders.into_iter().map(Into::into).collect();
        all.extend(Self::default().0);
        Self(all)
    }

    /// These folders and no others.
    #[must_use]
    pub fn only(folders: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self(folders.into_iter().map(Into::into).collect())
    }

    /// The file of the program of this name; a name that is an absolute path stands for itself.
    #[must_use]
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        if program.starts_with('/') {
            return Some(PathBuf::from(program)).filter(|path| is_program(path));
        }
        self.0.iter().map(|folder| folder.join(program)).find(|path| is_program(path))
    }

    /// Whether there is a program of this name.
    #[must_use]
    pub fn present(&self, program: &str) -> bool {
        self.find(program).is_some()
    }

    /// The folders as the value of `PATH`, so that a program finds its helpers in the same places.
    pub(super) fn value(&self) -> OsString {
        std::env::join_paths(&self.0).unwrap_or_else(|_| SYSTEM_FOLDERS.join(":").into())
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
