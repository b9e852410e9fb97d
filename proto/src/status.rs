//! How the client worker is: what `maglica status` shows and a monitor reads. Every count is of this process and begins
//! with its start, unless it says otherwise.

use serde::{Deserialize, Serialize};

use crate::{
    audit::AuditHead,
    key::Fingerprint,
    units::{ByteSize, Timestamp},
};

/// How the client worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// The fingerprint of its key.
    pub fingerprint: Fingerprint,
    /// When it started.
    pub started: Timestamp,
    /// For how long it has been running, in milliseconds, by a clock that never jumps.
    pub uptime_ms: u64,
    /// Its resident memory.
    pub memory: ByteSize,
    /// The hosts.
    pub hosts: HostCounts,
    /// How many jobs the store has, by state; states without any are left out.
    pub jobs: Vec<JobCount>,
    /// The job store.
    pub store: StoreStatus,
    /// Its two ports.
    pub ports: Vec<PortStatus>,
    /// What was refused, by kind; kinds of which there were none are left out.
    pub refusals: Vec<Refused>,
    /// The audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditStatus>,
}

/// How the audit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// The last line on the disk.
    pub head: AuditHead,
    /// What was wrong with its chain when the client worker started.
    #[serde(default)]
    pub flaw: Option<String>,
    /// Why no line can be written at the moment; nothing that changes anything is done meanwhile.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// How many hosts there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCounts {
    /// Heard of lately.
    pub up: u32,
    /// Silent for longer than they should be.
    pub suspect: u32,
    /// Silent for long.
    pub down: u32,
    /// Asking to be let in.
    pub pending: u32,
}

/// How many jobs are in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCount {
    /// The word of the state.
    pub state: String,
    /// How many.
    pub count: u64,
}

/// How the job store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// What it takes on the disk, write-ahead log included.
    pub size: ByteSize,
    /// Commits so far.
    pub commits: u64,
    /// Commits that failed; nothing of them happened, and whoever asked heard so.
    pub failed: u64,
    /// How long half of the latest commits took at most, in microseconds; 0 before the first.
    pub commit_p50_us: u64,
    /// How long 99 of 100 of them took at most, in microseconds.
    pub commit_p99_us: u64,
}

/// A port of the client worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// `ask` (5556) or `publish` (5555).
    pub port: String,
    /// Connections that are open.
    pub open: u64,
    /// Connections that were let in.
    pub accepted: u64,
}

/// What was refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Where: `ask` or `publish` for a connection to that port, `bus` for what came through it whole.
    pub at: String,
    /// Why, one word.
    pub kind: String,
    /// How often.
    pub count: u64,
}
