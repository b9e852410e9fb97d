//! The two sockets of the client worker, and who speaks through them.
//!
//! | file | owns |
//! | --- | --- |
//! | [`port`] | the raw `zeromq` sockets behind the gate: opaque frames in and out |
//! | [`door`] | handshakes, in a task of their own |
//! | `topics` | who subscribed to what |
//! | [`sessions`] | whose session is which, and how long |
//! | [`turns`] | how much one key may have under way |
//! | [`refused`] | what was refused and why: counters, and a log that a flood does not fill |
//! | this file | the one task that opens what comes in, has it answered elsewhere, and seals what goes out |
//!
//! Identity is the session's key, looked up in the register at every message, and never a field of the message. A
//! request is answered by a task of its own, so that no peer waits for another; exactly one answer a request.

mod door;
pub mod port;
pub mod refused;
pub mod sessions;
mod topics;
pub mod turns;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use maglica_proto::{
    codec,
    fault::{Fault, chain},
    host::Broadcast,
    key::{PublicKey, TokenId},
    name::{HostName, OperatorName},
    request::Role,
    seal::{Header, Kind, PeerKind, Refusal, Session, beat, header::BEAT_TOPIC, refusal},
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::{
    door::{Answered, Door},
    port::{Peer, PortError, PubPort, RepPort, RepReplier},
    refused::{Refused, Who},
    sessions::Sessions,
    turns::{Turn, Turns},
};
use crate::{
    gate::GateHandle,
    order::Order,
    trust::{Known, ServerKeys, Trust, register::rotation::Taker},
};

/// How many requests may be under way, long polls included. Beyond it an asker hears `busy`. Hosts have as many of their own,
/// so that no number of operators keeps them out.
const IN_FLIGHT: usize = 4096;
/// How many broadcasts may wait. A lost one is said again.
const PUBLISH_QUEUE: usize = 4096;
/// While the client worker's key changes: how often sessions are ended whose peers do not know of the next one, and how many
/// at a time. A thousand hosts take twenty seconds, and their handshakes are no rush.
const END_EVERY: Duration = Duration::from_millis(200);
const END: usize = 10;
/// How soon after a change it is told which hosts have a session.
const TELL: Duration = Duration::from_millis(2);
/// How often old sessions are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// Who asks, as its key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// An enrolled host, and when it said what it says.
    Host(HostName, Order),
    /// An enrolled operator, and its key.
    Operator(OperatorName, Role, PublicKey),
    /// Somebody whose key is to be enrolled, and who proved to hold this token.
    Joiner(PublicKey, TokenId),
}

/// Answers opened requests: the body of a request in, the body of the answer out.
pub trait Answerer: Send + Sync + 'static {
    /// Answers. What takes work waits for its `turn` first.
    fn answer(self: Arc<Self>, asker: Asker, turn: &Turn, body: Vec<u8>) -> impl Future<Output = Vec<u8>> + Send;
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
        if let Err(full) = self.queue.try_send((host, broadcast)) {
            let (host, _) = full.into_inner();
            tracing::debug!(%host, "the queue of broadcasts is full; this one will be said again");
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
    /// The client worker's keys.
    pub keys: ServerKeys,
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
    /// What is refused.
    pub refused: Arc<Refused>,
    /// Told who has used the client worker's next key.
    pub takers: mpsc::Sender<(PublicKey, Taker)>,
    /// The gate of the asking port, which is told whose connections are whose.
    pub gate: GateHandle,
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
        let Self { keys, trust, mut rep, answerer, mut publish, outgoing, refused, takers, gate } = self;
        let mut door = Door::start(keys.clone(), trust.clone(), refused.clone());
        let mut desk = Reception {
            replier: rep.replier(),
            trust,
            answerer,
            refused,
            keys,
            takers,
            gate,
            sessions: Sessions::default(),
            turns: Turns::default(),
            hosts_in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        };
        let mut sweep = tokio::time::interval(SWEEP);
        let mut end = tokio::time::interval(END_EVERY);
        end.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // When it is to be told which hosts have a session: soon after it changed, once for all that change together.
        let mut tell_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                received = rep.recv() => {
                    let (peer, message) = received?;
                    if desk.receive(&peer, message, &mut door) {
                        tell_at.get_or_insert_with(|| Instant::now() + TELL);
                    }
                }
                () = until(tell_at), if tell_at.is_some() => {
                    tell_at = None;
                    publish.reachable.send_replace(Arc::new(desk.sessions.hosts()));
                }
                Some(answered) = door.next() => desk.welcome(answered),
                next = publish.queue.recv() => {
                    let Some((host, broadcast)) = next else { return Ok(()) };
                    if let Some(sealed) = desk.seal(&host, &broadcast) {
                        // Full: it is lost, and will be said again.
                        let _ = outgoing.try_send(sealed);
                    }
                }
                _ = end.tick() => desk.follow_keys(),
                _ = sweep.tick() => {
                    desk.turns.sweep();
                    desk.refused.say_rest();
                    if desk.sessions.sweep(Instant::now()) {
                        publish.reachable.send_replace(Arc::new(desk.sessions.hosts()));
                    }
                }
            }
        }
    }
}

