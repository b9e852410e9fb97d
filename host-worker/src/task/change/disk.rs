//! Disks: added, taken away, made larger.

use std::time::Duration;

use maglica_proto::{
    fault::{Code, Fault},
    inventory::DiskDevice,
    job::{Applied, Outcome, Step, VmTask},
    name::{DiskTarget, PoolName},
    units::ByteSize,
};
use tokio::time::{Instant, sleep};

use super::{Live, Seen, apply, carry, changed, fault, said, see, see_live, unreadable};
use crate::{
    hypervisor::{
        CALL_LIMIT, Hypervisor, HypervisorError, PoolRow, VolumeRow,
        domain_xml::{Description, DiskXml, Source, change::NewDisk},
    },
    storage::{
        pools::{Need, choose},
        volumes::{self, DELETE_LIMIT},
    },
    task::{TaskContext, Trail, Undo, remove, step::step},
};

/// How long a guest may take to let a disk go.
const LET_GO: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What of a machine's name goes into a volume's: a file's name has 255 bytes.
const STEM: usize = 200;

/// Makes a new disk for it.
pub(super) async fn attach(
    vm: &VmTask,
    size: ByteSize,
    pool: Option<&PoolName>,
    cx: &TaskContext,
) -> Result<Outcome, Fault> {
    let kind = "attach-disk";
    let (mut seen, pool) = step(cx, kind, Step::Check, async {
        if size < ByteSize::mib(1) {
            return Err(fault(Code::InvalidInput, vm, format!("{size} is no size for a disk; is the unit missing?")));
        }
        let seen = see(vm, cx).await?;
        let pool = choose_pool(vm, &seen, size, pool, cx).await?;
        let note = format!("into pool {}", pool.name);
        Ok(((seen, pool), note))
    })
    .await?;
    let mut trail = Trail::new(cx);
    let result = step(cx, kind, Step::Change, async {
        let format = if pool.is_folder() { "qcow2" } else { "raw" };
        // With the job's id in it the name is known to be ours, before and after a crash.
        let name = volume_name(vm, cx, format);
        let volume = make(vm, cx, &pool, &name, format, size, &mut trail).await?;
        let known = seen.description.disks.iter().find(|disk| is_behind(disk, &volume));
        let (target, bus, fresh) = match known {
            Some(disk) => (disk.target.clone(), seen.edit.disk_bus().to_owned(), false),
            None => {
                let bus = seen.edit.disk_bus().to_owned();
                (seen.edit.free_target(&bus), bus, true)
            }
        };
        let disk =
            NewDisk { path: &volume.path, block: !pool.is_folder(), format, target: &target, bus: &bus, cdrom: false };
        let note = format!("{target} is a new disk of {size} ({}/{name})", pool.name);
        let device = disk.xml().map_err(|error| unreadable(vm, &error))?;
        let uuid = vm.uuid;
        let running = see_live(vm, cx).await?;
        let live = running.map(|running| {
            if running.device(&target).is_ok() {
                Live::by(|_| Ok(()))
            } else {
                Live::by(move |hypervisor| hypervisor.attach_live(uuid, &device))
            }
        });
        let outcome = if fresh {
            seen.edit.add(&disk).map_err(|error| unreadable(vm, &error))?;
            apply(vm, cx, &seen.edit, live, note).await?
        } else {
            carry(vm, cx, live, note).await?
        };
        let note = said(&outcome);
        Ok((outcome, note))
    })
    .await;
    match result {
        Ok(outcome) => Ok(outcome),
        Err(mut fault) => {
            fault.left.extend(trail.take_back().await);
            Err(fault)
        }
    }
}

fn volume_name(vm: &VmTask, cx: &TaskContext, format: &str) -> String {
    let stem: String = vm.name.as_str().char_indices().take_while(|(at, _)| *at < STEM).map(|(_, c)| c).collect();
    format!("{stem}-{}.{format}", cx.job.short())
}

async fn choose_pool(
    vm: &VmTask,
    seen: &Seen,
    size: ByteSize,
    asked: Option<&PoolName>,
    cx: &TaskContext,
) -> Result<PoolRow, Fault> {
    let first = seen.description.disks.iter().find(|disk| disk.device == DiskDevice::Disk).cloned();
    let (pools, home) = cx
        .host
        .look(format!("looking for a pool for {}", vm.name), move |hypervisor| {
            let home = first.and_then(|disk| volume_of(hypervisor, &disk).ok()).map(|volume| volume.pool);
            Ok((hypervisor.pools()?, home))
        })
        .await?;
    let most = pools.iter().filter(|pool| pool.active && pool.is_folder()).max_by_key(|pool| pool.available);
    let Some(home) = home.or_else(|| most.map(|pool| pool.name.clone())) else {
        return Err(fault(Code::NotFound, vm, "the host has no active storage pool of files; start one or name one"));
    };
    // What is empty can be of either format, so that a pool of block devices takes it too.
    let need = Need { asked: asked.map(AsRef::as_ref), home: &home, size, raw: true };
    Ok(choose(&pools, &need)?.clone())
}

