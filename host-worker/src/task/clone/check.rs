//! The first phase: is everything there and can it be done? Changes nothing and makes the plan that the steps follow.

use std::{collections::BTreeSet, path::PathBuf};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::{Accel, DiskDevice, DomainState},
    job::CloneTask,
    units::ByteSize,
};

use crate::{
    hypervisor::{
        Hypervisor, HypervisorError, PoolRow, VolumeRow,
        domain_xml::{self, Description, DiskXml, Source},
        inventory::{PARTIAL_PREFIX, PARTIAL_SUFFIX},
    },
    storage::{
        pools::{Need, choose},
        qemu_img::{self, QemuImgError},
        virt_clone,
    },
    task::{TaskContext, file_in, tool_fault},
};

/// What will be made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The pool that takes the copies.
    pub(super) pool: PoolRow,
    /// Its folder or device folder.
    pub(super) folder: String,
    /// The copies, in the order of the image's disks.
    pub(super) disks: Vec<PlannedDisk>,
    /// The targets of the disks and drives that are not copied.
    pub(super) skipped: Vec<String>,
    /// What the copies take up, about.
    pub(super) total: ByteSize,
    /// The name of the unfinished domain.
    pub(super) partial: String,
    /// Where the firmware's variables are copied to.
    pub(super) nvram: Option<String>,
    /// Whether the image wants KVM that this host does not have.
    pub(super) emulate: bool,
    /// Whether KVM cannot be used on this host at all.
    pub(super) emulated: bool,
}

/// One copy.
#[derive(Debug, Clone)]
pub(super) struct PlannedDisk {
    /// Its device in the domain.
    pub(super) target: String,
    /// Its format.
    pub(super) format: String,
    /// The volume's name until everything is done.
    pub(super) partial: String,
    /// The volume's name for good; the same where it cannot be renamed.
    pub(super) volume: String,
}

impl Plan {
    /// Where a volume of the chosen pool lies.
    pub(super) fn path_of(&self, volume: &str) -> PathBuf {
        file_in(&self.folder, volume)
    }
}

struct Seen {
    image: Description,
    pools: Vec<PoolRow>,
    volumes: Vec<(DiskXml, VolumeRow)>,
}

/// Checks everything and makes the plan.
pub(super) async fn check(task: &CloneTask, cx: &TaskContext) -> Result<Plan, Fault> {
    tools_present(task, cx)?;
    let wanted = task.clone();
    let seen = cx
        .host
        .look(format!("looking at the image {}", task.spec.image), move |hypervisor| Ok(see(hypervisor, &wanted)));
    let seen = seen.await??;
    if seen.image.nics.len() != task.macs.len() {
        return Err(Fault::new(
            Code::Conflict,
            format!(
                "the image {} has {} network interfaces now, and the job was made for {}",
                task.spec.image,
                seen.image.nics.len(),
                task.macs.len()
            ),
        )
        .about(task.spec.image.as_str()));
    }
    let mut total = ByteSize::ZERO;
    for (disk, volume) in &seen.volumes {
        total = total.plus(size(cx, task, disk, volume).await?);
    }
    let plan = plan(task, cx, seen, total)?;
    targets_free(&plan, cx).await?;
    Ok(plan)
}

fn tools_present(task: &CloneTask, cx: &TaskContext) -> Result<(), Fault> {
    for program in [virt_clone::PROGRAM, qemu_img::PROGRAM] {
        if !cx.tools.present(program) {
            return Err(Fault::new(Code::ToolMissing, format!("the program {program} is not installed on this host"))
                .about(program));
        }
    }
    if task.spec.customize.is_some() {
        cx.customizer.check_tools().map_err(|error| Fault::from_error(Code::ToolMissing, &error))?;
    }
    Ok(())
}

