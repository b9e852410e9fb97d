//! What a new job about an image will be.

use std::time::Instant;

use maglica_proto::{
    fault::{Code, Fault},
    inventory::{Domain, IMAGE_SUFFIX},
    job::{CopySpec, CopyTask, ImageSpec, ImageTask, Task, VmRef, VmTask},
    request::{ImageState, Presence},
};
use uuid::Uuid;

use super::{super::place::macs, Decision, existing};
use crate::{
    fleet::{FleetState, state::HostEntry},
    placement::Coming,
    similar::similar,
};

/// Decides on it.
///
/// # Errors
/// A fault: it cannot be, as far as is known.
pub(super) fn decide(
    fleet: &FleetState,
    spec: &ImageSpec,
    coming: &[Coming],
    by: String,
    now: Instant,
) -> Result<Decision, Fault> {
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
        ImageSpec::Copy(copy) => decide_copy(fleet, copy, coming, by, now),
    }
}

fn decide_copy(
    fleet: &FleetState,
    spec: &CopySpec,
    coming: &[Coming],
    by: String,
    now: Instant,
) -> Result<Decision, Fault> {
    let (name, dest) = (&spec.image.name, &spec.dest);
    let there = fleet.known_host(dest)?;
    let refuse = |code, why: String| Err(Fault::new(code, why).about(name.to_string()));
    if there.domain(name).is_some() {
        return refuse(Code::Conflict, format!("{name} exists already on host {dest}"));
    }
    if spec.image.host.as_ref() == Some(dest) {
        return refuse(Code::InvalidInput, format!("{dest} is the host that {name} is to be copied from"));
    }
    if let (Some(pool), Some(inventory)) = (&spec.pool, &there.inventory) {
        match inventory.pools.iter().find(|known| known.name == *pool) {
            Some(known) if known.active => {}
            Some(_) => {
                return refuse(Code::WrongState, format!("the storage pool {pool} on host {dest} is not active"));
            }
            None => {
                let mut fault = Fault::new(Code::NotFound, format!("host {dest} has no storage pool {pool}"));
                fault.similar = similar(pool.as_str(), inventory.pools.iter().map(|known| known.name.as_str()));
                return Err(fault.about(pool.to_string()));
            }
        }
    }
    // Says if there is none, or if it is no image.
    let copies = fleet.image(name, spec.image.host.as_ref(), now)?;
    let mut fit: Vec<(&HostEntry, &Domain)> = Vec::new();
    let mut why = Vec::new();
    for copy in &copies {
        let Some(entry) = fleet.host(&copy.host) else { continue };
        let Some(domain) = entry.domain(name) else { continue };
        match unfit(entry, domain, copy.presence, copy.state) {
            None => fit.push((entry, domain)),
            Some((code, reason)) => why.push((code, format!("{}: {reason}", copy.host))),
        }
    }
    fit.sort_by_key(|(entry, _)| (entry.active(), &entry.enrolled.name));
    let Some((entry, domain)) = fit.first() else {
        let code = match why.split_first() {
            Some(((code, _), rest)) if rest.iter().all(|(other, _)| other == code) => *code,
            Some(_) | None => Code::NoHost,
        };
        let reasons: Vec<String> = why.into_iter().map(|(_, reason)| reason).collect();
        return refuse(code, format!("{name} cannot be copied from any host: {}", reasons.join("; ")));
    };
    let from = entry.enrolled.name.clone();
    let mut reasons = vec![format!("{dest} is to have it, from {from}")];
    reasons.extend(why.into_iter().map(|(_, reason)| format!("not from {reason}")));
    let task = CopyTask {
        image: VmTask { name: name.clone(), uuid: domain.uuid },
        from,
        copy: Uuid::new_v4(),
        macs: macs(fleet, coming, domain.nics.len())?,
        pool: spec.pool.clone(),
        rate: spec.rate,
        by,
    };
    Ok(Decision { task: Task::Image(ImageTask::Copy(task)), host: dest.clone(), why: reasons })
}

/// Why an image cannot be copied from this host.
fn unfit(entry: &HostEntry, domain: &Domain, presence: Presence, state: ImageState) -> Option<(Code, String)> {
    if presence != Presence::Up {
        return Some((Code::HostDown, format!("it is {}", presence.as_str())));
    }
    match state {
        ImageState::Ready => {}
        ImageState::Running => return Some((Code::WrongState, "the image is running there".to_owned())),
        ImageState::Broken => return Some((Code::Unsupported, "one of its disks is broken there".to_owned())),
    }
    if let Some(disk) = domain.data_disks().find(|disk| disk.backing.is_some()) {
        let why = format!(
            "its disk {} is an overlay; a clone of it stands alone: maglica vm clone --no-customize --no-start, then maglica image mark",
            disk.target
        );
        return Some((Code::Unsupported, why));
    }
    let door = entry.inventory.as_ref().and_then(|inventory| inventory.facts.transfer);
    door.is_none().then(|| (Code::HostDown, "it takes no connections for transfers (host.transfer_port)".to_owned()))
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
