//! A daemon of a run, and what is done to it: killed, stopped, stalled, trapped, its disk and clock; started again as systemd does
//! when it ends by itself.
//!
//! ```text
//! up ─Kill, Stop, its own end─▶ down ─▶ up      Freeze: up, and does nothing      everything is mended when the run heals
//! ```

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use maglica_tests::daemon::Daemon;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::watch, time::sleep};

use crate::{
    clocks::Clock,
    disks::Disk,
    plan::fault::{Blow, Fault},
};

/// From look to look whether it still runs.
const LOOK: Duration = Duration::from_millis(20);
/// As `RestartSec=` of the units, but for impatient people.
const RESTART: Duration = Duration::from_millis(150);
/// The signal that asks for an end.
const TERM: i32 = Signal::TERM.as_raw();
/// How long one may take to end when it is asked to, or cannot start, on two busy cores.
const END: Duration = Duration::from_secs(15);

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Faults.
    Trouble,
    /// No more of them; everything that was broken is mended.
    Healed,
    /// All daemons end.
    Over,
}

/// Whether a daemon has been left alone, for those who want to judge how fast it answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calm(Arc<Mutex<(u64, Option<Instant>)>>);

impl Calm {
    fn disturbed(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (state.0 + 1, None);
    }

    fn begins(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = Some(Instant::now());
    }

    /// The number of the present calm, if it has lasted so long.
    pub(crate) fn since(&self, long: Duration) -> Option<u64> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.filter(|since| since.elapsed() >= long).map(|_| state.0)
    }
}

/// A daemon with its disk and clock.
pub(crate) struct Node {
    /// Its name in reports.
    pub(crate) name: String,
    /// The daemon.
    pub(crate) daemon: Daemon,
    /// Its log.
    pub(crate) log: PathBuf,
    /// Its store.
    pub(crate) store: PathBuf,
    /// Its disk, where there can be one.
    pub(crate) disk: Option<Arc<Disk>>,
    /// Its clock, in a run that moves clocks.
    pub(crate) clock: Option<Clock>,
    /// Whether it is left alone.
    pub(crate) calm: Calm,
    /// Whether its disk was full or read-only.
    pub(crate) disk_trouble: bool,
    /// How it ended, each time that nothing explains it.
    pub(crate) deaths: Vec<String>,
    /// Its highest resident memory.
    pub(crate) peak_kib: u64,
    /// Starts in all.
    pub(crate) starts: u64,
    /// It has failure points at which it may die.
    pub(crate) trapped: bool,
    /// Its disk is full.
    pub(crate) full: bool,
    /// Its disk was full since it was started.
    pub(crate) was_full: bool,
}

/// A moment of a blow.
enum Moment {
    Begin(Fault, Duration),
    End(Fault),
}

impl Node {
    /// Starts it.
    pub(crate) fn start(&mut self, points: &str) {
        if let Some(clock) = &self.clock {
            for (name, value) in clock.environment() {
                self.daemon.env(name, &value);
            }
        }
        self.starts += 1;
        self.trapped = points.contains("abort");
        self.was_full = self.full;
        self.daemon.start_with(points);
        self.calms_down();
    }

    /// Lives through its part of the plan, then on until the run is over.
    pub(crate) async fn live(mut self, blows: Vec<Blow>, began: Instant, mut phase: watch::Receiver<Phase>) -> Self {
        let mut moments: Vec<(Instant, Moment)> = Vec::new();
        for Blow { at, lasts, fault, .. } in blows {
            let (at, lasts) = (began + Duration::from_millis(at), Duration::from_millis(lasts));
            // These go on while other things happen to the daemon.
            if matches!(fault, Fault::DiskFull | Fault::Clock { .. }) {
                moments.push((at + lasts, Moment::End(fault.clone())));
            }
            moments.push((at, Moment::Begin(fault, lasts)));
        }
        moments.sort_by_key(|(at, _)| *at);
        for (at, moment) in moments {
            while Instant::now() < at {
                self.look_after().await;
                sleep(LOOK.min(at.saturating_duration_since(Instant::now()))).await;
            }
            self.suffer(moment).await;
        }
        while *phase.borrow_and_update() == Phase::Trouble {
            self.look_after().await;
            sleep(LOOK).await;
        }
        self.mend();
        while *phase.borrow_and_update() != Phase::Over {
            self.look_after().await;
            sleep(LOOK).await;
        }
        self.end().await;
        self
    }

    fn mend(&mut self) {
        if let Some(disk) = self.disk.as_ref().filter(|_| self.full) {
            disk.free();
        }
        if std::mem::take(&mut self.full) {
            self.calms_down();
        }
        if let Some(clock) = &self.clock {
            let _ = clock.set(0);
        }
    }