struct Reception<A> {
    replier: RepReplier,
    trust: Trust,
    answerer: Arc<A>,
    refused: Arc<Refused>,
    keys: ServerKeys,
    takers: mpsc::Sender<(PublicKey, Taker)>,
    gate: GateHandle,
    sessions: Sessions,
    turns: Turns,
    hosts_in_flight: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
}

impl<A: Answerer> Reception<A> {
    /// Takes a message; tells whether the set of reachable hosts may have changed.
    fn receive(&mut self, peer: &Peer, message: Bytes, door: &mut Door) -> bool {
        let header = match Header::split(&message) {
            Ok((header, _)) => header,
            Err(_) => {
                self.refuse(peer, Refusal::Unverified, refused::Kind::Alien, Who::Stranger, "a message");
                return false;
            }
        };
        match header.kind {
            Kind::Request => return self.request(peer, &header, &message),
            Kind::HelloHost | Kind::HelloOperator | Kind::JoinHost | Kind::JoinOperator => {
                if !door.knock(peer, message) {
                    self.refuse(peer, Refusal::Busy, refused::Kind::Busy, Who::Stranger, "a handshake");
                }
            }
            Kind::Welcome | Kind::Answer | Kind::Broadcast | Kind::Refusal | Kind::Beat => {
                self.refuse(peer, Refusal::Unverified, refused::Kind::Alien, Who::Stranger, "a message");
            }
        }
        false
    }

    fn follow_keys(&mut self) {
        let keys = self.keys.now();
        self.sessions.end_made_for_others(|key| keys.has(key));
        if keys.next.is_some() {
            let count = self.sessions.end_untold(&keys.newest(), END);
            if count > 0 {
                tracing::debug!(count, "ended sessions of before the next key");
            }
        }
    }

    fn refuse(&self, peer: &Peer, word: Refusal, kind: refused::Kind, who: Who<'_>, what: &str) {
        self.refused.note(kind, who, what);
        self.replier.reply(peer, refusal(word).into());
    }

    fn welcome(&mut self, answered: Answered) {
        let Answered { peer, result } = answered;
        let message = match result {
            Ok((entry, message)) => {
                self.sessions.add(*entry, Instant::now());
                message
            }
            Err(word) => refusal(word),
        };
        self.replier.reply(&peer, message.into());
    }

