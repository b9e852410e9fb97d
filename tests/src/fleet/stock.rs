//! What a simulated host has, and what a job changes about it. Plausible in kind and size, the same at every run.

use std::net::{IpAddr, Ipv4Addr};

use maglica_proto::{
    id::JobId,
    inventory::{Accel, Disk, DiskDevice, Domain, DomainState, HostFacts, Inventory, Nic, Pool, Provenance},
    job::{Applied, ImageOutcome, ImageTask, Outcome, Step, Task},
    name::{DomainName, InvalidName, PoolName, VolumeName},
    net::MacAddr,
    units::ByteSize,
};
use uuid::Uuid;

/// Every so many-th machine is off.
const OFF_EVERY: u32 = 5;
/// The folder of the one pool.
const POOL_PATH: &str = "/var/lib/libvirt/images";
/// The names of images before their number.
const IMAGE: &str = "debian12-x86_64";

/// The inventory of the host with this number in its fleet.
///
/// # Errors
/// None for any number that fits a name.
pub fn inventory(host: u32, domains: u32, images: u32) -> Result<Inventory, InvalidName> {
    let facts = HostFacts {
        cpus: 32,
        memory: ByteSize::mib(256 * 1024),
        memory_free: ByteSize::mib(128 * 1024),
        arch: "x86_64".to_owned(),
        hypervisor: "QEMU 7.2.22".to_owned(),
        libvirt: "9.0.0".to_owned(),
        accel: Accel::Kvm,
        worker: env!("CARGO_PKG_VERSION").to_owned(),
        transfer: None,
    };
    let pool = Pool {
        name: PoolName::new("default")?,
        kind: "dir".to_owned(),
        active: true,
        path: Some(POOL_PATH.to_owned()),
        capacity: ByteSize::mib(4 * 1024 * 1024),
        available: ByteSize::mib(2 * 1024 * 1024),
    };
    let image = |number: u32| -> Result<Domain, InvalidName> {
        let suffix = if number == 0 { String::new() } else { format!("-{number}") };
        domain(&format!("{IMAGE}{suffix}.original"), host, domains + number, DomainState::Off, None)
    };
    let machine = |number: u32| -> Result<Domain, InvalidName> {
        let state = if number % OFF_EVERY == OFF_EVERY - 1 { DomainState::Off } else { DomainState::Running };
        let made = Provenance {
            job: Uuid::from_u64_pair(1 << 32 | u64::from(host), number.into()).into(),
            image: DomainName::new(format!("{IMAGE}.original"))?,
            by: "root".to_owned(),
            anti_affinity: None,
        };
        domain(&format!("vm{number:03}-{host:03}.example.jp"), host, number, state, Some(made))
    };
    let mut all = (0..images).map(image).chain((0..domains).map(machine)).collect::<Result<Vec<_>, _>>()?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Inventory { facts, pools: vec![pool], domains: all })
}

fn domain(
    name: &str,
    host: u32,
    number: u32,
    state: DomainState,
    made: Option<Provenance>,
) -> Result<Domain, InvalidName> {
    // 4096 hosts of 4096 domains have addresses of their own.
    let [_, a, b, c] = ((host & 0xfff) << 12 | (number & 0xfff)).to_be_bytes();
    let disk = Disk {
        target: "vda".to_owned(),
        device: DiskDevice::Disk,
        path: Some(format!("{POOL_PATH}/{name}.qcow2")),
        format: "qcow2".to_owned(),
        pool: Some(PoolName::new("default")?),
        volume: Some(VolumeName::new(format!("{name}.qcow2"))?),
        capacity: Some(ByteSize::mib(20 * 1024)),
        allocation: Some(ByteSize::mib(3 * 1024)),
        backing: None,
        below: Vec::new(),
        readonly: false,
        trouble: None,
    };
    let nic = Nic {
        mac: MacAddr::kvm([a, b, c]),
        kind: "bridge".to_owned(),
        source: Some("br0".to_owned()),
        model: Some("virtio".to_owned()),
        addresses: Vec::new(),
    };
    Ok(Domain {
        name: DomainName::new(name)?,
        uuid: Uuid::from_u64_pair(2 << 32 | u64::from(host), number.into()),
        state,
        vcpus: 2,
        memory: ByteSize::mib(2048),
        autostart: true,
        marked_image: false,
        disks: vec![disk],
        nics: vec![nic],
        made,
        addresses: if state.is_active() { vec![IpAddr::V4(Ipv4Addr::new(10, a, b, c))] } else { Vec::new() },
        console: None,
        screens: Vec::new(),
        snapshots: Vec::new(),
        schedule: None,
    })
}

/// The steps that a real host takes for a task.
#[must_use]
pub fn steps(task: &Task) -> Vec<Step> {
    match task {
        Task::Clone(clone) => {
            let mut steps = vec![Step::Check, Step::Volumes];
            steps.extend(clone.spec.customize.as_ref().map(|_| Step::Customize));
            steps.push(Step::Define);
            steps.extend(clone.spec.start.then_some(Step::Start));
            steps
        }
        Task::Start(_) => vec![Step::Check, Step::Start],
        Task::Stop { .. } | Task::Destroy(_) => vec![Step::Check, Step::Stop],
        Task::Remove(_) | Task::Image(ImageTask::Remove(_)) => vec![Step::Check, Step::Remove],
        Task::Image(ImageTask::Copy(_)) => vec![Step::Check, Step::Transfer, Step::Define],
        Task::Image(ImageTask::Mark(_) | ImageTask::Unmark(_)) => vec![Step::Check, Step::Mark],
        Task::Change { .. } => vec![Step::Check, Step::Change],
        Task::Snapshot { .. } => vec![Step::Check, Step::Snapshot],
    }
}

