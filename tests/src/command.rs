//! `maglica` run as a person or script runs it, and what came of it.

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::programs::program;

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl Output {
    /// Its stdout as JSON.
    ///
    /// # Panics
    /// If it is none, with everything that the command said.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// This, if it ended with 0.
    ///
    /// # Panics
    /// Otherwise, with everything that the command said.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ended_with(0)
    }

    /// This, if it ended with `code`.
    ///
    /// # Panics
    /// Otherwise, with everything that the command said.
    #[track_caller]
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Checks that stderr is one sentence `error: …` with these words in it, and a hint with those (none if empty).
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn says(&self, error: &[&str], hint: &[&str]) {
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.contains("error: ")).collect();
        assert_eq!(errors.len(), 1, "one clear sentence: {self:?}");
        for word in error {
            assert!(errors[0].contains(word), "{word:?} in the error: {self:?}");
        }
        let hints: Vec<&str> = self.stderr.lines().filter(|line| line.contains("hint: ")).collect();
        for word in hint {
            assert!(hints.iter().any(|hint| hint.contains(word)), "{word:?} in a hint: {self:?}");
        }
        for noise in ["panicked", "Error {", "Os {", "backtrace"] {
            assert!(!self.stderr.contains(noise), "{noise:?} is for programmers: {self:?}");
        }
    }
}

/// `maglica` with a configuration, its home in `home`.
#[must_use]
pub fn maglica(config: &Path, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("maglica"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", home).env("MAGLICA_CONFIG", config).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end, with this on its stdin.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn run(mut command: Command, stdin: &str) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if !stdin.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    if let Some(mut pipe) = child.stdin.take() {
        // One that ends without reading it says so itself.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    finish(child)
}

/// Waits for a command that was started with its output piped.
///
/// # Panics
/// If it cannot be waited for.
#[must_use]
pub fn finish(child: Child) -> Output {
    let output = child.wait_with_output().expect("a child can be waited for");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
