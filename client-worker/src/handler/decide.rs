//! What a new job will be: the machine that is meant, the host, and everything that must not be decided twice (UUID,
//! addresses). Judges by what is known of the fleet and changes nothing.

mod image;

use std::time::Instant;

use maglica_proto::{
    fault::{Code, Fault},
    job::{JobSpec, Task, VmChange, VmRef, VmTask},
    name::{DomainName, HostName},
};

use super::place;
use crate::{fleet::FleetState, placement::Coming};

/// What a new job will be.
#[derive(Debug)]
pub(super) struct Decision {
    /// What the host will be told.
    pub(super) task: Task,
    /// Which host.
    pub(super) host: HostName,
    /// Why this one.
    pub(super) why: Vec<String>,
}

/// Decides on a new job.
///
/// # Errors
/// A fault: what is asked for cannot be, as far as is known.
pub(super) fn decide(
    fleet: &FleetState,
    spec: &JobSpec,
    coming: &[Coming],
    by: String,
    now: Instant,
) -> Result<Decision, Fault> {
    match spec {
        JobSpec::Clone(clone) => place::clone(fleet, clone, coming, by, now),
        JobSpec::Start(vm) => existing(fleet, vm, Task::Start),
        JobSpec::Stop { vm, timeout_s } => existing(fleet, vm, |vm| Task::Stop { vm, timeout_s: *timeout_s }),
        JobSpec::Destroy(vm) => existing(fleet, vm, Task::Destroy),
        JobSpec::Remove(vm) => {
            let (_, domain) = fleet.find(&vm.name, vm.host.as_ref())?;
            if domain.state.is_active() {
                let message = format!(
                    "{} is {}; only a virtual machine that is off can be removed",
                    vm.name,
                    domain.state.as_str()
                );
                return Err(Fault::new(Code::WrongState, message).about(vm.name.to_string()));
            }
            existing(fleet, vm, Task::Remove)
        }
        JobSpec::Image(spec) => image::decide(fleet, spec, coming, by, now),
        JobSpec::Change { vm, change } => {
            if let VmChange::Rename { to } = change {
                check_free(fleet, &to.clone().into(), Some(vm))?;
            }
            existing(fleet, vm, |vm| Task::Change { vm, change: change.clone() })
        }
        JobSpec::Snapshot { vm, snapshot } => {
            existing(fleet, vm, |vm| Task::Snapshot { vm, snapshot: snapshot.clone(), by })
        }
    }
}

fn existing(fleet: &FleetState, vm: &VmRef, task: impl FnOnce(VmTask) -> Task) -> Result<Decision, Fault> {
    let (entry, domain) = fleet.find(&vm.name, vm.host.as_ref())?;
    let host = entry.enrolled.name.clone();
    let why = vec![format!("{} is on {host}", vm.name)];
    Ok(Decision { task: task(VmTask { name: domain.name.clone(), uuid: domain.uuid }), host, why })
}

/// Whether no machine has this name, but perhaps the one that asks for it and has it.
fn check_free(fleet: &FleetState, name: &DomainName, of: Option<&VmRef>) -> Result<(), Fault> {
    let own = of.is_some_and(|vm| vm.name == *name);
    match fleet.hosts().find(|entry| !own && entry.domain(name).is_some()) {
        Some(entry) => {
            let message = format!("{name} exists already on host {}", entry.enrolled.name);
            Err(Fault::new(Code::Conflict, message).about(name.to_string()))
        }
        None => Ok(()),
    }
}
