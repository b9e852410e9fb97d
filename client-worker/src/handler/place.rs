//! Where a clone would be made, and what its host would be told: what placement has to know of each host, looked up in the fleet.

use std::{collections::BTreeSet, time::Instant};

use maglica_proto::{
    codec,
    fault::{Code, Fault},
    inventory::{Disk, Domain},
    job::{CloneSpec, CloneTask, Task},
    name::{DomainName, GroupName},
    net::MacAddr,
    placement::{Considered, Placement},
    request::{Answer, Presence},
    units::ByteSize,
};
use uuid::Uuid;

use super::{Handlers, decide::Decision, stopping};
use crate::{
    fleet::{FleetState, state::HostEntry, view::image_state},
    placement::{self, Candidate, Coming, ImageThere, Judgement, PoolRoom, Wish},
    similar::similar,
};

/// How large the rows of an answer may be, in bytes: a message has a mebibyte.
const MOST: usize = 900 << 10;

impl Handlers {
    /// Where it would be made now; decides nothing.
    pub(super) async fn place(&self, spec: CloneSpec) -> Result<Answer, Fault> {
        let coming = self.desk.coming().await?;
        let name: DomainName = spec.name.clone().into();
        let made = coming.iter().find(|other| other.name == name).map(|other| {
            Fault::new(Code::Conflict, format!("{name} is being made on host {}", other.host)).about(name.to_string())
        });
        let judging = self.fleet.with(move |fleet| judge(fleet, &spec, &coming, Instant::now()));
        let Judgement { considered, fault } = judging.await.ok_or_else(stopping)?;
        let fault = fault.or(made);
        Ok(Answer::Placement(Box::new(listed(considered, fault))))
    }
}

