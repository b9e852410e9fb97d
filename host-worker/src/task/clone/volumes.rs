//! The second phase: full copies of the image's disks, under names that have the job's id in them.

use maglica_proto::{
    fault::{Code, Fault},
    job::CloneTask,
};

use super::{check::Plan, progress};
use crate::{
    storage::{
        qemu_img::{self, QemuImgError},
        virt_clone::{self, Copy},
    },
    task::{TaskContext, Trail, Undo, tool_fault},
};

/// Copies and looks whether the copies are sound.
pub(super) async fn copy(task: &CloneTask, cx: &TaskContext, plan: &Plan, trail: &mut Trail<'_>) -> Result<(), Fault> {
    let pool = plan.pool.name.as_str();
    for disk in &plan.disks {
        trail.intend(Undo::DeleteVolume { pool: pool.to_owned(), volume: disk.partial.clone(), file: None })?;
    }
    if let Some(path) = &plan.nvram {
        trail.intend(Undo::RemoveFile { path: path.clone() })?;
    }
    // Taken back first: a domain that is gone cannot be started on volumes that are about to go.
    trail.intend(Undo::UndefinePartial { name: plan.partial.clone() })?;
    let volumes: Vec<(String, String)> = plan
        .disks
        .iter()
        .map(|disk| (disk.partial.clone(), plan.path_of(&disk.partial).to_string_lossy().into_owned()))
        .collect();
    let what = Copy {
        original: task.spec.image.as_str(),
        name: &plan.partial,
        pool,
        volumes: &volumes,
        skipped: &plan.skipped,
        macs: &task.macs,
        nvram: plan.nvram.as_deref(),
    };
    virt_clone::copy(&cx.host, &cx.tools, &what, |done| progress(cx, plan, done), &cx.cancel)
        .await
        .map_err(|error| tool_fault(&error, Some(&error)))?;
    for disk in &plan.disks {
        sound(cx, plan, &disk.partial, &disk.format).await?;
    }
    Ok(())
}

async fn sound(cx: &TaskContext, plan: &Plan, name: &str, format: &str) -> Result<(), Fault> {
    let (pool, volume) = (plan.pool.name.clone(), name.to_owned());
    let row = cx.host.look("looking at the copy", move |hypervisor| hypervisor.volume(&pool, &volume)).await?;
    if row.format != format {
        // A domain that reads it as the image's format would see garbage.
        return Err(Fault::new(
            Code::ToolFailed,
            format!("the copy in pool {} came out in format {} instead of {format}", plan.pool.name, row.format),
        ));
    }
    qemu_img::check(&cx.tools, &row.path, format, &cx.cancel).await.map_err(|error| match &error {
        QemuImgError::Tool { source, .. } => tool_fault(&error, Some(source)),
        QemuImgError::Output { .. } => tool_fault(&error, None),
    })
}
