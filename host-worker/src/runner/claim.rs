//! Keeping jobs from a machine for a while, as a job does that works on it.

use maglica_proto::{id::JobId, name::DomainName};
use tokio::sync::{mpsc, oneshot};

use super::{Message, Runner};

/// A machine on which no job begins to work for as long as this is kept.
#[derive(Debug)]
pub struct Claim {
    id: JobId,
    messages: mpsc::UnboundedSender<Message>,
}

impl Runner {
    /// Keeps jobs from a machine; none if one works on it.
    pub async fn claim(&self, vm: DomainName) -> Option<Claim> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Claim(vm, reply));
        Some(Claim { id: answer.await.ok()?, messages: self.messages.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The task ends only with the host worker.
        let _ = self.messages.send(Message::Release(self.id));
    }
}
