//! Snapshots of a domain, as a hypervisor offers them.

use maglica_proto::inventory::Schedule;
use uuid::Uuid;

use super::{HypervisorError, snapshot_xml::SnapshotRow};

/// Snapshots; all calls block, and fail as [`Hypervisor`](super::Hypervisor)'s do.
#[expect(clippy::missing_errors_doc, reason = "the errors are the same for every call and said at `Hypervisor`")]
pub trait Snapshots {
    /// Those of a domain.
    fn snapshots(&self, uuid: Uuid) -> Result<Vec<SnapshotRow>, HypervisorError>;
    /// Takes one: of a running domain with its memory, of one that is off without.
    fn take_snapshot(&self, uuid: Uuid, snapshot: &str) -> Result<(), HypervisorError>;
    /// Makes one known that was taken otherwise, as the current one.
    fn know_snapshot(&self, uuid: Uuid, snapshot: &str) -> Result<(), HypervisorError>;
    /// Brings the domain back to it, which may start or stop it; `start` starts it where the snapshot has no memory.
    fn revert(&self, uuid: Uuid, name: &str, start: bool) -> Result<(), HypervisorError>;
    /// Deletes it; those after it stay.
    fn delete_snapshot(&self, uuid: Uuid, name: &str) -> Result<(), HypervisorError>;
    /// Says something to the emulator itself, in QMP, and gives its answer.
    fn monitor(&self, uuid: Uuid, command: &str) -> Result<String, HypervisorError>;
    /// Keeps with the domain how snapshots of it are taken, or that none are.
    fn set_schedule(&self, uuid: Uuid, schedule: Option<Schedule>) -> Result<(), HypervisorError>;
}
