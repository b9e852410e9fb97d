//! What is done to images. An image has the same name on every host that it is on, so each of these is about one host's.

use serde::{Deserialize, Serialize};

use uuid::Uuid;

use super::{VmRef, VmTask};
use crate::{
    name::{DomainName, HostName, PoolName},
    net::MacAddr,
    units::ByteSize,
};

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "act")]
pub enum ImageSpec {
    /// Keep a virtual machine that is off as an image.
    Mark(VmRef),
    /// Make an ordinary virtual machine of an image again.
    Unmark(VmRef),
    /// Delete its definition and its disks, unless somebody stands on them.
    Remove(VmRef),
    /// Bring it to another host, under the same name.
    Copy(CopySpec),
}

/// Which image is copied to where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySpec {
    /// The image, and the host to copy it from; none: one that has it.
    #[serde(flatten)]
    pub image: VmRef,
    /// The host that is to have it.
    pub dest: HostName,
    /// The storage pool there, if not the one of the same name or the one with most room.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// How many bytes in a second at the most.
    #[serde(default)]
    pub rate: Option<ByteSize>,
}

impl ImageSpec {
    /// The image's name.
    #[must_use]
    pub const fn name(&self) -> &DomainName {
        match self {
            Self::Mark(image) | Self::Unmark(image) | Self::Remove(image) => &image.name,
            Self::Copy(copy) => &copy.image.name,
        }
    }

    /// The verb for tables.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Mark(_) => "image-mark",
            Self::Unmark(_) => "image-unmark",
            Self::Remove(_) => "image-remove",
            Self::Copy(_) => "image-copy",
        }
    }
}

/// What a host worker is told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "act")]
pub enum ImageTask {
    /// Mark it in its metadata.
    Mark(VmTask),
    /// Take the mark away.
    Unmark(VmTask),
    /// Delete it.
    Remove(VmTask),
    /// Fetch it from another host.
    Copy(CopyTask),
}

/// A copy with what the client worker decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyTask {
    /// The image as the other host has it.
    #[serde(flatten)]
    pub image: VmTask,
    /// The other host. Where it is reached is asked when it is dialled, for that may change.
    pub from: HostName,
    /// The UUID of the copy.
    pub copy: Uuid,
    /// One address for each of the image's interfaces, in their order.
    pub macs: Vec<MacAddr>,
    /// The storage pool, if one was asked for.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// How many bytes in a second at the most.
    #[serde(default)]
    pub rate: Option<ByteSize>,
    /// Who asked; written into the domain's metadata.
    pub by: String,
}

impl ImageTask {
    /// The domain's name.
    #[must_use]
    pub const fn name(&self) -> &DomainName {
        match self {
            Self::Mark(image) | Self::Unmark(image) | Self::Remove(image) => &image.name,
            Self::Copy(copy) => &copy.image.name,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "done")]
pub enum ImageOutcome {
    /// It is an image.
    Marked {
        /// It was one already.
        already: bool,
    },
    /// It is an ordinary virtual machine.
    Unmarked {
        /// It was one already.
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
    /// It is here now as well.
    Copied {
        /// From which host.
        from: HostName,
        /// The UUID of the copy.
        uuid: Uuid,
        /// How much data its disks have.
        size: ByteSize,
        /// The pool.
        pool: PoolName,
    },
}
