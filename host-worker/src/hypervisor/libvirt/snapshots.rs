//! Snapshots by libvirt.

use maglica_proto::inventory::Schedule;
use uuid::Uuid;
use virt::{domain::Domain, sys};

use super::Libvirt;
use crate::hypervisor::{
    HypervisorError, Snapshots,
    domain_xml::schedule,
    snapshot_xml::{self, SnapshotRow},
};

impl Snapshots for Libvirt {
    fn snapshots(&self, uuid: Uuid) -> Result<Vec<SnapshotRow>, HypervisorError> {
        let doing = format!("listing the snapshots of domain {uuid}");
        let found = self.look(&doing, |connection| {
            let snapshots = connection.lookup_domain_by_uuid(uuid)?.list_all_snapshots(0)?;
            // One that was deleted meanwhile is left out, as it would be a moment later.
            let read = snapshots.iter().filter_map(|snapshot| {
                let current = snapshot.is_current(0).unwrap_or(false);
                snapshot.xml_desc(0).ok().map(|xml| (xml, current))
            });
            Ok(read.collect::<Vec<_>>())
        })?;
        let mut rows = Vec::with_capacity(found.len());
        for (xml, current) in found {
            let row = snapshot_xml::read(&xml, current)
                .map_err(|error| HypervisorError::Refused { doing: doing.clone(), why: error.to_string() })?;
            rows.extend(row);
        }
        rows.sort_by(|a, b| (a.snapshot.created, &a.snapshot.name).cmp(&(b.snapshot.created, &b.snapshot.name)));
        Ok(rows)
    }

    fn take_snapshot(&self, uuid: Uuid, snapshot: &str) -> Result<(), HypervisorError> {
        self.act(&format!("taking a snapshot of domain {uuid}"), |connection| {
            connection.lookup_domain_by_uuid(uuid)?.create_snapshot_xml(snapshot, 0).map(drop)
        })
    }

    fn know_snapshot(&self, uuid: Uuid, snapshot: &str) -> Result<(), HypervisorError> {
        let flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | sys::VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT;
        self.act(&format!("noting a snapshot of domain {uuid}"), |connection| {
            connection.lookup_domain_by_uuid(uuid)?.create_snapshot_xml(snapshot, flags).map(drop)
        })
    }

    fn revert(&self, uuid: Uuid, name: &str, start: bool) -> Result<(), HypervisorError> {
        // Force: what runs is given up for the snapshot in any case, so that libvirt may start another emulator for it.
        let flags =
            sys::VIR_DOMAIN_SNAPSHOT_REVERT_FORCE | if start { sys::VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING } else { 0 };
        self.act(&format!("bringing domain {uuid} back to {name}"), |connection| {
            Domain::lookup_snapshot_by_name(&connection.lookup_domain_by_uuid(uuid)?, name, 0)?.revert(flags)
        })
    }

    fn delete_snapshot(&self, uuid: Uuid, name: &str) -> Result<(), HypervisorError> {
        self.act(&format!("deleting snapshot {name} of domain {uuid}"), |connection| {
            Domain::lookup_snapshot_by_name(&connection.lookup_domain_by_uuid(uuid)?, name, 0)?.delete(0)
        })
    }

    fn monitor(&self, uuid: Uuid, command: &str) -> Result<String, HypervisorError> {
        self.act(&format!("talking to the emulator of domain {uuid}"), |connection| {
            connection.lookup_domain_by_uuid(uuid)?.qemu_monitor_command(command, 0)
        })
    }

    fn set_schedule(&self, uuid: Uuid, schedule: Option<Schedule>) -> Result<(), HypervisorError> {
        let element = schedule.map(schedule::write);
        self.act(&format!("keeping the schedule of domain {uuid}"), |connection| {
            let domain = connection.lookup_domain_by_uuid(uuid)?;
            let live = if domain.is_active()? { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
            domain
                .set_metadata(
                    sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(),
                    element.as_deref(),
                    Some(schedule::KEY),
                    Some(schedule::NAMESPACE),
                    sys::VIR_DOMAIN_AFFECT_CONFIG | live,
                )
                .map(drop)
        })
    }
}
