//! The third phase: the files get their names, and the image its definition.

use std::{collections::BTreeMap, io};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::{Accel, Provenance},
    job::CopyTask,
    units::ByteSize,
};

use super::plan::{Plan, PlannedFile};
use crate::{
    hypervisor::{
        CALL_LIMIT, HypervisorError,
        domain_xml::{self, CloneEdit, CopyEdit},
    },
    storage::{
        qemu_img::{self, QemuImgError},
        volumes::{self, FileId, REFRESH_LIMIT},
    },
    task::{TaskContext, Trail, Undo, tool_fault},
};

/// Renames the files and defines the image; says what there is to say.
pub(super) async fn define(
    task: &CopyTask,
    cx: &TaskContext,
    plan: &Plan,
    trail: &mut Trail<'_>,
) -> Result<String, Fault> {
    for file in plan.files.iter().filter(|file| file.volume.is_some()) {
        alone(cx, file).await?;
    }
    for file in &plan.files {
        cx.stop_if_cancelled()?;
        rename(plan, file, trail).await?;
    }
    let mut notes = Vec::new();
    if let Err(error) = volumes::refresh(&cx.host, &plan.pool.name, REFRESH_LIMIT).await {
        // The image needs no refresh, only libvirt's list of volumes does.
        notes.push(format!("the pool is to be refreshed: {error}"));
    }
    let emulate = matches!(cx.accel, Accel::Emulation { .. });
    let (xml, emulated) = description(task, cx, plan, emulate)?;
    trail.intend(Undo::UndefineDomain { name: task.image.name.clone(), uuid: task.copy })?;
    cx.host
        .call(format!("defining {}", task.image.name), CALL_LIMIT, move |hypervisor| hypervisor.define(&xml).map(drop))
        .await?;
    if emulated {
        notes.push("the image wants KVM, which does not work on this host: it is emulated".to_owned());
    }
    Ok(notes.join("; "))
}

/// A disk that came must stand alone: a backing file named in it would be this host's, whatever that is.
async fn alone(cx: &TaskContext, file: &PlannedFile) -> Result<(), Fault> {
    let path = file.partial.to_string_lossy();
    let fault = |error: &QemuImgError| match error {
        QemuImgError::Tool { source, .. } => tool_fault(error, Some(source)),
        QemuImgError::Output { .. } => tool_fault(error, None),
    };
    if !qemu_img::stands_alone(&cx.tools, &path, &file.info.format, &cx.cancel).await.map_err(|error| fault(&error))? {
        let message = format!("the disk {} refers to other files, and cannot be copied", file.info.role);
        return Err(Fault::new(Code::Unsupported, message));
    }
    qemu_img::check(&cx.tools, &path, &file.info.format, &cx.cancel).await.map_err(|error| fault(&error))
}

async fn rename(plan: &Plan, file: &PlannedFile, trail: &mut Trail<'_>) -> Result<(), Fault> {
    let failed = |error: &io::Error| {
        let code = if error.kind() == io::ErrorKind::AlreadyExists { Code::Conflict } else { Code::ToolFailed };
        let (from, to) = (file.partial.display(), file.path.display());
        Fault::new(code, format!("renaming {from} to {to} failed: {error}")).about(to.to_string())
    };
    let id = FileId::of(&file.partial).map_err(|error| failed(&error))?;
    trail.intend(match &file.volume {
        Some(volume) => Undo::DeleteVolume { pool: plan.pool.name.clone(), volume: volume.clone(), file: Some(id) },
        None => Undo::RemoveFile { path: file.path.to_string_lossy().into_owned() },
    })?;
    volumes::rename(file.partial.clone(), file.path.clone()).await.map_err(|error| failed(&error))
}

/// The description that the other host gave, with what is this host's; and whether it is emulated where it was not.
fn description(task: &CopyTask, cx: &TaskContext, plan: &Plan, emulate: bool) -> Result<(String, bool), Fault> {
    let broken = |error| Fault::from_error(Code::Hypervisor, &error).about(task.image.name.as_str());
    let read = domain_xml::read(&plan.description).map_err(broken)?;
    let emulate = emulate && read.kind == "kvm";
    let path = |file: &PlannedFile| file.path.to_string_lossy().into_owned();
    let disks: BTreeMap<String, String> = plan
        .files
        .iter()
        .filter(|file| file.volume.is_some())
        .map(|file| (file.info.role.clone(), path(file)))
        .collect();
    let nvram = plan.files.iter().find(|file| file.volume.is_none()).map(path);
    let made = Provenance { job: cx.job, image: task.image.name.clone(), by: task.by.clone(), anti_affinity: None };
    let clone = CloneEdit {
        name: task.image.name.as_str(),
        uuid: task.copy,
        disks: &disks,
        macs: &task.macs,
        emulate,
        // An image does not run, so it puts nothing out.
        log: None,
        made: &made,
    };
    let edit = CopyEdit { clone, nvram: nvram.as_deref(), marked: read.marked_image };
    Ok((domain_xml::for_copy(&plan.description, &edit).map_err(broken)?, emulate))
}

/// How much the disks of the copy take up, if it is there: somebody may have removed it since.
pub(super) async fn size_of(task: &CopyTask, cx: &TaskContext) -> Result<Option<ByteSize>, Fault> {
    let uuid = task.copy;
    let found = cx.host.look(format!("looking for {}", task.image.name), move |hypervisor| {
        let xml = hypervisor.domain_xml(uuid)?;
        let description = domain_xml::read(&xml)
            .map_err(|error| HypervisorError::Refused { doing: "reading it".to_owned(), why: error.to_string() })?;
        let paths = description.disks.iter().filter_map(|disk| match &disk.source {
            domain_xml::Source::Path(path) => Some(path),
            domain_xml::Source::Empty | domain_xml::Source::Volume { .. } | domain_xml::Source::Other(_) => None,
        });
        Ok(paths.filter_map(|path| hypervisor.volume_by_path(path).ok()).map(|volume| volume.allocation).sum())
    });
    match found.await {
        Ok(size) => Ok(Some(size)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
