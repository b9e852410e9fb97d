//! Moving the content of disks between two machines: sealed, checked, sparse, to be resumed. No messages of the bus: one TCP
//! connection from whoever is told where to dial, with a Noise session of its own.
//!
//! ```text
//! opening ─▶          ◀─ acceptance          Noise_IK, both keys known by the client worker's word
//! describe ─▶         ◀─ files                one gives, the other takes; who dialled does not matter
//! have, fetch ─▶      ◀─ begin, data, segment, data, segment … end
//! ```
//! | file | owns |
//! | --- | --- |
//! | [`message`] | what giver and taker say |
//! | [`seal`] | the handshake, and records sealed in order; no I/O |
//! | [`wire`] | records on a TCP connection, blocking, with time limits |
//! | [`content`] | blocks, segments and their digests; what of a file is data |
//! | [`give`] | reads files and sends them |
//! | [`take`] | receives files and writes them |
//!
//! All of it blocks, and belongs on threads of its own: what takes the time is ciphers, digests and disks. A call is stopped by
//! shutting its connection down. Who may have what is decided by whoever listens, before [`give`] is called.

pub mod content;
pub mod give;
pub mod message;
pub mod seal;
pub mod take;
pub mod wire;

pub use give::{Offer, OfferedFile, give};
pub use message::{FileInfo, Hello, Listed};
pub use seal::{Acceptor, Opener, Role};
pub use take::{Taker, Told};
pub use wire::Wire;

use crate::{codec::CodecError, fault::Fault};

/// Why a transfer ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The connection broke, or nothing came for too long: worth another try.
    #[error("the connection broke")]
    Io(#[source] std::io::Error),
    /// The other side closed the connection in the place of an answer: it does not let this key in for this job, or has no room.
    #[error("the other side closed the connection without a word")]
    Closed,
    /// A file of this side.
    #[error("cannot {doing} the file")]
    File {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What came is not what the other side's key made, or not in this order.
    #[error("what came cannot be verified")]
    Seal(#[source] snow::Error),
    /// What came is no message of this protocol.
    #[error("not understood: {0}")]
    Protocol(&'static str),
    /// A message could not be written or read.
    #[error("a message is not understood")]
    Codec(#[from] CodecError),
    /// The content that was written is not the content that was read.
    #[error("the content of segment {0} is not what was sent")]
    Digest(u64),
    /// The other side says why not.
    #[error("{0}")]
    Refused(Box<Fault>),
}

impl TransferError {
    /// Whether another try may go better.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Io(_) | Self::Closed | Self::Seal(_) | Self::Digest(_) => true,
            Self::File { .. } | Self::Protocol(_) | Self::Codec(_) | Self::Refused(_) => false,
        }
    }
}

pub(crate) fn file(doing: &'static str) -> impl Fn(std::io::Error) -> TransferError {
    move |source| TransferError::File { doing, source }
}