/// As many hosts as fit into a message.
fn listed(mut considered: Vec<Considered>, fault: Option<Fault>) -> Placement {
    let mut left = MOST;
    let fits = considered.iter().take_while(|host| {
        let size = codec::encode(host).map_or(usize::MAX, |bytes| bytes.len());
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    let fits = fits.count();
    let unlisted = u32::try_from(considered.len() - fits).unwrap_or(u32::MAX);
    considered.truncate(fits);
    Placement { considered, unlisted, fault }
}

/// All hosts, judged for a clone.
fn judge(fleet: &FleetState, spec: &CloneSpec, coming: &[Coming], now: Instant) -> Judgement {
    let CloneSpec { image, anti_affinity, .. } = spec;
    let group = anti_affinity.as_ref();
    let candidates: Vec<Candidate> =
        fleet.hosts().map(|entry| candidate(fleet, entry, image, group, coming, now)).collect();
    let (on, pool) = (spec.on.as_ref(), spec.pool.as_ref());
    let mut judgement = placement::judge(&candidates, &Wish { image, on, group, pool, start: spec.start });
    if let Some(fault) = judgement.fault.as_mut().filter(|fault| fault.code == Code::NotFound) {
        let pool = pool.filter(|pool| fault.object.as_deref() == Some(pool.as_str()));
        fault.similar = match pool {
            Some(pool) => {
                let hosts = candidates.iter().filter(|host| on.is_none_or(|on| *on == host.name));
                similar(pool.as_str(), hosts.flat_map(|host| &host.pools).map(|pool| pool.name.as_str()))
            }
            None => similar(image.as_str(), fleet.images(now).rows.iter().map(|row| row.name.as_str())),
        };
    }
    // What is wrong with the request itself comes first.
    if let Err(fault) = acceptable(fleet, spec) {
        judgement.fault = Some(fault);
    }
    judgement
}

/// Whether it is right apart from where.
fn acceptable(fleet: &FleetState, spec: &CloneSpec) -> Result<(), Fault> {
    let name: DomainName = spec.name.clone().into();
    if let Some(entry) = fleet.hosts().find(|entry| entry.domain(&name).is_some()) {
        return Err(Fault::new(Code::Conflict, format!("{name} exists already on host {}", entry.enrolled.name))
            .about(name.to_string()));
    }
    spec.on.as_ref().map_or(Ok(()), |on| fleet.known_host(on).map(drop))
}

/// What a clone will be.
///
/// # Errors
/// A fault: it cannot be, as far as is known.
pub(super) fn clone(
    fleet: &FleetState,
    spec: &CloneSpec,
    coming: &[Coming],
    by: String,
    now: Instant,
) -> Result<Decision, Fault> {
    let judgement = judge(fleet, spec, coming, now);
    if let Some(fault) = judgement.fault {
        return Err(fault);
    }
    let mut why = judgement.why();
    for entry in fleet.hosts().filter(|entry| entry.inventory.is_none()) {
        why.push(format!("{}: not heard of yet, so that its names could not be compared", entry.enrolled.name));
    }
    let host = judgement.chosen().cloned().ok_or_else(|| Fault::new(Code::Internal, "no host was chosen"))?;
    let image = fleet.host(&host).and_then(|entry| entry.domain(&spec.image));
    let macs = macs(fleet, coming, image.map_or(0, |image| image.nics.len()))?;
    let memory = image.map_or(ByteSize::ZERO, |image| image.memory);
    let disk = image.and_then(size);
    let task = CloneTask { spec: spec.clone(), uuid: Uuid::new_v4(), macs, memory, disk, by };
    Ok(Decision { task: Task::Clone(task), host, why })
}

fn candidate(
    fleet: &FleetState,
    entry: &HostEntry,
    image: &DomainName,
    group: Option<&GroupName>,
    coming: &[Coming],
    now: Instant,
) -> Candidate {
    let coming: Vec<&Coming> = coming.iter().filter(|coming| coming.host == entry.enrolled.name).collect();
    let memory: Vec<ByteSize> = coming.iter().filter_map(|coming| coming.memory).collect();
    let inventory = entry.inventory.as_deref();
    let facts = inventory.map(|inventory| &inventory.facts);
    // A host that is up but has not yet said what it has cannot be judged.
    let presence = match fleet.presence(entry, now) {
        Presence::Up if inventory.is_none() => Presence::Suspect,
        presence @ (Presence::Up | Presence::Suspect | Presence::Down | Presence::Pending) => presence,
    };
    let domains = || inventory.iter().flat_map(|inventory| &inventory.domains);
    let of_group = |of: Option<&GroupName>| group.is_some() && of == group;
    let there = domains()
        .filter(|domain| of_group(domain.made.as_ref().and_then(|made| made.anti_affinity.as_ref())))
        .map(|domain| domain.name.clone());
    let on_their_way = coming.iter().filter(|coming| of_group(coming.group.as_ref())).map(|coming| coming.name.clone());
    let image = entry.domain(image).map(image_there);
    let home = image.as_ref().and_then(|image| image.home.clone());
    let pools = inventory.iter().flat_map(|inventory| &inventory.pools).map(|pool| {
        let mut room = PoolRoom::of(pool);
        // One that named no pool goes into its image's, as far as is known.
        let into = |coming: &&&Coming| {
            coming.disk.as_ref().is_some_and(|(_, to)| to.as_ref().or(home.as_ref()) == Some(&pool.name))
        };
        let taken = coming.iter().filter(into).filter_map(|coming| coming.disk.as_ref()).map(|(disk, _)| *disk).sum();
        room.free = room.free.minus(taken);
        room
    });
    Candidate {
        name: entry.enrolled.name.clone(),
        presence,
        weight: entry.enrolled.weight,
        active: entry.active().saturating_add(u32::try_from(memory.len()).unwrap_or(u32::MAX)),
        memory_free: facts.map_or(ByteSize::ZERO, |facts| facts.memory_free).minus(memory.into_iter().sum()),
        cpus: facts.map(|facts| facts.cpus),
        vcpus: domains()
            .filter(|domain| domain.state.is_active())
            .fold(0, |sum, domain| sum.saturating_add(domain.vcpus)),
        pools: pools.collect(),
        group: there.chain(on_their_way).collect(),
        image,
    }
}

/// Any machine that is off may be cloned; one that is not kept as an image is cloned only when named.
fn image_there(domain: &Domain) -> ImageThere {
    ImageThere {
        state: image_state(domain),
        trouble: domain.data_disks().find_map(trouble),
        memory: domain.memory,
        vcpus: domain.vcpus,
        disk: size(domain),
        home: domain.data_disks().next().and_then(|disk| disk.pool.clone()),
        raw: domain.data_disks().all(|disk| disk.format == "raw"),
    }
}

/// What the disks take up. That of an overlay is the least that its copy takes.
fn size(domain: &Domain) -> Option<ByteSize> {
    domain.data_disks().filter(|disk| !disk.readonly).map(|disk| disk.allocation).sum()
}

/// Which disk it is and what is wrong with it, if anything is.
fn trouble(disk: &Disk) -> Option<String> {
    let trouble = disk.trouble.as_ref()?;
    let place = disk.path.as_ref().map(|path| format!(" ({path})")).unwrap_or_default();
    Some(format!("its disk {}{place}: {trouble}", disk.target))
}

/// Addresses that no known domain has, nor one that is coming.
pub(super) fn macs(fleet: &FleetState, coming: &[Coming], count: usize) -> Result<Vec<MacAddr>, Fault> {
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
