//! A daemon under test: started, stopped, killed and stalled by its process id; its log kept in a file.
//!
//! ```text
//! not running ──start──▶ running ──stop, kill9, a failpoint──▶ not running
//! ```
//! Ends with this value, whatever the test does.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    programs::program,
    wait::{SOON, wait_until},
};

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    program: &'static str,
    config: PathBuf,
    log: PathBuf,
    env: Vec<(String, String)>,
    within: Vec<String>,
    child: Option<Child>,
}

impl Daemon {
    /// A daemon that is not running yet. Its log is appended to over restarts.
    #[must_use]
    pub const fn new(program: &'static str, config: PathBuf, log: PathBuf) -> Self {
        Self { program, config, log, env: Vec::new(), within: Vec::new(), child: None }
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Sets a variable of its environment for the starts from now on.
    pub fn env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Has a program start it from now on, such as `unshare --mount`, which gets its command line as its last arguments and must
    /// become it (`exec`), so that the process is still the one that is known here.
    pub fn within(&mut self, command: &[&str]) {
        self.within = command.iter().map(|&word| word.to_owned()).collect();
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn start(&mut self) {
        self.start_with("");
    }

    /// Starts it with these failure points, such as `store.after-commit=1*off->return(abort)`. They hold for this run only.
    ///
    /// # Panics
    /// As [`Daemon::start`].
    pub fn start_with(&mut self, failpoints: &str) {
        assert!(self.child.is_none(), "{} runs already", self.program);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log can be opened");
        let child = self
            .command()
            .env("FAILPOINTS", failpoints)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be duplicated"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program));
        self.child = Some(child);
    }

    /// The program with its configuration and a clean environment, for a subcommand such as `join`.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = match self.within.split_first() {
            None => Command::new(program(self.program)),
            Some((outer, arguments)) => {
                let mut command = Command::new(outer);
                command.args(arguments).arg(program(self.program));
                command
            }
        };
        // What the machine or the test runner has set must not leak in.
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "MAGLICA_LOG", "MAGLICA_CONFIG", "FAILPOINTS"] {
            command.env_remove(name);
        }
        command.arg("--config").arg(&self.config).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).unwrap_or_else(|| panic!("{} does not run", self.program))
    }

    /// Whether it runs (it may have died by itself).
    pub fn running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.program));
    }

    /// Ends it as a power cut does.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has died by itself meanwhile is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end (SIGTERM) and waits: how it ended and how long that took.
    ///
    /// # Panics
    /// If it does not run, or has not ended after a long while.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(Signal::TERM);
        (self.wait_end(SOON), began.elapsed())
    }

    /// Waits until it has ended by itself, at a failure point say.
    ///
    /// # Panics
    /// If it goes on.
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let name = self.program;
        let mut child = self.child.take().unwrap_or_else(|| panic!("{name} does not run"));
        let mut look = || child.try_wait().ok().flatten().ok_or_else(|| "it runs".to_owned());
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Ok(status) = look() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Given back, so that it is ended with the test.
        self.child = Some(child);
        panic!("{name} has not ended within {limit:?} (was it built with the feature failpoints?)");
    }

    /// Ends it as a power cut does, and starts it again without failure points.
    pub fn restart(&mut self) {
        self.kill9();
        self.start();
    }

    /// Stalls it.
    pub fn sigstop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn sigcont(&self) {
        self.signal(Signal::CONT);
    }

    /// What it has logged so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log holds this text.
    pub fn wait_log(&self, text: &str) {
        wait_until(&format!("{} logs {text:?}", self.program), SOON, || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(tail(&log, 5)) }
        });
    }

    pub(crate) fn last_words(&self) -> String {
        format!("--- {} ({})\n{}\n", self.program, self.log.display(), tail(&self.log(), 60))
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
    }
}
