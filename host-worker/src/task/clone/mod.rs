//! Clone: a new machine of an image.
//!
//! ```text
//! check ─▶ volumes ─▶ customize ─▶ define ─▶ start ─▶ guest
//!          virt-clone  libguestfs   rename,    libvirt  agent
//!          partial names            final names
//! ```
//! Until *define* everything that exists has the job's id in its name. A crash before the end of *define* is taken back; after it
//! the machine is there and the job goes on.

mod check;
mod define;
mod guest;
mod volumes;

use maglica_proto::{
    fault::{Code, Fault},
    job::{CloneTask, GuestAnswer, HostEventKind, Outcome, Step},
    name::DomainName,
};

use self::check::Plan;
use super::{TaskContext, Trail, Undo, cancelled, step::step, tool_fault};
use crate::{
    customize::{CustomizeError, Disk, Identity},
    hypervisor::CALL_LIMIT,
};

const KIND: &str = "clone";

/// Clones from the beginning.
pub(super) async fn run(task: &CloneTask, cx: &TaskContext) -> Result<Outcome, Fault> {
    let mut trail = Trail::new(cx);
    let result = match make(task, cx, &mut trail).await {
        Ok(()) => bring_up(task, cx, &mut trail, &[]).await,
        Err(fault) => Err(fault),
    };
    finish(result, trail).await
}

/// Ends what a crash interrupted.
pub(super) async fn recover(
    task: &CloneTask,
    done: &[Step],
    undo: &[Undo],
    cx: &TaskContext,
    decide: impl Fn(&str),
) -> Result<Outcome, Fault> {
    let mut trail = Trail::found(cx, undo);
    if done.contains(&Step::Define) && still_there(task, cx).await? {
        decide("the machine was defined: go on");
        let result = bring_up(task, cx, &mut trail, done).await;
        return finish(result, trail).await;
    }
    decide("the machine was not finished: take everything back");
    let order = [Step::Check, Step::Volumes, Step::Customize, Step::Define];
    let interrupted = order
        .into_iter()
        .find(|step| !done.contains(step) && (*step != Step::Customize || task.spec.customize.is_some()))
        .unwrap_or(Step::Define);
    let left = trail.take_back().await;
    let back = if left.is_empty() { "everything was taken back" } else { "not everything could be taken back" };
    let mut fault = Fault::new(
        Code::Unavailable,
        format!("the host worker was interrupted during the step {}; {back}", interrupted.as_str()),
    )
    .about(task.spec.name.as_str());
    fault.left = left;
    Err(fault)
}

async fn finish(result: Result<Outcome, Fault>, trail: Trail<'_>) -> Result<Outcome, Fault> {
    match result {
        Ok(outcome) => Ok(outcome),
        Err(mut fault) => {
            fault.left.extend(trail.take_back().await);
            Err(fault)
        }
    }
}

/// Whether the machine that the journal says was defined is there. Somebody may have removed it since.
async fn still_there(task: &CloneTask, cx: &TaskContext) -> Result<bool, Fault> {
    let uuid = task.uuid;
    let found =
        cx.host.look(format!("looking for {}", task.spec.name), move |hypervisor| hypervisor.domain(uuid)).await;
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// From nothing to a defined machine.
async fn make(task: &CloneTask, cx: &TaskContext, trail: &mut Trail<'_>) -> Result<(), Fault> {
    let plan = step(cx, KIND, Step::Check, async {
        let plan = check::check(task, cx).await?;
        let note = format!("{} into pool {}", plan.total, plan.pool.name);
        Ok((plan, note))
    })
    .await?;
    step(cx, KIND, Step::Volumes, async {
        volumes::copy(task, cx, &plan, trail).await?;
        Ok(((), format!("{} in pool {}", plan.total, plan.pool.name)))
    })
    .await?;
    if task.spec.customize.is_some() {
        step(cx, KIND, Step::Customize, async { Ok(((), customize(task, cx, &plan).await?)) }).await?;
    }
    step(cx, KIND, Step::Define, async { Ok(((), define::define(task, cx, &plan, trail).await?)) }).await
}

async fn customize(task: &CloneTask, cx: &TaskContext, plan: &Plan) -> Result<String, Fault> {
    let Some(customization) = task.spec.customize.clone() else { return Ok(String::new()) };
    let disks: Vec<Disk> =
        plan.disks.iter().map(|disk| Disk { path: plan.path_of(&disk.partial), format: disk.format.clone() }).collect();
    let identity =
        Identity { name: task.spec.name.clone(), macs: task.macs.clone(), customization, force_tcg: plan.emulated };
    let customized =
        cx.customizer.customize(&disks, &identity, &cx.cancel).await.map_err(|error| customize_fault(&error))?;
    Ok(format!("{}: {}", customized.os, customized.changed.join(", ")))
}

fn customize_fault(error: &CustomizeError) -> Fault {
    if matches!(error, CustomizeError::Cancelled) {
        return cancelled();
    }
    let tool = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    let mut fault = tool_fault(error, tool);
    if matches!(
        error,
        CustomizeError::NoSystem
            | CustomizeError::SeveralSystems { .. }
            | CustomizeError::UnsupportedSystem { .. }
            | CustomizeError::Unsupported { .. }
    ) {
        fault.code = Code::Unsupported;
    }
    fault
}

/// From a defined machine to what was asked for.
async fn bring_up(task: &CloneTask, cx: &TaskContext, trail: &mut Trail<'_>, done: &[Step]) -> Result<Outcome, Fault> {
    let uuid = task.uuid;
    if !task.spec.start {
        return Ok(Outcome::Cloned { uuid, started: false, guest: None });
    }
    if !done.contains(&Step::Start) {
        step(cx, KIND, Step::Start, async {
            // Taken back last, for it is written until the machine is off.
            if let Some(path) = define::log_of(task, cx) {
                trail.intend(Undo::RemoveFile { path: path.to_string_lossy().into_owned() })?;
            }
            trail.intend(Undo::DestroyDomain { name: DomainName::from(task.spec.name.clone()), uuid })?;
            cx.host
                .call(format!("starting {}", task.spec.name), CALL_LIMIT, move |hypervisor| {
                    // Started before a crash.
                    if hypervisor.state(uuid)?.is_active() { Ok(()) } else { hypervisor.start(uuid) }
                })
                .await?;
            Ok(((), String::new()))
        })
        .await?;
    }
    let guest = match task.spec.wait_s {
        None => None,
        Some(wait_s) => Some(step(cx, KIND, Step::Guest, async { guest::wait(task, wait_s, cx).await }).await?),
    };
    Ok(Outcome::Cloned { uuid, started: true, guest })
}

/// Tells how far a step is.
fn progress(cx: &TaskContext, plan: &Plan, done: maglica_proto::units::ByteSize) {
    cx.journal.event(HostEventKind::StepProgress { step: Step::Volumes, done, total: Some(plan.total) });
}

fn describe(guest: &GuestAnswer) -> String {
    match guest {
        GuestAnswer::Up { hostname, addresses } => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{hostname} {}", addresses.join(" ")).trim_end().to_owned()
        }
        GuestAnswer::Silent { waited_s } => format!("no answer from its agent within {waited_s} s"),
    }
}
