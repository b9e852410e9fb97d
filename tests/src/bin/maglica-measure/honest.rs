//! An honest user beside the fleet: asks `host list` again and again by the real command, and a clock that should ring
//! every ten milliseconds, which tells whether others still get the processor.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// From answer to question.
const PAUSE: Duration = Duration::from_millis(100);
/// From ring to ring.
const RING: Duration = Duration::from_millis(10);

/// One command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) answered: bool,
}

/// The user and the clock.
pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    user: JoinHandle<Vec<Asked>>,
    clock: JoinHandle<Duration>,
}

impl Honest {
    pub(crate) fn start(command: PathBuf, config: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, silenced) = (stop.clone(), stop.clone());
        let user = std::thread::spawn(move || {
            let mut asked = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                let status = Command::new(&command)
                    .arg("--config")
                    .arg(&config)
                    .args(["host", "list", "-o", "name"])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
                // 3: complete but for hosts that are not up, and said so
                let answered = status.is_ok_and(|status| matches!(status.code(), Some(0 | 3)));
                asked.push(Asked { began, took: began.elapsed(), answered });
                std::thread::sleep(PAUSE);
            }
            asked
        });
        let clock = std::thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !silenced.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(RING);
                worst = worst.max(began.elapsed().saturating_sub(RING));
            }
            worst
        });
        Self { stop, user, clock }
    }

    /// Ends both: what was asked, and by how much the clock rang late at worst.
    pub(crate) fn end(self) -> anyhow::Result<(Vec<Asked>, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        match (self.user.join(), self.clock.join()) {
            (Ok(asked), Ok(late)) => Ok((asked, late)),
            (Err(_), _) | (_, Err(_)) => bail!("the honest user panicked"),
        }
    }
}

/// When the first answer came after a restart, the longest that one took from then on, and whether all were answers.
pub(crate) fn after_restart(asked: &[Asked], restarted: Instant) -> anyhow::Result<(Duration, Duration, bool)> {
    let mut after =
        asked.iter().filter(|asked| asked.began >= restarted).skip_while(|asked| !asked.answered).peekable();
    let first = after.peek().context("no command was answered after the restart")?;
    let (first, mut worst, mut all) = ((first.began + first.took) - restarted, Duration::ZERO, true);
    for asked in after {
        worst = worst.max(asked.took);
        all &= asked.answered;
    }
    Ok((first, worst, all))
}
