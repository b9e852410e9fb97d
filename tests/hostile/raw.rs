//! A peer that speaks ZMTP by hand, so that it can say what no socket library says. Blocking; its reads have a limit.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use maglica_proto::transport::zmtp::{Decoder, Item, Limits, encode_ready, greeting};

/// The longest wait for anything that has to come.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);

/// A connection.
pub(crate) struct Raw {
    stream: TcpStream,
    decoder: Decoder,
}

impl Raw {
    /// Connects and says nothing.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap()
    }

    /// The same, where there may be no room.
    pub(crate) fn try_connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        Ok(Self { stream, decoder: Decoder::new(Limits::default()) })
    }

    /// Connects, greets and says which socket it is; reads the other side's greeting and READY.
    pub(crate) fn shaken(addr: SocketAddr, socket: &str) -> Self {
        let mut raw = Self::connect(addr);
        raw.send(&hello(socket, None));
        raw.hear_hello();
        raw
    }

    /// Reads the other side's greeting and READY. False if it hung up instead.
    pub(crate) fn hear_hello(&mut self) -> bool {
        let mut greeting = [0; 64];
        self.stream.read_exact(&mut greeting).is_ok() && matches!(self.item(), Some(Item::Command(_)))
    }

    /// Sends bytes; false when the other side has hung up, or takes none.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a message as a REQ socket does.
    pub(crate) fn ask(&mut self, payload: &[u8]) -> bool {
        self.send(&message(&[b"", payload]))
    }

    /// Sends it and gives the payload of the answer, if one comes.
    pub(crate) fn answer_to(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        if !self.ask(payload) {
            return None;
        }
        self.payload()
    }

    /// The last frame of the next message, if one comes.
    pub(crate) fn payload(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Item::Message(message) = self.item()? {
                return message.frame(message.len() - 1).map(<[u8]>::to_vec);
            }
        }
    }

    fn item(&mut self) -> Option<Item> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(item) = self.decoder.next().ok()? {
                return Some(item);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.decoder.feed(&buffer[..count]),
            }
        }
    }

    /// Whether the other side hangs up within this time, whatever it says before.
    pub(crate) fn hangs_up_within(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut buffer = [0; 16 * 1024];
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
        false
    }

    /// The same, as something that has to be so.
    #[track_caller]
    pub(crate) fn hangs_up(&mut self) {
        assert!(self.hangs_up_within(LIMIT), "the connection is still open after {LIMIT:?}");
    }
}

/// Greeting and READY of a socket of this type, perhaps with an identity.
pub(crate) fn hello(socket: &str, identity: Option<&[u8]>) -> Vec<u8> {
    [&greeting()[..], &encode_ready(socket, identity)].concat()
}

/// One frame.
pub(crate) fn frame(more: bool, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 9);
    match u8::try_from(body.len()) {
        Ok(short) => out.extend([u8::from(more), short]),
        Err(_) => {
            out.push(u8::from(more) | 2);
            out.extend((body.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(body);
    out
}

/// A message of these frames.
pub(crate) fn message(frames: &[&[u8]]) -> Vec<u8> {
    frames.iter().enumerate().flat_map(|(at, body)| frame(at + 1 < frames.len(), body)).collect()
}

/// A frame's header that claims so many bytes to come.
pub(crate) fn claim(flags: u8, bytes: u64) -> Vec<u8> {
    [&[flags][..], &bytes.to_be_bytes()].concat()
}
