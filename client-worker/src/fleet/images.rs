//! Images: the same name on several hosts, and who stands on them.

use std::{
    collections::{BTreeSet, HashMap},
    iter,
    time::Instant,
};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::Domain,
    name::{DomainName, HostName},
    request::{CLONES_SHOWN, ImageCopy},
};

use super::{
    state::{FleetState, HostEntry},
    view::image_state,
};
use crate::similar::similar;

/// A chain of overlays longer than this is a circle.
const LONGEST_CHAIN: usize = 64;

impl FleetState {
    /// An image with all its details, on each host that has it, or on one.
    ///
    /// # Errors
    /// A fault: there is none of that name, or what has the name is no image.
    pub fn image(&self, name: &DomainName, host: Option<&HostName>, now: Instant) -> Result<Vec<ImageCopy>, Fault> {
        if let Some(host) = host {
            self.known_host(host)?;
        }
        let here = |entry: &&HostEntry| host.is_none_or(|host| entry.enrolled.name == *host);
        let copies: Vec<ImageCopy> = self
            .hosts()
            .filter(here)
            .filter_map(|entry| Some((entry, entry.domain(name).filter(|domain| domain.is_image())?)))
            .map(|(entry, domain)| self.copy(entry, domain, now))
            .collect();
        if !copies.is_empty() {
            return Ok(copies);
        }
        // Not there at all, or there and no image.
        let (entry, domain) = match self.find(name, host) {
            Ok(found) => found,
            Err(mut fault) => {
                if fault.code == Code::NotFound {
                    let place = host.map_or_else(String::new, |host| format!(" on host {host}"));
                    fault.message = format!("there is no image {name}{place}");
                    let images = self.images(now).rows;
                    fault.similar = similar(name.as_str(), images.iter().map(|row| row.name.as_str()));
                }
                return Err(fault);
            }
        };
        let message = format!(
            "{} on {} is a virtual machine and no image; 'maglica image mark {}' makes it one",
            domain.name, entry.enrolled.name, domain.name
        );
        Err(Fault::new(Code::WrongState, message).about(name.to_string()))
    }

    fn copy(&self, entry: &HostEntry, domain: &Domain, now: Instant) -> ImageCopy {
        let made_of_it = |other: &&Domain| {
            other.name != domain.name && other.made.as_ref().is_some_and(|made| made.image == domain.name)
        };
        let mut clones: Vec<DomainName> = entry
            .inventory
            .iter()
            .flat_map(|inventory| inventory.domains.iter().filter(made_of_it))
            .map(|other| other.name.clone())
            .collect();
        let clones_total = u32::try_from(clones.len()).unwrap_or(u32::MAX);
        clones.truncate(CLONES_SHOWN);
        let mut overlays = entry.overlays_on(domain);
        overlays.truncate(CLONES_SHOWN);
        ImageCopy {
            host: entry.enrolled.name.clone(),
            presence: self.presence(entry, now),
            age_ms: entry.age_ms(now),
            state: image_state(domain),
            domain: domain.clone(),
            clones,
            clones_total,
            overlays,
        }
    }
}