    fn request(&mut self, peer: &Peer, header: &Header, message: &[u8]) -> bool {
        let good = |entry: &&sessions::Entry| self.keys.now().has(&entry.server);
        let Some(entry) = self.sessions.get(header.session).filter(good) else {
            self.refuse(peer, Refusal::NoSession, refused::Kind::NoSession, Who::Stranger, "a message");
            return false;
        };
        let (session, key, joins) = (entry.session.clone(), entry.key, entry.token.is_some());
        let (server, fingerprint) = (entry.server, entry.fingerprint.clone());
        let opened = match session.open(Kind::Request, message) {
            Ok(opened) => opened,
            Err(error) => {
                self.refuse(peer, Refusal::Unverified, refused::Kind::of(&error), Who::Key(&key), "a sealed message");
                return false;
            }
        };
        let asker = match (&entry.token, self.trust.lookup(&key)) {
            (Some(token), _) => Asker::Joiner(key, token.clone()),
            (None, Ok(Known::Host(name))) if entry.peer == PeerKind::Host => {
                Asker::Host(name, Order::new(entry.nth, opened.counter))
            }
            (None, Ok(Known::Operator(name, role))) if entry.peer == PeerKind::Operator => {
                Asker::Operator(name, role, entry.key)
            }
            (None, Ok(_)) => {
                self.refuse(
                    peer,
                    Refusal::UnknownKey,
                    refused::Kind::UnknownKey,
                    Who::Key(&key),
                    "a key in its session",
                );
                return false;
            }
            (None, Err(why)) => {
                self.sessions.remove(header.session);
                self.refuse(peer, why, refused::Kind::word(why), Who::Key(&key), "a key in its session");
                return true;
            }
        };
        let (host, pool) = match &asker {
            Asker::Host(name, _) => (Some(name.clone()), &self.hosts_in_flight),
            Asker::Operator(..) | Asker::Joiner(..) => (None, &self.in_flight),
        };
        let taker = match &asker {
            Asker::Host(name, _) => Some(Taker::Host(name.clone())),
            Asker::Operator(name, ..) => Some(Taker::Operator(name.clone())),
            Asker::Joiner(..) => None,
        };
        if let Some(taker) = taker.filter(|taker| self.trust.now().lacks(&server, taker)) {
            // A full queue loses it; the next request says it again.
            let _ = self.takers.try_send((server, taker));
        }
        if self.sessions.moved(header.session, peer) {
            self.gate.vouch(peer.identity(), *key.as_bytes());
        }
        let changed = self.sessions.confirm(header.session, host, Instant::now());
        let permit = pool.clone().try_acquire_owned().ok();
        let turn = permit.and_then(|permit| Some((permit, self.turns.enter(&key, &asker, message.len())?)));
        let Some((permit, turn)) = turn else {
            self.refuse(peer, Refusal::Busy, refused::Kind::Busy, Who::Key(&key), "a request");
            return changed;
        };
        let (answerer, replier, peer) = (self.answerer.clone(), self.replier.clone(), peer.clone());
        let trust = self.trust.clone();
        let span = tracing::info_span!("request", peer = %fingerprint);
        let answering = async move {
            if let Asker::Host(name, _) = &asker
                && let Err(fault) = promote(&trust, name, &key).await
            {
                tracing::error!(host = %name, error = %fault, "cannot note its new key");
                replier.reply(&peer, refusal(Refusal::Busy).into());
                return;
            }
            let body = answerer.answer(asker, &turn, opened.body).await;
            // A watcher may have been shut out while it was kept waiting.
            match trust.lookup(&key) {
                Err(why) if !joins => drop(replier.reply(&peer, refusal(why).into())),
                Ok(_) | Err(_) => reply_sealed(&session, &replier, &peer, opened.counter, &body),
            }
            drop(permit);
        };
        tokio::spawn(answering.instrument(span));
        changed
    }

    fn seal(&self, host: &HostName, broadcast: &Broadcast) -> Option<Outgoing> {
        let entry = self.sessions.of_host(host)?;
        let topic = entry.topic.clone()?;
        if !matches!(self.trust.lookup(&entry.key), Ok(Known::Host(name)) if name == *host) {
            return None;
        }
        let sealed = codec::encode(broadcast).ok().and_then(|body| entry.session.seal(Kind::Broadcast, &body).ok());
        if sealed.is_none() {
            tracing::error!(%host, "a broadcast cannot be sealed");
        }
        sealed.map(|(message, _)| (topic, message))
    }
}

/// A host that speaks with its next key has changed to it: stored before it hears an answer.
async fn promote(trust: &Trust, host: &HostName, key: &PublicKey) -> Result<(), Fault> {
    if !trust.now().is_next(host, key) {
        return Ok(());
    }
    crate::failpoint("rekey.promote.before");
    trust
        .change(|register| {
            register.promote(host, key);
            Ok(())
        })
        .await?;
    crate::failpoint("rekey.promote.after");
    tracing::info!(%host, peer = %key.fingerprint(), "has a new key; the old one is shut out");
    Ok(())
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
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
