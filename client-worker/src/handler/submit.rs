//! A new job: what is asked is checked against what is known, a host is chosen, and everything that must not be
//! decided twice (UUID, addresses) is decided, before the job is stored.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use maglica_proto::{
    fault::{Code, Fault},
    id::JobId,
    inventory::{Disk, Domain},
    job::{CloneSpec, CloneTask, JobSpec, JobView, Task, VmRef, VmTask},
    name::{DomainName, HostName, OperatorName},
    net::MacAddr,
    request::{ImageState, Presence},
    units::ByteSize,
};
use uuid::Uuid;

use super::{Handlers, stopping};
use crate::{
    fleet::{FleetState, state::HostEntry, view::image_state},
    job::record::NewJob,
    placement::{self, Candidate, Wish},
    similar::similar,
};

/// How long a host has, besides the time to its next heartbeat, to say what it has after the client worker's start.
const GATHERING: Duration = Duration::from_secs(2);
/// From look to look meanwhile.
const GATHERING_LOOK: Duration = Duration::from_millis(20);

/// Clones on their way to a host: how many, and the memory that they will take.
type OnTheWay = Vec<(HostName, ByteSize)>;

impl Handlers {
    pub(super) async fn submit(
        self: &Arc<Self>,
        by: &OperatorName,
        id: JobId,
        spec: JobSpec,
    ) -> Result<JobView, Fault> {
        if let Some(view) = self.gathered(id, &spec).await? {
            return Ok(view);
        }
        let _turn = self.placing.lock().await;
        // A repeat is answered before the world is looked at: by now its own machine has the name.
        if let Some(view) = self.desk.known(id, spec.clone()).await? {
            return Ok(view);
        }
        let on_the_way = self.desk.on_the_way().await?;
        let (asked, asker) = (spec.clone(), by.to_string());
        let ((task, host, why), down) = self
            .fleet
            .with(move |fleet| {
                let now = Instant::now();
                let decision = decide(fleet, &asked, &on_the_way, asker, now)?;
                let presence = fleet.host(&decision.1).map(|entry| fleet.presence(entry, now));
                Ok((decision, presence == Some(Presence::Down)))
            })
            .await
            .ok_or_else(stopping)??;
        if down {
            // The fleet tells the desk so at its next look, which may be too late for this job.
            self.desk.silent(host.clone()).await;
        }
        let reachable = self.delivery.reaches(&host);
        let view = self.desk.submit(NewJob { id, spec, task, host, why, by: by.to_string(), reachable }).await?;
        self.delivery.job();
        Ok(view)
    }

    /// After a start, waits until the hosts have said what they have, so that nothing is judged by half of it; not for
    /// ever, for one may be down. Gives the job if it is a repeat, which needs no judging.
    async fn gathered(&self, id: JobId, spec: &JobSpec) -> Result<Option<JobView>, Fault> {
        let grace = self.config.timing.heartbeat + GATHERING;
        let gathering =
            async || self.fleet.with(move |fleet| fleet.is_gathering(grace, Instant::now())).await.ok_or_else(stopping);
        if !gathering().await? {
            return Ok(None);
        }
        if let Some(view) = self.desk.known(id, spec.clone()).await? {
            return Ok(Some(view));
        }
        while gathering().await? {
            tokio::time::sleep(GATHERING_LOOK).await;
        }
        Ok(None)
    }
}

type Decision = (Task, HostName, Vec<String>);

fn decide(
    fleet: &FleetState,
    spec: &JobSpec,
    on_the_way: &OnTheWay,
    by: String,
    now: Instant,
) -> Result<Decision, Fault> {
    match spec {
        JobSpec::Clone(clone) => decide_clone(fleet, clone, on_the_way, by, now),
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
    Ok((task(VmTask { name: domain.name.clone(), uuid: domain.uuid }), host, why))
}

fn decide_clone(
    fleet: &FleetState,
    spec: &CloneSpec,
    on_the_way: &OnTheWay,
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
        fleet.hosts().map(|entry| candidate(fleet, entry, &spec.image, on_the_way, now)).collect();
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
    let macs = macs(fleet, image.map_or(0, |image| image.nics.len()))?;
    let memory = image.map_or(ByteSize::ZERO, |image| image.memory);
    let task = CloneTask { spec: spec.clone(), uuid: Uuid::new_v4(), macs, memory, by };
    Ok((Task::Clone(task), choice.host, choice.why))
}

fn candidate(
    fleet: &FleetState,
    entry: &HostEntry,
    image: &DomainName,
    on_the_way: &OnTheWay,
    now: Instant,
) -> Candidate {
    let coming: Vec<ByteSize> =
        on_the_way.iter().filter(|(host, _)| *host == entry.enrolled.name).map(|(_, memory)| *memory).collect();
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

/// Addresses that no known domain has.
fn macs(fleet: &FleetState, count: usize) -> Result<Vec<MacAddr>, Fault> {
    let mut macs = BTreeSet::new();
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
