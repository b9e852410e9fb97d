//! The door: answers first handshake messages, in a task apart from the bus's own. A flood of them costs processor time
//! by nature, and so delays other handshakes but no session.
//!
//! Of one connection one handshake waits at a time, so that the wait of an honest one is bounded by the gate's number of
//! connections. A first message that was accepted before is known by its ephemeral key and costs nothing more.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use maglica_proto::{
    key::PublicKey,
    name::HostName,
    seal::{PeerKind, Refusal, Responder, SealError, Welcome, header::HEADER_LEN},
    units::Timestamp,
};
use tokio::sync::mpsc;

use super::{
    port::Peer,
    refused::{Kind, Refused, Who},
    sessions::Entry,
};
use crate::trust::{KeySet, Known, ServerKeys, Trust};

/// How many handshakes may wait: one of each connection that the gate takes by default.
const WAITING: usize = 4096;
/// How many that were answered may wait for the bus.
const ANSWERED: usize = 64;
/// How many accepted first messages are remembered, 32 bytes each. Only enrolled keys fill it.
const REMEMBERED: usize = 16_384;
/// A Noise IK first message begins with the ephemeral key.
const EPHEMERAL: usize = 32;
/// How many strangers a minute may be added to those at the door; more could only push out one another.
const KNOCKS: u32 = 64;
const KNOCKS_PER: Duration = Duration::from_secs(60);
/// That somebody still waits is noted no more often than this.
const KNOCK_AGAIN: Duration = Duration::from_secs(10);

/// Somebody heard an answer to a first message.
pub(super) struct Answered {
    /// On which connection.
    pub(super) peer: Peer,
    /// The session and the message that begins it, or the word to refuse with.
    pub(super) result: Result<(Box<Entry>, Vec<u8>), Refusal>,
}

/// The bus's end.
pub(super) struct Door {
    waiting: HashSet<Peer>,
    queue: mpsc::Sender<(Peer, Bytes)>,
    answered: mpsc::Receiver<Answered>,
}

impl Door {
    /// Starts the task; it ends with this value.
    pub(super) fn start(keys: ServerKeys, trust: Trust, refused: Arc<Refused>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let (answers, answered) = mpsc::channel(ANSWERED);
        let porter = Porter { keys, trust, refused, seen: Seen::default(), knocks: (0, Instant::now()) };
        tokio::spawn(porter.run(waiting, answers));
        Self { waiting: HashSet::new(), queue, answered }
    }

    /// A first message came. False: there is no room for it.
    pub(super) fn knock(&mut self, peer: &Peer, message: Bytes) -> bool {
        if self.waiting.contains(peer) || self.queue.try_send((peer.clone(), message)).is_err() {
            return false;
        }
        self.waiting.insert(peer.clone())
    }

    /// The next that was answered. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Answered> {
        let answered = self.answered.recv().await?;
        self.waiting.remove(&answered.peer);
        Some(answered)
    }
}

struct Porter {
    keys: ServerKeys,
    trust: Trust,
    refused: Arc<Refused>,
    seen: Seen,
    /// How many new strangers were noted since when.
    knocks: (u32, Instant),
}

/// A refusal: the word for the peer, and what is counted.
struct Turned(Refusal, Kind);

impl Turned {
    const fn by(word: Refusal) -> Self {
        Self(word, Kind::word(word))
    }
}

impl Porter {
    async fn run(mut self, mut waiting: mpsc::Receiver<(Peer, Bytes)>, answers: mpsc::Sender<Answered>) {
        while let Some((peer, message)) = waiting.recv().await {
            let result = match self.shake_hands(&message).await {
                Ok((entry, welcome)) => Ok((Box::new(entry), welcome)),
                Err((Turned(word, kind), responder)) => {
                    let who = responder.as_ref().map_or(Who::Stranger, |responder| Who::Key(&responder.key));
                    self.refused.note(kind, who, "a handshake");
                    Err(word)
                }
            };
            if answers.send(Answered { peer, result }).await.is_err() {
                return;
            }
        }
    }

