//! The link to the client worker: one sealed conversation for everything this host says, one subscription for what
//! is broadcast to it.
//!
//! | file | owns |
//! | --- | --- |
//! | [`enrol`] | this host's key, the pinned key of the client worker, joining |
//! | this file | the conversation: one question at a time, a new session when the client worker has restarted |
//! | [`listen`] | the subscription of the present session; a new one after silence |
//! | [`heartbeat`] | says that this host is there, and carries out what it hears in answer |

pub mod enrol;
pub mod heartbeat;
pub mod listen;

use std::{sync::Arc, time::Duration};

use maglica_proto::{
    codec::{self, CodecError},
    fault::Fault,
    host::{HostAnswer, HostRequest},
    seal::Session,
    transport::{SealedError, SealedRequester},
};
use tokio::sync::{mpsc, oneshot, watch};

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

type Call = (HostRequest, oneshot::Sender<Result<HostAnswer, LinkError>>);

/// The handle to the conversation.
#[derive(Clone)]
pub struct Link {
    calls: mpsc::Sender<Call>,
    channel: watch::Receiver<Option<Channel>>,
}

impl Link {
    /// Starts the task that holds the conversation. It ends with the last handle.
    #[must_use]
    pub fn start(requester: SealedRequester) -> Self {
        let (calls, receiver) = mpsc::channel(QUEUE);
        let (announce, channel) = watch::channel(None);
        tokio::spawn(converse(requester, receiver, announce));
        Self { calls, channel }
    }

    /// Says something and hears the answer.
    ///
    /// # Errors
    /// [`LinkError`]. What was said may have been heard.
    pub async fn call(&self, request: HostRequest) -> Result<HostAnswer, LinkError> {
        let (reply, answer) = oneshot::channel();
        self.calls.send((request, reply)).await.map_err(|_| LinkError::Stopping)?;
        match answer.await.map_err(|_| LinkError::Stopping)?? {
            HostAnswer::Fault { fault } => Err(LinkError::Fault(fault)),
            answer @ (HostAnswer::Beat(_) | HostAnswer::Granted | HostAnswer::Denied { .. } | HostAnswer::Stored) => {
                Ok(answer)
            }
        }
    }

    /// Answers a ping, without waiting. One that finds the queue full is left out: this host is too busy to be quick.
    pub fn pong(&self, number: u64) {
        let (reply, _) = oneshot::channel();
        let _ = self.calls.try_send((HostRequest::Pong { number }, reply));
    }

    /// The present session, told anew whenever it changes.
    #[must_use]
    pub fn channel(&self) -> watch::Receiver<Option<Channel>> {
        self.channel.clone()
    }
}

async fn converse(
    mut requester: SealedRequester,
    mut calls: mpsc::Receiver<Call>,
    announce: watch::Sender<Option<Channel>>,
) {
    while let Some((request, reply)) = calls.recv().await {
        let answer = ask(&mut requester, &request, &announce).await;
        // An asker that went away needs no answer.
        let _ = reply.send(answer);
    }
}

async fn ask(
    requester: &mut SealedRequester,
    request: &HostRequest,
    announce: &watch::Sender<Option<Channel>>,
) -> Result<HostAnswer, LinkError> {
    let body = codec::encode(request)?;
    let result = requester.call(&body, CALL_LIMIT).await;
    if result.is_ok()
        && let Ok((session, welcome)) = requester.session(CALL_LIMIT).await
        && let Some(topic) = welcome.topic.clone()
    {
        announce.send_if_modified(|channel| {
            let same = channel.as_ref().is_some_and(|known| known.session.id() == session.id());
            if !same {
                *channel = Some(Channel { session, topic });
            }
            !same
        });
    }
    Ok(codec::decode(&result?)?)
}
