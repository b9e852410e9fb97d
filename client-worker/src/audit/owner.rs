//! The thread that writes the audit: whatever is asked of it in one moment becomes one write and one sync.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use maglica_proto::{
    audit::{Asked, AuditEvent},
    fault::chain,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    AuditError,
    files::{Files, Mended},
    page::Snapshot,
    refusals::Refusals,
};

/// How many commands one sync takes at most, so that the first of them does not wait for ever.
const BATCH: usize = 512;
/// How many lines that nobody waits for are kept while the disk takes none. Beyond it the oldest goes, and the log says so.
const LATE_MAX: usize = 4096;
/// The head goes to the log when the audit has grown by so many lines …
const ANCHOR_LINES: u64 = 1000;
/// … or by any, after so long.
const ANCHOR_EVERY: Duration = Duration::from_secs(3600);

/// Gets the numbers of lines that are on the disk, or why they are not.
pub(super) type Reply = oneshot::Sender<Result<Vec<u64>, String>>;

pub(super) enum Command {
    /// Lines; with a reply they are waited for.
    Store(Vec<AuditEvent>, Option<Reply>),
    Refused(Box<Asked>),
    Snapshot(oneshot::Sender<Result<Snapshot, AuditError>>),
    Tick,
}

pub(super) struct Owner {
    files: Files,
    flaw: Option<String>,
    refusals: Refusals,
    /// Lines without anybody waiting: written but not synced, and after a failure to be written again.
    late: VecDeque<AuditEvent>,
    /// So many of `late` are written already.
    late_written: usize,
    lost: u64,
    anchored: (u64, Instant),
}

/// Lines that somebody waits for, by their places in the batch.
struct Waiting {
    from: usize,
    count: usize,
    reply: Reply,
}

impl Owner {
    pub(super) fn new(files: Files, mended: Mended) -> Self {
        let anchored = (files.synced().head.seq, Instant::now());
        let Mended { lines, flaw } = mended;
        Self { files, flaw, refusals: Refusals::default(), late: lines.into(), late_written: 0, lost: 0, anchored }
    }

    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.settle(Vec::new(), true);
        self.anchor();
        let mut taken = Vec::with_capacity(BATCH);
        while commands.blocking_recv_many(&mut taken, BATCH) > 0 {
            let (mut asked, mut snapshots, mut sync) = (Vec::new(), Vec::new(), false);
            for command in taken.drain(..) {
                match command {
                    Command::Store(lines, Some(reply)) => asked.push((lines, reply)),
                    Command::Store(lines, None) => self.late.extend(lines),
                    Command::Refused(refused) => {
                        let line = self.refusals.line(*refused, Instant::now());
                        self.late.extend(line.map(AuditEvent::Asked));
                    }
                    Command::Snapshot(reply) => {
                        snapshots.push(reply);
                        sync = true;
                    }
                    Command::Tick => {
                        let due = self.refusals.due(Instant::now(), false);
                        self.late.extend(due.into_iter().map(AuditEvent::Asked));
                        sync = true;
                    }
                }
            }
            self.settle(asked, sync);
            for reply in snapshots {
                // A reader that went away needs none.
                let _ = reply.send(self.snapshot());
            }
            let (seq, at) = self.anchored;
            let grown = self.files.synced().head.seq.saturating_sub(seq);
            if grown >= ANCHOR_LINES || (grown > 0 && at.elapsed() >= ANCHOR_EVERY) {
                self.anchor();
            }
        }
        let due = self.refusals.due(Instant::now(), true);
        self.late.extend(due.into_iter().map(AuditEvent::Asked));
        self.settle(Vec::new(), true);
        self.anchor();
    }

    /// Writes what there is, syncs it if somebody waits or `sync` says so, and answers.
    fn settle(&mut self, asked: Vec<(Vec<AuditEvent>, Reply)>, sync: bool) {
        let (mut lines, mut waiting) = (Vec::new(), Vec::new());
        for (events, reply) in asked {
            waiting.push(Waiting { from: lines.len(), count: events.len(), reply });
            lines.extend(events);
        }
        let sync = sync || !waiting.is_empty();
        match self.store(&lines, sync) {
            Ok(first) => {
                if sync {
                    self.files.note(None);
                }
                for Waiting { from, count, reply } in waiting {
                    let from = first + u64::try_from(from).unwrap_or(u64::MAX);
                    let numbers = (from..).take(count).collect();
                    // An asker that went away has not been promised anything.
                    let _ = reply.send(Ok(numbers));
                }
            }
            Err(error) => {
                let why = chain(&error);
                self.files.note(Some(why.clone()));
                if let Err(error) = self.files.take_back() {
                    tracing::error!(error = chain(&error), "what was written of it cannot be taken back yet");
                }
                self.late_written = 0;
                self.forget_oldest();
                for Waiting { reply, .. } in waiting {
                    let _ = reply.send(Err(why.clone()));
                }
            }
        }
    }

    /// Gives the number of the first of `lines`.
    fn store(&mut self, lines: &[AuditEvent], sync: bool) -> Result<u64, AuditError> {
        // Late ones first, as they happened.
        let late = self.late.len() - self.late_written;
        let first = if late + lines.len() > 0 {
            self.files.append(self.late.iter().skip(self.late_written).chain(lines))?
        } else {
            0
        };
        self.late_written = self.late.len();
        if sync {
            self.files.sync()?;
            self.late.clear();
            self.late_written = 0;
            if let Err(error) = self.files.next_if_full() {
                tracing::warn!(error = chain(&error), "the audit stays in its file, which is full");
            }
        }
        Ok(first + u64::try_from(late).unwrap_or(u64::MAX))
    }

    fn forget_oldest(&mut self) {
        let over = self.late.len().saturating_sub(LATE_MAX);
        if over > 0 {
            self.late.drain(..over);
            self.lost += u64::try_from(over).unwrap_or(u64::MAX);
            tracing::error!(
                lost = self.lost,
                "outcomes and refusals are not in the audit: it cannot be written for long"
            );
        }
    }

    fn snapshot(&self) -> Result<Snapshot, AuditError> {
        let (folder, first, file) = self.files.reading()?;
        let synced = self.files.synced();
        let trouble = self.files.failing().cloned();
        Ok(Snapshot { folder, first, file, len: synced.len, head: synced.head, flaw: self.flaw.clone(), trouble })
    }

    /// Writes the head to the log, which is kept elsewhere: an anchor against which the audit can be checked.
    fn anchor(&mut self) {
        let head = self.files.synced().head;
        self.anchored = (head.seq, Instant::now());
        tracing::info!(head = %head, "the audit's head");
    }
}
