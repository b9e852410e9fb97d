//! Changes of a machine that exists.
//!
//! | file | changes |
//! | --- | --- |
//! | [`life`] | power, name, autostart |
//! | [`disk`] | disks: added, taken away, made larger |
//! | [`drive`] | what is in its CD drive |
//! | [`shape`] | processors, memory, what it is started from |
//!
//! The definition is changed first, so that a change outlives a restart in any case, and then what runs. What only a restart can bring
//! about is no failure: the outcome says so, and why. Each change looks at what is so and does what is missing, so that after a
//! crash it is simply begun again; only what cannot be seen afterwards (a press of the reset button) is not.

mod disk;
mod drive;
mod life;
mod shape;

use maglica_proto::{
    fault::{Code, Fault},
    job::{Applied, Outcome, Step, VmChange, VmTask},
};
use tokio_util::sync::CancellationToken;

use super::{TaskContext, Undo, find};
use crate::hypervisor::{
    CALL_LIMIT, DomainRow, Hypervisor, HypervisorError,
    domain_xml::{self, Description, DomainXmlError, change::Edit},
};

/// Changes the machine.
pub(super) async fn run(vm: &VmTask, change: &VmChange, undo: &[Undo], cx: &TaskContext) -> Result<Outcome, Fault> {
    match change {
        VmChange::Reboot => life::press(vm, life::Button::Reboot, cx).await,
        VmChange::Reset => life::press(vm, life::Button::Reset, cx).await,
        VmChange::Suspend => life::suspend(vm, cx).await,
        VmChange::Resume => life::resume(vm, cx).await,
        VmChange::Rename { to } => life::rename(vm, to, cx).await,
        VmChange::Autostart { on } => life::autostart(vm, *on, cx).await,
        VmChange::AttachDisk { size, pool } => disk::attach(vm, *size, pool.as_ref(), cx).await,
        VmChange::DetachDisk { target, delete } => disk::detach(vm, target, *delete, undo, cx).await,
        VmChange::ResizeDisk { target, size } => disk::resize(vm, target, *size, cx).await,
        VmChange::AttachIso { iso } => drive::attach(vm, iso, cx).await,
        VmChange::EjectIso { target } => drive::eject(vm, target.as_ref(), cx).await,
        VmChange::BootDevice { device } => shape::boot(vm, *device, cx).await,
        VmChange::Vcpus { count } => shape::vcpus(vm, *count, cx).await,
        VmChange::Memory { size } => shape::memory(vm, *size, cx).await,
    }
}

/// Brings a change to an end that a crash interrupted.
pub(super) async fn recover(
    vm: &VmTask,
    change: &VmChange,
    done: &[Step],
    undo: &[Undo],
    cx: &TaskContext,
) -> Result<Outcome, Fault> {
    let button = matches!(change, VmChange::Reboot | VmChange::Reset);
    if button && done.contains(&Step::Power) {
        return Ok(changed(Applied::Live, format!("{}: done", change.verb())));
    }
    if button && done.contains(&Step::Check) {
        let message = format!(
            "the host worker was interrupted during the {} of {}: whether it was begun is not known",
            change.verb(),
            vm.name
        );
        return Err(Fault::new(Code::OutcomeUnknown, message).about(vm.name.as_str()));
    }
    // A cancel that comes now would deny what was done before the crash.
    let cx = TaskContext { cancel: CancellationToken::new(), ..cx.clone() };
    Box::pin(run(vm, change, undo, &cx)).await
}

fn changed(applied: Applied, note: impl Into<String>) -> Outcome {
    Outcome::Changed { applied, note: note.into(), why: None }
}

fn fault(code: Code, vm: &VmTask, message: impl Into<String>) -> Fault {
    Fault::new(code, message).about(vm.name.as_str())
}

/// A machine's definition, before it is changed.
struct Seen {
    row: DomainRow,
    description: Description,
    edit: Edit,
}

impl Seen {
    const fn active(&self) -> bool {
        self.row.state.is_active()
    }
}

async fn see(vm: &VmTask, cx: &TaskContext) -> Result<Seen, Fault> {
    let row = find(vm, cx).await?;
    let uuid = vm.uuid;
    let xml = cx.host.look(format!("reading {}", vm.name), move |hypervisor| hypervisor.domain_xml(uuid)).await?;
    let description = domain_xml::read(&xml).map_err(|error| unreadable(vm, &error))?;
    let edit = Edit::of(&xml).map_err(|error| unreadable(vm, &error))?;
    Ok(Seen { row, description, edit })
}

/// What runs of a machine; none of one that is off.
async fn see_live(vm: &VmTask, cx: &TaskContext) -> Result<Option<Edit>, Fault> {
    let uuid = vm.uuid;
    let xml = cx
        .host
        .look(format!("reading what runs of {}", vm.name), move |hypervisor| {
            if hypervisor.state(uuid)?.is_active() { hypervisor.live_xml(uuid).map(Some) } else { Ok(None) }
        })
        .await?;
    xml.map(|xml| Edit::of(&xml)).transpose().map_err(|error| unreadable(vm, &error))
}

fn unreadable(vm: &VmTask, error: &DomainXmlError) -> Fault {
    Fault::from_error(Code::Hypervisor, error).about(vm.name.as_str())
}

/// One call that changes what runs.
type LiveCall = Box<dyn FnOnce(&dyn Hypervisor) -> Result<(), HypervisorError> + Send>;

/// How what runs is changed.
enum Live {
    /// By this, for the machine runs.
    By(LiveCall),
    /// Not before it is started anew, for this reason.
    Never(String),
}

impl Live {
    fn by(call: impl FnOnce(&dyn Hypervisor) -> Result<(), HypervisorError> + Send + 'static) -> Self {
        Self::By(Box::new(call))
    }
}

/// Defines the machine anew, then changes what runs of it (none: it is off).
async fn apply(vm: &VmTask, cx: &TaskContext, edit: &Edit, live: Option<Live>, note: String) -> Result<Outcome, Fault> {
    let xml = edit.xml().map_err(|error| unreadable(vm, &error))?;
    cx.host
        .call(format!("defining {}", vm.name), CALL_LIMIT, move |hypervisor| hypervisor.define(&xml).map(drop))
        .await?;
    carry(vm, cx, live, note).await
}

/// Changes what runs of a machine that is defined so already.
async fn carry(vm: &VmTask, cx: &TaskContext, live: Option<Live>, note: String) -> Result<Outcome, Fault> {
    let call = match live {
        None => return Ok(changed(Applied::Defined, note)),
        Some(Live::Never(why)) => return Ok(Outcome::Changed { applied: Applied::AtNextStart, note, why: Some(why) }),
        Some(Live::By(call)) => call,
    };
    match cx.host.call(format!("changing what runs of {}", vm.name), CALL_LIMIT, call).await {
        Ok(()) => Ok(changed(Applied::Live, note)),
        Err(error @ (HypervisorError::Down { .. } | HypervisorError::Unknown { .. })) => {
            let message = format!(
                "{} is so defined from its next start on; whether what runs was changed is not known: {error}",
                vm.name
            );
            Err(fault(Code::OutcomeUnknown, vm, message))
        }
        Err(error) => Ok(Outcome::Changed { applied: Applied::AtNextStart, note, why: Some(error.to_string()) }),
    }
}

/// What there is to say of a step that ended so.
fn said(outcome: &Outcome) -> String {
    if let Outcome::Changed { note, .. } = outcome { note.clone() } else { String::new() }
}

#[cfg(test)]
mod tests;