    async fn suffer(&mut self, moment: Moment) {
        self.calm.disturbed();
        match moment {
            Moment::Begin(fault, lasts) => match fault {
                Fault::Kill => {
                    self.kill();
                    sleep(lasts).await;
                    self.start("");
                }
                Fault::Stop => {
                    self.end().await;
                    sleep(lasts).await;
                    self.start("");
                }
                Fault::Freeze => {
                    self.look_after().await;
                    if self.daemon.running() {
                        self.daemon.sigstop();
                        sleep(lasts).await;
                        self.daemon.sigcont();
                    }
                }
                Fault::Trap { points } => {
                    self.kill();
                    sleep(lasts).await;
                    self.start(&points);
                }
                Fault::DiskFull => self.fill(),
                Fault::DiskReadOnly => self.read_only(lasts).await,
                Fault::Clock { offset_s } => self.set_clock(offset_s),
                Fault::Weather(_) | Fault::Refuse | Fault::Hole { .. } => {}
            },
            Moment::End(Fault::Clock { .. }) => self.set_clock(0),
            Moment::End(_) => self.mend(),
        }
        self.calms_down();
    }

    /// From now on it can be expected to answer, unless it may die at any moment or cannot write.
    fn calms_down(&self) {
        if !self.full && !self.trapped {
            self.calm.begins();
        }
    }

    fn set_clock(&mut self, offset_s: i64) {
        if let Some(Err(error)) = self.clock.as_ref().map(|clock| clock.set(offset_s)) {
            self.deaths.push(format!("its clock cannot be set: {error}"));
        }
    }

    fn fill(&mut self) {
        let Some(disk) = &self.disk else { return };
        self.disk_trouble = true;
        self.full = true;
        self.was_full = true;
        if let Err(error) = disk.fill() {
            self.deaths.push(format!("its disk cannot be filled: {error}"));
        }
    }

    /// It must refuse to start, say why, and lose nothing (which the end of the run shows).
    async fn read_only(&mut self, lasts: Duration) {
        let Some(disk) = self.disk.clone() else { return };
        self.disk_trouble = true;
        self.kill();
        disk.free();
        self.full = false;
        if let Err(error) = disk.read_only(true) {
            self.deaths.push(format!("its disk cannot be made read-only: {error}"));
            return self.start("");
        }
        let before = self.log_text().len();
        self.start("");
        match self.ended_within(END).await {
            None => self.deaths.push("it goes on with a read-only disk".to_owned()),
            Some(status) => {
                let said = self.log_text().split_off(before);
                if status.success() || !said.to_lowercase().contains("read-only file system") {
                    self.deaths.push(format!("with a read-only disk it ended ({status}) and said {said:?}"));
                }
            }
        }
        self.kill();
        if let Err(error) = disk.read_only(false) {
            self.deaths.push(format!("its disk cannot be made writable: {error}"));
        }
        sleep(lasts).await;
        self.start("");
    }

    fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn weigh(&mut self) {
        if !self.daemon.running() {
            return;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        self.peak_kib = self.peak_kib.max(peak.unwrap_or(0));
    }

    fn kill(&mut self) {
        self.calm.disturbed();
        self.weigh();
        self.daemon.kill9();
    }

    /// Waits until it has ended by itself.
    async fn ended_within(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + limit;
        while self.daemon.running() {
            if Instant::now() > until {
                return None;
            }
            sleep(LOOK).await;
        }
        Some(self.daemon.wait_end(END))
    }

    /// Asks it to end.
    async fn end(&mut self) {
        self.calm.disturbed();
        self.weigh();
        if self.daemon.running() {
            let pid = i32::try_from(self.daemon.pid()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // One that ends by itself in this moment is as good.
                let _ = kill_process(pid, Signal::TERM);
            }
            match self.ended_within(END).await {
                None => {
                    let threads = threads(self.daemon.pid());
                    self.deaths.push(format!("it was asked to end and goes on after {END:?}: {threads}"));
                }
                // One that had only just begun did not catch the signal yet.
                Some(status)
                    if !status.success() && status.signal() != Some(TERM) && !self.trapped && !self.was_full =>
                {
                    self.deaths.push(format!("it was asked to end and did so with {status}"));
                }
                Some(_) => {}
            }
        }
        self.daemon.kill9();
    }

    /// Starts it again if it has ended by itself, and remembers that if there was no reason to.
    async fn look_after(&mut self) {
        if self.daemon.running() {
            return;
        }
        self.calm.disturbed();
        let status = self.daemon.wait_end(END);
        // With a full disk it may end, but only at its start, and must say why.
        let full = self.was_full && self.log_text().lines().last().is_some_and(says_full);
        if !self.trapped && !full {
            self.deaths.push(format!("{status}: {:?}", self.log_text().lines().last()));
        }
        sleep(RESTART).await;
        self.start("");
    }
}

/// Whether somebody who reads this knows that the disk is full.
fn says_full(line: &str) -> bool {
    // SQLite has no better words where it cannot extend its shared memory.
    ["is full", "No space left", "disk I/O error"].iter().any(|word| line.contains(word))
}

/// What each thread of a process does, for the report of one that hangs.
fn threads(pid: u32) -> String {
    let folder = format!("/proc/{pid}/task");
    let Ok(tasks) = fs::read_dir(folder) else { return String::new() };
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let each = tasks.flatten().map(|task| {
        let stat = read(task.path().join("stat"));
        let state =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().next().unwrap_or("?").to_owned();
        format!("{} {state} {}", read(task.path().join("comm")), read(task.path().join("wchan")))
    });
    each.collect::<Vec<_>>().join(", ")
}
