//! Start, shut down, switch off. Each does nothing to a machine that is so already, and can be done again after a crash.

use std::time::Duration;

use maglica_proto::{
    fault::{Code, Fault},
    inventory::DomainState,
    job::{Outcome, Step, VmTask},
};
use tokio::time::{Instant, sleep};

use super::{TaskContext, cancelled, find, step::step};
use crate::hypervisor::{CALL_LIMIT, HypervisorError};

/// How often a machine that is shutting down is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// A guest that is still starting misses the button; it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// Starts a machine.
pub(super) async fn start(vm: &VmTask, cx: &TaskContext) -> Result<Outcome, Fault> {
    let state = step(cx, "start", Step::Check, async {
        let state = find(vm, cx).await?.state;
        if matches!(state, DomainState::Paused | DomainState::Suspended | DomainState::ShuttingDown) {
            return Err(wrong_state(vm, state));
        }
        Ok((state, String::new()))
    })
    .await?;
    if state.is_active() {
        return Ok(Outcome::Started { already: true });
    }
    step(cx, "start", Step::Start, async {
        let uuid = vm.uuid;
        cx.host
            .call(format!("starting {}", vm.name), CALL_LIMIT, move |hypervisor| match hypervisor.start(uuid) {
                // Somebody else was faster.
                Err(HypervisorError::WrongState { .. }) if hypervisor.state(uuid)?.is_active() => Ok(()),
                result => result,
            })
            .await?;
        Ok((Outcome::Started { already: false }, String::new()))
    })
    .await
}

/// Asks the guest to shut down and waits until it is off.
pub(super) async fn stop(vm: &VmTask, timeout_s: u32, cx: &TaskContext) -> Result<Outcome, Fault> {
    let state = step(cx, "stop", Step::Check, async {
        let state = find(vm, cx).await?.state;
        if matches!(state, DomainState::Paused | DomainState::Suspended) {
            return Err(wrong_state(vm, state));
        }
        Ok((state, String::new()))
    })
    .await?;
    if !state.is_active() {
        return Ok(Outcome::Stopped { already: true });
    }
    step(cx, "stop", Step::Stop, async {
        until_off(vm, Duration::from_secs(timeout_s.into()), cx).await?;
        Ok((Outcome::Stopped { already: false }, String::new()))
    })
    .await
}

async fn until_off(vm: &VmTask, limit: Duration, cx: &TaskContext) -> Result<(), Fault> {
    let uuid = vm.uuid;
    let until = Instant::now() + limit;
    let mut press = Instant::now();
    loop {
        if Instant::now() >= press {
            let asked = cx
                .host
                .look(format!("shutting down {}", vm.name), move |hypervisor| match hypervisor.shutdown(uuid) {
                    // It went off in between.
                    Err(_) if !hypervisor.state(uuid)?.is_active() => Ok(()),
                    result => result,
                })
                .await;
            asked?;
            press += PRESS_AGAIN;
        }
        let state = cx.host.look(format!("looking at {}", vm.name), move |hypervisor| hypervisor.state(uuid)).await?;
        if !state.is_active() {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Fault::new(
                Code::Timeout,
                format!("{} did not shut down within {} s and still runs", vm.name, limit.as_secs()),
            )
            .about(vm.name.as_str()));
        }
        tokio::select! {
            () = cx.cancel.cancelled() => {
                let mut fault = cancelled();
                fault.message = format!("the job was cancelled; {} was asked to shut down and may still do so", vm.name);
                return Err(fault);
            }
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Switches a machine off.
pub(super) async fn destroy(vm: &VmTask, cx: &TaskContext) -> Result<Outcome, Fault> {
    let state = step(cx, "destroy", Step::Check, async { Ok((find(vm, cx).await?.state, String::new())) }).await?;
    if !state.is_active() {
        return Ok(Outcome::Stopped { already: true });
    }
    step(cx, "destroy", Step::Stop, async {
        let uuid = vm.uuid;
        cx.host
            .call(format!("switching off {}", vm.name), CALL_LIMIT, move |hypervisor| match hypervisor.destroy(uuid) {
                Err(_) if !hypervisor.state(uuid)?.is_active() => Ok(()),
                result => result,
            })
            .await?;
        Ok((Outcome::Stopped { already: false }, String::new()))
    })
    .await
}

fn wrong_state(vm: &VmTask, state: DomainState) -> Fault {
    Fault::new(Code::WrongState, format!("the virtual machine {} is {}", vm.name, state.as_str()))
        .about(vm.name.as_str())
}
