//! The two sockets of the client worker, and who speaks through them.
//!
//! | file | owns |
//! | --- | --- |
//! | [`port`] | the raw `zeromq` sockets behind the gate: opaque frames in and out |
//! | [`sessions`] | whose session is which, and how long |
//! | this file | the one task that opens what comes in, has it answered elsewhere, and seals what goes out |
//!
//! Identity is the session's key, looked up in the register at every message, and never a field of the message. A
//! request is answered by a task of its own, so that no peer waits for another; exactly one answer a request.

pub mod port;
pub mod sessions;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use maglica_proto::{
    codec,
    fault::chain,
    host::Broadcast,
    key::{KeyPair, PublicKey, TokenId},
    name::{HostName, OperatorName},
    request::Role,
    seal::{
        Header, Kind, PeerKind, Refusal, Responder, SealError, Session, Welcome, beat, header::BEAT_TOPIC, refusal,
    },
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::{
    port::{Peer, PortError, PubPort, RepPort, RepReplier},
    sessions::{Entry, Sessions},
};
use crate::trust::{Known, Trust};

/// How many requests may be under way, long polls included. Beyond it an asker hears `busy`.
const IN_FLIGHT: usize = 4096;
/// How many broadcasts may wait. A lost one is said again.
const PUBLISH_QUEUE: usize = 4096;
/// How often old sessions are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// Who asks, as its key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// An enrolled host.
    Host(HostName),
    /// An enrolled operator.
    Operator(OperatorName, Role),
    /// Somebody whose key is to be enrolled, and who proved to hold this token.
    Joiner(PublicKey, TokenId),
}

/// Answers opened requests: the body of a request in, the body of the answer out.
pub trait Answerer: Send + Sync + 'static {
    /// Answers.
    fn answer(self: Arc<Self>, asker: Asker, body: Vec<u8>) -> impl Future<Output = Vec<u8>> + Send;
}

/// Says broadcasts to hosts. Never waits: what cannot be said now is lost, and said again by whoever cares.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<(HostName, Broadcast)>,
    reachable: watch::Receiver<Arc<BTreeSet<HostName>>>,
}

impl Publisher {
    /// Broadcasts to one host.
    pub fn publish(&self, host: HostName, broadcast: Broadcast) {
        if self.queue.try_send((host, broadcast)).is_err() {
            tracing::debug!("the queue of broadcasts is full; this one will be said again");
        }
    }

    /// The hosts that have a session.
    #[must_use]
    pub fn reachable(&self) -> Arc<BTreeSet<HostName>> {
        self.reachable.borrow().clone()
    }
}

/// The far ends of a [`Publisher`].
pub struct PublishQueue {
    queue: mpsc::Receiver<(HostName, Broadcast)>,
    reachable: watch::Sender<Arc<BTreeSet<HostName>>>,
}

/// A publisher and the queue that the bus will empty.
#[must_use]
pub fn publisher() -> (Publisher, PublishQueue) {
    let (queue, receiver) = mpsc::channel(PUBLISH_QUEUE);
    let (sender, reachable) = watch::channel(Arc::default());
    (Publisher { queue, reachable }, PublishQueue { queue: receiver, reachable: sender })
}

/// What the bus needs.
pub struct Bus<A> {
    /// The client worker's key.
    pub keys: KeyPair,
    /// The register.
    pub trust: Trust,
    /// The asking port.
    pub rep: RepPort,
    /// Who answers.
    pub answerer: Arc<A>,
    /// What is to be broadcast.
    pub publish: PublishQueue,
    /// Where sealed broadcasts go, see [`publish`].
    pub outgoing: mpsc::Sender<Outgoing>,
}

/// Publishes sealed messages and the beat, until `stop`.
///
/// # Errors
/// The socket failed for good.
pub async fn publish(
    mut port: PubPort,
    mut outgoing: mpsc::Receiver<Outgoing>,
    every: Duration,
    stop: CancellationToken,
) -> Result<(), PortError> {
    let mut beats = tokio::time::interval(every);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (topic, message) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = beats.tick() => (BEAT_TOPIC.to_owned(), beat()),
            next = outgoing.recv() => match next {
                Some(next) => next,
                None => return Ok(()),
            },
        };
        port.publish(topic.as_bytes(), Bytes::from(message)).await?;
    }
}

/// A topic and the sealed message for it.
pub type Outgoing = (String, Vec<u8>);

