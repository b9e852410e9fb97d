//! The link to the client worker: one sealed conversation for everything this host says, one subscription for what
//! is broadcast to it.
//!
//! | file | owns |
//! | --- | --- |
//! | [`enrol`] | this host's key, the pinned key of the client worker, joining |
//! | this file | the conversation: one question at a time, a new session when the client worker has restarted |
//! | [`identity`] | which key this host speaks with, while it changes |
//! | [`listen`] | the subscription of the present session; a new one after silence |
//! | [`heartbeat`] | says that this host is there, and carries out what it hears in answer |

pub mod enrol;
pub mod heartbeat;
pub mod identity;
pub mod listen;

use std::{sync::Arc, time::Duration};

use maglica_proto::{
    codec::{self, CodecError},
    fault::{Code, Fault, chain},
    host::{HostAnswer, HostRequest},
    key::KeyPair,
    seal::{Refusal, Session},
    transport::{SealedError, SealedRequester},
};
use tokio::sync::{mpsc, oneshot, watch};

use self::identity::Identity;

/// How long one question may take. The client worker answers hosts from memory or after one commit.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How many questions may wait; beyond it askers wait in turn.
const QUEUE: usize = 256;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The conversation failed. What was said may have been heard.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// A question or an answer cannot be written or read.
    #[error("a message between this host and the client worker is not understood")]
    Codec(#[from] CodecError),
    /// The client worker could not serve it.
    #[error("the client worker could not serve the request")]
    Fault(#[source] Fault),
    /// The host worker is stopping.
    #[error("the host worker is stopping")]
    Stopping,
}

/// A session and where its broadcasts come.
#[derive(Clone)]
pub struct Channel {
    /// The session that they are sealed in.
    pub session: Arc<Session>,
    /// The topic.
    pub topic: String,
}

enum Call {
    Say(HostRequest, oneshot::Sender<Result<HostAnswer, LinkError>>),
    Rekey,
}

/// The handle to the conversation.
#[derive(Clone)]
pub struct Link {
    calls: mpsc::Sender<Call>,
    channel: watch::Receiver<Option<Channel>>,
    keys: watch::Receiver<KeyPair>,
}

impl Link {
    /// Starts the task that holds the conversation. It ends with the last handle.
    #[must_use]
    pub fn start(requester: SealedRequester, identity: Identity) -> Self {
        let (calls, receiver) = mpsc::channel(QUEUE);
        let (announce, channel) = watch::channel(None);
        let (speaks, keys) = watch::channel(identity.speaking().clone());
        tokio::spawn(Conversation { requester, identity, announce, speaks }.run(receiver));
        Self { calls, channel, keys }
    }

    /// Says something and hears the answer.
    ///
    /// # Errors
    /// [`LinkError`]. What was said may have been heard.
    pub async fn call(&self, request: HostRequest) -> Result<HostAnswer, LinkError> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Say(request, reply)).await.map_err(|_| LinkError::Stopping)?;
        match answer.await.map_err(|_| LinkError::Stopping)?? {
            HostAnswer::Fault { fault } => Err(LinkError::Fault(fault)),
            answer @ (HostAnswer::Beat(_)
            | HostAnswer::Granted
            | HostAnswer::Denied { .. }
            | HostAnswer::Source(_)
            | HostAnswer::Vouched(_)
            | HostAnswer::Stored
            | HostAnswer::Several { .. }
            | HostAnswer::Line { .. }) => Ok(answer),
        }
    }

    /// Says several things in one message and hears the answers, up to the first fault.
    ///
    /// # Errors
    /// [`LinkError`]. What was said may have been heard.
    pub async fn call_all(&self, requests: Vec<HostRequest>) -> Result<Vec<HostAnswer>, LinkError> {
        let request = HostRequest::Several { requests };
        match self.call(request).await? {
            HostAnswer::Several { answers } => Ok(answers),
            // An answer to something else is none.
            HostAnswer::Beat(_)
            | HostAnswer::Granted
            | HostAnswer::Denied { .. }
            | HostAnswer::Source(_)
            | HostAnswer::Vouched(_)
            | HostAnswer::Stored
            | HostAnswer::Line { .. }
            | HostAnswer::Fault { .. } => Ok(Vec::new()),
        }
    }

    /// Answers a ping, without waiting. One that finds the queue full is left out: this host is too busy to be quick.
    pub fn pong(&self, number: u64) {
        let (reply, _) = oneshot::channel();
        let _ = self.calls.try_send(Call::Say(HostRequest::Pong { number }, reply));
    }

    /// Has this host change its key; asked for again at every heartbeat until it has.
    pub fn rekey(&self) {
        let _ = self.calls.try_send(Call::Rekey);
    }

    /// The key that this host speaks with now.
    #[must_use]
    pub fn keys(&self) -> KeyPair {
        self.keys.borrow().clone()
    }

    /// The present session, told anew whenever it changes.
    #[must_use]
    pub fn channel(&self) -> watch::Receiver<Option<Channel>> {
        self.channel.clone()
    }
}

