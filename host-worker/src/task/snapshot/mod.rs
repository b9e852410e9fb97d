//! Snapshots: taken, gone back to, deleted; and the schedule by which the host takes some itself.
//!
//! All are inside of the qcow2 files. Of a machine that is off, libvirt takes them with `qemu-img`; of one that runs, with its memory.
//! Of one that runs *without* its memory libvirt can take none that it could go back to: [`live`] has the emulator take it, of all
//! disks at one moment, and lets libvirt know of it.

mod live;

use std::time::{Duration, SystemTime};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::{DiskDevice, IMAGE_SUFFIX, Schedule},
    job::{Applied, Outcome, SnapshotChange, Step, VmTask},
    name::SnapshotName,
};
use tokio_util::sync::CancellationToken;

use super::{TaskContext, find, step::step};
use crate::hypervisor::{
    DomainRow, Hypervisor, HypervisorError,
    domain_xml::{self, Description},
    snapshot_xml::{Mark, NewSnapshot, SnapshotRow},
};

/// How long libvirt may take: the memory of a large machine is written out, or read in again.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// How many snapshots of one machine there may be: the inventory tells as many.
const MOST: usize = 64;

/// Does it.
pub(super) async fn run(vm: &VmTask, what: &SnapshotChange, by: &str, cx: &TaskContext) -> Result<Outcome, Fault> {
    match what {
        SnapshotChange::Create { snapshot, memory, description, expires_s } => {
            let expires = expires_s.map(|after| {
                let now: maglica_proto::units::Timestamp = SystemTime::now().into();
                now.after(Duration::from_secs(after.into()))
            });
            let mark = Mark { job: Some(cx.job), by: Some(by.to_owned()), expires, scheduled: false };
            let new = New { name: snapshot.as_str(), description, memory: *memory, mark };
            create(vm, &new, cx).await
        }
        SnapshotChange::Revert { snapshot, start } => revert(vm, snapshot, *start, cx).await,
        SnapshotChange::Delete { snapshot } => delete(vm, snapshot, cx).await,
        SnapshotChange::Schedule { every_s, keep, memory } => {
            let schedule = Schedule { every_s: *every_s, keep: *keep, memory: *memory };
            set_schedule(vm, Some(schedule), cx).await
        }
        SnapshotChange::Unschedule => set_schedule(vm, None, cx).await,
    }
}

/// Brings it to an end after a crash.
pub(super) async fn recover(
    vm: &VmTask,
    what: &SnapshotChange,
    by: &str,
    done: &[Step],
    cx: &TaskContext,
) -> Result<Outcome, Fault> {
    // A cancel that comes now would deny what was done before the crash.
    let cx = &TaskContext { cancel: CancellationToken::new(), ..cx.clone() };
    match what {
        SnapshotChange::Create { snapshot, .. } => {
            if let Some(taken) = rows(vm, cx).await?.into_iter().find(|row| row.job == Some(cx.job)) {
                return Ok(created(&taken.snapshot.name, taken.snapshot.memory));
            }
            live::clean(vm, snapshot.as_str(), cx).await;
        }
        // Whether it went back once is not to be seen; going back again gives up what the guest has done since.
        SnapshotChange::Revert { snapshot, .. } if done.contains(&Step::Check) => {
            let message = format!(
                "the host worker was interrupted while {} was brought back to {snapshot}: whether it was is not known",
                vm.name
            );
            return Err(fault(Code::OutcomeUnknown, vm, message));
        }
        SnapshotChange::Delete { snapshot } if done.contains(&Step::Check) => {
            if !rows(vm, cx).await?.iter().any(|row| row.snapshot.name == *snapshot) {
                return Ok(changed(Applied::Live, format!("the snapshot {snapshot} is deleted")));
            }
        }
        SnapshotChange::Revert { .. }
        | SnapshotChange::Delete { .. }
        | SnapshotChange::Schedule { .. }
        | SnapshotChange::Unschedule => {}
    }
    Box::pin(run(vm, what, by, cx)).await
}

/// A snapshot that is to be taken.
pub(super) struct New<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) memory: bool,
    pub(super) mark: Mark,
}

fn fault(code: Code, vm: &VmTask, message: impl Into<String>) -> Fault {
    Fault::new(code, message).about(vm.name.as_str())
}

fn changed(applied: Applied, note: impl Into<String>) -> Outcome {
    Outcome::Changed { applied, note: note.into(), why: None }
}