/// A channel to [`publish`].
#[must_use]
pub fn outgoing() -> (mpsc::Sender<Outgoing>, mpsc::Receiver<Outgoing>) {
    mpsc::channel(PUBLISH_QUEUE)
}

impl<A: Answerer> Bus<A> {
    /// Serves until `stop`.
    ///
    /// # Errors
    /// The socket failed for good.
    pub async fn run(self, stop: CancellationToken) -> Result<(), PortError> {
        let Self { keys, trust, mut rep, answerer, mut publish, outgoing } = self;
        let mut desk = Reception {
            replier: rep.replier(),
            keys,
            trust,
            answerer,
            sessions: Sessions::default(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        };
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                received = rep.recv() => {
                    let (peer, message) = received?;
                    if desk.receive(peer, &message).await {
                        publish.reachable.send_replace(Arc::new(desk.sessions.hosts()));
                    }
                }
                next = publish.queue.recv() => {
                    let Some((host, broadcast)) = next else { return Ok(()) };
                    if let Some(sealed) = desk.seal(&host, &broadcast) {
                        // Full: it is lost, and will be said again.
                        let _ = outgoing.try_send(sealed);
                    }
                }
                _ = sweep.tick() => if desk.sessions.sweep(Instant::now()) {
                    publish.reachable.send_replace(Arc::new(desk.sessions.hosts()));
                },
            }
        }
    }
}

struct Reception<A> {
    replier: RepReplier,
    keys: KeyPair,
    trust: Trust,
    answerer: Arc<A>,
    sessions: Sessions,
    in_flight: Arc<Semaphore>,
}

impl<A: Answerer> Reception<A> {
    /// Takes a message; tells whether the set of reachable hosts may have changed.
    async fn receive(&mut self, peer: Peer, message: &[u8]) -> bool {
        let result = match Header::split(message) {
            Ok((header, _)) => match header.kind {
                Kind::Request => return self.request(peer, &header, message),
                Kind::HelloHost | Kind::HelloOperator | Kind::JoinHost | Kind::JoinOperator => {
                    self.shake_hands(message).await
                }
                Kind::Welcome | Kind::Answer | Kind::Broadcast | Kind::Refusal | Kind::Beat => Err(Refusal::Unverified),
            },
            Err(_) => Err(Refusal::Unverified),
        };
        let answer = result.unwrap_or_else(|why| {
            tracing::info!(%why, "refused a stranger");
            refusal(why)
        });
        self.replier.reply(&peer, answer.into());
        false
    }

