//! What a host has, as its worker saw it in libvirt: domains, storage pools, capacity.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    id::JobId,
    name::{DomainName, GroupName, PoolName, SnapshotName, VolumeName},
    net::MacAddr,
    units::{ByteSize, Timestamp},
};

/// The suffix that makes an inactive domain an image to be cloned.
pub const IMAGE_SUFFIX: &str = ".original";

/// What a host is and can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Logical processors.
    pub cpus: u32,
    /// Memory in all.
    pub memory: ByteSize,
    /// Memory that the kernel could give to new domains now (rounded by the host worker, so that it does not
    /// change the inventory at every look).
    pub memory_free: ByteSize,
    /// The processor architecture as libvirt names it, such as `x86_64`.
    pub arch: String,
    /// Hypervisor and version, such as `QEMU 7.2.22`.
    pub hypervisor: String,
    /// libvirt's version, such as `9.0.0`.
    pub libvirt: String,
    /// How guests run here.
    pub accel: Accel,
    /// The host worker's version.
    pub worker: String,
    /// Where it takes connections for transfers; none: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<SocketAddr>,
}

/// How guests run on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Accel {
    /// The probe booted a guest with KVM, or the configuration says so.
    Kvm,
    /// Slow, in software.
    Emulation {
        /// Why not KVM: no device, or what the probe saw.
        reason: String,
    },
    /// Not probed yet, or something of a newer version.
    #[serde(other)]
    Unknown,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// libvirt's type: `dir`, `fs`, `logical` …
    pub kind: String,
    /// Whether it is started.
    pub active: bool,
    /// Its folder or device.
    #[serde(default)]
    pub path: Option<String>,
    /// Size of the whole.
    pub capacity: ByteSize,
    /// What is free.
    pub available: ByteSize,
}

/// A domain's state, as libvirt has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainState {
    /// It runs.
    Running,
    /// It runs and waits for something.
    Blocked,
    /// It stands still in memory.
    Paused,
    /// It is on its way off.
    ShuttingDown,
    /// It is off.
    Off,
    /// It crashed.
    Crashed,
    /// It sleeps by its own wish.
    Suspended,
    /// libvirt says something that we do not know.
    #[serde(other)]
    Unknown,
}

impl DomainState {
    /// Whether it holds memory on the host.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Running | Self::Blocked | Self::Paused | Self::ShuttingDown | Self::Suspended | Self::Unknown => true,
            Self::Off | Self::Crashed => false,
        }
    }

    /// The word for tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Paused => "paused",
            Self::ShuttingDown => "shutting-down",
            Self::Off => "off",
            Self::Crashed => "crashed",
            Self::Suspended => "suspended",
            Self::Unknown => "unknown",
        }
    }
}

/// What a disk device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskDevice {
    /// A disk.
    Disk,
    /// A CD drive.
    Cdrom,
    /// A floppy drive.
    Floppy,
    /// A LUN passed through.
    Lun,
}

/// A disk of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The device's name in the domain, such as `vda`.
    pub target: String,
    /// What it is.
    pub device: DiskDevice,
    /// The file or device behind it; none for an empty drive.
    #[serde(default)]
    pub path: Option<String>,
    /// Its format, such as `qcow2`.
    pub format: String,
    /// The pool it lies in, if it lies in one.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// The volume it is in that pool.
    #[serde(default)]
    pub volume: Option<VolumeName>,
    /// The size that the guest sees; none if it could not be read.
    #[serde(default)]
    pub capacity: Option<ByteSize>,
    /// What it takes up.
    #[serde(default)]
    pub allocation: Option<ByteSize>,
    /// The file that it is an overlay of.
    #[serde(default)]
    pub backing: Option<String>,
    /// The files below that one, from the top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub below: Vec<String>,
    /// Whether the guest may not write to it.
    #[serde(default)]
    pub readonly: bool,
    /// Why it cannot be cloned or is broken, if so (missing file, not in a pool …).
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A network interface of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its address.
    pub mac: MacAddr,
    /// libvirt's type: `network`, `bridge` …
    pub kind: String,
    /// The network or bridge it is on.
    #[serde(default)]
    pub source: Option<String>,
    /// Its model, such as `virtio`.
    #[serde(default)]
    pub model: Option<String>,
    /// The addresses that it has, as far as known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// Where a running domain's screen is to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// `vnc`, `spice` …
    pub kind: String,
    /// Where, as `address:port` or the path of a socket on the host.
    pub at: String,
}

/// A snapshot of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// When it was taken, by the host's clock.
    pub created: Timestamp,
    /// Whether the memory of the running domain is in it.
    pub memory: bool,
    /// Whether it is the one that the domain was taken or brought back to last.
    pub current: bool,
    /// The one before it.
    #[serde(default)]
    pub parent: Option<SnapshotName>,
    /// What a person had to say of it.
    #[serde(default)]
    pub description: String,
    /// Who took it, if Maglica did; a schedule is nobody.
    #[serde(default)]
    pub by: Option<String>,
    /// When the host deletes it.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// Whether the schedule took it.
    #[serde(default)]
    pub scheduled: bool,
}

/// How a host takes snapshots of a domain by itself; kept in the domain's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// From one to the next, in seconds.
    pub every_s: u32,
    /// How many are kept.
    pub keep: u32,
    /// With the memory, while the domain runs.
    pub memory: bool,
}

/// What Maglica wrote into a domain's metadata when it made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The job that made it.
    pub job: JobId,
    /// The image it was cloned from.
    pub image: DomainName,
    /// Who asked.
    pub by: String,
    /// The group of which no two are to be on one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity: Option<GroupName>,
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Its name.
    pub name: DomainName,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its state.
    pub state: DomainState,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory it may use.
    pub memory: ByteSize,
    /// Whether libvirt starts it with the host.
    pub autostart: bool,
    /// Whether it is an image by mark in its metadata (by name it is one anyway, see [`Domain::is_image`]).
    #[serde(default)]
    pub marked_image: bool,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its network interfaces.
    pub nics: Vec<Nic>,
    /// Who made it, if Maglica did.
    #[serde(default)]
    pub made: Option<Provenance>,
    /// Addresses known from DHCP leases or the guest agent.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The device of its serial console on the host, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// Its screens, while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub screens: Vec<Screen>,
    /// Its snapshots, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Snapshot>,
    /// How the host takes some by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

impl Domain {
    /// Whether it is kept to be cloned: by its name's suffix or by mark.
    #[must_use]
    pub fn is_image(&self) -> bool {
        self.marked_image || self.name.as_str().ends_with(IMAGE_SUFFIX)
    }

    /// The disks proper: not CD or floppy drives.
    pub fn data_disks(&self) -> impl Iterator<Item = &Disk> {
        self.disks.iter().filter(|disk| matches!(disk.device, DiskDevice::Disk | DiskDevice::Lun))
    }

    /// The size of its disks as the guest sees it; none if one is not known.
    #[must_use]
    pub fn capacity(&self) -> Option<ByteSize> {
        self.data_disks().map(|disk| disk.capacity).sum()
    }
}

/// All that a host has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// What the host is.
    pub facts: HostFacts,
    /// Its pools.
    pub pools: Vec<Pool>,
    /// Its domains.
    pub domains: Vec<Domain>,
}
