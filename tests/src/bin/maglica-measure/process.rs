//! A client worker that is measured: started, killed, stopped; what it takes of processor and memory, from `/proc`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to end when it is asked to.
const END: Duration = Duration::from_secs(20);

/// How many fields of `stat` lie between the program's name and the user time; the system time follows.
const USER_TIME: usize = 11;

/// The process.
pub(crate) struct Process {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// Processor time so far: of all threads, and of the one that owns the jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) all: Duration,
    pub(crate) desk: Duration,
}

impl Process {
    pub(crate) fn start(program: PathBuf, config: PathBuf, log: PathBuf) -> anyhow::Result<Self> {
        let mut process = Self { program, config, log, child: None };
        process.begin()?;
        Ok(process)
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log).context("cannot open a log")?;
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has died by itself is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it, by kill or by asking, and starts it again.
    pub(crate) fn restart(&mut self, kindly: bool) -> anyhow::Result<()> {
        if kindly && let Some(child) = &mut self.child {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a child without a number")?;
            kill_process(pid, Signal::TERM)?;
            let until = Instant::now() + END;
            while child.try_wait()?.is_none() {
                ensure!(Instant::now() < until, "the client worker does not end");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.kill();
        self.begin()
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        let child = self.child.as_ref().context("the client worker does not run")?;
        Ok(Path::new("/proc").join(child.id().to_string()))
    }

    /// Processor time since its start.
    pub(crate) fn spent(&self) -> anyhow::Result<Spent> {
        let mut spent = Spent { all: processor_time(&self.folder()?)?, desk: Duration::ZERO };
        for task in fs::read_dir(self.folder()?.join("task"))? {
            let task = task?.path();
            let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
            let nanos = read("schedstat").split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
            if read("comm").trim() == "job-desk" {
                spent.desk = Duration::from_nanos(nanos);
            }
        }
        Ok(spent)
    }

    /// What it has in memory, in KiB: now, and at most so far.
    pub(crate) fn resident(&self) -> anyhow::Result<(u64, u64)> {
        let status = fs::read_to_string(self.folder()?.join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).with_context(|| format!("no {name}"))
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }
}

/// Processor time of a process, threads that have ended included.
pub(crate) fn processor_time(folder: &Path) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(folder.join("stat"))?;
    // What follows the program's name in brackets.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u32 = fields.skip(USER_TIME).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    Ok(Duration::from_secs(1) * ticks / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::ops::Sub for Spent {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self { all: self.all.saturating_sub(earlier.all), desk: self.desk.saturating_sub(earlier.desk) }
    }
}