    async fn shake_hands(&mut self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        let responder = Responder::read(&self.keys, message).map_err(|error| match error {
            SealError::Version { .. } => Refusal::Version,
            SealError::Malformed(_)
            | SealError::Refused(_)
            | SealError::Verify { .. }
            | SealError::Misplaced(_)
            | SealError::Replayed(_)
            | SealError::TooLarge(_)
            | SealError::Payload(_)
            | SealError::Key(_) => Refusal::Unverified,
        })?;
        let (name, psk, token) = if responder.join {
            let register = self.trust.now();
            let token = responder.hello.token.clone().ok_or(Refusal::Unverified)?;
            if register.lookup(&responder.key) == Err(Refusal::Revoked) {
                return Err(Refusal::Revoked);
            }
            let psk = register.psk(&token, &responder.key, SystemTime::now().into()).ok_or(Refusal::Unverified)?;
            (responder.hello.name.clone(), Some(psk.clone()), Some(token))
        } else {
            (self.recognise(&responder).await?, None, None)
        };
        let topic = (responder.peer == PeerKind::Host && !responder.join).then(random_topic).transpose()?;
        let welcome = Welcome {
            protocol: responder.protocol(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            name,
            topic: topic.clone(),
        };
        let (key, peer) = (responder.key, responder.peer);
        let (answer, session) = responder.accept(&welcome, psk.as_ref()).map_err(|_| Refusal::Unverified)?;
        let now = Instant::now();
        self.sessions.add(
            Entry { session: Arc::new(session), key, peer, token, topic, host: None, confirmed: false, last: now },
            now,
        );
        Ok(answer)
    }

    /// The name that an enrolled key has; a host with a new key is noted as waiting at the door.
    async fn recognise(&self, responder: &Responder) -> Result<String, Refusal> {
        match (self.trust.now().lookup(&responder.key), responder.peer) {
            (Ok(Known::Host(name)), PeerKind::Host) => Ok(name.to_string()),
            (Ok(Known::Operator(name, _)), PeerKind::Operator) => Ok(name.to_string()),
            (Ok(Known::Host(_) | Known::Operator(..)), _) => Err(Refusal::UnknownKey),
            (Err(Refusal::UnknownKey), PeerKind::Host) => {
                let Ok(name) = HostName::new(responder.hello.name.clone()) else { return Err(Refusal::UnknownKey) };
                let (key, now) = (responder.key, SystemTime::now().into());
                let known = self.trust.now().pending().iter().any(|pending| pending.key == key);
                if !known {
                    tracing::info!(host = %name, fingerprint = %key.fingerprint(), "a host asks to be let in");
                }
                // In memory only, so this cannot fail on a full disk.
                let _ = self
                    .trust
                    .change(|register| {
                        register.knock(name, key, now);
                        Ok(())
                    })
                    .await;
                Err(Refusal::Pending)
            }
            (Err(why), _) => Err(why),
        }
    }

    fn request(&mut self, peer: Peer, header: &Header, message: &[u8]) -> bool {
        let refuse = |why: Refusal| {
            self.replier.reply(&peer, refusal(why).into());
        };
        let Some(entry) = self.sessions.get(header.session) else {
            refuse(Refusal::NoSession);
            return false;
        };
        let (session, key, joins) = (entry.session.clone(), entry.key, entry.token.is_some());
        let opened = match session.open(Kind::Request, message) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(key = %entry.key.fingerprint(), error = chain(&error), "refused a message");
                refuse(Refusal::Unverified);
                return false;
            }
        };
        let asker = match (&entry.token, self.trust.now().lookup(&entry.key)) {
            (Some(token), _) => Asker::Joiner(entry.key, token.clone()),
            (None, Ok(Known::Host(name))) if entry.peer == PeerKind::Host => Asker::Host(name),
            (None, Ok(Known::Operator(name, role))) if entry.peer == PeerKind::Operator => Asker::Operator(name, role),
            (None, Ok(_)) => {
                refuse(Refusal::UnknownKey);
                return false;
            }
            (None, Err(why)) => {
                tracing::info!(key = %entry.key.fingerprint(), %why, "refused a key in its session");
                self.sessions.remove(header.session);
                self.replier.reply(&peer, refusal(why).into());
                return true;
            }
        };
        let host = match &asker {
            Asker::Host(name) => Some(name.clone()),
            Asker::Operator(..) | Asker::Joiner(..) => None,
        };
        let changed = self.sessions.confirm(header.session, host, Instant::now());
        match self.in_flight.clone().try_acquire_owned() {
            Ok(permit) => {
                let (answerer, replier) = (self.answerer.clone(), self.replier.clone());
                let trust = self.trust.clone();
                tokio::spawn(async move {
                    let body = answerer.answer(asker, opened.body).await;
                    // A watcher may have been shut out while it was kept waiting.
                    match trust.now().lookup(&key) {
                        Err(why) if !joins => drop(replier.reply(&peer, refusal(why).into())),
                        Ok(_) | Err(_) => reply_sealed(&session, &replier, &peer, opened.counter, &body),
                    }
                    drop(permit);
                });
            }
            Err(_) => {
                self.replier.reply(&peer, refusal(Refusal::Busy).into());
            }
        }
        changed
    }

    fn seal(&self, host: &HostName, broadcast: &Broadcast) -> Option<Outgoing> {
        let entry = self.sessions.of_host(host)?;
        let topic = entry.topic.clone()?;
        if !matches!(self.trust.now().lookup(&entry.key), Ok(Known::Host(name)) if name == *host) {
            return None;
        }
        let sealed = codec::encode(broadcast).ok().and_then(|body| entry.session.seal(Kind::Broadcast, &body).ok());
        if sealed.is_none() {
            tracing::error!(%host, "a broadcast cannot be sealed");
        }
        sealed.map(|(message, _)| (topic, message))
    }
}

fn reply_sealed(session: &Session, replier: &RepReplier, peer: &Peer, re: u64, body: &[u8]) {
    match session.seal_answer(re, body) {
        Ok(message) => {
            replier.reply(peer, message.into());
        }
        Err(error) => {
            // Too large is the only way here; the asker must hear something, or it waits for nothing.
            tracing::error!(error = chain(&error), "an answer cannot be sealed");
            replier.reply(peer, refusal(Refusal::Busy).into());
        }
    }
}

/// A topic that nobody can guess; it ends in a delimiter, for a subscription is a prefix.
fn random_topic() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::Busy)?;
    Ok(format!("s/{:032x}/", u128::from_be_bytes(bytes)))
}
