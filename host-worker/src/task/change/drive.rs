//! The CD drive: filled, emptied, and added where there is none.

use std::fs;

use maglica_proto::{
    fault::{Code, Fault},
    inventory::DiskDevice,
    job::{Applied, IsoSource, Outcome, Step, VmTask},
    name::DiskTarget,
};

use super::{Live, Seen, apply, changed, fault, said, see, see_live, unreadable};
use crate::{
    hypervisor::domain_xml::{
        DiskXml, Source,
        change::{Edit, NewDisk},
    },
    task::{TaskContext, step::step},
};

/// Puts an ISO image into its drive.
pub(super) async fn attach(vm: &VmTask, iso: &IsoSource, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "attach-iso";
    let (mut seen, path) = step(cx, kind, Step::Check, async {
        let seen = see(vm, cx).await?;
        let path = find_iso(iso, cx).await?;
        Ok(((seen, path), String::new()))
    })
    .await?;
    step(cx, kind, Step::Change, async {
        let outcome = insert(vm, &mut seen, &path, cx).await?;
        let note = said(&outcome);
        Ok((outcome, note))
    })
    .await
}

/// Where the image is on this host.
async fn find_iso(iso: &IsoSource, cx: &TaskContext) -> Result<String, Fault> {
    match iso {
        IsoSource::Path { path } => {
            match fs::metadata(path.as_str()) {
                Ok(metadata) if metadata.is_file() => Ok(path.to_string()),
                Ok(_) => {
                    Err(Fault::new(Code::InvalidInput, format!("{path} is no file on this host")).about(path.as_str()))
                }
                Err(error) => Err(Fault::new(Code::NotFound, format!("{path} cannot be read on this host: {error}"))
                    .about(path.as_str())),
            }
        }
        IsoSource::Volume { pool, volume } => {
            let (pool, volume) = (pool.to_string(), volume.to_string());
            let row = cx
                .host
                .look(format!("looking for {pool}/{volume}"), move |hypervisor| hypervisor.volume(&pool, &volume))
                .await?;
            Ok(row.path)
        }
    }
}

fn holds(disk: &DiskXml, path: &str) -> bool {
    disk.source == Source::Path(path.to_owned())
}

async fn insert(vm: &VmTask, seen: &mut Seen, path: &str, cx: &TaskContext) -> Result<Outcome, Fault> {
    let drives: Vec<DiskXml> =
        seen.description.disks.iter().filter(|disk| disk.device == DiskDevice::Cdrom).cloned().collect();
    let drive = drives
        .iter()
        .find(|drive| holds(drive, path))
        .or_else(|| drives.iter().find(|drive| drive.source == Source::Empty))
        .or_else(|| drives.first());
    let running = see_live(vm, cx).await?;
    let uuid = vm.uuid;
    let Some(drive) = drive else {
        let bus = seen.edit.drive_bus();
        let target = seen.edit.free_target(bus);
        let disk = NewDisk { path, block: false, format: "raw", target: &target, bus, cdrom: true };
        let device = disk.xml().map_err(|error| unreadable(vm, &error))?;
        seen.edit.add(&disk).map_err(|error| unreadable(vm, &error))?;
        let live = running.map(|_| Live::by(move |hypervisor| hypervisor.attach_live(uuid, &device)));
        return apply(vm, cx, &seen.edit, live, format!("{path} is in its new CD drive {target}")).await;
    };
    let target = drive.target.clone();
    let replaced = match &drive.source {
        Source::Path(old) if old != path => format!(" in the place of {old}"),
        Source::Path(_) | Source::Empty | Source::Volume { .. } | Source::Other(_) => String::new(),
    };
    if holds(drive, path) && running.as_ref().is_none_or(|live| is_in(live, &target, path)) {
        return Ok(changed(Applied::Already, format!("{path} is in its CD drive {target}")));
    }
    seen.edit.fill(&target, Some(path)).map_err(|error| unreadable(vm, &error))?;
    let live = running.map(|live| update(vm, &live, &target, Some(path)));
    apply(vm, cx, &seen.edit, live, format!("{path} is in its CD drive {target}{replaced}")).await
}

fn is_in(live: &Edit, target: &str, path: &str) -> bool {
    let text = live.xml().ok().and_then(|xml| crate::hypervisor::domain_xml::read(&xml).ok());
    text.is_some_and(|live| live.disks.iter().any(|disk| disk.target == target && holds(disk, path)))
}

fn update(vm: &VmTask, live: &Edit, target: &str, path: Option<&str>) -> Live {
    let uuid = vm.uuid;
    match live.device_with(target, path) {
        Ok(device) => Live::by(move |hypervisor| hypervisor.update_live(uuid, &device)),
        // Added while it ran, on a bus that takes nothing new from a running machine.
        Err(_) => Live::Never(format!("its CD drive {target} is there only after a restart")),
    }
}

/// Takes what is in its drive out.
pub(super) async fn eject(vm: &VmTask, target: Option<&DiskTarget>, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "eject-iso";
    let (mut seen, drive) = step(cx, kind, Step::Check, async {
        let seen = see(vm, cx).await?;
        let drive = choose(vm, &seen, target)?;
        Ok(((seen, drive), String::new()))
    })
    .await?;
    step(cx, kind, Step::Change, async {
        let running = see_live(vm, cx).await?;
        let note = format!("its CD drive {} is empty", drive.target);
        let still = running.as_ref().is_some_and(|live| match &drive.source {
            Source::Path(path) => is_in(live, &drive.target, path),
            Source::Empty | Source::Volume { .. } | Source::Other(_) => false,
        });
        if drive.source == Source::Empty && !still {
            return Ok((changed(Applied::Already, note.clone()), note));
        }
        seen.edit.fill(&drive.target, None).map_err(|error| unreadable(vm, &error))?;
        let live = running.map(|live| update(vm, &live, &drive.target, None));
        let outcome = apply(vm, cx, &seen.edit, live, note).await?;
        let note = said(&outcome);
        Ok((outcome, note))
    })
    .await
}

fn choose(vm: &VmTask, seen: &Seen, target: Option<&DiskTarget>) -> Result<DiskXml, Fault> {
    let drives: Vec<&DiskXml> = seen.description.disks.iter().filter(|disk| disk.device == DiskDevice::Cdrom).collect();
    let names = || drives.iter().map(|drive| drive.target.as_str()).collect::<Vec<_>>().join(", ");
    if drives.is_empty() {
        return Err(fault(Code::NotFound, vm, format!("{} has no CD drive", vm.name)));
    }
    if let Some(target) = target {
        let found = drives.iter().find(|drive| drive.target == target.as_str()).map(|drive| (*drive).clone());
        return found.ok_or_else(|| {
            fault(Code::NotFound, vm, format!("{} has no CD drive {target} (it has: {})", vm.name, names()))
        });
    }
    let filled: Vec<&&DiskXml> = drives.iter().filter(|drive| drive.source != Source::Empty).collect();
    match filled[..] {
        [one] => Ok((*one).clone()),
        [] => drives.first().map(|drive| (*drive).clone()).ok_or_else(|| fault(Code::NotFound, vm, "no CD drive")),
        [..] => Err(fault(
            Code::InvalidInput,
            vm,
            format!("{} has several CD drives with something in them: say which (of {})", vm.name, names()),
        )),
    }
}