    async fn shake_hands(&mut self, message: &[u8]) -> Result<(Entry, Vec<u8>), (Turned, Option<Box<Responder>>)> {
        let ephemeral = ephemeral(message).ok_or((Turned(Refusal::Unverified, Kind::Handshake), None))?;
        if self.seen.contains(&ephemeral) {
            return Err((Turned(Refusal::Unverified, Kind::HandshakeAgain), None));
        }
        let keys = self.keys.now();
        let (responder, server) = read(&keys, message).map_err(|error| match error {
            SealError::Version { .. } => (Turned::by(Refusal::Version), None),
            SealError::Malformed(_)
            | SealError::Refused(_)
            | SealError::Verify { .. }
            | SealError::Misplaced(_)
            | SealError::Replayed(_)
            | SealError::TooLarge(_)
            | SealError::Payload(_)
            | SealError::Key(_) => (Turned(Refusal::Unverified, Kind::Handshake), None),
        })?;
        let admitted = match self.admit(&responder).await {
            Ok(admitted) => admitted,
            Err(turned) => return Err((turned, Some(Box::new(responder)))),
        };
        let fail = |_| (Turned(Refusal::Unverified, Kind::Handshake), None);
        let topic = (responder.peer == PeerKind::Host && !responder.join)
            .then(random_topic)
            .transpose()
            .map_err(|word| (Turned::by(word), None))?;
        let Admitted { name, psk, token } = admitted;
        let welcome = Welcome {
            protocol: responder.protocol(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            name,
            topic: topic.clone(),
            server_key: (server != keys.newest()).then(|| keys.newest()),
        };
        let (key, peer) = (responder.key, responder.peer);
        let (answer, session) = responder.accept(&welcome, psk.as_ref()).map_err(fail)?;
        self.seen.add(ephemeral);
        let entry = Entry {
            session: Arc::new(session),
            key,
            server,
            told: keys.newest(),
            ended: false,
            peer,
            token,
            topic,
            host: None,
            confirmed: false,
            last: Instant::now(),
            connection: None,
            nth: 0,
            fingerprint: key.fingerprint(),
        };
        Ok((entry, answer))
    }

    async fn admit(&mut self, responder: &Responder) -> Result<Admitted, Turned> {
        if !responder.join {
            return Ok(Admitted { name: self.recognise(responder).await?, psk: None, token: None });
        }
        let register = self.trust.now();
        let bad = || Turned(Refusal::Unverified, Kind::Token);
        let token = responder.hello.token.clone().ok_or_else(bad)?;
        if register.lookup(&responder.key) == Err(Refusal::Revoked) {
            return Err(Turned::by(Refusal::Revoked));
        }
        let psk = register.psk(&token, &responder.key, SystemTime::now().into()).ok_or_else(bad)?;
        Ok(Admitted { name: responder.hello.name.clone(), psk: Some(psk.clone()), token: Some(token) })
    }

    /// The name that an enrolled key has; a host with a new key is noted as waiting at the door.
    async fn recognise(&mut self, responder: &Responder) -> Result<String, Turned> {
        match (self.trust.lookup(&responder.key), responder.peer) {
            (Ok(Known::Host(name)), PeerKind::Host) => Ok(name.to_string()),
            (Ok(Known::Operator(name, _)), PeerKind::Operator) => Ok(name.to_string()),
            (Ok(Known::Host(_) | Known::Operator(..)), _) => Err(Turned::by(Refusal::UnknownKey)),
            (Err(Refusal::UnknownKey), PeerKind::Host) => {
                let Ok(name) = HostName::new(responder.hello.name.clone()) else {
                    return Err(Turned::by(Refusal::UnknownKey));
                };
                self.note_knock(name, responder).await;
                Err(Turned::by(Refusal::Pending))
            }
            (Err(why), _) => Err(Turned::by(why)),
        }
    }

    async fn note_knock(&mut self, name: HostName, responder: &Responder) {
        let (key, now): (_, Timestamp) = (responder.key, SystemTime::now().into());
        match self.trust.now().pending().iter().find(|pending| pending.key == key) {
            Some(pending) if now.since(pending.at) < KNOCK_AGAIN => return,
            Some(_) => {}
            None => {
                if self.knocks.1.elapsed() >= KNOCKS_PER {
                    self.knocks = (0, Instant::now());
                }
                if self.knocks.0 >= KNOCKS {
                    return;
                }
                self.knocks.0 += 1;
                tracing::info!(host = %name, peer = %key.fingerprint(), "a host asks to be let in");
            }
        }
        // In memory only, so this cannot fail on a full disk.
        let _ = self
            .trust
            .change(|register| {
                register.knock(name, key, now);
                Ok(())
            })
            .await;
    }
}

/// Reads a first message that was made for one of these keys; gives for which.
fn read(keys: &KeySet, message: &[u8]) -> Result<(Responder, PublicKey), SealError> {
    match (Responder::read(&keys.present, message), &keys.next) {
        (Err(SealError::Verify { .. }), Some(next)) => {
            Responder::read(next, message).map(|responder| (responder, next.public()))
        }
        (result, _) => result.map(|responder| (responder, keys.present.public())),
    }
}

/// What somebody is let in with.
struct Admitted {
    name: String,
    psk: Option<maglica_proto::key::Secret>,
    token: Option<maglica_proto::key::TokenId>,
}

fn ephemeral(message: &[u8]) -> Option<[u8; EPHEMERAL]> {
    message.get(HEADER_LEN..)?.first_chunk::<EPHEMERAL>().copied()
}

/// The ephemeral keys of the last accepted first messages.
#[derive(Default)]
struct Seen {
    known: HashSet<[u8; EPHEMERAL]>,
    order: VecDeque<[u8; EPHEMERAL]>,
}

impl Seen {
    fn contains(&self, ephemeral: &[u8; EPHEMERAL]) -> bool {
        self.known.contains(ephemeral)
    }

    fn add(&mut self, ephemeral: [u8; EPHEMERAL]) {
        if self.known.insert(ephemeral) {
            self.order.push_back(ephemeral);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// A topic that nobody can guess; it ends in a delimiter, for a subscription is a prefix.
fn random_topic() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::Busy)?;
    Ok(format!("s/{:032x}/", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_message_is_remembered_until_many_others_came() {
        let mut seen = Seen::default();
        let number = |n: usize| -> [u8; EPHEMERAL] {
            let mut bytes = [0; EPHEMERAL];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            bytes
        };
        for n in 0..=REMEMBERED {
            assert!(!seen.contains(&number(n)));
            seen.add(number(n));
        }
        assert!(!seen.contains(&number(0)) && seen.contains(&number(1)));
        assert_eq!((seen.known.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
    }
}
