//! Which whole messages belong on which port. Pure: one [`Rules`] per connection decides about each message and keeps the count.
//!
//! The *outer* side is the untrusted TCP peer, the *inner* side our own `zeromq` socket behind its unix socket.

use bytes::{Bytes, BytesMut};

use super::zmtp::{Command, Message, Violation, encode_message};

/// What the outer peer is, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A REQ socket that came to our ROUTER (client worker, port 5556).
    Requester,
    /// A SUB socket that came to our PUB (client worker, port 5555).
    Subscriber,
    /// The answering side that our REQ dialled (CLI and host worker).
    Answerer,
    /// The PUB that our SUB dialled (host worker).
    Publisher,
}

impl Role {
    /// Socket types the outer peer may announce.
    #[must_use]
    pub fn accepts(self) -> &'static [&'static [u8]] {
        match self {
            Self::Requester => &[b"REQ"],
            Self::Subscriber => &[b"SUB", b"XSUB"],
            Self::Answerer => &[b"REP", b"ROUTER"],
            Self::Publisher => &[b"PUB", b"XPUB"],
        }
    }

    /// Socket type that we announce to the outer peer.
    #[must_use]
    pub fn shown_outside(self) -> &'static str {
        match self {
            Self::Requester => "REP",
            Self::Subscriber => "PUB",
            Self::Answerer => "REQ",
            Self::Publisher => "SUB",
        }
    }

    /// Socket type that we announce to our own socket, in the place of the outer peer.
    #[must_use]
    pub fn shown_inside(self) -> &'static str {
        match self {
            // Behind the gate are ROUTERs, which get messages of many connections on one.
            Self::Requester | Self::Subscriber => "DEALER",
            Self::Answerer => "REP",
            Self::Publisher => "PUB",
        }
    }
}

/// Bounds that go beyond a single message.
#[derive(Debug, Clone, Copy)]
pub struct RuleLimits {
    /// Requests one peer may have unanswered. A REQ socket has one; a relaxed one that gave up waiting may have a few.
    pub max_outstanding: usize,
    /// Subscriptions per peer: its session's topic, the old session's, and the beat, with room.
    pub max_subscriptions: usize,
    /// Longest subscription and longest topic in bytes.
    pub max_topic: usize,
}

impl Default for RuleLimits {
    fn default() -> Self {
        Self { max_outstanding: 8, max_subscriptions: 8, max_topic: 64 }
    }
}

/// The state of one connection's conversation.
#[derive(Debug)]
pub struct Rules {
    role: Role,
    limits: RuleLimits,
    outstanding: usize,
    topics: Vec<Vec<u8>>,
}

const SUBSCRIBE: u8 = 1;
const CANCEL: u8 = 0;

impl Rules {
    /// The start of a conversation.
    #[must_use]
    pub fn new(role: Role, limits: RuleLimits) -> Self {
        Self { role, limits, outstanding: 0, topics: Vec::new() }
    }

    /// Decides about a message from the untrusted side: the bytes to forward, or `None` when it changes nothing.
    ///
    /// # Errors
    /// A [`Violation`] that ends the connection.
    pub fn from_outer(&mut self, message: Message) -> Result<Option<Bytes>, Violation> {
        match self.role {
            Role::Requester => {
                enveloped(&message)?;
                self.asked()?;
            }
            Role::Answerer => {
                enveloped(&message)?;
                self.outstanding = self.outstanding.checked_sub(1).ok_or(Violation::OutOfStep)?;
            }
            Role::Publisher => match (message.len(), message.frame(0)) {
                (2, Some(topic)) if !topic.is_empty() && topic.len() <= self.limits.max_topic => {}
                _ => return Err(Violation::Envelope),
            },
            Role::Subscriber => {
                let (Some((&kind, topic)), 1) = (message.frame(0).and_then(<[u8]>::split_first), message.len()) else {
                    return Err(Violation::Envelope);
                };
                let forward = match kind {
                    SUBSCRIBE => self.subscribe(topic)?,
                    CANCEL => self.cancel(topic),
                    _ => return Err(Violation::Envelope),
                };
                return Ok(forward.then(|| message.raw().clone()));
            }
        }
        Ok(Some(message.raw().clone()))
    }

