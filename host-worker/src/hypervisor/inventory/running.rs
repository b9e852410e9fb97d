//! What a domain has while it runs: a console, screens, addresses. Where no lease of libvirt's own networks tells of an address, the
//! guest's agent does.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use maglica_proto::inventory::{Domain, Inventory};
use uuid::Uuid;

use crate::hypervisor::{Hypervisor, agent::Heard, domain_xml::live};

/// Forgets it of a domain that is off.
pub(super) fn forget(domain: &mut Domain) {
    domain.addresses.clear();
    domain.nics.iter_mut().for_each(|nic| nic.addresses.clear());
    (domain.console, domain.screens) = (None, Vec::new());
}

/// Reads the console and the screens.
pub(super) fn read(hypervisor: &dyn Hypervisor, domain: &mut Domain) {
    let running = hypervisor.live_xml(domain.uuid).ok().and_then(|xml| live::read(&xml).ok()).unwrap_or_default();
    (domain.console, domain.screens) = (running.console, running.screens);
}

/// One local call. A lease is told by nobody, so a guest without one, or with an agent only, is asked for again and again.
pub(super) fn ask_addresses(hypervisor: &dyn Hypervisor, domain: &mut Domain) {
    if !has_leases(domain) {
        return;
    }
    let Ok(leases) = hypervisor.lease_addresses(domain.uuid) else { return };
    for nic in &mut domain.nics {
        let mac = nic.mac.to_string();
        let own = leases.iter().filter(|(of, _)| of.eq_ignore_ascii_case(&mac));
        nic.addresses = sorted(own.map(|(_, address)| *address).collect());
    }
    domain.addresses = sorted(leases.into_iter().map(|(_, address)| address).collect());
}

/// Whether one of its interfaces is on a network of libvirt's, which alone gives leases.
fn has_leases(domain: &Domain) -> bool {
    domain.nics.iter().any(|nic| nic.kind == "network")
}

fn sorted(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Adds what agents said of interfaces of which no lease tells. What was heard of a domain that is off or gone is forgotten.
pub(super) fn merge(inventory: &mut Inventory, heard: &mut HashMap<Uuid, Heard>) {
    if heard.is_empty() {
        return;
    }
    let running: HashSet<Uuid> =
        inventory.domains.iter().filter(|domain| domain.state.is_active()).map(|domain| domain.uuid).collect();
    heard.retain(|uuid, _| running.contains(uuid));
    for domain in &mut inventory.domains {
        let Some(said) = heard.get(&domain.uuid) else { continue };
        for nic in domain.nics.iter_mut().filter(|nic| nic.addresses.is_empty()) {
            let own = said.iter().filter(|(mac, _)| *mac == nic.mac).flat_map(|(_, addresses)| addresses);
            nic.addresses = sorted(own.copied().collect());
        }
        let all = domain.nics.iter().flat_map(|nic| &nic.addresses).chain(&domain.addresses);
        domain.addresses = sorted(all.copied().collect());
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        inventory::{Accel, DomainState, HostFacts, Nic},
        units::ByteSize,
    };

    use super::*;

    fn nic(last: u8, lease: &[&str]) -> Nic {
        Nic {
            mac: format!("52:54:00:00:00:0{last}").parse().unwrap(),
            kind: "bridge".to_owned(),
            source: None,
            model: None,
            addresses: lease.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn an_agent_tells_of_what_no_lease_does_and_only_while_its_guest_runs() {
        let domain = Domain {
            name: "vm0".parse().unwrap(),
            uuid: Uuid::nil(),
            state: DomainState::Running,
            vcpus: 1,
            memory: ByteSize::ZERO,
            autostart: false,
            marked_image: false,
            disks: Vec::new(),
            nics: vec![nic(1, &["10.0.0.1"]), nic(2, &[])],
            made: None,
            addresses: vec!["10.0.0.1".parse().unwrap()],
            console: None,
            screens: Vec::new(),
            snapshots: Vec::new(),
            schedule: None,
        };
        let facts = HostFacts {
            cpus: 1,
            memory: ByteSize::ZERO,
            memory_free: ByteSize::ZERO,
            arch: String::new(),
            hypervisor: String::new(),
            libvirt: String::new(),
            accel: Accel::Unknown,
            worker: String::new(),
            transfer: None,
        };
        let mut seen = Inventory { facts, pools: Vec::new(), domains: vec![domain] };
        let said: Heard = [(1, "10.9.9.9"), (2, "10.0.0.2"), (3, "10.0.0.3")]
            .map(|(last, address)| (nic(last, &[]).mac, vec![address.parse().unwrap()]))
            .to_vec();
        let mut heard = HashMap::from([(Uuid::nil(), said)]);
        merge(&mut seen, &mut heard);
        let shown: Vec<String> = seen.domains[0].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["10.0.0.1", "10.0.0.2"],
            "a lease is believed first, and what is no interface of it not at all"
        );
        seen.domains[0].state = DomainState::Off;
        merge(&mut seen, &mut heard);
        assert!(heard.is_empty());
    }
}
