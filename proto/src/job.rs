//! A job: what it should do, the life it leads, the events of that life, and what came of it.
//!
//! ```text
//! queued → offered → running → succeeded | failed | cancelled
//!             │         ├→ cancelling → cancelled | succeeded | failed
//!             │         └→ lost → (the host speaks again, or an operator says so) → a final state
//!             └→ failed (the host refused) | cancelled
//! ```
//! The transitions themselves are policy of the client worker; here is only what is spoken of.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    fault::Fault,
    id::JobId,
    key::Secret,
    name::{DomainName, GuestName, HostName, PoolName},
    net::{IpPrefix, MacAddr},
    units::{ByteSize, Timestamp},
};

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum JobSpec {
    /// Make a new virtual machine of an image.
    Clone(CloneSpec),
    /// Start a virtual machine.
    Start(VmRef),
    /// Ask the guest to shut down (ACPI).
    Stop {
        /// Which.
        #[serde(flatten)]
        vm: VmRef,
        /// How long to wait for it, in seconds.
        timeout_s: u32,
    },
    /// Switch it off at once.
    Destroy(VmRef),
    /// Delete its definition and its disks.
    Remove(VmRef),
}

/// A virtual machine that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRef {
    /// Its name.
    pub name: DomainName,
    /// On which host, where the name alone is not enough.
    #[serde(default)]
    pub host: Option<HostName>,
}

/// How to make a new virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneSpec {
    /// The image.
    pub image: DomainName,
    /// The new machine's name: its host name and its domain's name.
    pub name: GuestName,
    /// The host, if not any.
    #[serde(default)]
    pub on: Option<HostName>,
    /// The storage pool, if not the image's own or the one with most room.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// What to change inside the guest; none leaves its disks as copied.
    #[serde(default)]
    pub customize: Option<Customization>,
    /// Whether to start it.
    pub start: bool,
    /// How long to wait for the guest's agent after the start, in seconds; none does not wait.
    #[serde(default)]
    pub wait_s: Option<u32>,
}

/// What is changed inside a new guest, besides its name, machine-id and ssh host keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customization {
    /// Its network.
    pub network: Network,
    /// Public keys that may log in as root, in the form of `authorized_keys` lines.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// Root's password as a `crypt(3)` hash.
    #[serde(default)]
    pub root_password_hash: Option<Secret>,
}

/// The network of a new guest's first interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum Network {
    /// From a DHCP server.
    #[default]
    Dhcp,
    /// Fixed.
    Static {
        /// Address and prefix length.
        address: IpPrefix,
        /// The default route.
        #[serde(default)]
        gateway: Option<IpAddr>,
        /// Name servers.
        #[serde(default)]
        dns: Vec<IpAddr>,
    },
}

impl JobSpec {
    /// The name of the virtual machine that the job is about; no two live jobs have the same.
    #[must_use]
    pub fn vm(&self) -> DomainName {
        match self {
            Self::Clone(spec) => spec.name.clone().into(),
            Self::Start(vm) | Self::Stop { vm, .. } | Self::Destroy(vm) | Self::Remove(vm) => vm.name.clone(),
        }
    }

    /// The verb for tables.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Clone(_) => "clone",
            Self::Start(_) => "start",
            Self::Stop { .. } => "stop",
            Self::Destroy(_) => "destroy",
            Self::Remove(_) => "remove",
        }
    }
}

/// What a host worker is told to do: the request with all that the client worker decided, so that doing it twice
/// makes the same thing.
#[expect(clippy::large_enum_variant, reason = "few exist at a time; a box would only make each match longer")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Task {
    /// Clone.
    Clone(CloneTask),
    /// Start.
    Start(VmTask),
    /// Shut down by ACPI within the time.
    Stop {
        /// Which.
        #[serde(flatten)]
        vm: VmTask,
        /// In seconds.
        timeout_s: u32,
    },
    /// Switch off.
    Destroy(VmTask),
    /// Delete.
    Remove(VmTask),
}

impl Task {
    /// The name of the domain that the task is about: a host runs one task a domain at a time.
    #[must_use]
    pub fn vm(&self) -> DomainName {
        match self {
            Self::Clone(task) => task.spec.name.clone().into(),
            Self::Start(vm) | Self::Stop { vm, .. } | Self::Destroy(vm) | Self::Remove(vm) => vm.name.clone(),
        }
    }
}

/// A clone with what the client worker decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneTask {
    /// The request.
    pub spec: CloneSpec,
    /// The new domain's UUID.
    pub uuid: Uuid,
    /// One address for each of the image's interfaces, in their order.
    pub macs: Vec<MacAddr>,
    /// The memory that the new machine will take, as the image had it when the host was chosen.
    #[serde(default)]
    pub memory: ByteSize,
    /// Who asked; written into the domain's metadata.
    pub by: String,
}

/// A domain to act on. The UUID makes sure that it is still the one that the operator saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmTask {
    /// Its name.
    pub name: DomainName,
    /// Its UUID.
    pub uuid: Uuid,
}

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

/// A job as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// `clone`, `start` …
    pub verb: String,
    /// The virtual machine.
    pub vm: DomainName,
    /// Its host.
    pub host: HostName,
    /// Its state.
    #[serde(flatten)]
    pub state: JobState,
    /// Who asked.
    pub by: String,
    /// When it was stored.
    pub submitted: Timestamp,
    /// When something last happened.
    pub updated: Timestamp,
}

/// A job with its whole story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// The line that a list has.
    #[serde(flatten)]
    pub row: JobRow,
    /// What was asked.
    pub spec: JobSpec,
    /// What happened, oldest first.
    pub events: Vec<JobEvent>,
    /// How far the running step is, if it says.
    #[serde(default)]
    pub progress: Option<HostEventKind>,
}
