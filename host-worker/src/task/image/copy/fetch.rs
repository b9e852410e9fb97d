//! The second phase: fetches the files, dialling again where a connection breaks, from where it broke.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use maglica_proto::{
    fault::{Code, Fault, chain},
    job::{CopyTask, HostEventKind, Step},
    transfer::{Listed, Taker, Told, TransferError, Wire, wire::Breaker},
    transport::backoff::Backoff,
    units::ByteSize,
};
use tokio::time::sleep;

use super::plan::{Plan, PlannedFile};
use crate::{
    task::{Journal, TaskContext, cancelled},
    transfer::dial::dial,
};

/// How long it is tried without anything coming.
const PATIENCE: Duration = Duration::from_secs(300);
/// For the first question: whoever waits for the job is told soon that the other host cannot be reached.
const PATIENCE_FIRST: Duration = Duration::from_secs(30);
/// Pauses between tries.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// What the other host has.
pub(super) async fn list(cx: &TaskContext) -> Result<Listed, Fault> {
    let mut again = Backoff::new(PAUSE_FIRST, PAUSE_MAX);
    let until = Instant::now() + PATIENCE_FIRST;
    loop {
        let why = match attempt(cx, |wire| Taker::new(wire).list()).await {
            Ok(listed) => return Ok(listed),
            Err(Failed::Fault(fault)) => return Err(fault),
            Err(Failed::Broken(why)) => why,
        };
        pause(cx, &mut again, until, why).await?;
    }
}

/// Fetches everything; says what there is to say of it.
pub(super) async fn fetch(task: &CopyTask, cx: &TaskContext, plan: &Plan) -> Result<String, Fault> {
    let (begun, mut again) = (Instant::now(), Backoff::new(PAUSE_FIRST, PAUSE_MAX));
    let mut until = begun + PATIENCE;
    let (mut breaks, mut best) = (0_u32, 0);
    let progress = Arc::new(Progress::new(plan, cx.journal.clone()));
    for (number, file) in plan.files.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        loop {
            let (planned, rate, told) = (file.clone(), task.rate, progress.clone());
            let fetched = attempt(cx, move |wire| {
                let into = partial(&planned)?;
                let mut taker = Taker::new(wire);
                taker.fetch(number, &into, rate, |state| told.tell(state))?;
                taker.done()
            });
            let why = match fetched.await {
                Ok(()) => break,
                Err(Failed::Fault(fault)) => return Err(fault),
                Err(Failed::Broken(why)) => why,
            };
            // Whoever comes further each time may take as long as it takes.
            let reached = progress.reached();
            if reached > best {
                best = reached;
                (until, again) = (Instant::now() + PATIENCE, Backoff::new(PAUSE_FIRST, PAUSE_MAX));
            }
            breaks += 1;
            tracing::info!(job = %cx.job, error = chain(&why), "the transfer broke; it goes on");
            pause(cx, &mut again, until, why).await?;
        }
        progress.file_done(file.info.data);
    }
    let took = begun.elapsed().as_secs_f64().max(0.001);
    let speed = format!("{:.0} MiB/s", mebibytes(plan.total) / took);
    Ok(match breaks {
        0 => format!(", {speed}"),
        1 => format!(", {speed}; the connection broke once"),
        many => format!(", {speed}; the connection broke {many} times"),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(size: ByteSize) -> f64 {
    size.as_bytes() as f64 / 1_048_576.0
}

/// The unfinished file, which an earlier run may have left.
fn partial(file: &PlannedFile) -> Result<File, TransferError> {
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(&file.partial)
        .map_err(|source| TransferError::File { doing: "open", source })
}

enum Failed {
    /// It is as it is.
    Fault(Fault),
    /// Another try may go better.
    Broken(TransferError),
}

/// Dials, and does something with the connection on a thread that may block; the connection is cut when the job is cancelled, or the
/// host worker stops.
async fn attempt<T: Send + 'static>(
    cx: &TaskContext,
    work: impl FnOnce(&mut Wire) -> Result<T, TransferError> + Send + 'static,
) -> Result<T, Failed> {
    let door = tokio::select! {
        () = cx.cancel.cancelled() => return Err(Failed::Fault(cancelled())),
        door = cx.grants.source(cx.job) => door,
    };
    let door = match door {
        Ok(door) => door,
        // The client worker is away, or has not heard of the other host: both pass.
        Err(fault) if matches!(fault.code, Code::Unavailable | Code::HostDown) => {
            return Err(Failed::Broken(TransferError::Refused(fault.into())));
        }
        Err(fault) => return Err(Failed::Fault(fault)),
    };
    let (keys, job) = (cx.grants.keys(), cx.job);
    let (give_breaker, breakers) = mpsc::channel::<Breaker>();
    let working = tokio::task::spawn_blocking(move || {
        let mut wire = dial(&door, &keys, job)?;
        // Nobody there to take it: the job is over.
        give_breaker.send(wire.breaker()?).map_err(|_| TransferError::Closed)?;
        work(&mut wire)
    });
    let cut = Cut(breakers);
    tokio::pin!(working);
    let ended = tokio::select! {
        ended = &mut working => ended,
        () = cx.cancel.cancelled() => {
            drop(cut);
            // What it writes it must have stopped writing before it is taken back.
            let _ = working.await;
            return Err(Failed::Fault(cancelled()));
        }
    };
    match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(TransferError::Refused(fault))) => Err(Failed::Fault(*fault)),
        Ok(Err(error)) if error.may_pass() => Err(Failed::Broken(error)),
        Ok(Err(error)) => {
            let full = std::error::Error::source(&error)
                .and_then(|source| source.downcast_ref::<std::io::Error>())
                .is_some_and(|source| source.kind() == std::io::ErrorKind::StorageFull);
            Err(Failed::Fault(Fault::from_error(if full { Code::NoRoom } else { Code::ToolFailed }, &error)))
        }
        Err(error) => Err(Failed::Fault(Fault::from_error(Code::Internal, &error))),
    }
}

