//! What a new job about an image will be.

use maglica_proto::{
    fault::{Code, Fault},
    inventory::{Domain, IMAGE_SUFFIX},
    job::{ImageSpec, ImageTask, Task, VmRef},
};

use super::{Decision, existing};
use crate::fleet::FleetState;

/// Decides on it.
///
/// # Errors
/// A fault: it cannot be, as far as is known.
pub(super) fn decide(fleet: &FleetState, spec: &ImageSpec) -> Result<Decision, Fault> {
    match spec {
        ImageSpec::Mark(vm) => {
            off(found(fleet, vm)?, "can become an image")?;
            existing(fleet, vm, |vm| Task::Image(ImageTask::Mark(vm)))
        }
        ImageSpec::Unmark(vm) => {
            found(fleet, vm)?;
            if vm.name.as_str().ends_with(IMAGE_SUFFIX) {
                let message = format!("{} is an image by its name, which ends in {IMAGE_SUFFIX}", vm.name);
                return Err(Fault::new(Code::WrongState, message).about(vm.name.to_string()));
            }
            existing(fleet, vm, |vm| Task::Image(ImageTask::Unmark(vm)))
        }
        ImageSpec::Remove(vm) => {
            let (entry, domain) = fleet.find(&vm.name, vm.host.as_ref())?;
            if !domain.is_image() {
                let message = format!("{} is no image; a virtual machine is removed by 'maglica vm remove'", vm.name);
                return Err(Fault::new(Code::WrongState, message).about(vm.name.to_string()));
            }
            off(domain, "can be removed")?;
            // What is known here may be old, and its host looks again; but it costs no job.
            let overlays = entry.overlays_on(domain);
            if let Some(first) = overlays.first() {
                let more = match overlays.len() {
                    1 => String::new(),
                    many => format!(" and {} more", many - 1),
                };
                let message = format!("{} cannot be removed: {first}{more} stands on its disks", vm.name);
                return Err(Fault::new(Code::WrongState, message).about(vm.name.to_string()));
            }
            existing(fleet, vm, |vm| Task::Image(ImageTask::Remove(vm)))
        }
    }
}

fn found<'a>(fleet: &'a FleetState, vm: &VmRef) -> Result<&'a Domain, Fault> {
    fleet.find(&vm.name, vm.host.as_ref()).map(|(_, domain)| domain)
}

fn off(domain: &Domain, what: &str) -> Result<(), Fault> {
    if domain.state.is_active() {
        let message = format!("{} is {}; only what is off {what}", domain.name, domain.state.as_str());
        return Err(Fault::new(Code::WrongState, message).about(domain.name.to_string()));
    }
    Ok(())
}
