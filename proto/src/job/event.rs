//! What happens to a job, and what came of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Applied, ImageOutcome};
use crate::{
    fault::Fault,
    name::HostName,
    units::{ByteSize, Timestamp},
};

/// The steps of work on a host, for people and programs that follow a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Everything is looked at; nothing is changed.
    Check,
    /// The image's disks are copied.
    Volumes,
    /// The guest's files are rewritten.
    Customize,
    /// The domain gets its name and is defined for good.
    Define,
    /// The domain is started.
    Start,
    /// The guest's agent is waited for.
    Guest,
    /// The guest is shut down or switched off.
    Stop,
    /// Definition and disks are deleted.
    Remove,
    /// The domain's metadata say whether it is an image.
    Mark,
    /// The machine is asked or made to start anew, to stand still or to go on.
    Power,
    /// The machine's definition, and what runs, are changed.
    Change,
    /// A snapshot is taken, gone back to or deleted.
    Snapshot,
    /// Disks are fetched from elsewhere.
    Transfer,
    /// A step of a newer version.
    #[serde(other)]
    Other,
}

impl Step {
    /// The step's name as it travels and as `job show` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Volumes => "volumes",
            Self::Customize => "customize",
            Self::Define => "define",
            Self::Start => "start",
            Self::Guest => "guest",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::Mark => "mark",
            Self::Power => "power",
            Self::Change => "change",
            Self::Snapshot => "snapshot",
            Self::Transfer => "transfer",
            Self::Other => "other",
        }
    }
}

/// Something that happened to a job on its host; numbered by the host from 0 without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEvent {
    /// Its number among the host's events of this job.
    pub seq: u32,
    /// When, by the host's clock.
    pub at: Timestamp,
    /// What.
    pub what: HostEventKind,
}

/// What happens to a job on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum HostEventKind {
    /// A step began.
    StepStarted {
        /// Which.
        step: Step,
    },
    /// A step goes on; not kept for the record, replaced by the next.
    StepProgress {
        /// Which.
        step: Step,
        /// How much of it is done.
        done: ByteSize,
        /// How much it is in all, if known.
        #[serde(default)]
        total: Option<ByteSize>,
    },
    /// A step is done.
    StepDone {
        /// Which.
        step: Step,
        /// How long it took.
        took_ms: u64,
        /// What there is to say of it, such as the list of what was customized.
        #[serde(default)]
        note: String,
    },
    /// A step failed.
    StepFailed {
        /// Which.
        step: Step,
        /// Why.
        fault: Fault,
    },
    /// One thing that a step had made was taken back, or could not be.
    Undone {
        /// What, such as `volume vm0.qcow2 in pool default`.
        what: String,
        /// Why not, if it could not be.
        #[serde(default)]
        error: Option<String>,
    },
    /// The host worker started again and found the job in its ledger.
    Resumed {
        /// What it decided: to go on or to take everything back.
        decision: String,
    },
    /// Something of a newer version.
    #[serde(other)]
    Other,
}

/// What came of a job that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// A new virtual machine.
    Cloned {
        /// Its domain's UUID.
        uuid: Uuid,
        /// Whether it was started.
        started: bool,
        /// What became of the waiting for its agent; none if it was not asked for.
        #[serde(default)]
        guest: Option<GuestAnswer>,
    },
    /// It runs (and perhaps did before).
    Started {
        /// It was running already.
        already: bool,
    },
    /// It is off.
    Stopped {
        /// It was off already.
        already: bool,
    },
    /// It is gone.
    Removed {
        /// The volumes that were deleted, as `pool/volume`.
        volumes: Vec<String>,
        /// Disks that were left alone, each with the reason.
        #[serde(default)]
        kept: Vec<String>,
    },
    /// Something about an image.
    Image(ImageOutcome),
    /// It is changed.
    Changed {
        /// From when on that holds.
        applied: Applied,
        /// What holds, such as `vdb is a new disk of 20.0 GiB (default/vm0-vdb.qcow2)`.
        note: String,
        /// Why not at once, where it takes a restart.
        #[serde(default)]
        why: Option<String>,
    },
}

/// What the running guest said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "guest")]
pub enum GuestAnswer {
    /// Its agent answered.
    Up {
        /// The host name that the guest has.
        hostname: String,
        /// Its addresses but those of the loopback.
        addresses: Vec<IpAddr>,
    },
    /// No answer within the time. The machine runs all the same.
    Silent {
        /// How long it was waited for, in seconds.
        waited_s: u32,
    },
}

/// A job's state as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum JobState {
    /// Stored; its host has not been told yet (it is not up).
    Queued,
    /// Broadcast to its host, which has not taken it yet.
    Offered,
    /// Its host has a grant and works on it.
    Running,
    /// Its host works on it and is to stop and take everything back.
    Cancelling,
    /// Done.
    Succeeded {
        /// What came of it.
        outcome: Outcome,
    },
    /// Not done; everything was taken back but what the fault lists.
    Failed {
        /// Why.
        fault: Fault,
    },
    /// Stopped on request; everything was taken back but what the fault lists.
    Cancelled {
        /// Who wished it, and what is left, if anything.
        fault: Fault,
    },
    /// Granted, but the host fell silent: what became of it is not known yet.
    Lost,
}

impl JobState {
    /// Whether it can still change.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Succeeded { .. } | Self::Failed { .. } | Self::Cancelled { .. } => true,
            Self::Queued | Self::Offered | Self::Running | Self::Cancelling | Self::Lost => false,
        }
    }

    /// The word for tables.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Offered => "offered",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// Something that happened to a job, in the order in which it was stored; numbered from 0 without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEvent {
    /// Its number.
    pub seq: u32,
    /// When, by the client worker's clock.
    pub at: Timestamp,
    /// What.
    pub what: JobEventKind,
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum JobEventKind {
    /// It was stored.
    Submitted {
        /// The operator.
        by: String,
    },
    /// A host was chosen.
    Placed {
        /// Which.
        host: HostName,
        /// Why this one, and why not the others, a line each.
        why: Vec<String>,
    },
    /// It was broadcast.
    Offered {
        /// For the how-manieth time, from 1.
        attempt: u32,
    },
    /// The host took it and may act.
    Granted,
    /// Something on its host.
    Host {
        /// What.
        what: HostEventKind,
    },
    /// Somebody wants it stopped.
    CancelAsked {
        /// The operator.
        by: String,
    },
    /// The host fell silent.
    Lost,
    /// The silent host spoke again and still has the job.
    Found,
    /// It reached a final state.
    Ended {
        /// Which.
        #[serde(flatten)]
        state: JobState,
    },
    /// Something of a newer version.
    #[serde(other)]
    Other,
}