/// Cuts the connection when it goes, once there is one.
struct Cut(mpsc::Receiver<Breaker>);

impl Drop for Cut {
    fn drop(&mut self) {
        // One that is not there yet finds nobody to give its breaker to.
        while let Ok(breaker) = self.0.try_recv() {
            breaker.cut();
        }
    }
}

async fn pause(cx: &TaskContext, again: &mut Backoff, until: Instant, why: TransferError) -> Result<(), Fault> {
    if Instant::now() >= until {
        return Err(if let TransferError::Refused(fault) = why {
            *fault
        } else {
            Fault::from_error(Code::HostDown, &why)
        });
    }
    tokio::select! {
        () = cx.cancel.cancelled() => Err(cancelled()),
        () = sleep(again.pause()) => Ok(()),
    }
}

/// How far everything is; told now and then.
struct Progress {
    journal: Arc<dyn Journal>,
    total: ByteSize,
    /// Of the files that are here.
    before: AtomicU64,
    reached: AtomicU64,
    begun: Instant,
    /// When it was told last, in milliseconds from the beginning.
    told: AtomicU64,
}

impl Progress {
    fn new(plan: &Plan, journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            total: plan.total,
            before: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            begun: Instant::now(),
            told: AtomicU64::new(0),
        }
    }

    fn tell(&self, state: Told) {
        let done = self.before.load(Ordering::Relaxed) + state.done.as_bytes();
        self.reached.fetch_max(done, Ordering::Relaxed);
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let every = u64::try_from(TELL_EVERY.as_millis()).unwrap_or(u64::MAX);
        if now >= self.told.load(Ordering::Relaxed) + every {
            self.told.store(now, Ordering::Relaxed);
            let done = ByteSize::bytes(done).min(self.total);
            self.journal.event(HostEventKind::StepProgress { step: Step::Transfer, done, total: Some(self.total) });
        }
    }

    fn file_done(&self, data: ByteSize) {
        self.before.fetch_add(data.as_bytes(), Ordering::Relaxed);
    }

    fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }
}
