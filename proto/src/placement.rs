//! Where a new machine would go, and why: the answer of a dry run. The policy is the client worker's.

use serde::{Deserialize, Serialize};

use crate::{
    fault::{Code, Fault},
    name::{HostName, PoolName},
    request::Presence,
    units::ByteSize,
};

/// Kept free in a pool beside a copy: its own metadata, and what running machines write in the meantime.
pub const POOL_MARGIN: ByteSize = ByteSize::mib(256);

/// The hosts that were considered, and the one that would be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The best first, then those that could have it by their scores, then those that cannot. Of very many the last are left out.
    pub considered: Vec<Considered>,
    /// How many were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u32,
    /// Why it could not be made, if so.
    #[serde(default)]
    pub fault: Option<Fault>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// Which.
    pub host: HostName,
    /// Whether it can have it.
    pub verdict: Verdict,
    /// Whether it is there.
    pub presence: Presence,
    /// Its score in hundredths: active domains × 10 / weight. The lowest wins.
    pub score_centi: u64,
    /// Running domains, and clones on their way there.
    pub active: u32,
    /// Its weight.
    pub weight: u32,
    /// Free memory, what is on its way taken off.
    pub memory_free: ByteSize,
    /// Logical processors; none while not known.
    #[serde(default)]
    pub cpus: Option<u32>,
    /// Virtual processors of its running domains.
    pub vcpus: u32,
    /// The pool that would take the disks; none if none can, or it is not known what they take.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// What is free there, what is on its way taken off.
    #[serde(default)]
    pub pool_free: Option<ByteSize>,
}

/// What was found of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// It is the best.
    Chosen,
    /// It could have it.
    Possible,
    /// It cannot.
    Refused {
        /// What kind of reason.
        code: Code,
        /// The reason.
        reason: String,
    },
}

impl Verdict {
    /// The word for tables.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Possible => "possible",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A score as people read it: `1.25`.
#[must_use]
pub fn score_text(centi: u64) -> String {
    format!("{}.{:02}", centi / 100, centi % 100)
}
