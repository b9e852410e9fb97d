//! A session: seals and opens messages between two known keys.
//!
//! Inside a sealed message: the header again, the counter of the request that it answers (or of itself), the body's
//! length, the body. It is cut into Noise messages of at most 65,535 bytes; all but the last are full. The length
//! inside is what tells a message from one whose last Noise messages were cut off on the way.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use snow::StatelessTransportState;

use super::{
    SealError,
    header::{HEADER_LEN, Header, Kind, SessionId, read_refusal},
    window::ReplayWindow,
};

/// A Noise message's largest size, its 16-byte tag included.
const NOISE_MAX: usize = 65_535;
const TAG: usize = 16;
const CHUNK: usize = NOISE_MAX - TAG;
/// What precedes the body inside: the header, the counter answered to, the body's length.
const INNER: usize = HEADER_LEN + 8 + 4;
/// The largest message on the wire.
pub const MAX_SEALED: usize = 1 << 20;
/// The largest body: what of [`MAX_SEALED`] is left with 17 tags, two headers and a little room.
pub const MAX_BODY: usize = MAX_SEALED - 1024;
/// Each message has this many nonces of its own, one a Noise message; 32 × 65,519 bytes exceed [`MAX_SEALED`].
const NONCES_SHIFT: u32 = 5;

/// An opened message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The sender's counter.
    pub counter: u64,
    /// The counter of the request that this answers; in requests and broadcasts, its own.
    pub re: u64,
    /// What was said.
    pub body: Vec<u8>,
}

/// One end of a session. It can seal and open from several tasks at once.
pub struct Session {
    id: SessionId,
    noise: StatelessTransportState,
    next: AtomicU64,
    window: Mutex<ReplayWindow>,
}

impl Session {
    pub(super) fn new(id: SessionId, noise: StatelessTransportState) -> Self {
        Self { id, noise, next: AtomicU64::new(0), window: Mutex::default() }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Seals a request or a broadcast; gives the message and its counter.
    ///
    /// # Errors
    /// [`SealError::TooLarge`].
    pub fn seal(&self, kind: Kind, body: &[u8]) -> Result<(Vec<u8>, u64), SealError> {
        self.seal_with(kind, None, body)
    }

    /// Seals the answer to the request that had this counter.
    ///
    /// # Errors
    /// [`SealError::TooLarge`].
    pub fn seal_answer(&self, re: u64, body: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal_with(Kind::Answer, Some(re), body).map(|(message, _)| message)
    }

    fn seal_with(&self, kind: Kind, re: Option<u64>, body: &[u8]) -> Result<(Vec<u8>, u64), SealError> {
        let length =
            u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY).ok_or(SealError::TooLarge(body.len()))?;
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        let header = Header { kind, session: self.id, counter }.to_bytes();
        let mut inner = Vec::with_capacity(INNER + body.len());
        inner.extend_from_slice(&header);
        inner.extend_from_slice(&re.unwrap_or(counter).to_be_bytes());
        inner.extend_from_slice(&length.to_be_bytes());
        inner.extend_from_slice(body);

        let chunks = inner.len().div_ceil(CHUNK);
        let mut message = vec![0; HEADER_LEN + inner.len() + chunks * TAG];
        message[..HEADER_LEN].copy_from_slice(&header);
        let mut at = HEADER_LEN;
        for (nonce, chunk) in (counter << NONCES_SHIFT..).zip(inner.chunks(CHUNK)) {
            at += self
                .noise
                .write_message(nonce, chunk, &mut message[at..])
                .map_err(|source| SealError::Verify { what: "message to seal", source })?;
        }
        Ok((message, counter))
    }

    /// Opens a message of this kind. It is accepted once.
    ///
    /// # Errors
    /// [`SealError`]: the message is then not to be believed in any part.
    pub fn open(&self, kind: Kind, message: &[u8]) -> Result<Opened, SealError> {
        let (header, rest) = Header::split(message)?;
        if header.kind == Kind::Refusal {
            return Err(read_refusal(rest));
        }
        if header.kind != kind || header.session != self.id {
            return Err(SealError::Misplaced("its header is of another kind or session"));
        }
        if message.len() > MAX_SEALED || header.counter > u64::MAX >> NONCES_SHIFT {
            return Err(SealError::Malformed("over the limits of a message"));
        }
        let mut inner = vec![0; rest.len()];
        let mut length = 0;
        for (nonce, chunk) in (header.counter << NONCES_SHIFT..).zip(rest.chunks(NOISE_MAX)) {
            length += self
                .noise
                .read_message(nonce, chunk, &mut inner[length..])
                .map_err(|source| SealError::Verify { what: "sealed message", source })?;
        }
        inner.truncate(length);
        let (copy, rest) = inner.split_first_chunk::<HEADER_LEN>().ok_or(SealError::Malformed("nothing inside"))?;
        if *copy != header.to_bytes() {
            return Err(SealError::Misplaced("its inner header differs"));
        }
        let (re, rest) = rest.split_first_chunk::<8>().ok_or(SealError::Malformed("nothing inside"))?;
        let (length, body) = rest.split_first_chunk::<4>().ok_or(SealError::Malformed("nothing inside"))?;
        if u32::try_from(body.len()) != Ok(u32::from_be_bytes(*length)) {
            return Err(SealError::Misplaced("a part of it was cut off"));
        }
        // Only now, when it is known to be genuine, may it move the window.
        let fresh = self.window.lock().unwrap_or_else(PoisonError::into_inner).accept(header.counter);
        if !fresh {
            return Err(SealError::Replayed(header.counter));
        }
        Ok(Opened { counter: header.counter, re: u64::from_be_bytes(*re), body: body.to_vec() })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.id)
    }
}
