//! Makes a copied guest its own machine: gives the files inside its disks a new name, network and identity while it is
//! off.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`guestfs`] | libguestfs: opens the disks, finds the operating system, reads and writes its files |
//! | [`tree`] | the files of a guest that matter, as a plan sees them |
//! | [`plan`] | from those files and the new identity to a list of edits; pure |
//! | `identity`, `debian`, `redhat`, … | what a plan does, by family |
//!
//! It does not copy disks and does not know libvirt.

mod debian;
pub mod guestfs;
mod hosts;
mod identity;
mod network;
pub mod plan;
mod redhat;
pub mod tree;

use std::{future::Future, path::PathBuf, pin::Pin};

use maglica_proto::{job::Customization, name::GuestName, net::MacAddr};
use tokio_util::sync::CancellationToken;

pub use self::tree::{Edit, Entry, Tree, Want};
use crate::tool::ToolError;

/// A disk of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its file or block device.
    pub path: PathBuf,
    /// Its format as qemu names it; never guessed from its content, which belongs to the guest.
    pub format: String,
}

/// What the guest is to become.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its host name.
    pub name: GuestName,
    /// The addresses of its interfaces, in their order.
    pub macs: Vec<MacAddr>,
    /// What else was asked for.
    pub customization: Customization,
    /// Whether libguestfs must not use KVM because it does not work on this host.
    pub force_tcg: bool,
}

/// What was done to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customized {
    /// The operating system that was found, as it calls itself.
    pub os: String,
    /// What was changed, in words: `hostname`, `hosts`, `network (dhcp)`, `machine-id`, `ssh host keys` …
    pub changed: Vec<String>,
}

/// The future that [`Customizer::customize`] returns.
pub type Customizing<'a> = Pin<Box<dyn Future<Output = Result<Customized, CustomizeError>> + Send + 'a>>;

/// Rewrites guests.
pub trait Customizer: Send + Sync {
    /// Gives the guest on these disks its new identity. The guest must be off. Doing it twice is the same as doing it
    /// once. If the future is dropped or `cancel` fires, everything it started ends; the disks are then as far as it
    /// came.
    ///
    /// # Errors
    /// [`CustomizeError`]. For a guest that is not understood nothing has been changed.
    fn customize<'a>(
        &'a self,
        disks: &'a [Disk],
        identity: &'a Identity,
        cancel: &'a CancellationToken,
    ) -> Customizing<'a>;

    /// Whether the programs that are needed are installed.
    ///
    /// # Errors
    /// [`CustomizeError::Tool`] with the first that is missing.
    fn check_tools(&self) -> Result<(), CustomizeError>;
}

/// Why a guest was not customized.
#[derive(Debug, thiserror::Error)]
pub enum CustomizeError {
    /// There is no operating system that libguestfs recognises on the disks.
    #[error("no operating system was recognised on the guest's disks")]
    NoSystem,
    /// There are several, of which none is the obvious one.
    #[error("several operating systems are on the guest's disks ({})", .systems.join(", "))]
    SeveralSystems {
        /// Their root devices.
        systems: Vec<String>,
    },
    /// It is one that we do not know how to rewrite.
    #[error(
        "the guest's operating system {system:?} cannot be customized: only the families of Debian and Red Hat can"
    )]
    UnsupportedSystem {
        /// What it is, as it calls itself.
        system: String,
    },
    /// It is asked for something that this guest's way of configuring it cannot do.
    #[error("the guest's {what} cannot be set: {why}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// libguestfs could not do something, for example mount a damaged file system.
    #[error("libguestfs failed {doing}: {message}")]
    Guestfs {
        /// What was being done.
        doing: String,
        /// What libguestfs said.
        message: String,
    },
    /// A program could not be run.
    #[error("guestfish could not be used")]
    Tool {
        /// Why.
        #[from]
        source: ToolError,
    },
    /// A temporary file could not be written or read.
    #[error("{doing} {path} failed")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The job was cancelled.
    #[error("the customization was stopped because the job was cancelled")]
    Cancelled,
}