async fn make(
    vm: &VmTask,
    cx: &TaskContext,
    pool: &PoolRow,
    name: &str,
    format: &str,
    size: ByteSize,
    trail: &mut Trail<'_>,
) -> Result<VolumeRow, Fault> {
    trail.intend(Undo::DeleteUnattached { uuid: vm.uuid, pool: pool.name.clone(), volume: name.to_owned() })?;
    let (pool, name, format) = (pool.name.clone(), name.to_owned(), format.to_owned());
    let made = cx.host.call(format!("making volume {name}"), CALL_LIMIT, move |hypervisor| {
        match hypervisor.volume(&pool, &name) {
            Err(error) if error.is_not_found() => hypervisor.create_volume(&pool, &name, &format, size),
            // Made before a crash, for the name is the job's own.
            found => found,
        }
    });
    Ok(made.await?)
}

fn is_behind(disk: &DiskXml, volume: &VolumeRow) -> bool {
    match &disk.source {
        Source::Path(path) => *path == volume.path,
        Source::Volume { pool, volume: name } => *pool == volume.pool && *name == volume.name,
        Source::Empty | Source::Other(_) => false,
    }
}

/// The volume behind a disk.
pub(super) fn volume_of(hypervisor: &dyn Hypervisor, disk: &DiskXml) -> Result<VolumeRow, HypervisorError> {
    match &disk.source {
        Source::Path(path) => hypervisor.volume_by_path(path),
        Source::Volume { pool, volume } => hypervisor.volume(pool, volume),
        Source::Empty | Source::Other(_) => Err(HypervisorError::NotFound {
            doing: format!("looking for what is behind {}", disk.target),
            why: "it is no volume".to_owned(),
        }),
    }
}

fn no_such_disk(vm: &VmTask, target: &DiskTarget, description: &Description) -> Fault {
    let known: Vec<&str> = description.disks.iter().map(|disk| disk.target.as_str()).collect();
    fault(Code::NotFound, vm, format!("{} has no disk {target} (it has: {})", vm.name, known.join(", ")))
}

/// Takes a disk from it.
pub(super) async fn detach(
    vm: &VmTask,
    target: &DiskTarget,
    delete: bool,
    undo: &[Undo],
    cx: &TaskContext,
) -> Result<Outcome, Fault> {
    let kind = "detach-disk";
    let (mut seen, defined, mut deleting) = step(cx, kind, Step::Check, async {
        let seen = see(vm, cx).await?;
        let disk = seen.description.disks.iter().find(|disk| disk.target == target.as_str()).cloned();
        // A run before a crash had come so far.
        let before: Vec<(String, String)> = undo.iter().filter_map(deleted).collect();
        let Some(disk) = disk else {
            let runs = see_live(vm, cx).await?.is_some_and(|live| live.device(target.as_str()).is_ok());
            if before.is_empty() && !runs {
                return Err(no_such_disk(vm, target, &seen.description));
            }
            return Ok(((seen, false, before), String::new()));
        };
        let deleting = if delete { vec![deletable(vm, &seen, &disk, cx).await?] } else { Vec::new() };
        Ok(((seen, true, deleting), String::new()))
    })
    .await?;
    step(cx, kind, Step::Change, async {
        for (pool, volume) in &deleting {
            cx.journal.intend(&Undo::Deleted { pool: pool.clone(), volume: volume.clone() })?;
        }
        let running = see_live(vm, cx).await?.map(|live| live.device(target.as_str()).ok());
        let uuid = vm.uuid;
        let live = running.map(|device| match device {
            None => Live::by(|_| Ok(())),
            Some(device) => Live::by(move |hypervisor| hypervisor.detach_live(uuid, &device)),
        });
        let note = format!("{target} is taken away");
        let mut outcome = if defined {
            seen.edit.remove(target.as_str()).map_err(|error| unreadable(vm, &error))?;
            apply(vm, cx, &seen.edit, live, note).await?
        } else {
            carry(vm, cx, live, note).await?
        };
        if let Outcome::Changed { applied, why, .. } = &mut outcome
            && *applied == Applied::Live
            && !let_go(vm, target, cx).await?
        {
            *applied = Applied::AtNextStart;
            *why = Some("the guest has not let go of it".to_owned());
        }
        finish_detach(vm, target, &mut outcome, std::mem::take(&mut deleting), cx).await?;
        let note = said(&outcome);
        Ok((outcome, note))
    })
    .await
}

fn deleted(undo: &Undo) -> Option<(String, String)> {
    if let Undo::Deleted { pool, volume } = undo { Some((pool.clone(), volume.clone())) } else { None }
}

