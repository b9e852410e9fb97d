//! What a new job will be: the machine that is meant, the host, and everything that must not be decided twice (UUID,
//! addresses). Judges by what is known of the fleet and changes nothing.

use std::{collections::BTreeSet, time::Instant};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::{Disk, Domain},
    job::{CloneSpec, CloneTask, JobSpec, Task, VmRef, VmTask},
    name::{DomainName, HostName},
    net::MacAddr,
    request::{ImageState, Presence},
    units::ByteSize,
};
use uuid::Uuid;

use crate::{
    fleet::{FleetState, state::HostEntry, view::image_state},
    placement::{self, Candidate, Coming, Wish},
    similar::similar,
};

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
        JobSpec::Clone(clone) => decide_clone(fleet, clone, coming, by, now),
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
    }
}

fn existing(fleet: &FleetState, vm: &VmRef, task: impl FnOnce(VmTask) -> Task) -> Result<Decision, Fault> {
    let (entry, domain) = fleet.find(&vm.name, vm.host.as_ref())?;
    let host = entry.enrolled.name.clone();
    let why = vec![format!("{} is on {host}", vm.name)];
    Ok(Decision { task: task(VmTask { name: domain.name.clone(), uuid: domain.uuid }), host, why })
}

fn decide_clone(
    fleet: &FleetState,
    spec: &CloneSpec,
    coming: &[Coming],
    by: String,
    now: Instant,
) -> Result<Decision, Fault> {
    let name: DomainName = spec.name.clone().into();
    if let Some(entry) = fleet.hosts().find(|entry| entry.domain(&name).is_some()) {
        return Err(Fault::new(Code::Conflict, format!("{name} exists already on host {}", entry.enrolled.name))
            .about(name.to_string()));
    }
    if let Some(on) = &spec.on {
        fleet.known_host(on)?;
    }
    let candidates: Vec<Candidate> =
        fleet.hosts().map(|entry| candidate(fleet, entry, &spec.image, coming, now)).collect();
    let wish = Wish { image: &spec.image, on: spec.on.as_ref(), start: spec.start };
    let mut choice = placement::choose(&candidates, &wish).map_err(|mut fault| {
        if fault.code == Code::NotFound {
            let images = fleet.images(now).rows;
            fault.similar = similar(spec.image.as_str(), images.iter().map(|row| row.name.as_str()));
        }
        fault
    })?;
    for entry in fleet.hosts().filter(|entry| entry.inventory.is_none()) {
        choice.why.push(format!("{}: not heard of yet, so that its names could not be compared", entry.enrolled.name));
    }
    let image = fleet.host(&choice.host).and_then(|entry| entry.domain(&spec.image));
    if let Some(pool) = &spec.pool {
        check_pool(fleet, &choice.host, pool)?;
    }
    let macs = macs(fleet, coming, image.map_or(0, |image| image.nics.len()))?;
    let memory = image.map_or(ByteSize::ZERO, |image| image.memory);
    let task = CloneTask { spec: spec.clone(), uuid: Uuid::new_v4(), macs, memory, by };
    Ok(Decision { task: Task::Clone(task), host: choice.host, why: choice.why })
}

fn candidate(fleet: &FleetState, entry: &HostEntry, image: &DomainName, coming: &[Coming], now: Instant) -> Candidate {
    let coming: Vec<ByteSize> =
        coming.iter().filter(|coming| coming.host == entry.enrolled.name).filter_map(|coming| coming.memory).collect();
    let free = entry.inventory.as_ref().map_or(ByteSize::ZERO, |inventory| inventory.facts.memory_free);
    // A host that is up but has not yet said what it has cannot be judged.
    let presence = match fleet.presence(entry, now) {
        Presence::Up if entry.inventory.is_none() => Presence::Suspect,
        presence @ (Presence::Up | Presence::Suspect | Presence::Down | Presence::Pending) => presence,
    };
    Candidate {
        name: entry.enrolled.name.clone(),
        presence,
        weight: entry.enrolled.weight,
        active: entry.active().saturating_add(u32::try_from(coming.len()).unwrap_or(u32::MAX)),
        memory_free: free.minus(coming.into_iter().sum()),
        image: entry.domain(image).map(|domain: &Domain| {
            // Any machine that is off may be cloned; one that is not kept as an image is cloned only when named.
            let state: ImageState = image_state(domain);
            (state, domain.memory)
        }),
        trouble: entry.domain(image).and_then(|domain| domain.data_disks().find_map(trouble)),
    }
}

/// Which disk it is and what is wrong with it, if anything is.
fn trouble(disk: &Disk) -> Option<String> {
    let trouble = disk.trouble.as_ref()?;
    let place = disk.path.as_ref().map(|path| format!(" ({path})")).unwrap_or_default();
    Some(format!("its disk {}{place}: {trouble}", disk.target))
}

fn check_pool(fleet: &FleetState, host: &HostName, pool: &maglica_proto::name::PoolName) -> Result<(), Fault> {
    let pools = fleet.known_host(host)?.inventory.as_ref().map_or_else(Vec::new, |inventory| inventory.pools.clone());
    match pools.iter().find(|known| known.name == *pool) {
        Some(known) if known.active => Ok(()),
        Some(_) => Err(Fault::new(Code::WrongState, format!("the storage pool {pool} on host {host} is not active"))
            .about(pool.to_string())),
        None => {
            let mut fault =
                Fault::new(Code::NotFound, format!("host {host} has no storage pool {pool}")).about(pool.to_string());
            fault.similar = similar(pool.as_str(), pools.iter().map(|known| known.name.as_str()));
            Err(fault)
        }
    }
}

/// Addresses that no known domain has, nor one that is coming.
fn macs(fleet: &FleetState, coming: &[Coming], count: usize) -> Result<Vec<MacAddr>, Fault> {
    let mut macs: BTreeSet<MacAddr> = coming.iter().flat_map(|coming| &coming.macs).copied().collect();
    let mut ordered = Vec::with_capacity(count);
    while ordered.len() < count {
        let mut tail = [0; 3];
        getrandom::fill(&mut tail).map_err(|_| Fault::new(Code::Unavailable, "the system's random source failed"))?;
        let mac = MacAddr::kvm(tail);
        if !fleet.mac_in_use(mac) && macs.insert(mac) {
            ordered.push(mac);
        }
    }
    Ok(ordered)
}
