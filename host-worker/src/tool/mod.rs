//! Runs external programs: the only place that does.
//!
//! A [`Tool`] is a program with its argument vector; nothing passes through a shell. The program gets a clean
//! environment, no stdin, a process group of its own and a time limit; it ends with the host worker (see
//! [`process`]), when its job is cancelled and when the future that runs it is dropped. What it prints is kept up
//! to a bound. What the output means is the business of the module of each tool.

mod error;
mod paths;
mod process;
mod session;
mod tail;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

pub use self::{error::ToolError, paths::ToolPaths, session::Session};
use self::{
    process::{Ended, Process},
    tail::Tail,
};

/// How long a program may run that got no limit of its own: longer than any query takes on a busy host, short enough
/// that a hung one does not hold its job for good.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(120);
/// How much of stdout is kept, the last part: the JSON of `qemu-img info` over a long backing chain is a few KiB.
const STDOUT_KEPT: usize = 1024 * 1024;
/// How much of stderr is kept, the last part: what a person reads of a failure.
const STDERR_KEPT: usize = 16 * 1024;
/// Where a program finds itself: in no folder that could be unmounted.
const WORKING_FOLDER: &str = "/";
/// What an argument that must not be shown is shown as.
const MASK: &str = "***";

/// A program with its arguments, ready to be run.
#[derive(Debug, Clone)]
pub struct Tool {
    program: String,
    arguments: Vec<Argument>,
    environment: Vec<(OsString, OsString)>,
    paths: ToolPaths,
    limit: Duration,
}

#[derive(Clone)]
struct Argument {
    value: OsString,
    secret: bool,
}

impl std::fmt::Debug for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Argument {
    fn shown(&self) -> String {
        if self.secret { MASK.to_owned() } else { self.value.to_string_lossy().into_owned() }
    }
}

/// What a program that succeeded said.
#[derive(Debug, Clone)]
pub struct ToolOutput {
    /// Its standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Whether the beginning of `stdout` is missing because there was more than is kept.
    pub cut: bool,
    /// How long it ran.
    pub took: Duration,
}

impl Tool {
    /// The program of this name, looked for in the system's folders.
    #[must_use]
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            paths: ToolPaths::default(),
            limit: DEFAULT_LIMIT,
        }
    }

    /// Whether a program of this name is installed in the system's folders.
    #[must_use]
    pub fn present(program: &str) -> bool {
        ToolPaths::default().present(program)
    }

    /// Looks for the program in these folders instead of the system's.
    #[must_use]
    pub fn paths(mut self, paths: &ToolPaths) -> Self {
        self.paths = paths.clone();
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, value: impl AsRef<OsStr>) -> Self {
        self.arguments.push(Argument { value: value.as_ref().to_owned(), secret: false });
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, values: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        for value in values {
            self = self.arg(value);
        }
        self
    }

    /// Adds an argument that is shown as `***` in errors and logs. Every user of the machine can still see it in the
    /// list of processes: what is really secret goes through a file.
    #[must_use]
    pub fn secret_arg(mut self, value: impl AsRef<OsStr>) -> Self {
        self.arguments.push(Argument { value: value.as_ref().to_owned(), secret: true });
        self
    }

    /// Sets a variable of the program's environment, which otherwise has `PATH`, `LC_ALL=C`, `HOME` and `TMPDIR` only.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets how long it may run.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end. If the future is dropped, the program and all that it started is killed.
    ///
    /// # Errors
    /// [`ToolError`]: it is missing, could not be started, failed, took longer than its limit or was cancelled. In the
    /// last two cases its process group got SIGTERM, and SIGKILL five seconds later.
    pub async fn run(&self, cancel: &CancellationToken) -> Result<ToolOutput, ToolError> {
        let began = Instant::now();
        if cancel.is_cancelled() {
            return Err(ToolError::Cancelled { program: self.program.clone() });
        }
        let mut process = self.start(Stdio::null()).await?;
        let (stdout, stderr) = process.take_output();
        let (mut out, mut err) = (Tail::new(STDOUT_KEPT), Tail::new(STDERR_KEPT));
        let ended = {
            let drain = async {
                tokio::join!(out.fill(stdout), err.fill(stderr));
            };
            process.finish(drain, self.limit, cancel).await
        };
        let took = began.elapsed();
        tracing::debug!(program = %self.program, arguments = %self.shown_arguments(), ?took, ?ended, "ran a tool");
        self.check(ended, &err)?;
        Ok(ToolOutput { cut: out.was_cut(), stdout: out.into_text(), took })
    }

    /// Starts it with a pipe to its stdin, for a program that is talked to.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn open(&self) -> Result<Session, ToolError> {
        let process = self.start(Stdio::piped()).await?;
        Ok(Session::new(self.clone(), process))
    }

    async fn start(&self, stdin: Stdio) -> Result<Process, ToolError> {
        let Some(program) = self.paths.find(&self.program) else {
            return Err(ToolError::Missing { program: self.program.clone() });
        };
        Process::start(self.command(program, stdin)).await.map_err(|source| self.io("starting", source))
    }

    fn command(&self, program: PathBuf, stdin: Stdio) -> std::process::Command {
        let mut command = process::bound_to_us(program);
        command
            .args(self.arguments.iter().map(|argument| &argument.value))
            .current_dir(WORKING_FOLDER)
            .env_clear()
            .env("PATH", self.paths.value())
            .env("LC_ALL", "C")
            .env("HOME", std::env::var_os("HOME").unwrap_or_else(|| WORKING_FOLDER.into()))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(folder) = std::env::var_os("TMPDIR") {
            command.env("TMPDIR", folder);
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn check(&self, ended: Ended, err: &Tail) -> Result<(), ToolError> {
        let program = self.program.clone();
        match ended {
            Ended::Itself(status) if status.success() => Ok(()),
            Ended::Itself(status) => {
                Err(ToolError::Failed { program, arguments: self.shown_arguments(), status, stderr: err.last_lines() })
            }
            Ended::TimedOut => {
                Err(ToolError::TimedOut { program, arguments: self.shown_arguments(), limit: self.limit })
            }
            Ended::Cancelled => Err(ToolError::Cancelled { program }),
            Ended::Unknown(source) => Err(self.io("waiting for", source)),
        }
    }

    fn io(&self, doing: &'static str, source: std::io::Error) -> ToolError {
        ToolError::Io { program: self.program.clone(), doing, source }
    }

    fn shown_arguments(&self) -> String {
        self.arguments.iter().map(Argument::shown).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests;
