//! Says what happens to a job while it happens: steps nearly at once, progress at most once a second. Nothing depends on
//! it: what does not arrive is in the report. So a job that is over in a moment says nothing on the way, and steps that
//! follow each other closely are one message, and one commit there.

use std::time::Duration;

use maglica_proto::{
    host::HostRequest,
    id::JobId,
    job::{HostEvent, HostEventKind},
};
use tokio::{
    sync::{
        mpsc::{self, error::TryRecvError},
        watch,
    },
    time::Instant,
};

use crate::link::Link;

/// At most one progress message a job in this time.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How long an event waits for the next, or for the end of its job.
const GATHER: Duration = Duration::from_millis(5);

/// The handle: what is given to it is said by a task of its own, which ends with the handle.
#[derive(Clone)]
pub(super) struct Reporter {
    events: mpsc::UnboundedSender<HostEvent>,
    progress: watch::Sender<Option<HostEventKind>>,
}

impl Reporter {
    /// Starts the task; gives also the latest progress, for the heartbeat.
    pub(super) fn start(job: JobId, link: Link) -> (Self, watch::Receiver<Option<HostEventKind>>) {
        // Unbounded, for a journal must not wait for the network; a job has some twenty events.
        let (events, receiver) = mpsc::unbounded_channel();
        let (progress, latest) = watch::channel(None);
        tokio::spawn(say(job, link, receiver, latest.clone()));
        (Self { events, progress }, latest)
    }

    /// One whom nobody hears.
    #[cfg(test)]
    pub(super) fn unheard() -> Self {
        Self { events: mpsc::unbounded_channel().0, progress: watch::channel(None).0 }
    }

    /// An event that is in the ledger.
    pub(super) fn event(&self, event: HostEvent) {
        self.progress.send_replace(None);
        let _ = self.events.send(event);
    }

    /// How far a step is.
    pub(super) fn progress(&self, what: HostEventKind) {
        self.progress.send_replace(Some(what));
    }
}

async fn say(
    job: JobId,
    link: Link,
    mut events: mpsc::UnboundedReceiver<HostEvent>,
    mut progress: watch::Receiver<Option<HostEventKind>>,
) {
    let mut unsaid: Vec<HostEvent> = Vec::new();
    let mut next_progress = Instant::now();
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => unsaid.push(event),
                None => return,
            },
            () = async {
                tokio::time::sleep_until(next_progress).await;
                // The sender goes with the handle, and then the branch above ends this.
                if progress.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            } => {}
        }
        tokio::time::sleep(GATHER).await;
        loop {
            match events.try_recv() {
                Ok(event) => unsaid.push(event),
                Err(TryRecvError::Empty) => break,
                // The job is over, and its report says all.
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let mut message = unsaid.clone();
        if let Some(what) = progress.borrow_and_update().clone() {
            next_progress = Instant::now() + PROGRESS_EVERY;
            message.push(HostEvent { seq: 0, at: std::time::SystemTime::now().into(), what });
        }
        if !message.is_empty() && link.call(HostRequest::Progress { job, events: message }).await.is_ok() {
            unsaid.clear();
        }
    }
}