/// Does the task to the inventory. One about a machine that is not there succeeds as well: nothing is checked here.
///
/// # Errors
/// None for a task of a client worker, whose names are checked.
pub fn carry_out(inventory: &mut Inventory, job: JobId, task: &Task) -> Result<Outcome, InvalidName> {
    let vm = task.vm();
    let turn = |inventory: &mut Inventory, state: DomainState| {
        let found = inventory.domains.iter_mut().find(|domain| domain.name == vm);
        found.is_some_and(|domain| std::mem::replace(&mut domain.state, state) == state)
    };
    let mark = |inventory: &mut Inventory, image: bool| {
        let found = inventory.domains.iter_mut().find(|domain| domain.name == vm);
        found.is_some_and(|domain| std::mem::replace(&mut domain.marked_image, image) == image)
    };
    Ok(match task {
        Task::Clone(clone) => {
            let made = Provenance {
                job,
                image: clone.spec.image.clone(),
                by: clone.by.clone(),
                anti_affinity: clone.spec.anti_affinity.clone(),
            };
            let state = if clone.spec.start { DomainState::Running } else { DomainState::Off };
            let mut new = domain(vm.as_str(), 0, 0, state, Some(made))?;
            new.uuid = clone.uuid;
            for (nic, mac) in new.nics.iter_mut().zip(&clone.macs) {
                nic.mac = *mac;
            }
            inventory.domains.retain(|domain| domain.name != vm);
            inventory.domains.push(new);
            inventory.domains.sort_by(|a, b| a.name.cmp(&b.name));
            Outcome::Cloned { uuid: clone.uuid, started: clone.spec.start, guest: None }
        }
        Task::Start(_) => Outcome::Started { already: turn(inventory, DomainState::Running) },
        Task::Stop { .. } | Task::Destroy(_) => Outcome::Stopped { already: turn(inventory, DomainState::Off) },
        // What it has is the same in all respects that are simulated.
        Task::Change { change, .. } => Outcome::Changed { applied: Applied::Live, note: change.detail(), why: None },
        Task::Snapshot { snapshot, .. } => {
            Outcome::Changed { applied: Applied::Live, note: snapshot.detail(), why: None }
        }
        Task::Remove(_) => {
            inventory.domains.retain(|domain| domain.name != vm);
            Outcome::Removed { volumes: vec![format!("default/{vm}.qcow2")], kept: Vec::new() }
        }
        Task::Image(task) => Outcome::Image(match task {
            ImageTask::Mark(_) => ImageOutcome::Marked { already: mark(inventory, true) },
            ImageTask::Unmark(_) => ImageOutcome::Unmarked { already: mark(inventory, false) },
            ImageTask::Copy(copy) => {
                let mut new = domain(vm.as_str(), 0, 0, DomainState::Off, None)?;
                new.uuid = copy.copy;
                inventory.domains.retain(|domain| domain.name != vm);
                inventory.domains.push(new);
                inventory.domains.sort_by(|a, b| a.name.cmp(&b.name));
                let (from, pool) = (copy.from.clone(), PoolName::new("default")?);
                ImageOutcome::Copied { from, uuid: copy.copy, size: ByteSize::mib(500), pool }
            }
            ImageTask::Remove(_) => {
                inventory.domains.retain(|domain| domain.name != vm);
                ImageOutcome::Removed { volumes: vec![format!("default/{vm}.qcow2")], kept: Vec::new() }
            }
        }),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use maglica_proto::job::VmTask;

    use super::*;

    #[test]
    fn no_two_machines_of_a_fleet_share_name_uuid_or_address() {
        let fleet: Vec<Domain> = (0..1000).flat_map(|host| inventory(host, 20, 2).unwrap().domains).collect();
        let machines: Vec<&Domain> = fleet.iter().filter(|domain| !domain.is_image()).collect();
        assert_eq!((fleet.len(), machines.len()), (22_000, 20_000));
        assert_eq!(machines.iter().map(|domain| &domain.name).collect::<BTreeSet<_>>().len(), 20_000);
        assert_eq!(fleet.iter().map(|domain| domain.uuid).collect::<BTreeSet<_>>().len(), 22_000);
        assert_eq!(fleet.iter().map(|domain| domain.nics[0].mac.to_string()).collect::<BTreeSet<_>>().len(), 22_000);
    }

    #[test]
    fn a_machine_that_was_switched_off_and_removed_is_gone() {
        let mut inventory = inventory(7, 3, 1).unwrap();
        let domain = inventory.domains.iter().find(|domain| domain.state.is_active()).unwrap();
        let vm = VmTask { name: domain.name.clone(), uuid: domain.uuid };
        let job = JobId::generate();
        let off = |already| Outcome::Stopped { already };
        assert_eq!(carry_out(&mut inventory, job, &Task::Destroy(vm.clone())).unwrap(), off(false));
        assert_eq!(carry_out(&mut inventory, job, &Task::Destroy(vm.clone())).unwrap(), off(true));
        carry_out(&mut inventory, job, &Task::Remove(vm.clone())).unwrap();
        assert_eq!(inventory.domains.len(), 3);
        assert!(inventory.domains.iter().all(|domain| domain.name != vm.name));
    }
}
