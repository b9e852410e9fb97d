//! The first phase: what comes, where it goes, and whether it can. Changes nothing.

use std::path::{Path, PathBuf};

use maglica_proto::{
    fault::{Code, Fault},
    job::CopyTask,
    transfer::{FileInfo, Listed},
    units::ByteSize,
};

use crate::{
    hypervisor::{
        Hypervisor, PoolRow,
        domain_xml::{self, Description},
        inventory::{PARTIAL_PREFIX, PARTIAL_SUFFIX},
    },
    storage::pools::{Need, choose},
    task::{TaskContext, Undo},
    transfer::NVRAM,
};

/// What will be made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The pool that takes the disks.
    pub(super) pool: PoolRow,
    /// The files, as the other host lists them.
    pub(super) files: Vec<PlannedFile>,
    /// How much data they have.
    pub(super) total: ByteSize,
    /// The description, as the other host has it.
    pub(super) description: String,
}

/// One file.
#[derive(Debug, Clone)]
pub(super) struct PlannedFile {
    /// As it was listed.
    pub(super) info: FileInfo,
    /// Where it is until everything is here.
    pub(super) partial: PathBuf,
    /// Where it is for good.
    pub(super) path: PathBuf,
    /// The name of the volume; none for the firmware's variables.
    pub(super) volume: Option<String>,
}

/// The folder of what an earlier run of the job fetched.
pub(super) fn earlier(undo: &[Undo]) -> Option<String> {
    undo.iter().find_map(|undo| match undo {
        Undo::RemoveFile { path } => path.rsplit_once('/').map(|(folder, _)| folder.to_owned()),
        Undo::DeleteVolume { .. }
        | Undo::UndefinePartial { .. }
        | Undo::UndefineDomain { .. }
        | Undo::DestroyDomain { .. }
        | Undo::DeleteUnattached { .. }
        | Undo::Deleted { .. } => None,
    })
}

/// Makes the plan.
pub(super) async fn make(
    task: &CopyTask,
    cx: &TaskContext,
    listed: Listed,
    earlier: Option<String>,
) -> Result<Plan, Fault> {
    let name = task.image.name.as_str();
    let refuse = |code, why: String| Fault::new(code, why).about(name);
    let Some(description) = listed.description else {
        return Err(refuse(Code::Unsupported, format!("{} gives no description of {name}", task.from)));
    };
    let read =
        domain_xml::read(&description).map_err(|error| Fault::from_error(Code::Hypervisor, &error).about(name))?;
    if read.nics.len() != task.macs.len() {
        let why = format!(
            "the image {name} has {} network interfaces now, and the job was made for {}",
            read.nics.len(),
            task.macs.len()
        );
        return Err(refuse(Code::Conflict, why));
    }
    check_files(&listed.files, &read).map_err(|why| refuse(Code::Unsupported, why))?;
    let wanted = task.clone();
    let seen = cx.host.look("looking what is here", move |hypervisor| Ok(see(hypervisor, &wanted))).await?;
    let pools = seen?;
    let total: ByteSize = listed.files.iter().map(|file| file.data).sum();
    let pool = match earlier.and_then(|folder| pools.iter().find(|pool| pool.path.as_deref() == Some(&folder))) {
        Some(pool) => pool.clone(),
        None => pick(task, &pools, listed.pool.as_deref(), total)?,
    };
    let folder = pool.path.clone().filter(|_| pool.is_folder()).ok_or_else(|| {
        refuse(
            Code::Unsupported,
            format!("the storage pool {} is of type {}; images are copied into folders", pool.name, pool.kind),
        )
    })?;
    let files: Vec<PlannedFile> = listed
        .files
        .into_iter()
        .enumerate()
        .map(|(number, info)| place(task, cx, &folder, &read, number, info))
        .collect();
    for file in &files {
        if std::fs::symlink_metadata(&file.path).is_ok() {
            return Err(refuse(Code::Conflict, format!("{} exists already", file.path.display())));
        }
    }
    Ok(Plan { pool, files, total, description })
}

/// What the other host lists must be what its description needs: it may lie.
fn check_files(files: &[FileInfo], description: &Description) -> Result<(), String> {
    let mut disks: Vec<&str> = Vec::new();
    for file in files {
        let known = match file.role.as_str() {
            NVRAM => description.nvram.is_some() && !disks.contains(&NVRAM),
            target => {
                let disk = description.disks.iter().find(|disk| disk.target == target);
                disk.is_some_and(|disk| disk.format == file.format) && !disks.contains(&target)
            }
        };
        if !known || !matches!(file.format.as_str(), "raw" | "qcow2") {
            return Err(format!("a file {} of format {} cannot be taken", file.role, file.format));
        }
        disks.push(&file.role);
    }
    if files.is_empty() { Err("there is no disk to copy".to_owned()) } else { Ok(()) }
}

fn see(hypervisor: &dyn Hypervisor, task: &CopyTask) -> Result<Vec<PoolRow>, Fault> {
    let name = task.image.name.as_str();
    match hypervisor.domain_by_name(name) {
        Ok(_) => return Err(Fault::new(Code::Conflict, format!("{name} exists already on this host")).about(name)),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(hypervisor.pools()?)
}

/// The pool that was asked for, the one of the same name as at the other host, or the one with most room.
fn pick(task: &CopyTask, pools: &[PoolRow], there: Option<&str>, total: ByteSize) -> Result<PoolRow, Fault> {
    let most = pools.iter().filter(|pool| pool.active && pool.is_folder()).max_by_key(|pool| pool.available);
    let home = there.filter(|name| pools.iter().any(|pool| pool.name == *name && pool.active && pool.is_folder()));
    let home = home.or(most.map(|pool| pool.name.as_str()));
    let asked = task.pool.as_ref().map(AsRef::as_ref);
    let Some(home) = home.or(asked) else {
        return Err(Fault::new(Code::NoRoom, "this host has no storage pool of files that is active"));
    };
    Ok(choose(pools, &Need { asked, home, size: total, raw: false })?.clone())
}

fn place(
    task: &CopyTask,
    cx: &TaskContext,
    folder: &str,
    description: &Description,
    number: usize,
    info: FileInfo,
) -> PlannedFile {
    let (job, name) = (cx.job.short(), task.image.name.as_str());
    let partial = format!("{PARTIAL_PREFIX}{job}-{number}{PARTIAL_SUFFIX}");
    if info.role == NVRAM {
        let beside = description.nvram.as_deref().and_then(|path| Path::new(path).parent());
        let beside = beside.filter(|folder| folder.is_dir()).unwrap_or(Path::new(folder));
        let path = beside.join(format!("{name}_VARS.fd"));
        return PlannedFile { info, partial: beside.join(partial), path, volume: None };
    }
    let stem = if number == 0 { name.to_owned() } else { format!("{name}-{}", info.role) };
    let volume = format!("{stem}.{}", info.format);
    let folder = Path::new(folder);
    PlannedFile { partial: folder.join(partial), path: folder.join(&volume), volume: Some(volume), info }
}