/// All questions to libvirt at once, off the async threads.
fn see(hypervisor: &dyn Hypervisor, task: &CloneTask) -> Result<Seen, Fault> {
    let name = task.spec.image.as_str();
    let uuid = hypervisor.domain_by_name(name).map_err(|error| {
        if error.is_not_found() {
            Fault::new(Code::NotFound, format!("there is no image {name} on this host")).about(name)
        } else {
            error.into()
        }
    })?;
    let state = hypervisor.state(uuid)?;
    if state != DomainState::Off {
        return Err(Fault::new(
            Code::WrongState,
            format!("the image {name} is {}; only one that is off can be cloned", state.as_str()),
        )
        .about(name));
    }
    name_free(hypervisor, task)?;
    let image = domain_xml::read(&hypervisor.domain_xml(uuid)?)
        .map_err(|error| Fault::from_error(Code::Hypervisor, &error).about(name))?;
    let mut volumes = Vec::new();
    for disk in image.disks.iter().filter(|disk| is_copied(disk)) {
        volumes.push((disk.clone(), volume(hypervisor, name, disk)?));
    }
    if volumes.is_empty() {
        return Err(Fault::new(Code::Unsupported, format!("the image {name} has no disk to clone")).about(name));
    }
    Ok(Seen { image, pools: hypervisor.pools()?, volumes })
}

