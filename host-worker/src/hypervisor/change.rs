//! What can be changed about a domain that exists, as a hypervisor offers it. Which change a task makes, and in what order, is not
//! here.

use maglica_proto::units::ByteSize;
use uuid::Uuid;

use super::{HypervisorError, VolumeRow};

/// Changes of a domain; all calls block, and fail as [`Hypervisor`](super::Hypervisor)'s do.
///
/// What is said to be *live* changes what runs and nothing else; the definition is changed by
/// [`define`](super::Hypervisor::define).
#[expect(clippy::missing_errors_doc, reason = "the errors are the same for every call and said at `Hypervisor`")]
pub trait Change {
    /// Asks its guest to start anew, by its agent or ACPI; returns at once.
    fn reboot(&self, uuid: Uuid) -> Result<(), HypervisorError>;
    /// Presses its reset button.
    fn reset(&self, uuid: Uuid) -> Result<(), HypervisorError>;
    /// Lets it stand still.
    fn suspend(&self, uuid: Uuid) -> Result<(), HypervisorError>;
    /// Lets it go on.
    fn resume(&self, uuid: Uuid) -> Result<(), HypervisorError>;
    /// Gives it another name; it must be off.
    fn rename(&self, uuid: Uuid, name: &str) -> Result<(), HypervisorError>;
    /// Whether it is started with the host.
    fn set_autostart(&self, uuid: Uuid, on: bool) -> Result<(), HypervisorError>;
    /// Adds a device to what runs.
    fn attach_live(&self, uuid: Uuid, device: &str) -> Result<(), HypervisorError>;
    /// Asks the guest to let a device go; it may take its time after this returned.
    fn detach_live(&self, uuid: Uuid, device: &str) -> Result<(), HypervisorError>;
    /// Changes a device of what runs, such as what is in a drive.
    fn update_live(&self, uuid: Uuid, device: &str) -> Result<(), HypervisorError>;
    /// The number of processors of what runs.
    fn set_vcpus_live(&self, uuid: Uuid, count: u32) -> Result<(), HypervisorError>;
    /// The memory that what runs may use.
    fn set_memory_live(&self, uuid: Uuid, size: ByteSize) -> Result<(), HypervisorError>;
    /// Makes a disk of what runs larger, and the file behind it.
    fn resize_live(&self, uuid: Uuid, target: &str, size: ByteSize) -> Result<(), HypervisorError>;
    /// Makes an empty volume.
    fn create_volume(&self, pool: &str, name: &str, format: &str, size: ByteSize)
    -> Result<VolumeRow, HypervisorError>;
}
