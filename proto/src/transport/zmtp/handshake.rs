//! Greeting and READY of the other side, byte by byte. Each wrong byte is refused as soon as it is there.

use bytes::Bytes;

use super::command::parse_ready;
use super::frames::COMMAND;
use super::{Decoder, Item, Limits, Violation};

/// Length of a ZMTP 3.x greeting.
pub const GREETING_LEN: usize = 64;
const SIGNATURE_FIRST: u8 = 0xff;
const SIGNATURE_LAST: u8 = 0x7f;
const SIGNATURE_END: usize = 9;
const VERSION_MAJOR: usize = 10;
const MECHANISM: std::ops::Range<usize> = 12..32;
const OUR_MAJOR: u8 = 3;

/// Our own greeting: ZMTP 3.0, NULL, not a server. It says 3.0 so that subscriptions arrive as messages, as the `zeromq` crate wants them.
#[must_use]
pub fn greeting() -> [u8; GREETING_LEN] {
    let mut out = [0; GREETING_LEN];
    out[0] = SIGNATURE_FIRST;
    out[SIGNATURE_END] = SIGNATURE_LAST;
    out[VERSION_MAJOR] = OUR_MAJOR;
    out[MECHANISM.start..MECHANISM.start + 4].copy_from_slice(b"NULL");
    out
}

/// What the other side said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Value of `Socket-Type`.
    pub socket_type: Vec<u8>,
}

/// Reads the other side's handshake: greeting, then READY, then the [`Decoder`] is handed over with what follows.
#[derive(Debug)]
pub struct Handshake {
    decoder: Decoder,
    max_properties: usize,
    greeted: bool,
}

impl Handshake {
    /// A handshake of which nothing has been read.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { decoder: Decoder::new(limits), max_properties: limits.max_properties, greeted: false }
    }

    /// The decoder that bytes are read into.
    pub fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// Gives what the peer said once its greeting and READY are whole.
    ///
    /// # Errors
    /// The first wrong byte, as a [`Violation`].
    pub fn advance(&mut self) -> Result<Option<Ready>, Violation> {
        if !self.greeted {
            check_greeting(self.decoder.peek())?;
            if self.decoder.buffered() < GREETING_LEN {
                return Ok(None);
            }
            drop(self.decoder.take(GREETING_LEN));
            self.greeted = true;
        }
        // Nothing but READY may come now, so a stranger cannot make us hold a long message either.
        if self.decoder.peek().first().is_some_and(|flags| flags & COMMAND == 0) {
            return Err(Violation::Ready);
        }
        match self.decoder.next() {
            Ok(None) => Ok(None),
            Ok(Some(Item::Command(body))) => self.ready(&body).map(Some),
            Ok(Some(Item::Message(_))) => Err(Violation::Ready),
            Err(violation) => Err(violation),
        }
    }

    fn ready(&self, body: &Bytes) -> Result<Ready, Violation> {
        Ok(Ready { socket_type: parse_ready(body, self.max_properties)? })
    }

    /// The decoder with whatever followed READY.
    #[must_use]
    pub fn into_decoder(self) -> Decoder {
        self.decoder
    }
}

/// Checks as much of a greeting as is there.
fn check_greeting(bytes: &[u8]) -> Result<(), Violation> {
    let wrong = |index: usize, value: u8| bytes.get(index).is_some_and(|&b| b != value);
    if wrong(0, SIGNATURE_FIRST) || wrong(SIGNATURE_END, SIGNATURE_LAST) {
        return Err(Violation::Signature);
    }
    if let Some(&major) = bytes.get(VERSION_MAJOR)
        && major < OUR_MAJOR
    {
        return Err(Violation::Version(major));
    }
    let mut expected = [0; 20];
    expected[..4].copy_from_slice(b"NULL");
    let have = bytes.get(MECHANISM.start..).unwrap_or_default();
    if have.iter().zip(expected).any(|(&got, want)| got != want) {
        return Err(Violation::Mechanism);
    }
    Ok(())
}
