//! The audit: who asked for what, line by line, each line chained to the one before it.
//!
//! ```text
//! {"seq":7,"at":…,"event":"asked","who":"alice",…,"hash":"HEX"}
//!  ╰────────────── body, without the hash ─────╯
//! hash = SHA-256(hash of the line before ‖ body)        body = the line without `,"hash":"HEX"`
//! ```
//!
//! The client worker writes the lines and sends them as they stand in its file; whoever reads them makes the chain anew
//! ([`Chain`]), so a line that was removed, changed, put in or moved shows without trusting anybody. That the last lines
//! were cut off shows only against a head ([`AuditHead`]) that was noted elsewhere. No I/O here.

mod chain;

pub use chain::{Chain, Flaw, FlawKind};

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{fault::Code, id::JobId, key::Fingerprint, units::Timestamp};

/// What stands between the body of a line and its hash.
const BEFORE_HASH: &str = ",\"hash\":\"";
/// What stands after it.
const AFTER_HASH: &str = "\"}";
/// A hash in hexadecimal digits.
const HASH_DIGITS: usize = 64;

/// The hash of a line, and with it of all lines before. Written in lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineHash([u8; 32]);

/// The text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidHead(&'static str);

impl LineHash {
    /// These bytes: what a new chain begins from.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash of a line with this body, whose predecessor has this hash.
    #[must_use]
    pub fn after(previous: Self, body: &str) -> Self {
        Self(Sha256::new().chain_update(previous.0).chain_update(body.as_bytes()).finalize().into())
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for LineHash {
    type Err = InvalidHead;

    fn from_str(text: &str) -> Result<Self, InvalidHead> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(InvalidHead("a hash has 64 lower-case hexadecimal digits"))
    }
}

impl TryFrom<String> for LineHash {
    type Error = InvalidHead;
    fn try_from(text: String) -> Result<Self, InvalidHead> {
        text.parse()
    }
}

impl From<LineHash> for String {
    fn from(hash: LineHash) -> Self {
        hash.to_string()
    }
}

/// The last line of an audit: its number and its hash. Whoever notes it can tell later whether anything up to there has
/// changed. Shown and read as `SEQ:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuditHead {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: LineHash,
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for AuditHead {
    type Err = InvalidHead;

    fn from_str(text: &str) -> Result<Self, InvalidHead> {
        const FORM: InvalidHead = InvalidHead("a head is a line's number and its hash, SEQ:HASH");
        let (seq, hash) = text.trim().split_once(':').ok_or(FORM)?;
        Ok(Self { seq: seq.parse().map_err(|_| FORM)?, hash: hash.parse()? })
    }
}

/// A line without its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts from 0 without gaps, over all files.
    pub seq: u64,
    /// When, by the client worker's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: AuditEvent,
}

/// What a line tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum AuditEvent {
    /// A file begins.
    Begun {
        /// The hash before its first line: of the last line of the file before it, or a random one.
        prev: LineHash,
        /// The client worker's key.
        key: Fingerprint,
        /// The client worker's version.
        program: String,
    },
    /// Somebody asked for something. It is on the disk before anything is done; an `outcome` follows unless the line has
    /// it. A client worker that dies in between leaves it without: what came of it is then not known here.
    Asked(Asked),
    /// What came of it.
    Outcome {
        /// The number of the `asked` line.
        of: u64,
        /// What.
        outcome: Verdict,
    },
    /// The file ended in a part of a line when the client worker started: it died while writing. Nothing had been done
    /// for such a line. It was replaced by this one.
    Torn {
        /// How many bytes there were.
        bytes: u64,
        /// Their beginning.
        text: String,
    },
    /// The chain of this file did not hold when the client worker started.
    Broken {
        /// The first line that does not fit, counted from 1 in its file.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Something that a newer version tells.
    #[serde(other)]
    Other,
}

/// Who asked for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The name of the operator or host; `client-worker` for what it does at its own start.
    pub who: String,
    /// As what.
    pub role: Capacity,
    /// The fingerprint of the key.
    pub key: Fingerprint,
    /// The request's verb; `join` for somebody who is let in by a token.
    pub verb: String,
    /// The virtual machine, host or operator that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What exactly: the kind of job, a role, a fingerprint, the id of a token. Never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// What came of it, if that was known at once: for what was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Verdict>,
    /// How many more of the same key were refused before this and have no line of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// As what somebody asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capacity {
    /// An enrolled operator.
    Operator,
    /// An enrolled host.
    Host,
    /// Somebody with a token.
    Joiner,
    /// The client worker itself, on its own machine.
    Local,
    /// One of a newer version.
    #[serde(other)]
    Other,
}

/// What came of a request: `ok`, or the fault's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was done; a job: it was stored.
    Ok,
    /// It was not.
    #[serde(untagged)]
    Fault(Code),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Fault(code) => f.write_str(code.as_str()),
        }
    }
}

impl AuditEntry {
    /// The line for this, without the line's end, and its hash.
    ///
    /// # Errors
    /// A bug of ours: it cannot be written as JSON.
    pub fn line(&self, previous: LineHash) -> Result<(String, LineHash), serde_json::Error> {
        let mut line = serde_json::to_string(self)?;
        let hash = LineHash::after(previous, &line);
        line.pop();
        line.push_str(BEFORE_HASH);
        line.push_str(&hash.to_string());
        line.push_str(AFTER_HASH);
        Ok((line, hash))
    }
}

/// A line taken apart: its body and the hash that it states.
fn split(line: &str) -> Option<(String, LineHash)> {
    let rest = line.strip_suffix(AFTER_HASH)?;
    let at = rest.len().checked_sub(HASH_DIGITS)?;
    let hash = rest.get(at..)?.parse().ok()?;
    Some((format!("{}}}", rest.get(..at)?.strip_suffix(BEFORE_HASH)?), hash))
}

/// Where a page of the audit begins or ends; made by the client worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPlace {
    /// The number of the first line of the file.
    pub file: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// Lines of the audit as they stand in the file, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The lines.
    pub lines: Vec<String>,
    /// Where the next page begins (read backwards: ends); none if there is no more.
    #[serde(default)]
    pub next: Option<AuditPlace>,
    /// The last line that is on the disk.
    pub head: AuditHead,
    /// What the client worker found wrong with the chain when it started, if anything.
    #[serde(default)]
    pub flaw: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_and_hashed_as_it_always_was() {
        let what = AuditEvent::Outcome { of: 3, outcome: Verdict::Fault(Code::NotFound) };
        let entry = AuditEntry { seq: 7, at: Timestamp::from_millis(1_700_000_000_000), what };
        let (line, hash) = entry.line(LineHash::from_bytes([0; 32])).unwrap();
        let body = r#"{"seq":7,"at":1700000000000,"event":"outcome","of":3,"outcome":"not-found"}"#;
        // printf '%064d' 0 | xxd -r -p, then the body: sha256sum
        let known = "8e6f8c20a364001b6fad1e86ea3f2714f44fac90fc7cc58365b4c39361a8da7d";
        assert_eq!((hash.to_string().as_str(), line), (known, body.replace('}', &format!(",\"hash\":\"{known}\"}}"))));
        assert_eq!(serde_json::from_str::<AuditEntry>(body).unwrap(), entry);
    }

    #[test]
    fn an_event_of_a_newer_version_is_read_as_another() {
        let entry: AuditEntry = serde_json::from_str(r#"{"seq":1,"at":2,"event":"sealed","by":"x"}"#).unwrap();
        assert_eq!(entry.what, AuditEvent::Other);
    }
}