    /// Decides about a SUBSCRIBE or CANCEL command (ZMTP 3.1); PING never comes here.
    ///
    /// # Errors
    /// A [`Violation`] that ends the connection.
    pub fn from_outer_command(&mut self, command: &Command) -> Result<Option<Bytes>, Violation> {
        if self.role != Role::Subscriber {
            return Err(Violation::Command);
        }
        let (kind, topic, forward) = match command {
            Command::Ping { .. } => return Err(Violation::Command),
            Command::Subscribe(topic) => (SUBSCRIBE, topic, self.subscribe(topic)?),
            Command::Cancel(topic) => (CANCEL, topic, self.cancel(topic)),
        };
        Ok(forward.then(|| word(kind, topic)))
    }

    /// What our own socket has to hear when the peer leaves: its subscriptions are taken back.
    pub fn leave(&mut self) -> Vec<Bytes> {
        self.topics.drain(..).map(|topic| word(CANCEL, &topic)).collect()
    }

    /// Takes note of a message from our own socket.
    ///
    /// # Errors
    /// [`Violation::OutOfStep`] when our own REQ asks more than one can.
    pub fn from_inner(&mut self) -> Result<(), Violation> {
        match self.role {
            Role::Requester => self.outstanding = self.outstanding.saturating_sub(1),
            Role::Answerer => self.asked()?,
            Role::Subscriber | Role::Publisher => {}
        }
        Ok(())
    }

    /// Whether nothing is under way on this connection, so that silence on it means that nobody needs it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self.role {
            Role::Requester => self.outstanding == 0,
            Role::Subscriber => self.topics.is_empty(),
            // Dialled by ourselves: their owner decides.
            Role::Answerer | Role::Publisher => false,
        }
    }

    fn asked(&mut self) -> Result<(), Violation> {
        self.outstanding += 1;
        if self.outstanding > self.limits.max_outstanding {
            return Err(Violation::OutOfStep);
        }
        Ok(())
    }

    /// True when the subscription is new.
    fn subscribe(&mut self, topic: &[u8]) -> Result<bool, Violation> {
        if topic.is_empty() || topic.len() > self.limits.max_topic {
            return Err(Violation::Subscription);
        }
        if self.topics.iter().any(|t| t == topic) {
            return Ok(false);
        }
        if self.topics.len() >= self.limits.max_subscriptions {
            return Err(Violation::Subscription);
        }
        self.topics.push(topic.to_vec());
        Ok(true)
    }

    /// True when there was such a subscription.
    fn cancel(&mut self, topic: &[u8]) -> bool {
        let found = self.topics.iter().position(|t| t == topic);
        if let Some(index) = found {
            self.topics.swap_remove(index);
        }
        found.is_some()
    }
}

/// A subscription or its end, as a message.
fn word(kind: u8, topic: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(topic.len() + 1);
    body.push(kind);
    body.extend_from_slice(topic);
    let mut out = BytesMut::new();
    encode_message(&[&body], &mut out);
    out.freeze()
}

/// Exactly an empty delimiter and one payload, as REQ and REP send it.
fn enveloped(message: &Message) -> Result<(), Violation> {
    match (message.len(), message.frame(0)) {
        (2, Some([])) => Ok(()),
        _ => Err(Violation::Envelope),
    }
}

#[cfg(test)]
mod tests {
    use super::super::zmtp::{Decoder, Item, Limits};
    use super::*;

