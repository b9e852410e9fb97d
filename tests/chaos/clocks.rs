//! A clock for each daemon that can be set while it runs, by libfaketime. The monotonic clock, which no administrator can set, stays.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where Debian's package `libfaketime` has it.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A clock that can be set.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Whether there can be one.
    pub(crate) fn possible() -> bool {
        Path::new(LIBRARY).exists()
    }

    /// A clock that is right, kept in this file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn new(file: PathBuf) -> std::io::Result<Self> {
        let clock = Self { file };
        clock.set(0)?;
        Ok(clock)
    }

    /// What a daemon is to be started with.
    pub(crate) fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", LIBRARY.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// Sets it so many seconds off.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn set(&self, offset_s: i64) -> std::io::Result<()> {
        // Renamed into place: it is read at any moment.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset_s:+}\n"))?;
        fs::rename(new, &self.file)
    }
}
