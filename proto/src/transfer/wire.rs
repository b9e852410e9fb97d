//! Records on a TCP connection. Blocking, with a limit for each wait; whoever wants it to end shuts the connection down.

use std::{
    io::{self, BufReader, ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    TransferError,
    message::Hello,
    seal::{HANDSHAKE_MAX, Opener, RECORD_MAX, Role, Sealed},
};
use crate::{
    codec,
    key::{KeyPair, PublicKey},
};

/// Silence for longer than this is a broken connection; a giver that works says so more often.
pub const SILENCE: Duration = Duration::from_secs(30);
/// How long a handshake may take, the other side's question to the client worker included.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// How much is gathered before it is written to the connection.
const WRITE_AT_ONCE: usize = 512 * 1024;
/// How much is read from the connection at once.
const READ_AT_ONCE: usize = 512 * 1024;
/// What a record's content begins with.
const CONTROL: u8 = 0;
const DATA: u8 = 1;
/// What precedes the bytes of a data record: its kind and the offset.
const DATA_HEAD: usize = 9;

/// What came.
#[derive(Debug)]
pub enum Came<'a, T> {
    /// A message.
    Message(T),
    /// A part of a file's content.
    Data {
        /// Where it belongs.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
}

/// One connection of a transfer, after its handshake.
pub struct Wire {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    sealed: Sealed,
    out: Vec<u8>,
    plain: Vec<u8>,
    record: Vec<u8>,
    content: Vec<u8>,
}

impl Wire {
    /// A connection whose handshake is over.
    ///
    /// # Errors
    /// [`TransferError::Io`].
    pub fn new(stream: TcpStream, sealed: Sealed) -> Result<Self, TransferError> {
        stream.set_nonblocking(false).map_err(TransferError::Io)?;
        stream.set_nodelay(true).map_err(TransferError::Io)?;
        stream.set_read_timeout(Some(SILENCE)).map_err(TransferError::Io)?;
        stream.set_write_timeout(Some(SILENCE)).map_err(TransferError::Io)?;
        let reader = BufReader::with_capacity(READ_AT_ONCE, stream.try_clone().map_err(TransferError::Io)?);
        Ok(Self {
            stream,
            reader,
            sealed,
            out: Vec::with_capacity(WRITE_AT_ONCE + RECORD_MAX),
            plain: Vec::with_capacity(RECORD_MAX),
            record: vec![0; RECORD_MAX],
            content: vec![0; RECORD_MAX],
        })
    }

    /// Shakes hands over a connection that was dialled.
    ///
    /// # Errors
    /// [`TransferError::Closed`] if this side is not let in.
    pub fn open(
        mut stream: TcpStream,
        keys: &KeyPair,
        peer: PublicKey,
        role: Role,
        hello: &Hello,
    ) -> Result<Self, TransferError> {
        stream.set_read_timeout(Some(HANDSHAKE_LIMIT)).map_err(TransferError::Io)?;
        stream.set_write_timeout(Some(HANDSHAKE_LIMIT)).map_err(TransferError::Io)?;
        let (opener, opening) = Opener::start(keys, peer, role, hello)?;
        stream.write_all(&opening).map_err(TransferError::Io)?;
        let mut length = [0; 2];
        // Whoever does not let somebody in closes with the opening unread or read.
        stream.read_exact(&mut length).map_err(|error| {
            let closed = matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset);
            if closed { TransferError::Closed } else { TransferError::Io(error) }
        })?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > HANDSHAKE_MAX {
            return Err(TransferError::Protocol("an acceptance over its limit"));
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).map_err(TransferError::Io)?;
        Self::new(stream, opener.finish(&message)?)
    }

    /// A handle that ends the connection, for whoever is not waiting in it.
    ///
    /// # Errors
    /// [`TransferError::Io`].
    pub fn breaker(&self) -> Result<Breaker, TransferError> {
        self.stream.try_clone().map(Breaker).map_err(TransferError::Io)
    }

    /// Says a message, at once.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn say(&mut self, message: &impl Serialize) -> Result<(), TransferError> {
        self.plain.clear();
        self.plain.push(CONTROL);
        self.plain.extend(codec::encode(message)?);
        self.sealed.seal(&self.plain, &mut self.out)?;
        self.flush()
    }

    /// Sends a part of a file's content, as soon as enough is gathered.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        self.plain.clear();
        self.plain.push(DATA);
        self.plain.extend(offset.to_be_bytes());
        self.plain.extend_from_slice(bytes);
        self.sealed.seal(&self.plain, &mut self.out)?;
        if self.out.len() >= WRITE_AT_ONCE { self.flush() } else { Ok(()) }
    }

    /// Sends what was gathered.
    ///
    /// # Errors
    /// [`TransferError::Io`].
    pub fn flush(&mut self) -> Result<(), TransferError> {
        let written = self.stream.write_all(&self.out);
        self.out.clear();
        written.map_err(TransferError::Io)
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Came<'_, T>, TransferError> {
        let mut length = [0; 2];
        self.reader.read_exact(&mut length).map_err(TransferError::Io)?;
        let record = &mut self.record[..usize::from(u16::from_be_bytes(length))];
        self.reader.read_exact(record).map_err(TransferError::Io)?;
        let length = self.sealed.open(record, &mut self.content)?;
        match self.content[..length].split_first() {
            Some((&CONTROL, message)) => Ok(Came::Message(codec::decode(message)?)),
            Some((&DATA, _)) if length > DATA_HEAD => {
                let (head, bytes) = self.content[..length].split_at(DATA_HEAD);
                let mut offset = [0; 8];
                offset.copy_from_slice(&head[1..]);
                Ok(Came::Data { offset: u64::from_be_bytes(offset), bytes })
            }
            Some(_) | None => Err(TransferError::Protocol("a record of no known kind")),
        }
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// [`TransferError`], also if content comes in its place.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<T, TransferError> {
        match self.receive()? {
            Came::Message(message) => Ok(message),
            Came::Data { .. } => Err(TransferError::Protocol("content that was not asked for")),
        }
    }
}

/// Ends a connection; also when it is dropped.
#[derive(Debug)]
pub struct Breaker(TcpStream);

impl Breaker {
    /// Whoever waits in the connection hears that it is broken.
    pub fn cut(&self) {
        // One that is broken already needs no cutting.
        let _: io::Result<()> = self.0.shutdown(Shutdown::Both);
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        self.cut();
    }
}
