//! What can be changed about a virtual machine that exists: its power, its name, its resources, its snapshots; and from when a
//! change holds.

use serde::{Deserialize, Serialize};

use crate::{
    name::{DiskTarget, GuestName, HostPath, PoolName, SnapshotName, VolumeName},
    units::ByteSize,
};

/// A change of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum VmChange {
    /// Ask the guest to start anew, by its agent or ACPI.
    Reboot,
    /// As if its reset button were pressed.
    Reset,
    /// Let it stand still in memory.
    Suspend,
    /// Let it go on.
    Resume,
    /// Give it another name. It must be off.
    Rename {
        /// The new name.
        to: GuestName,
    },
    /// Whether libvirt starts it with its host.
    Autostart {
        /// It does.
        on: bool,
    },
    /// Make a new, empty disk for it.
    AttachDisk {
        /// As the guest sees it.
        size: ByteSize,
        /// The pool, if not that of its first disk or the one with most room.
        #[serde(default)]
        pool: Option<PoolName>,
    },
    /// Take a disk from it.
    DetachDisk {
        /// Which.
        target: DiskTarget,
        /// Delete the volume behind it as well.
        delete: bool,
    },
    /// Make a disk larger.
    ResizeDisk {
        /// Which.
        target: DiskTarget,
        /// The new size.
        size: ByteSize,
    },
    /// Put an ISO image into its CD drive, which is added if there is none.
    AttachIso {
        /// Which image.
        iso: IsoSource,
    },
    /// Take the ISO image out of its CD drive.
    EjectIso {
        /// Which drive; none: the one that holds something.
        #[serde(default)]
        target: Option<DiskTarget>,
    },
    /// What it is started from first.
    BootDevice {
        /// Which kind of device.
        device: BootDevice,
    },
    /// The number of its virtual processors.
    Vcpus {
        /// How many.
        count: u32,
    },
    /// Its memory.
    Memory {
        /// How much.
        size: ByteSize,
    },
}

/// An ISO image on the machine's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum IsoSource {
    /// A file of the host.
    Path {
        /// Where.
        path: HostPath,
    },
    /// A volume of one of its pools.
    Volume {
        /// The pool.
        pool: PoolName,
        /// The volume.
        volume: VolumeName,
    },
}

/// What a machine can be started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootDevice {
    /// Its first disk.
    Disk,
    /// Its CD drive.
    Cdrom,
    /// Its network.
    Network,
}

impl BootDevice {
    /// All, in the order in which those that were not asked for are tried.
    pub const ALL: [Self; 3] = [Self::Disk, Self::Cdrom, Self::Network];

    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Cdrom => "cdrom",
            Self::Network => "network",
        }
    }
}

/// From when a change holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Applied {
    /// The machine runs and has it now; it has it after a restart as well.
    Live,
    /// The machine is off and is so defined.
    Defined,
    /// The machine runs and has it only after it was switched off and started.
    AtNextStart,
    /// It was so already.
    Already,
    /// Something of a newer version.
    #[serde(other)]
    Other,
}

impl Applied {
    /// The word, as it travels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Defined => "defined",
            Self::AtNextStart => "at-next-start",
            Self::Already => "already",
            Self::Other => "other",
        }
    }
}

/// What is to be done about the snapshots of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum SnapshotChange {
    /// Take one.
    Create {
        /// Its name.
        snapshot: SnapshotName,
        /// With the memory of the running machine.
        memory: bool,
        /// What a person has to say of it.
        #[serde(default)]
        description: String,
        /// After how many seconds the host deletes it; none: never.
        #[serde(default)]
        expires_s: Option<u32>,
    },
    /// Bring the machine back to it.
    Revert {
        /// Which.
        snapshot: SnapshotName,
        /// Start the machine afterwards, where the snapshot has no memory.
        start: bool,
    },
    /// Delete it.
    Delete {
        /// Which.
        snapshot: SnapshotName,
    },
    /// Take one now and again; the host sees to it.
    Schedule {
        /// From one to the next, in seconds.
        every_s: u32,
        /// How many of them are kept.
        keep: u32,
        /// With the memory, while the machine runs.
        memory: bool,
    },
    /// Do so no more.
    Unschedule,
}

impl VmChange {
    /// The verb for tables.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Reset => "reset",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Rename { .. } => "rename",
            Self::Autostart { .. } => "autostart",
            Self::AttachDisk { .. } => "attach-disk",
            Self::DetachDisk { .. } => "detach-disk",
            Self::ResizeDisk { .. } => "resize-disk",
            Self::AttachIso { .. } => "attach-iso",
            Self::EjectIso { .. } => "eject-iso",
            Self::BootDevice { .. } => "set-boot-device",
            Self::Vcpus { .. } => "set-vcpus",
            Self::Memory { .. } => "set-memory",
        }
    }

    /// What exactly is asked, for the title of a job; empty where the verb says it all.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Reboot | Self::Reset | Self::Suspend | Self::Resume => String::new(),
            Self::Rename { to } => format!("→ {to}"),
            Self::Autostart { on: true } => "on".to_owned(),
            Self::Autostart { on: false } => "off".to_owned(),
            Self::AttachDisk { size, pool: None } => size.to_string(),
            Self::AttachDisk { size, pool: Some(pool) } => format!("{size} in pool {pool}"),
            Self::DetachDisk { target, delete: true } => format!("{target}, deleting its volume"),
            Self::DetachDisk { target, delete: false } => target.to_string(),
            Self::ResizeDisk { target, size } => format!("{target} to {size}"),
            Self::AttachIso { iso: IsoSource::Path { path } } => path.to_string(),
            Self::AttachIso { iso: IsoSource::Volume { pool, volume } } => format!("{pool}/{volume}"),
            Self::EjectIso { target } => target.as_ref().map(ToString::to_string).unwrap_or_default(),
            Self::BootDevice { device } => device.as_str().to_owned(),
            Self::Vcpus { count } => count.to_string(),
            Self::Memory { size } => size.to_string(),
        }
    }
}

impl SnapshotChange {
    /// The verb for tables.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "snapshot-create",
            Self::Revert { .. } => "snapshot-revert",
            Self::Delete { .. } => "snapshot-delete",
            Self::Schedule { .. } => "snapshot-schedule",
            Self::Unschedule => "snapshot-unschedule",
        }
    }

    /// What exactly is asked, for the title of a job.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Create { snapshot, .. } | Self::Revert { snapshot, .. } | Self::Delete { snapshot } => {
                snapshot.to_string()
            }
            Self::Schedule { every_s, keep, .. } => format!("every {every_s} s, keeping {keep}"),
            Self::Unschedule => String::new(),
        }
    }
}
