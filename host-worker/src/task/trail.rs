//! What a job has begun, and the way back.

use std::time::Duration;

use maglica_proto::job::HostEventKind;
use tokio::time::{Instant, sleep};

use super::{JournalError, TaskContext, Undo};
use crate::hypervisor::HypervisorError;

/// How long the way back waits for a libvirt that does not answer: a restart of libvirtd takes seconds.
const WAIT_FOR_LIBVIRT: Duration = Duration::from_secs(60);
/// How often it asks in the meantime.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What was begun, in order.
pub(super) struct Trail<'a> {
    cx: &'a TaskContext,
    begun: Vec<Undo>,
}

impl<'a> Trail<'a> {
    pub(super) const fn new(cx: &'a TaskContext) -> Self {
        Self { cx, begun: Vec::new() }
    }

    /// One that an earlier run of the job left in the journal.
    pub(super) fn found(cx: &'a TaskContext, begun: &[Undo]) -> Self {
        Self { cx, begun: begun.to_vec() }
    }

    /// Writes down how to take back what is done next.
    pub(super) fn intend(&mut self, undo: Undo) -> Result<(), JournalError> {
        self.cx.journal.intend(&undo)?;
        self.begun.push(undo);
        Ok(())
    }

    /// Takes everything back, the last first, and returns what could not be. It is not stopped by the job's being cancelled.
    pub(super) async fn take_back(self) -> Vec<String> {
        let mut left = Vec::new();
        for undo in self.begun.iter().rev() {
            let what = undo.to_string();
            crate::failpoint("undo.before");
            let taken = self.persist(undo).await;
            crate::failpoint("undo.after");
            match taken {
                Ok(true) => self.cx.journal.event(HostEventKind::Undone { what, error: None }),
                // It was never made, or is gone already.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(job = %self.cx.job, %what, %error, "could not be taken back");
                    left.push(format!("{what}: {error}"));
                    self.cx.journal.event(HostEventKind::Undone { what, error: Some(error.to_string()) });
                }
            }
        }
        left
    }

    async fn persist(&self, undo: &Undo) -> Result<bool, HypervisorError> {
        let until = Instant::now() + WAIT_FOR_LIBVIRT;
        loop {
            match Box::pin(undo.take_back(self.cx)).await {
                Err(HypervisorError::Down { .. } | HypervisorError::Unknown { .. }) if Instant::now() < until => {
                    sleep(ASK_AGAIN).await;
                }
                result => return result,
            }
        }
    }
}
