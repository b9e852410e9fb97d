//! The audit: an append-only record of who asked for what, and what came of it.
//!
//! | file | owns |
//! | --- | --- |
//! | this file | the handle: says what was asked, reads |
//! | [`about`] | which requests change something, and what a line tells of each (one `match`) |
//! | `owner` | the one thread that writes: group commit, taking back what could not be stored |
//! | `files` | `audit.log` and the older files: opening, mending, appending, beginning the next |
//! | `page` | reading, a page at a time, beside the thread |
//! | `refusals` | keeps somebody who is refused again and again from filling the disk |
//!
//! **Written before it is done.** [`Audit::asked`] returns when the line is on the disk, and only then the request is carried
//! out; when it cannot be stored, nothing is done. What came of it ([`Audit::ended`]) is written at once but synced with
//! the next line or within a second: losing it in a power cut says "not known", never "not asked". So a request costs one
//! sync, shared by all that ask in the same moment.

pub mod about;
mod files;
mod owner;
mod page;
mod refusals;

use std::{path::Path, path::PathBuf, thread, time::Duration};

use maglica_proto::{
    audit::{Asked, AuditEvent, AuditHead, AuditPage, AuditPlace, Verdict},
    fault::{Code, Fault, chain},
    key::Fingerprint,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::{
    files::Files,
    owner::{Command, Owner},
    page::Snapshot,
};

/// How many commands may wait; beyond it askers wait in turn.
const QUEUE: usize = 4096;
/// How long a line that nobody waits for may stay unsynced.
const SYNC_WITHIN: Duration = Duration::from_secs(1);
/// A file that is larger is put aside and the next one begun: what is read at a start stays short.
const FILE_MAX: u64 = 32 * 1024 * 1024;

/// The audit cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file or folder.
    #[error("cannot {what} the audit {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A bug of ours.
    #[error("a line of the audit cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The system's random source.
    #[error("no random beginning for the audit can be made")]
    Random,
    /// The thread.
    #[error("cannot start the audit's thread")]
    Thread(#[source] std::io::Error),
}

/// The state of the audit, for those who look after the client worker.
#[derive(Debug, Clone)]
pub struct State {
    /// The last line on the disk.
    pub head: AuditHead,
    /// What was wrong with the chain at the start.
    pub flaw: Option<String>,
    /// Why lines cannot be stored at the moment.
    pub trouble: Option<String>,
}

/// Lines that are being stored.
#[must_use = "nothing may be done before the lines are stored"]
pub struct Pending(oneshot::Receiver<Result<Vec<u64>, String>>);

impl Pending {
    /// Waits until they are on the disk; gives their numbers.
    ///
    /// # Errors
    /// A fault: they cannot be stored, so what was asked must not be done.
    pub async fn stored(self) -> Result<Vec<u64>, Fault> {
        self.0.await.map_err(|_| stopping())?.map_err(|why| {
            Fault::new(Code::Unavailable, format!("nothing was done, for it cannot be written into the audit: {why}"))
        })
    }
}

/// The handle to the audit.
#[derive(Clone)]
pub struct Audit {
    commands: mpsc::Sender<Command>,
}

fn stopping() -> Fault {
    Fault::new(Code::Unavailable, "the client worker is stopping")
}

impl Audit {
    /// Opens the audit in this folder, mends it where the last run died while writing, checks the chain of its present file, and
    /// starts the thread. A chain that does not hold is said in the log, in a line of its own, and in every answer; the
    /// audit goes on from its last line, for a record with a known flaw is worth more than none.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn start(
        folder: &Path,
        key: Fingerprint,
        stop: CancellationToken,
    ) -> Result<(Self, thread::JoinHandle<()>), AuditError> {
        let (files, mended) = Files::open(folder, key, FILE_MAX)?;
        let (commands, receiver) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || Owner::new(files, mended).run(receiver))
            .map_err(AuditError::Thread)?;
        tokio::spawn(tick(commands.downgrade(), stop));
        Ok((Self { commands }, thread))
    }

    /// Has it stored that this was asked for. Not yet stored when this returns: see [`Pending::stored`].
    ///
    /// # Errors
    /// A fault if the client worker is stopping.
    pub async fn asks(&self, asked: Vec<Asked>) -> Result<Pending, Fault> {
        let (reply, answer) = oneshot::channel();
        let lines = asked.into_iter().map(AuditEvent::Asked).collect();
        self.commands.send(Command::Store(lines, Some(reply))).await.map_err(|_| stopping())?;
        Ok(Pending(answer))
    }

    /// Stores that this was asked for; it may be done when this returns.
    ///
    /// # Errors
    /// A fault: it cannot be stored.
    pub async fn asked(&self, asked: Vec<Asked>) -> Result<Vec<u64>, Fault> {
        self.asks(asked).await?.stored().await
    }

    /// Tells what came of what was asked in these lines; not waited for.
    pub async fn ended(&self, outcomes: impl IntoIterator<Item = (u64, Verdict)>) {
        let lines = outcomes.into_iter().map(|(of, outcome)| AuditEvent::Outcome { of, outcome }).collect();
        // A thread that is gone has said why in the log.
        let _ = self.commands.send(Command::Store(lines, None)).await;
    }

    /// Tells that somebody was refused what the role does not include; nothing was done, so it is not waited for.
    pub async fn refused(&self, asked: Asked) {
        let _ = self.commands.send(Command::Refused(Box::new(asked))).await;
    }

    /// A page of the audit, up to the last line that is on the disk.
    ///
    /// # Errors
    /// A fault: there is no such place, or a file cannot be read.
    pub async fn page(&self, from: Option<AuditPlace>, back: bool, limit: u32) -> Result<AuditPage, Fault> {
        let snapshot = self.snapshot().await?;
        let read = tokio::task::spawn_blocking(move || page::read(&snapshot, from, back, limit));
        read.await.map_err(|error| Fault::from_error(Code::Internal, &error))?
    }

    /// How it is.
    ///
    /// # Errors
    /// A fault if the client worker is stopping.
    pub async fn state(&self) -> Result<State, Fault> {
        let Snapshot { head, flaw, trouble, .. } = self.snapshot().await?;
        Ok(State { head, flaw, trouble })
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Snapshot(reply)).await.map_err(|_| stopping())?;
        answer
            .await
            .map_err(|_| stopping())?
            .map_err(|error| Fault::new(Code::Unavailable, format!("cannot read the audit: {}", chain(&error))))
    }
}

/// Has what nobody waits for synced now and then. Ends with the last handle, so that the thread does too.
async fn tick(commands: mpsc::WeakSender<Command>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SYNC_WITHIN);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                let Some(commands) = commands.upgrade() else { return };
                // A full queue will be synced by those who wait in it.
                let _ = commands.try_send(Command::Tick);
            }
        }
    }
}
