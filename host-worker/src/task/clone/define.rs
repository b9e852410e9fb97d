//! The fourth phase: the copies get their names and the machine its definition.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::Provenance,
    job::CloneTask,
    name::DomainName,
};

use super::check::{Plan, PlannedDisk};
use crate::{
    hypervisor::{
        CALL_LIMIT, Nvram,
        domain_xml::{self, CloneEdit},
    },
    serial_log,
    storage::volumes::{self, FileId, REFRESH_LIMIT},
    task::{TaskContext, Trail, Undo},
};

/// Renames the copies and defines the machine in place of the unfinished one; says what there is to say.
pub(super) async fn define(
    task: &CloneTask,
    cx: &TaskContext,
    plan: &Plan,
    trail: &mut Trail<'_>,
) -> Result<String, Fault> {
    let mut notes = Vec::new();
    if plan.pool.is_folder() {
        for disk in &plan.disks {
            rename(cx, plan, disk, trail).await?;
        }
        if let Err(error) = volumes::refresh(&cx.host, &plan.pool.name, REFRESH_LIMIT).await {
            // The machine needs no refresh, only libvirt's list of volumes does.
            notes.push(format!("the pool is to be refreshed: {error}"));
        }
    }
    cx.stop_if_cancelled()?;
    let xml = description(task, cx, plan).await?;
    let (name, uuid, partial) = (DomainName::from(task.spec.name.clone()), task.uuid, plan.partial.clone());
    trail.intend(Undo::UndefineDomain { name: name.clone(), uuid })?;
    cx.host
        .call(format!("defining {name}"), CALL_LIMIT, move |hypervisor| {
            hypervisor.define(&xml)?;
            hypervisor.undefine(hypervisor.domain_by_name(&partial)?, Nvram::Keep)
        })
        .await?;
    if plan.emulate {
        notes.push("the image wants KVM, which does not work on this host: it is emulated".to_owned());
    }
    Ok(notes.join("; "))
}

async fn rename(cx: &TaskContext, plan: &Plan, disk: &PlannedDisk, trail: &mut Trail<'_>) -> Result<(), Fault> {
    let (from, to) = (plan.path_of(&disk.partial), plan.path_of(&disk.volume));
    let failed = |error: &io::Error| {
        let code = if error.kind() == io::ErrorKind::AlreadyExists { Code::Conflict } else { Code::ToolFailed };
        Fault::new(code, format!("renaming {} to {} failed: {error}", from.display(), to.display()))
            .about(disk.volume.as_str())
    };
    let file = FileId::of(&from).map_err(|error| failed(&error))?;
    trail.intend(Undo::DeleteVolume { pool: plan.pool.name.clone(), volume: disk.volume.clone(), file: Some(file) })?;
    volumes::rename(from.clone(), to.clone()).await.map_err(|error| failed(&error))?;
    // libvirt forgets the old name by "deleting" a volume whose file is gone, even while the pool is too busy for a refresh.
    let (pool, partial) = (plan.pool.name.clone(), disk.partial.clone());
    let forgot = cx
        .host
        .call(format!("forgetting volume {partial}"), CALL_LIMIT, move |hypervisor| {
            hypervisor.delete_volume(&pool, &partial)
        })
        .await;
    if let Err(error) = forgot {
        tracing::debug!(%error, "the renamed volume's old name stays in libvirt's list until the next refresh");
    }
    Ok(())
}

/// Where what the new machine's serial port puts out is kept. Only the system's qemu driver has a folder for it that is known here.
pub(super) fn log_of(task: &CloneTask, cx: &TaskContext) -> Option<PathBuf> {
    let system = cx.host.uri().starts_with("qemu") && cx.host.uri().ends_with("/system");
    system.then(|| serial_log::path_of(task.spec.name.as_str(), task.uuid))
}

/// The description that virt-clone made, with the final names.
async fn description(task: &CloneTask, cx: &TaskContext, plan: &Plan) -> Result<String, Fault> {
    let partial = plan.partial.clone();
    let xml = cx
        .host
        .look("reading the unfinished domain", move |hypervisor| {
            hypervisor.domain_xml(hypervisor.domain_by_name(&partial)?)
        })
        .await?;
    let disks: BTreeMap<String, String> = plan
        .disks
        .iter()
        .map(|disk| (disk.target.clone(), plan.path_of(&disk.volume).to_string_lossy().into_owned()))
        .collect();
    let made = Provenance {
        job: cx.job,
        image: task.spec.image.clone(),
        by: task.by.clone(),
        anti_affinity: task.spec.anti_affinity.clone(),
    };
    let log = log_of(task, cx);
    let edit = CloneEdit {
        name: task.spec.name.as_str(),
        uuid: task.uuid,
        disks: &disks,
        macs: &task.macs,
        emulate: plan.emulate,
        log: log.as_deref().and_then(Path::to_str),
        made: &made,
    };
    domain_xml::for_clone(&xml, &edit).map_err(|error| Fault::from_error(Code::Hypervisor, &error))
}