    fn message(frames: &[&[u8]]) -> Message {
        let mut out = BytesMut::new();
        encode_message(frames, &mut out);
        let mut decoder = Decoder::new(Limits::default());
        decoder.feed(&out);
        match decoder.next() {
            Ok(Some(Item::Message(message))) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_an_empty_frame_and_one_payload() {
        let mut rules = Rules::new(Role::Requester, RuleLimits::default());
        assert!(rules.from_outer(message(&[b"", b"x"])).is_ok());
        for wrong in [&[b"x" as &[u8], b"y"] as &[&[u8]], &[b""], &[b"", b"a", b"b"]] {
            assert_eq!(rules.from_outer(message(wrong)), Err(Violation::Envelope), "{wrong:?}");
        }
    }

    #[test]
    fn requests_beyond_the_limit_are_refused_until_answers_went_out() {
        let limits = RuleLimits { max_outstanding: 2, ..RuleLimits::default() };
        let mut rules = Rules::new(Role::Requester, limits);
        for _ in 0..5 {
            assert!(rules.from_outer(message(&[b"", b"x"])).is_ok());
            assert!(rules.from_inner().is_ok());
        }
        assert!(rules.is_idle());
        assert!(rules.from_outer(message(&[b"", b"x"])).is_ok());
        assert!(rules.from_outer(message(&[b"", b"x"])).is_ok());
        assert_eq!(rules.from_outer(message(&[b"", b"x"])), Err(Violation::OutOfStep));
    }

    #[test]
    fn an_answer_nobody_asked_for_is_refused() {
        let mut rules = Rules::new(Role::Answerer, RuleLimits::default());
        assert!(rules.from_inner().is_ok());
        assert!(rules.from_outer(message(&[b"", b"x"])).is_ok());
        assert_eq!(rules.from_outer(message(&[b"", b"x"])), Err(Violation::OutOfStep));
    }

    #[test]
    fn subscriptions_are_few_short_and_never_empty() {
        let limits = RuleLimits { max_subscriptions: 2, max_topic: 4, ..RuleLimits::default() };
        let mut rules = Rules::new(Role::Subscriber, limits);
        assert_eq!(rules.from_outer(message(&[b"\x01"])), Err(Violation::Subscription));
        assert_eq!(rules.from_outer(message(&[b"\x01abcde"])), Err(Violation::Subscription));
        assert_eq!(rules.from_outer(message(&[b"\x02a"])), Err(Violation::Envelope));
        assert!(rules.from_outer(message(&[b"\x01a"])).unwrap().is_some());
        assert!(rules.from_outer(message(&[b"\x01a"])).unwrap().is_none(), "a second time");
        assert!(rules.from_outer_command(&Command::Subscribe(Bytes::from_static(b"b"))).unwrap().is_some());
        assert_eq!(rules.from_outer(message(&[b"\x01c"])), Err(Violation::Subscription));
        assert!(rules.from_outer(message(&[b"\x00a"])).unwrap().is_some());
        assert!(rules.from_outer(message(&[b"\x00a"])).unwrap().is_none(), "not subscribed any more");
        assert!(rules.from_outer(message(&[b"\x01c"])).unwrap().is_some());
    }

    #[test]
    fn who_leaves_takes_back_what_is_still_subscribed_to() {
        let mut rules = Rules::new(Role::Subscriber, RuleLimits::default());
        for said in [b"\x01a" as &[u8], b"\x01b", b"\x00a"] {
            rules.from_outer(message(&[said])).unwrap();
        }
        assert_eq!(rules.leave(), [&b"\x00\x02\x00b"[..]]);
        assert!(rules.leave().is_empty());
    }

    #[test]
    fn a_subscribe_command_becomes_the_message_that_zeromq_reads() {
        let mut rules = Rules::new(Role::Subscriber, RuleLimits::default());
        let out = rules.from_outer_command(&Command::Subscribe(Bytes::from_static(b"ab"))).unwrap().unwrap();
        assert_eq!(&out[..], b"\x00\x03\x01ab");
        let mut other = Rules::new(Role::Requester, RuleLimits::default());
        assert_eq!(other.from_outer_command(&Command::Subscribe(Bytes::from_static(b"ab"))), Err(Violation::Command));
    }
}