fn name_free(hypervisor: &dyn Hypervisor, task: &CloneTask) -> Result<(), Fault> {
    let name = &task.spec.name;
    match hypervisor.domain_by_name(name.as_str()) {
        Ok(_) => {
            return Err(Fault::new(Code::Conflict, format!("there is a virtual machine {name} on this host already"))
                .about(name.as_str()));
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    match hypervisor.domain(task.uuid) {
        Ok(row) => Err(Fault::new(
            Code::Conflict,
            format!("the UUID {} is that of the virtual machine {} already", task.uuid, row.name),
        )
        .about(row.name)),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// As virt-clone decides: drives, and disks that are read only or shared, stay with the clone as they are.
fn is_copied(disk: &DiskXml) -> bool {
    matches!(disk.device, DiskDevice::Disk | DiskDevice::Lun)
        && !disk.readonly
        && !disk.shareable
        && disk.source != Source::Empty
}

fn volume(hypervisor: &dyn Hypervisor, image: &str, disk: &DiskXml) -> Result<VolumeRow, Fault> {
    let refuse = |why: String| {
        Fault::new(Code::Unsupported, format!("the disk {} of {image} cannot be cloned: {why}", disk.target))
            .about(image)
    };
    if disk.device == DiskDevice::Lun {
        return Err(refuse("it is a passed-through LUN".to_owned()));
    }
    if disk.encrypted {
        return Err(refuse("it is encrypted".to_owned()));
    }
    let (found, place) = match &disk.source {
        Source::Empty => return Err(refuse("there is nothing behind it".to_owned())),
        Source::Other(kind) => return Err(refuse(format!("it is of type {kind}, not a file in a storage pool"))),
        Source::Path(path) => (hypervisor.volume_by_path(path), path.clone()),
        Source::Volume { pool, volume } => (hypervisor.volume(pool, volume), format!("{pool}/{volume}")),
    };
    match found {
        Ok(row) => Ok(row),
        Err(error) if error.is_not_found() => {
            let missing = place.starts_with('/') && !std::fs::exists(&place).unwrap_or(true);
            let why = if missing { "does not exist" } else { "is not in an active storage pool" };
            Err(refuse(format!("{place} {why}")))
        }
        Err(error @ (HypervisorError::Down { .. } | HypervisorError::Unknown { .. })) => Err(error.into()),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// What a full copy can take up: as much as the disk does, or, if it is an overlay, as much as the files of its chain do
/// together. `qemu-img` reads them all, so a file of the chain that is missing is found here.
async fn size(cx: &TaskContext, task: &CloneTask, disk: &DiskXml, volume: &VolumeRow) -> Result<ByteSize, Fault> {
    let chain = qemu_img::chain(&cx.tools, &volume.path, &disk.format, &cx.cancel).await.map_err(|error| {
        let tool = match &error {
            QemuImgError::Tool { source, .. } => Some(source),
            QemuImgError::Output { .. } => None,
        };
        let mut fault = tool_fault(&error, tool);
        fault.message = format!("the disk {} of {} cannot be cloned: {}", disk.target, task.spec.image, fault.message);
        fault.about(task.spec.image.as_str())
    })?;
    let used: ByteSize = chain.iter().map(|file| file.actual_size).sum();
    Ok(used.min(volume.capacity.max(volume.allocation)))
}

fn plan(task: &CloneTask, cx: &TaskContext, seen: Seen, total: ByteSize) -> Result<Plan, Fault> {
    let Seen { image, pools, volumes } = seen;
    let need = Need {
        asked: task.spec.pool.as_ref().map(AsRef::as_ref),
        home: volumes.first().map_or("", |(_, volume)| volume.pool.as_str()),
        size: total,
        raw: volumes.iter().all(|(disk, _)| disk.format == "raw"),
    };
    let pool = choose(&pools, &need)?.clone();
    let folder = pool.path.clone().ok_or_else(|| {
        Fault::new(Code::Unsupported, format!("the storage pool {} has no folder", pool.name)).about(pool.name.as_str())
    })?;
    let (job, name) = (cx.job.short(), task.spec.name.as_str());
    let disks = volumes
        .iter()
        .enumerate()
        .map(|(number, (disk, _))| {
            let stem = if number == 0 { name.to_owned() } else { format!("{name}-{}", disk.target) };
            let (partial, volume) = if pool.is_folder() {
                (format!("{PARTIAL_PREFIX}{job}-{number}{PARTIAL_SUFFIX}"), format!("{stem}.{}", disk.format))
            } else {
                // A volume group's volumes cannot be renamed through libvirt. With the job's id in it the name is known to be
                // ours all the time, so that taking back never touches another's.
                (format!("{stem}-{job}"), format!("{stem}-{job}"))
            };
            PlannedDisk { target: disk.target.clone(), format: disk.format.clone(), partial, volume }
        })
        .collect::<Vec<_>>();
    let copied: BTreeSet<&str> = disks.iter().map(|disk| disk.target.as_str()).collect();
    let skipped = image
        .disks
        .iter()
        .map(|disk| &disk.target)
        .filter(|target| !copied.contains(target.as_str()))
        .cloned()
        .collect();
    let nvram = image
        .nvram
        .as_ref()
        .and_then(|path| path.rsplit_once('/'))
        .map(|(folder, _)| format!("{folder}/{name}_VARS.fd"));
    let emulated = matches!(cx.accel, Accel::Emulation { .. });
    let emulate = image.kind == "kvm" && emulated;
    let partial = format!("{PARTIAL_PREFIX}{job}{PARTIAL_SUFFIX}");
    Ok(Plan { pool, folder, disks, skipped, total, partial, nvram, emulate, emulated })
}

/// Nothing that exists is ever written over.
async fn targets_free(plan: &Plan, cx: &TaskContext) -> Result<(), Fault> {
    let taken = |what: &str| Fault::new(Code::Conflict, format!("{what} exists already")).about(what);
    for path in plan.disks.iter().map(|disk| plan.path_of(&disk.volume)).chain(plan.nvram.iter().map(PathBuf::from)) {
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(taken(&path.display().to_string()));
        }
    }
    let pool = plan.pool.name.clone();
    let names: Vec<String> = plan.disks.iter().map(|disk| disk.volume.clone()).collect();
    let found = cx
        .host
        .look(format!("looking for volumes in pool {pool}"), move |hypervisor| {
            for name in names {
                match hypervisor.volume(&pool, &name) {
                    Ok(volume) => return Ok(Some(volume)),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        })
        .await?;
    found.map_or(Ok(()), |volume| Err(taken(&format!("the volume {} in pool {}", volume.name, volume.pool))))
}
