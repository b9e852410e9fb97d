//! What is done to images. An image has the same name on every host that it is on, so each of these is about one host's.

use serde::{Deserialize, Serialize};

use super::{VmRef, VmTask};
use crate::name::DomainName;

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
}

impl ImageSpec {
    /// The image's name.
    #[must_use]
    pub const fn name(&self) -> &DomainName {
        match self {
            Self::Mark(image) | Self::Unmark(image) | Self::Remove(image) => &image.name,
        }
    }

    /// The verb for tables.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Mark(_) => "image-mark",
            Self::Unmark(_) => "image-unmark",
            Self::Remove(_) => "image-remove",
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
}

impl ImageTask {
    /// The domain's name.
    #[must_use]
    pub const fn name(&self) -> &DomainName {
        match self {
            Self::Mark(image) | Self::Unmark(image) | Self::Remove(image) => &image.name,
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
}