fn created(name: &SnapshotName, memory: bool) -> Outcome {
    let what = if memory { "with its memory" } else { "of its disks" };
    changed(Applied::Live, format!("the snapshot {name} is taken, {what}"))
}

async fn rows(vm: &VmTask, cx: &TaskContext) -> Result<Vec<SnapshotRow>, Fault> {
    let uuid = vm.uuid;
    Ok(cx
        .host
        .look(format!("listing the snapshots of {}", vm.name), move |hypervisor| hypervisor.snapshots(uuid))
        .await?)
}

async fn read(vm: &VmTask, cx: &TaskContext) -> Result<(DomainRow, Description), Fault> {
    let row = find(vm, cx).await?;
    let uuid = vm.uuid;
    let xml = cx.host.look(format!("reading {}", vm.name), move |hypervisor| hypervisor.domain_xml(uuid)).await?;
    let description =
        domain_xml::read(&xml).map_err(|error| Fault::from_error(Code::Hypervisor, &error).about(vm.name.as_str()))?;
    Ok((row, description))
}

/// Why snapshots of this machine cannot be, if so.
fn unfit(vm: &VmTask, description: &Description) -> Option<Fault> {
    let disks = || description.disks.iter().filter(|disk| disk.device == DiskDevice::Disk && !disk.readonly);
    if let Some(disk) = disks().find(|disk| disk.format != "qcow2") {
        let message = format!(
            "the disk {} of {} is {}; snapshots are kept inside of the disk, which only qcow2 can (qemu-img convert makes one of it)",
            disk.target, vm.name, disk.format
        );
        return Some(fault(Code::Unsupported, vm, message));
    }
    let lun = description.disks.iter().find(|disk| disk.device == DiskDevice::Lun);
    if let Some(disk) = lun {
        let message =
            format!("the disk {} of {} is a passed-through LUN, which has no snapshots", disk.target, vm.name);
        return Some(fault(Code::Unsupported, vm, message));
    }
    if disks().next().is_none() {
        return Some(fault(Code::Unsupported, vm, format!("{} has no disk to take a snapshot of", vm.name)));
    }
    None
}

/// Takes one.
pub(super) async fn create(vm: &VmTask, new: &New<'_>, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "snapshot-create";
    let (description, active) = step(cx, kind, Step::Check, async {
        let name = SnapshotName::new(new.name).map_err(|error| fault(Code::InvalidInput, vm, error.to_string()))?;
        if name.as_str().starts_with('-') || name.as_str().bytes().all(|b| b.is_ascii_digit()) {
            // qemu-img would take it for an option, or for the number of another one.
            let message = format!("{name} is no good name for a snapshot: it begins with '-' or is a number");
            return Err(fault(Code::InvalidInput, vm, message));
        }
        let (row, description) = read(vm, cx).await?;
        let active = row.state.is_active();
        if let Some(fault) = unfit(vm, &description) {
            return Err(fault);
        }
        if new.memory && !active {
            let message = format!("{} is off and has no memory to take; leave --memory out", vm.name);
            return Err(fault(Code::WrongState, vm, message));
        }
        let known = rows(vm, cx).await?;
        if known.iter().any(|row| row.snapshot.name == name) {
            let message = format!("{} has a snapshot {name} already", vm.name);
            return Err(fault(Code::Conflict, vm, message));
        }
        if known.len() >= MOST {
            let message = format!("{} has {} snapshots already; delete some first", vm.name, known.len());
            return Err(fault(Code::NoRoom, vm, message));
        }
        Ok(((description, active), String::new()))
    })
    .await?;
    step(cx, kind, Step::Snapshot, async {
        let described = NewSnapshot { name: new.name, description: new.description, mark: &new.mark };
        let note = if active && !new.memory {
            live::take(vm, &description, &described, cx).await?
        } else {
            let (uuid, xml) = (vm.uuid, described.to_take());
            cx.host
                .call(format!("taking a snapshot of {}", vm.name), LIMIT, move |hypervisor| {
                    hypervisor.take_snapshot(uuid, &xml)
                })
                .await?;
            String::new()
        };
        let name = SnapshotName::new(new.name).map_err(|error| fault(Code::InvalidInput, vm, error.to_string()))?;
        Ok((created(&name, new.memory), note))
    })
    .await
}