impl HostEntry {
    /// Those of this host's other domains whose disks are these, or overlays on these, by name.
    #[must_use]
    pub fn overlays_on(&self, domain: &Domain) -> Vec<DomainName> {
        let mine: BTreeSet<&str> = domain.data_disks().filter_map(|disk| disk.path.as_deref()).collect();
        let Some(inventory) = &self.inventory else { return Vec::new() };
        let disks = inventory.domains.iter().flat_map(Domain::data_disks);
        let below: HashMap<&str, &str> =
            disks.filter_map(|disk| Some((disk.path.as_deref()?, disk.backing.as_deref()?))).collect();
        let stands = |other: &&Domain| {
            other.data_disks().any(|disk| {
                let chain = iter::successors(disk.path.as_deref(), |path| below.get(path).copied());
                chain.take(LONGEST_CHAIN).any(|path| mine.contains(path))
            })
        };
        inventory
            .domains
            .iter()
            .filter(|other| other.name != domain.name)
            .filter(stands)
            .map(|other| other.name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use maglica_proto::{
        inventory::{Accel, Disk, DiskDevice, DomainState, HostFacts, Inventory, Provenance},
        key::KeyPair,
        units::ByteSize,
    };
    use uuid::Uuid;

    use super::*;
    use crate::{
        fleet::{
            Limits,
            state::{Enrolled, Taken},
        },
        order::Order,
    };

    fn domain(name: &str, path: &str, backing: Option<&str>, image: Option<&str>) -> Domain {
        let disk = Disk {
            target: "vda".to_owned(),
            device: DiskDevice::Disk,
            path: Some(path.to_owned()),
            format: "qcow2".to_owned(),
            pool: None,
            volume: None,
            capacity: None,
            allocation: None,
            backing: backing.map(str::to_owned),
            below: Vec::new(),
            readonly: false,
            trouble: None,
        };
        let made = |image: &str| Provenance {
            job: maglica_proto::id::JobId::generate(),
            image: DomainName::new(image).unwrap(),
            by: "root".to_owned(),
            anti_affinity: None,
        };
        Domain {
            name: DomainName::new(name).unwrap(),
            uuid: Uuid::new_v4(),
            state: DomainState::Off,
            vcpus: 1,
            memory: ByteSize::mib(64),
            autostart: false,
            marked_image: false,
            disks: vec![disk],
            nics: Vec::new(),
            made: image.map(made),
            addresses: Vec::new(),
            console: None,
            screens: Vec::new(),
            snapshots: Vec::new(),
            schedule: None,
        }
    }

    fn fleet(hosts: &[(&str, Vec<Domain>)]) -> FleetState {
        let now = Instant::now();
        let limits = Limits { suspect_after: Duration::from_secs(15), down_after: Duration::from_secs(30) };
        let mut fleet = FleetState::new(limits, now);
        let name = |name: &str| HostName::new(name).unwrap();
        let enrolled = |(host, _): &(&str, Vec<Domain>)| Enrolled {
            name: name(host),
            fingerprint: KeyPair::generate().unwrap().public().fingerprint(),
            since: SystemTime::now().into(),
            weight: 10,
        };
        fleet.enrol(hosts.iter().map(enrolled).collect());
        for (host, domains) in hosts {
            let facts = HostFacts {
                cpus: 1,
                memory: ByteSize::ZERO,
                memory_free: ByteSize::ZERO,
                arch: String::new(),
                hypervisor: String::new(),
                libvirt: String::new(),
                accel: Accel::Kvm,
                worker: String::new(),
                transfer: None,
            };
            let inventory = Inventory { facts, pools: Vec::new(), domains: domains.clone() };
            fleet.heartbeat(&name(host), Order::default(), Uuid::nil(), 0, now, SystemTime::now().into());
            assert_eq!(fleet.inventory(&name(host), Order::default(), 1, 0, 1, inventory, now), Taken::Yes);
        }
        fleet
    }

    #[test]
    fn an_image_is_shown_on_each_host_with_its_clones_and_who_stands_on_it() {
        let image = || domain("a.original", "/p/a", None, None);
        let fleet = fleet(&[
            (
                "h1",
                vec![
                    image(),
                    domain("full", "/p/full", None, Some("a.original")),
                    domain("middle", "/p/middle", Some("/p/a"), Some("a.original")),
                    domain("top", "/p/top", Some("/p/middle"), None),
                    domain("circle", "/p/circle", Some("/p/circle"), None),
                ],
            ),
            ("h2", vec![image(), domain("other", "/p/other", None, None)]),
        ]);
        let name = DomainName::new("a.original").unwrap();
        let copies = fleet.image(&name, None, Instant::now()).unwrap();
        let names = |names: &[DomainName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let shown: Vec<_> =
            copies.iter().map(|copy| (copy.host.as_str(), names(&copy.clones), names(&copy.overlays))).collect();
        let some = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(shown, [("h1", some(&["full", "middle"]), some(&["middle", "top"])), ("h2", some(&[]), some(&[]))]);
        let other = DomainName::new("other").unwrap();
        assert_eq!(fleet.image(&other, None, Instant::now()).unwrap_err().code, Code::WrongState);
        let mistyped = DomainName::new("a.origina").unwrap();
        let fault = fleet.image(&mistyped, None, Instant::now()).unwrap_err();
        assert_eq!((fault.code, fault.similar), (Code::NotFound, vec!["a.original".to_owned()]));
    }
}