struct Conversation {
    requester: SealedRequester,
    identity: Identity,
    announce: watch::Sender<Option<Channel>>,
    speaks: watch::Sender<KeyPair>,
}

impl Conversation {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        while let Some(call) = calls.recv().await {
            match call {
                Call::Say(request, reply) => {
                    let answer = self.ask(&request).await;
                    // An asker that went away needs no answer.
                    let _ = reply.send(answer);
                }
                Call::Rekey => self.rekey().await,
            }
            let speaking = self.identity.speaking();
            if self.speaks.borrow().public() != speaking.public() {
                self.speaks.send_replace(speaking.clone());
            }
        }
    }

    async fn ask(&mut self, request: &HostRequest) -> Result<HostAnswer, LinkError> {
        let body = codec::encode(request)?;
        let result = self.requester.call(&body, CALL_LIMIT).await;
        match &result {
            Ok(_) => self.identity.answered(),
            Err(error) => self.refused(error),
        }
        if result.is_ok()
            && let Ok((session, welcome)) = self.requester.session(CALL_LIMIT).await
            && let Some(topic) = welcome.topic.clone()
        {
            self.announce.send_if_modified(|channel| {
                let same = channel.as_ref().is_some_and(|known| known.session.id() == session.id());
                if !same {
                    *channel = Some(Channel { session, topic });
                }
                !same
            });
        }
        Ok(codec::decode(&result?)?)
    }

    /// A refusal of one key, were it forged, costs a handshake with the other one.
    fn refused(&mut self, error: &SealedError) {
        let key_refused = matches!(error.refusal(), Some(Refusal::UnknownKey | Refusal::Pending | Refusal::Revoked));
        if key_refused && self.identity.turn() {
            self.requester.change_keys(self.identity.speaking().clone());
        }
    }

    /// Makes a new key, says it, and speaks with it from then on. What fails is tried again when it is asked for again.
    async fn rekey(&mut self) {
        if self.identity.speaks_next() {
            return;
        }
        let key = match self.identity.make_next() {
            Ok(key) => key,
            Err(error) => return tracing::error!(error = chain(&error), "cannot make a new key"),
        };
        crate::failpoint("rekey.made");
        match self.ask(&HostRequest::Rekey { key }).await {
            Ok(HostAnswer::Stored) => {
                crate::failpoint("rekey.said");
                self.identity.change();
                self.requester.change_keys(self.identity.speaking().clone());
            }
            Ok(HostAnswer::Fault { fault }) => {
                tracing::warn!(error = %fault, "the new key is not wanted");
                if fault.code == Code::Conflict {
                    self.identity.discard();
                }
            }
            Ok(
                HostAnswer::Beat(_)
                | HostAnswer::Granted
                | HostAnswer::Denied { .. }
                | HostAnswer::Source(_)
                | HostAnswer::Vouched(_)
                | HostAnswer::Several { .. }
                | HostAnswer::Line { .. },
            ) => {}
            Err(error) => tracing::debug!(error = chain(&error), "the new key was not heard"),
        }
    }
}
