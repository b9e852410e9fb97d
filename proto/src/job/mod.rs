//! A job: what it should do, the life it leads, the events of that life, and what came of it.
//!
//! ```text
//! queued → offered → running → succeeded | failed | cancelled
//!             │         ├→ cancelling → cancelled | succeeded | failed
//!             │         └→ lost → (the host speaks again, or an operator says so) → a final state
//!             └→ failed (the host refused) | cancelled
//! ```
//! The transitions themselves are policy of the client worker; here is only what is spoken of.

mod change;
mod event;
mod image;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    change::{Applied, BootDevice, IsoSource, SnapshotChange, VmChange},
    event::{GuestAnswer, HostEvent, HostEventKind, JobEvent, JobEventKind, JobState, Outcome, Step},
    image::{CopySpec, CopyTask, ImageOutcome, ImageSpec, ImageTask},
};
use crate::{
    id::JobId,
    key::Secret,
    name::{DomainName, GroupName, GuestName, HostName, PoolName},
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
    /// Something about an image.
    Image(ImageSpec),
    /// Change it.
    Change {
        /// Which.
        #[serde(flatten)]
        vm: VmRef,
        /// What about it.
        change: VmChange,
    },
    /// Do something about its snapshots.
    Snapshot {
        /// Which machine.
        #[serde(flatten)]
        vm: VmRef,
        /// What.
        snapshot: SnapshotChange,
    },
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
    /// The group of which no two are to be on one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity: Option<GroupName>,
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
    /// The name of the virtual machine that the job is about; no two live jobs have the same, but for images on several hosts.
    #[must_use]
    pub fn vm(&self) -> DomainName {
        match self {
            Self::Clone(spec) => spec.name.clone().into(),
            Self::Start(vm)
            | Self::Stop { vm, .. }
            | Self::Destroy(vm)
            | Self::Remove(vm)
            | Self::Change { vm, .. }
            | Self::Snapshot { vm, .. } => vm.name.clone(),
            Self::Image(spec) => spec.name().clone(),
        }
    }

    /// All names that the job takes for itself while it lives: that of its machine, and the one that it is to have.
    #[must_use]
    pub fn names(&self) -> Vec<DomainName> {
        let mut names = vec![self.vm()];
        if let Self::Change { change: VmChange::Rename { to }, .. } = self {
            let to = DomainName::from(to.clone());
            if !names.contains(&to) {
                names.push(to);
            }
        }
        names
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
            Self::Image(spec) => spec.verb(),
            Self::Change { change, .. } => change.verb(),
            Self::Snapshot { snapshot, .. } => snapshot.verb(),
        }
    }
}

/// What a host worker is told to do: the request with all that the client worker decided, so that doing it twice
/// makes the same thing.
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
    /// Something about an image.
    Image(ImageTask),
    /// Change.
    Change {
        /// Which.
        #[serde(flatten)]
        vm: VmTask,
        /// What about it.
        change: VmChange,
    },
    /// Snapshots.
    Snapshot {
        /// Of which.
        #[serde(flatten)]
        vm: VmTask,
        /// What.
        snapshot: SnapshotChange,
        /// Who asked; kept with the snapshot.
        by: String,
    },
}

impl Task {
    /// The name of the domain that the task is about: a host runs one task a domain at a time.
    #[must_use]
    pub fn vm(&self) -> DomainName {
        match self {
            Self::Clone(task) => task.spec.name.clone().into(),
            Self::Start(vm)
            | Self::Stop { vm, .. }
            | Self::Destroy(vm)
            | Self::Remove(vm)
            | Self::Change { vm, .. }
            | Self::Snapshot { vm, .. } => vm.name.clone(),
            Self::Image(task) => task.name().clone(),
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
    /// What its disks will take up, as far as was known then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
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