fn known<'a>(vm: &VmTask, rows: &'a [SnapshotRow], name: &SnapshotName) -> Result<&'a SnapshotRow, Fault> {
    rows.iter().find(|row| row.snapshot.name == *name).ok_or_else(|| {
        let mut missing = fault(Code::NotFound, vm, format!("{} has no snapshot {name}", vm.name));
        missing.similar = rows.iter().rev().take(5).map(|row| row.snapshot.name.to_string()).collect();
        missing
    })
}

async fn revert(vm: &VmTask, name: &SnapshotName, start: bool, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "snapshot-revert";
    let (memory, schedule) = step(cx, kind, Step::Check, async {
        let (_, description) = read(vm, cx).await?;
        let rows = rows(vm, cx).await?;
        Ok(((known(vm, &rows, name)?.snapshot.memory, description.schedule), String::new()))
    })
    .await?;
    step(cx, kind, Step::Snapshot, async {
        let (uuid, snapshot) = (vm.uuid, name.to_string());
        let start = start && !memory;
        cx.host
            .call(format!("bringing {} back to {name}", vm.name), LIMIT, move |hypervisor| {
                hypervisor.revert(uuid, &snapshot, start)?;
                // Not all drivers start what they are asked to.
                if start && !hypervisor.state(uuid)?.is_active() {
                    hypervisor.start(uuid)?;
                }
                // The definition came back with it, and with that the schedule of then.
                keep_schedule(hypervisor, uuid, schedule)
            })
            .await?;
        let state = if memory || start { "runs" } else { "is off" };
        Ok((changed(Applied::Live, format!("it is as it was at {name}, and {state}")), String::new()))
    })
    .await
}

fn keep_schedule(
    hypervisor: &dyn Hypervisor,
    uuid: uuid::Uuid,
    schedule: Option<Schedule>,
) -> Result<(), HypervisorError> {
    let then = domain_xml::read(&hypervisor.domain_xml(uuid)?).ok().and_then(|then| then.schedule);
    if then == schedule { Ok(()) } else { hypervisor.set_schedule(uuid, schedule) }
}

/// Deletes one.
pub(super) async fn delete(vm: &VmTask, name: &SnapshotName, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "snapshot-delete";
    step(cx, kind, Step::Check, async {
        find(vm, cx).await?;
        let rows = rows(vm, cx).await?;
        known(vm, &rows, name)?;
        Ok(((), String::new()))
    })
    .await?;
    step(cx, kind, Step::Snapshot, async {
        let (uuid, snapshot) = (vm.uuid, name.to_string());
        cx.host
            .call(format!("deleting the snapshot {name} of {}", vm.name), LIMIT, move |hypervisor| {
                hypervisor.delete_snapshot(uuid, &snapshot)
            })
            .await?;
        Ok((changed(Applied::Live, format!("the snapshot {name} is deleted")), String::new()))
    })
    .await
}

async fn set_schedule(vm: &VmTask, schedule: Option<Schedule>, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "snapshot-schedule";
    let now = step(cx, kind, Step::Check, async {
        let (_, description) = read(vm, cx).await?;
        if let Some(schedule) = schedule {
            if schedule.every_s == 0 || schedule.keep == 0 || schedule.keep as usize >= MOST {
                let message = format!("at least one and at most {} snapshots can be kept by a schedule", MOST - 1);
                return Err(fault(Code::InvalidInput, vm, message));
            }
            if description.marked_image || vm.name.as_str().ends_with(IMAGE_SUFFIX) {
                return Err(fault(Code::WrongState, vm, format!("{} is an image, which does not change", vm.name)));
            }
            if let Some(fault) = unfit(vm, &description) {
                return Err(fault);
            }
        }
        Ok((description.schedule, String::new()))
    })
    .await?;
    let note = match schedule {
        Some(Schedule { keep, .. }) => format!("its host takes snapshots of it and keeps {keep}"),
        None => "its host takes no snapshots of it by itself; those that there are stay".to_owned(),
    };
    if now == schedule {
        return Ok(changed(Applied::Already, note));
    }
    step(cx, kind, Step::Snapshot, async {
        let uuid = vm.uuid;
        cx.host
            .call(format!("keeping the schedule of {}", vm.name), crate::hypervisor::CALL_LIMIT, move |hypervisor| {
                hypervisor.set_schedule(uuid, schedule)
            })
            .await?;
        Ok((changed(Applied::Live, note), String::new()))
    })
    .await
}
