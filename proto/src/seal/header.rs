//! The 32 bytes in clear that every message begins with, and the two messages that are clear as a whole.

use std::fmt;

use super::SealError;

/// What every message begins with.
pub const MAGIC: [u8; 4] = *b"MGLC";
/// The version of the outer form: of this header and of how a body is sealed.
pub const OUTER_VERSION: u8 = 1;
/// The header's length in bytes.
pub const HEADER_LEN: usize = 32;

/// A session's id: random, chosen by the client worker.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// A new one from the system's random source.
    ///
    /// # Errors
    /// [`SealError::Malformed`] if the random source fails.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| SealError::Malformed("the system's random source failed"))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// First handshake message of a host worker.
    HelloHost = 1,
    /// First handshake message of an operator.
    HelloOperator = 2,
    /// First handshake message of somebody who joins as a host by a token.
    JoinHost = 3,
    /// First handshake message of somebody who joins as an operator by a token.
    JoinOperator = 4,
    /// Second handshake message.
    Welcome = 5,
    /// Sealed, peer to client worker.
    Request = 6,
    /// Sealed, client worker to peer, in answer to a request.
    Answer = 7,
    /// Sealed, client worker to one host, published.
    Broadcast = 8,
    /// Clear: one word to somebody whom the client worker does not know.
    Refusal = 9,
    /// Clear: the client worker is alive.
    Beat = 10,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::HelloHost,
        Self::HelloOperator,
        Self::JoinHost,
        Self::JoinOperator,
        Self::Welcome,
        Self::Request,
        Self::Answer,
        Self::Broadcast,
        Self::Refusal,
        Self::Beat,
    ];
}

/// The clear header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub kind: Kind,
    /// The session it belongs to; zero before there is one.
    pub session: SessionId,
    /// The sender's count of sealed messages in this session, from 0; zero in handshakes.
    pub counter: u64,
}

impl Header {
    /// A header of a message that belongs to no session.
    #[must_use]
    pub const fn without_session(kind: Kind) -> Self {
        Self { kind, session: SessionId([0; 16]), counter: 0 }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = OUTER_VERSION;
        bytes[5] = self.kind as u8;
        bytes[8..24].copy_from_slice(&self.session.0);
        bytes[24..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    /// Reads the header of a message and gives what follows it.
    ///
    /// # Errors
    /// [`SealError::Malformed`].
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), SealError> {
        let (head, rest) =
            message.split_first_chunk::<HEADER_LEN>().ok_or(SealError::Malformed("shorter than a header"))?;
        if head[..4] != MAGIC {
            return Err(SealError::Malformed("other magic bytes"));
        }
        if head[4] != OUTER_VERSION {
            return Err(SealError::Malformed("another version of the outer form"));
        }
        if head[6..8] != [0, 0] {
            return Err(SealError::Malformed("reserved bytes are not zero"));
        }
        let kind =
            Kind::ALL.into_iter().find(|&kind| kind as u8 == head[5]).ok_or(SealError::Malformed("an unknown kind"))?;
        let mut session = SessionId::default();
        session.0.copy_from_slice(&head[8..24]);
        let mut counter = [0; 8];
        counter.copy_from_slice(&head[24..]);
        Ok((Self { kind, session, counter: u64::from_be_bytes(counter) }, rest))
    }
}

/// The one word that somebody hears whom the client worker does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The key is not enrolled.
    UnknownKey,
    /// The key asks to be a host and waits for an administrator's word.
    Pending,
    /// The key was enrolled once and never will be again.
    Revoked,
    /// There is no such session (any more): make a new one.
    NoSession,
    /// The handshake or message cannot be verified, for example because it was made for another key than the client
    /// worker has, or by a token that is unknown, used or expired.
    Unverified,
    /// No common protocol version.
    Version,
    /// The client worker is stopping or has too much to do.
    Busy,
}

impl Refusal {
    const ALL: [Self; 7] =
        [Self::UnknownKey, Self::Pending, Self::Revoked, Self::NoSession, Self::Unverified, Self::Version, Self::Busy];

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown-key",
            Self::Pending => "pending",
            Self::Revoked => "revoked",
            Self::NoSession => "no-session",
            Self::Unverified => "unverified",
            Self::Version => "version",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The message that refuses.
#[must_use]
pub fn refusal(why: Refusal) -> Vec<u8> {
    let mut message = Header::without_session(Kind::Refusal).to_bytes().to_vec();
    message.extend_from_slice(why.word().as_bytes());
    message
}

/// Reads the word of a refusal, given what follows its header.
pub(super) fn read_refusal(rest: &[u8]) -> SealError {
    match Refusal::ALL.into_iter().find(|why| why.word().as_bytes() == rest) {
        Some(why) => SealError::Refused(why),
        None => SealError::Malformed("an unknown word of refusal"),
    }
}

/// The message that is published every few seconds, so that a subscriber knows that its connection is alive.
#[must_use]
pub fn beat() -> Vec<u8> {
    Header::without_session(Kind::Beat).to_bytes().to_vec()
}

/// The topic of the beat.
pub const BEAT_TOPIC: &str = "beat/";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_and_every_refusal_reads_back() {
        for kind in Kind::ALL {
            let header = Header { kind, session: SessionId([7; 16]), counter: u64::MAX };
            let (read, rest) = Header::split(&header.to_bytes()).map(|(h, r)| (h, r.len())).unwrap();
            assert_eq!((read, rest), (header, 0));
        }
        for why in Refusal::ALL {
            let message = refusal(why);
            let (header, rest) = Header::split(&message).unwrap();
            assert_eq!(header.kind, Kind::Refusal);
            assert!(matches!(read_refusal(rest), SealError::Refused(read) if read == why));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok((header, _)) = Header::split(&bytes) {
                prop_assert_eq!(&header.to_bytes()[..], &bytes[..HEADER_LEN]);
            }
        }
    }
}
