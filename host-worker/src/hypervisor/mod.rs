//! The hypervisor of this host: what Maglica asks of it and orders it to do.
//!
//! [`Hypervisor`] is the trait, with calls that block; [`libvirt`] is the implementation. Nobody else calls them from async
//! code but through [`Host`], which moves each call off the async threads, bounds how many there are, and gives each a time
//! limit after which its outcome is *unknown*. What can be changed about a domain is [`Change`], its snapshots are
//! [`Snapshots`]. Reading and writing domain XML is [`domain_xml`]'s, what the host has is
//! [`inventory`]'s, what it tells by itself [`happenings`]', whether KVM works is [`accel`]'s, what a guest's agent answers is [`agent`]'s. What a job does with all this is not here.

pub mod accel;
pub mod agent;
mod change;
pub mod domain_xml;
mod error;
pub mod happenings;
mod host;
pub mod inventory;
mod libvirt;
mod snapshot;
pub mod snapshot_xml;
pub mod storage_xml;

use std::{net::IpAddr, path::PathBuf};

use maglica_proto::{inventory::DomainState, units::ByteSize};
use uuid::Uuid;

use self::happenings::Happenings;
pub use self::{
    change::Change,
    error::HypervisorError,
    host::{CALL_LIMIT, Host, LOOK_LIMIT},
    libvirt::{Libvirt, uri},
    snapshot::Snapshots,
};

/// What the hypervisor says of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Logical processors.
    pub cpus: u32,
    /// Memory in all.
    pub memory: ByteSize,
    /// Memory that new domains could have.
    pub memory_free: ByteSize,
    /// The processor architecture as libvirt names it.
    pub arch: String,
    /// Hypervisor and version.
    pub hypervisor: String,
    /// libvirt's version.
    pub libvirt: String,
    /// The program that runs guests of the host's own architecture, where there is one.
    pub emulator: Option<PathBuf>,
}

/// A domain as a list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRow {
    /// Its name, as libvirt has it: not checked.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its state.
    pub state: DomainState,
    /// Whether it is started with the host.
    pub autostart: bool,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRow {
    /// Its name, as libvirt has it: not checked.
    pub name: String,
    /// libvirt's type.
    pub kind: String,
    /// Whether it is started.
    pub active: bool,
    /// Its folder or device.
    pub path: Option<String>,
    /// Size of the whole.
    pub capacity: ByteSize,
    /// What is free.
    pub available: ByteSize,
}

impl PoolRow {
    /// Whether its volumes are files in one folder, which can be renamed.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        matches!(self.kind.as_str(), "dir" | "fs" | "netfs")
    }
}

/// A volume of a storage pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// The pool it lies in.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// Its file or device.
    pub path: String,
    /// Its format, such as `qcow2`; `raw` where libvirt names none.
    pub format: String,
    /// The size that a guest sees.
    pub capacity: ByteSize,
    /// What it takes up.
    pub allocation: ByteSize,
    /// The file that it is an overlay of.
    pub backing: Option<String>,
}

/// What an undefine takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nvram {
    /// The file with the firmware's variables is deleted.
    Delete,
    /// It is left.
    Keep,
}

/// A hypervisor. Every call blocks; from async code use [`Host`].
///
/// Every call fails with a [`HypervisorError`]: `NotFound` if its object is not there, `Down` if the hypervisor does not
/// answer and nothing was done, `Unknown` if it fell silent in the middle of a change, `Refused` with its own words otherwise.
#[expect(clippy::missing_errors_doc, reason = "the errors are the same for every call and said above")]
pub trait Hypervisor: Change + Snapshots + Send + Sync {
    /// What programs that talk to it themselves are to connect to.
    fn uri(&self) -> &str;
    /// From here on tells of what happens, on every connection that it will have; says so if it cannot.
    fn listen(&self, happenings: Happenings);
    /// What the host is.
    fn facts(&self) -> Result<Facts, HypervisorError>;
    /// All domains with their states, in a number of calls that does not grow with theirs.
    fn domains(&self) -> Result<Vec<DomainRow>, HypervisorError>;
    /// The UUID of the domain of this name.
    fn domain_by_name(&self, name: &str) -> Result<Uuid, HypervisorError>;
    /// The domain of this UUID.
    fn domain(&self, uuid: Uuid) -> Result<DomainRow, HypervisorError>;
    /// Its description as it is started next.
    fn domain_xml(&self, uuid: Uuid) -> Result<String, HypervisorError>;
    /// Its description as it runs now.
    fn live_xml(&self, uuid: Uuid) -> Result<String, HypervisorError>;
    /// Its state.
    fn state(&self, uuid: Uuid) -> Result<DomainState, HypervisorError>;
    /// Defines a domain, or replaces the definition of the one with the same name and UUID.
    fn define(&self, xml: &str) -> Result<Uuid, HypervisorError>;
    /// Forgets a domain with its saved state and the records of its snapshots.
    fn undefine(&self, uuid: Uuid, nvram: Nvram) -> Result<(), HypervisorError>;
    /// Starts it.
    fn start(&self, uuid: Uuid) -> Result<(), HypervisorError>;
    /// Asks its guest to shut down by ACPI; returns at once.
    fn shutdown(&self, uuid: Uuid) -> Result<(), HypervisorError>;
    /// Switches it off.
    fn destroy(&self, uuid: Uuid) -> Result<(), HypervisorError>;
    /// Sends a command to its guest agent, in JSON, and waits for the answer for at most `limit_s` seconds.
    fn agent(&self, uuid: Uuid, command: &str, limit_s: i32) -> Result<String, HypervisorError>;
    /// The addresses that the host's own DHCP servers gave it, each with that of the interface that has it.
    fn lease_addresses(&self, uuid: Uuid) -> Result<Vec<(String, IpAddr)>, HypervisorError>;
    /// All storage pools.
    fn pools(&self) -> Result<Vec<PoolRow>, HypervisorError>;
    /// One storage pool.
    fn pool(&self, name: &str) -> Result<PoolRow, HypervisorError>;
    /// Lets it look at its volumes anew. Refused while one is being made in it.
    fn refresh_pool(&self, name: &str) -> Result<(), HypervisorError>;
    /// All volumes of a pool.
    fn volumes(&self, pool: &str) -> Result<Vec<VolumeRow>, HypervisorError>;
    /// One volume of a pool.
    fn volume(&self, pool: &str, name: &str) -> Result<VolumeRow, HypervisorError>;
    /// The volume behind a path.
    fn volume_by_path(&self, path: &str) -> Result<VolumeRow, HypervisorError>;
    /// Deletes a volume. Refused as `Busy` while it is still being made.
    fn delete_volume(&self, pool: &str, name: &str) -> Result<(), HypervisorError>;
    /// Makes a volume larger.
    fn resize_volume(&self, pool: &str, name: &str, capacity: ByteSize) -> Result<(), HypervisorError>;
}
