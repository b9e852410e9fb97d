//! What giver and taker say to one another. All of it travels sealed, as MessagePack maps like everything else.

use serde::{Deserialize, Serialize};

use crate::{fault::Fault, id::JobId, units::ByteSize};

/// The newest and oldest form of a transfer that this version speaks.
pub const PROTOCOL: u8 = 1;

/// What whoever dials says in the first handshake message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest form it speaks.
    pub protocol_min: u8,
    /// The newest.
    pub protocol_max: u8,
    /// For which job: that is what lets it in.
    pub job: JobId,
}

impl Hello {
    /// Of this version.
    #[must_use]
    pub const fn new(job: JobId) -> Self {
        Self { protocol_min: PROTOCOL, protocol_max: PROTOCOL, job }
    }
}

/// What it hears in the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The form that both speak.
    pub protocol: u8,
}

/// A file that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// What it is for: a disk's target, `nvram`, or a file's name.
    pub role: String,
    /// Its format, such as `qcow2`.
    pub format: String,
    /// Its length.
    pub size: ByteSize,
    /// How much of it is data, about: the rest are holes.
    pub data: ByteSize,
}

/// Everything that can be fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The domain's description, if the files are its disks.
    #[serde(default)]
    pub description: Option<String>,
    /// The pool that its first disk lies in.
    #[serde(default)]
    pub pool: Option<String>,
    /// The files; each is fetched by its place in the list.
    pub files: Vec<FileInfo>,
}

/// What the taker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub enum Ask {
    /// What is there?
    Describe,
    /// The digests of the segments that are here already, in order; several messages add up. For the next fetch.
    Have {
        /// 32 bytes each.
        digests: Vec<[u8; 32]>,
    },
    /// Send this file, from the first segment on that differs.
    Fetch {
        /// Its place in the list.
        file: u32,
        /// How many bytes of it in a second at the most.
        #[serde(default)]
        rate: Option<ByteSize>,
    },
    /// That was all.
    Done,
}

/// What the giver says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say")]
pub enum Say {
    /// What is there.
    Files(Listed),
    /// It comes.
    Begin {
        /// Its length.
        size: ByteSize,
        /// How much of it is data, about.
        data: ByteSize,
        /// Where the first segment begins that differs. All from there on that does not come is zeros.
        from: ByteSize,
        /// How much of its data lies before that.
        before: ByteSize,
    },
    /// All of a segment was sent.
    Segment {
        /// Its number.
        number: u64,
        /// The digest of its content.
        digest: [u8; 32],
        /// How much of the file's data was gone through.
        passed: ByteSize,
    },
    /// All of the file was sent, and it did not change meanwhile.
    End,
    /// It goes on; this is only so that nobody takes the silence for the end.
    Wait,
    /// It does not go on.
    Refused {
        /// Why.
        fault: Fault,
    },
}
