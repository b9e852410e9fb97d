//! Serial consoles over the bus: what is typed and shown travels in numbered pieces, so that one that is lost is said again and none
//! is heard twice. And the log that a host keeps of a serial port.
//!
//! A *line* is a machine's console as its host has it open, once for all who look at it. Positions count the bytes of a line since it
//! was opened: those shown, and those typed.

use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    fault::Fault,
    name::{DomainName, HostName},
};

/// The most bytes of one piece.
pub const CHUNK_MAX: usize = 16 << 10;

/// Bytes as they are; they travel as base64.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chunk(pub Vec<u8>);

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is typed may be a password.
        write!(f, "Chunk({} bytes)", self.0.len())
    }
}

impl From<Chunk> for String {
    fn from(chunk: Chunk) -> Self {
        BASE64.encode(&chunk.0)
    }
}

impl TryFrom<String> for Chunk {
    type Error = InvalidChunk;

    fn try_from(text: String) -> Result<Self, InvalidChunk> {
        // Before it is decoded: a message could hold a mebibyte.
        if text.len() > CHUNK_MAX.div_ceil(3) * 4 {
            return Err(InvalidChunk);
        }
        BASE64.decode(text.as_bytes()).map(Self).map_err(|_| InvalidChunk)
    }
}

/// The text is no piece of a console.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the base64 of at most {CHUNK_MAX} bytes")]
pub struct InvalidChunk;

/// A console that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleView {
    /// The machine.
    pub vm: DomainName,
    /// Its host.
    pub host: HostName,
    /// Where to read from: a little of what was shown before is given, too.
    pub from: u64,
    /// Where one's own typing begins.
    pub typed: u64,
    /// How many look at it, this one included.
    pub viewers: u32,
    /// Who may type, if anybody.
    #[serde(default)]
    pub writer: Option<String>,
}

/// A piece of what a console showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleOutput {
    /// Where it begins. Later than what was asked for: what is between is forgotten.
    pub from: u64,
    /// The bytes.
    pub output: Chunk,
    /// Why there will be no more, if so.
    #[serde(default)]
    pub ended: Option<Fault>,
}

/// What a host is to type into a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleInput {
    /// The position of the first byte.
    pub from: u64,
    /// The bytes.
    pub input: Chunk,
}

/// What a host says of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineReport {
    /// Which.
    pub line: Uuid,
    /// The position of the first byte of `output`.
    pub from: u64,
    /// What was shown.
    pub output: Chunk,
    /// How much has been taken to be typed: what comes next begins here.
    pub taken: u64,
    /// Why the line is closed, if it is.
    #[serde(default)]
    pub ended: Option<Fault>,
}

/// A place in the log of a serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// Which of the files that follow one another.
    pub file: u64,
    /// How far into it.
    pub offset: u64,
}

/// A piece of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPart {
    /// The bytes.
    pub output: Chunk,
    /// Where the next piece begins.
    pub next: LogPlace,
    /// What was between the asked place and this is gone.
    #[serde(default)]
    pub missed: bool,
}
