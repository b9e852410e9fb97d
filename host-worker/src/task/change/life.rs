//! Power, name and autostart.

use maglica_proto::{
    fault::{Code, Fault},
    inventory::DomainState,
    job::{Applied, Outcome, Step, VmTask},
    name::GuestName,
};

use super::{changed, fault, said};
use crate::{
    hypervisor::{CALL_LIMIT, Hypervisor, HypervisorError},
    task::{TaskContext, find, step::step},
};

/// What is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Button {
    Reboot,
    Reset,
}

/// Asks the guest to start anew, or makes it.
pub(super) async fn press(vm: &VmTask, button: Button, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = match button {
        Button::Reboot => "reboot",
        Button::Reset => "reset",
    };
    step(cx, kind, Step::Check, async {
        let state = find(vm, cx).await?.state;
        // A guest that stands still hears nothing; one whose button is pressed need not.
        let can = state.is_active() && (button == Button::Reset || state != DomainState::Paused);
        if can { Ok(((), String::new())) } else { Err(wrong_state(vm, state)) }
    })
    .await?;
    step(cx, kind, Step::Power, async {
        let uuid = vm.uuid;
        cx.host
            .call(format!("{kind} of {}", vm.name), CALL_LIMIT, move |hypervisor| match button {
                Button::Reboot => hypervisor.reboot(uuid),
                Button::Reset => hypervisor.reset(uuid),
            })
            .await?;
        let outcome = match button {
            Button::Reboot => changed(Applied::Live, "its guest was asked to start anew"),
            Button::Reset => changed(Applied::Live, "it starts anew"),
        };
        let note = said(&outcome);
        Ok((outcome, note))
    })
    .await
}

/// Lets it stand still.
pub(super) async fn suspend(vm: &VmTask, cx: &TaskContext) -> Result<Outcome, Fault> {
    stand(vm, "suspend", DomainState::Paused, cx, |state| state.is_active(), |at, uuid| at.suspend(uuid)).await
}

/// Lets it go on.
pub(super) async fn resume(vm: &VmTask, cx: &TaskContext) -> Result<Outcome, Fault> {
    stand(vm, "resume", DomainState::Running, cx, |state| state == DomainState::Paused, |at, uuid| at.resume(uuid))
        .await
}

type Call = fn(&dyn Hypervisor, uuid::Uuid) -> Result<(), HypervisorError>;

async fn stand(
    vm: &VmTask,
    kind: &str,
    to: DomainState,
    cx: &TaskContext,
    can: impl Fn(DomainState) -> bool,
    call: Call,
) -> Result<Outcome, Fault> {
    let state = step(cx, kind, Step::Check, async {
        let state = find(vm, cx).await?.state;
        let running = matches!(state, DomainState::Running | DomainState::Blocked);
        if state != to && !can(state) && !(running && to == DomainState::Running) {
            return Err(wrong_state(vm, state));
        }
        Ok((state, String::new()))
    })
    .await?;
    let note = if to == DomainState::Paused { "it stands still" } else { "it runs" };
    if state == to || !can(state) {
        return Ok(changed(Applied::Already, note));
    }
    step(cx, kind, Step::Power, async {
        let uuid = vm.uuid;
        cx.host
            .call(format!("{kind} of {}", vm.name), CALL_LIMIT, move |hypervisor| match call(hypervisor, uuid) {
                // Somebody else was faster.
                Err(_) if hypervisor.state(uuid)? == to => Ok(()),
                result => result,
            })
            .await?;
        Ok((changed(Applied::Live, note), String::new()))
    })
    .await
}

/// Gives it another name. Disks keep theirs, for what stands on them knows them by it.
pub(super) async fn rename(vm: &VmTask, to: &GuestName, cx: &TaskContext) -> Result<Outcome, Fault> {
    let uuid = vm.uuid;
    let new = to.to_string();
    let done = step(cx, "rename", Step::Check, async {
        let name = new.clone();
        let found = cx
            .host
            .look(format!("looking for {}", vm.name), move |hypervisor| {
                let taken = match hypervisor.domain_by_name(&name) {
                    Ok(other) => other != uuid,
                    Err(error) if error.is_not_found() => false,
                    Err(error) => return Err(error),
                };
                Ok((hypervisor.domain(uuid).map(|row| row.name == name), taken))
            })
            .await?;
        match found {
            (Ok(true), _) => return Ok((true, String::new())),
            (_, true) => {
                let message = format!("there is a virtual machine {new} on this host already");
                return Err(Fault::new(Code::Conflict, message).about(new.clone()));
            }
            (Ok(false) | Err(_), false) => {}
        }
        let state = find(vm, cx).await?.state;
        if state.is_active() {
            let message = format!("{} is {}; only a machine that is off is renamed", vm.name, state.as_str());
            return Err(fault(Code::WrongState, vm, message));
        }
        let snapshots = cx
            .host
            .look(format!("listing the snapshots of {}", vm.name), move |hypervisor| hypervisor.snapshots(uuid))
            .await?;
        if !snapshots.is_empty() {
            // Each holds the definition of then, the old name included, and going back to it would bring that back.
            let message = format!(
                "{} has snapshots ({}), which know it by its name; delete them before it is renamed",
                vm.name,
                snapshots.len()
            );
            return Err(fault(Code::WrongState, vm, message));
        }
        Ok((false, String::new()))
    })
    .await?;
    if done {
        return Ok(changed(Applied::Already, format!("its name is {to}")));
    }
    step(cx, "rename", Step::Change, async {
        cx.host
            .call(format!("renaming {} to {new}", vm.name), CALL_LIMIT, move |hypervisor| hypervisor.rename(uuid, &new))
            .await?;
        let note = format!("its name is {to}; its disks keep their names, and its guest its own host name");
        Ok((changed(Applied::Defined, note), String::new()))
    })
    .await
}

/// Whether libvirt starts it with the host.
pub(super) async fn autostart(vm: &VmTask, on: bool, cx: &TaskContext) -> Result<Outcome, Fault> {
    let is = step(cx, "autostart", Step::Check, async { Ok((find(vm, cx).await?.autostart, String::new())) }).await?;
    let note = if on { "it starts with its host" } else { "it does not start with its host" };
    if is == on {
        return Ok(changed(Applied::Already, note));
    }
    step(cx, "autostart", Step::Change, async {
        let uuid = vm.uuid;
        cx.host
            .call(format!("setting the autostart of {}", vm.name), CALL_LIMIT, move |hypervisor| {
                hypervisor.set_autostart(uuid, on)
            })
            .await?;
        Ok((changed(Applied::Defined, note), String::new()))
    })
    .await
}

fn wrong_state(vm: &VmTask, state: DomainState) -> Fault {
    fault(Code::WrongState, vm, format!("the virtual machine {} is {}", vm.name, state.as_str()))
}
