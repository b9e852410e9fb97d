//! Framing: bytes in, whole messages and commands out. A message that is not whole never leaves the [`Decoder`].

use bytes::{BufMut, Bytes, BytesMut};

use super::{Limits, Violation};

/// Flag bits of a frame (RFC 23); all others are reserved and must be zero.
const MORE: u8 = 0x01;
const LONG: u8 = 0x02;
pub(super) const COMMAND: u8 = 0x04;
const KNOWN_FLAGS: u8 = MORE | LONG | COMMAND;

/// Room asked for before a read: small while a connection is idle, so that thousands of them cost little …
const READ_CHUNK_IDLE: usize = 4 * 1024;
/// … and larger once a long message is under way, so that it needs few reads.
const READ_CHUNK_BUSY: usize = 64 * 1024;
/// A buffer that grew beyond this for one long message is given back once it is empty.
pub(crate) const KEEP_CAPACITY: usize = 64 * 1024;
/// libzmq may put a PING between two frames of a message; an honest peer needs one, and taking it out costs a copy.
const MAX_COMMANDS_INSIDE: usize = 2;

/// A whole message: its bytes exactly as they came, and where its frames lie in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    raw: Bytes,
    frames: Vec<(usize, usize)>,
}

impl Message {
    /// The message with its frame headers, ready to be forwarded.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Number of frames, at least one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Never true for a message out of a [`Decoder`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The body of one frame.
    #[must_use]
    pub fn frame(&self, index: usize) -> Option<&[u8]> {
        let &(start, len) = self.frames.get(index)?;
        self.raw.get(start..start + len)
    }
}

/// What the decoder hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A whole message.
    Message(Message),
    /// The body of a command frame.
    Command(Bytes),
}

/// Cuts a byte stream into messages within [`Limits`]. After a violation it must not be used again.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    buf: BytesMut,
    /// Where the next frame header starts in `buf`.
    scan: usize,
    frames: Vec<(usize, usize)>,
    commands_inside: usize,
}

struct Header {
    flags: u8,
    header_len: usize,
    body_len: usize,
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, buf: BytesMut::new(), scan: 0, frames: Vec::new(), commands_inside: 0 }
    }

    /// Adds bytes that arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// The buffer with room for one read, to be appended to only.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.buf.is_empty() && self.buf.capacity() > KEEP_CAPACITY {
            self.buf = BytesMut::new();
        }
        let chunk = if self.buf.len() >= READ_CHUNK_IDLE { READ_CHUNK_BUSY } else { READ_CHUNK_IDLE };
        self.buf.reserve(chunk);
        &mut self.buf
    }

    /// Bytes held that have not been handed out.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buf.len()
    }

    /// Bytes of memory the buffer occupies.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Takes the first `n` bytes away, for the greeting that precedes the frames.
    pub(super) fn take(&mut self, n: usize) -> BytesMut {
        self.buf.split_to(n.min(self.buf.len()))
    }

    pub(super) fn peek(&self) -> &[u8] {
        &self.buf
    }

    /// The next whole message or command, `None` when more bytes are needed.
    ///
    /// # Errors
    /// The first [`Violation`] in the stream, as soon as its bytes are seen.
    #[expect(clippy::should_implement_trait, reason = "fallible, and not the end when it gives None")]
    pub fn next(&mut self) -> Result<Option<Item>, Violation> {
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let body = self.scan + header.header_len;
            let end = body + header.body_len;
            if self.buf.len() < end {
                return Ok(None);
            }
            if header.flags & COMMAND != 0 {
                return self.cut_command(body, end).map(Some);
            }
            self.frames.push((body, header.body_len));
            self.scan = end;
            if header.flags & MORE == 0 {
                self.scan = 0;
                self.commands_inside = 0;
                return Ok(Some(Item::Message(Message {
                    raw: self.buf.split_to(end).freeze(),
                    frames: std::mem::take(&mut self.frames),
                })));
            }
        }
    }

    /// Reads and checks the header at `scan`; `None` when it is not whole yet.
    fn header(&self) -> Result<Option<Header>, Violation> {
        let rest = self.buf.get(self.scan..).unwrap_or_default();
        let Some((&flags, rest)) = rest.split_first() else {
            return Ok(None);
        };
        let command = flags & COMMAND != 0;
        if flags & !KNOWN_FLAGS != 0 || (command && flags & MORE != 0) {
            return Err(Violation::Flags(flags));
        }
        if !command && self.frames.len() >= self.limits.max_frames {
            return Err(Violation::TooManyFrames);
        }
        let (claimed, header_len) = if flags & LONG != 0 {
            let Some((len, _)) = rest.split_first_chunk::<8>() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*len), 9)
        } else {
            let Some(&len) = rest.first() else {
                return Ok(None);
            };
            (u64::from(len), 2)
        };
        let most = if command { self.limits.max_command } else { self.limits.max_frame };
        let body_len =
            usize::try_from(claimed).ok().filter(|&len| len <= most).ok_or(Violation::FrameTooBig(claimed))?;
        // `scan` is the length of the message so far; the sum cannot overflow below the limits.
        if !command && self.scan + header_len + body_len > self.limits.max_message {
            return Err(Violation::MessageTooBig);
        }
        Ok(Some(Header { flags, header_len, body_len }))
    }

    /// Takes a command out of the stream, also from between two frames of a message.
    fn cut_command(&mut self, body: usize, end: usize) -> Result<Item, Violation> {
        if self.scan == 0 {
            let frame = self.buf.split_to(end).freeze();
            return Ok(Item::Command(frame.slice(body..)));
        }
        self.commands_inside += 1;
        if self.commands_inside > MAX_COMMANDS_INSIDE {
            return Err(Violation::Command);
        }
        let tail = self.buf.split_off(end);
        let frame = self.buf.split_off(self.scan).freeze();
        self.buf.extend_from_slice(&tail);
        Ok(Item::Command(frame.slice(body - self.scan..)))
    }
}

pub(super) fn put_header(out: &mut BytesMut, flags: u8, len: usize) {
    if let Ok(short) = u8::try_from(len) {
        out.put_u8(flags);
        out.put_u8(short);
    } else {
        out.put_u8(flags | LONG);
        out.put_u64(len as u64);
    }
}

/// Appends one message of these frames to `out`; nothing when there are none.
pub fn encode_message(frames: &[&[u8]], out: &mut BytesMut) {
    let last = frames.len().saturating_sub(1);
    for (index, frame) in frames.iter().enumerate() {
        put_header(out, if index < last { MORE } else { 0 }, frame.len());
        out.put_slice(frame);
    }
}