/// The volume behind a disk, if it is nobody else's.
async fn deletable(vm: &VmTask, seen: &Seen, disk: &DiskXml, cx: &TaskContext) -> Result<(String, String), Fault> {
    let (own, one) = (seen.description.clone(), disk.clone());
    let plan = cx
        .host
        .look(format!("looking who uses {} of {}", disk.target, vm.name), move |hypervisor| {
            remove::of_one_disk(hypervisor, &own, &one)
        })
        .await?;
    plan.delete.into_iter().next().ok_or_else(|| {
        let why = plan.kept.into_iter().next().unwrap_or_else(|| "it is no disk with a volume".to_owned());
        let message = format!(
            "the disk {} of {} cannot be deleted: {why}; without --delete it is only taken away",
            disk.target, vm.name
        );
        fault(Code::WrongState, vm, message)
    })
}

/// Whether the guest lets a disk go in time.
async fn let_go(vm: &VmTask, target: &DiskTarget, cx: &TaskContext) -> Result<bool, Fault> {
    let until = Instant::now() + LET_GO;
    loop {
        let gone = see_live(vm, cx).await?.is_none_or(|live| live.device(target.as_str()).is_err());
        if gone || Instant::now() >= until {
            return Ok(gone);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Deletes the volumes, or says that they are kept.
async fn finish_detach(
    vm: &VmTask,
    target: &DiskTarget,
    outcome: &mut Outcome,
    deleting: Vec<(String, String)>,
    cx: &TaskContext,
) -> Result<(), Fault> {
    let Outcome::Changed { applied, note, .. } = outcome else { return Ok(()) };
    for (pool, volume) in deleting {
        if *applied == Applied::AtNextStart {
            note.push_str(&format!("; its volume {pool}/{volume} is kept, for {} still has it", vm.name));
            continue;
        }
        match volumes::delete(&cx.host, &pool, &volume, DELETE_LIMIT).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let mut fault = Fault::from(error);
                fault.message = format!("{target} is taken from {}, but: {}", vm.name, fault.message);
                fault.left.push(format!("volume {volume} in pool {pool}"));
                return Err(fault);
            }
        }
        note.push_str(&format!("; its volume {pool}/{volume} is deleted"));
    }
    Ok(())
}

/// Makes a disk larger.
pub(super) async fn resize(
    vm: &VmTask,
    target: &DiskTarget,
    size: ByteSize,
    cx: &TaskContext,
) -> Result<Outcome, Fault> {
    let kind = "resize-disk";
    let (volume, active) = step(cx, kind, Step::Check, async {
        let seen = see(vm, cx).await?;
        let active = seen.active();
        let disk = seen.description.disks.iter().find(|disk| disk.target == target.as_str()).cloned();
        let disk = disk.ok_or_else(|| no_such_disk(vm, target, &seen.description))?;
        let refuse =
            |why: &str| fault(Code::Unsupported, vm, format!("{target} of {} cannot be resized: {why}", vm.name));
        if disk.device != DiskDevice::Disk {
            return Err(refuse("it is no disk"));
        }
        if disk.readonly || disk.shareable {
            return Err(refuse("others have it as well"));
        }
        let (volume, free) =
            cx.host
                .look(format!("looking at {target} of {}", vm.name), move |hypervisor| {
                    let volume = volume_of(hypervisor, &disk)?;
                    let free = hypervisor.pool(&volume.pool)?.available;
                    Ok((volume, free))
                })
                .await
                .map_err(|error| {
                    if error.is_not_found() { refuse("it is not in an active storage pool") } else { error.into() }
                })?;
        if size < volume.capacity {
            let message = format!(
                "{target} of {} has {}; a disk is never made smaller, for that would cut off what is in it",
                vm.name, volume.capacity
            );
            return Err(fault(Code::InvalidInput, vm, message));
        }
        if size.minus(volume.capacity) > free {
            let message = format!(
                "{target} of {} is to grow by {}, and the pool {} has {free} free",
                vm.name,
                size.minus(volume.capacity),
                volume.pool
            );
            return Err(fault(Code::NoRoom, vm, message));
        }
        Ok(((volume, active), String::new()))
    })
    .await?;
    let note = format!("{target} has {size}; its file systems are to be grown by the guest");
    if size == volume.capacity {
        return Ok(changed(Applied::Already, format!("{target} has {size}")));
    }
    step(cx, kind, Step::Change, async {
        let (uuid, target) = (vm.uuid, target.to_string());
        cx.host
            .call(format!("resizing {target} of {}", vm.name), CALL_LIMIT, move |hypervisor| {
                if hypervisor.state(uuid)?.is_active() {
                    hypervisor.resize_live(uuid, &target, size)
                } else {
                    hypervisor.resize_volume(&volume.pool, &volume.name, size)
                }
            })
            .await?;
        let applied = if active { Applied::Live } else { Applied::Defined };
        Ok((changed(applied, note.clone()), note))
    })
    .await
}
