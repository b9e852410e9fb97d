//! What changed of what a host has: a job changes one domain, and a host may have hundreds. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    inventory::{Domain, HostFacts, Inventory, Pool},
    name::DomainName,
};

/// What makes one inventory of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The facts, if they changed.
    #[serde(default)]
    pub facts: Option<HostFacts>,
    /// All pools, if one changed.
    #[serde(default)]
    pub pools: Option<Vec<Pool>>,
    /// The domains that are new or changed.
    pub domains: Vec<Domain>,
    /// The domains that are there no more.
    pub gone: Vec<DomainName>,
}

impl Change {
    /// What makes `after` of `before`.
    #[must_use]
    pub fn between(before: &Inventory, after: &Inventory) -> Self {
        let mut old: BTreeMap<&DomainName, &Domain> =
            before.domains.iter().map(|domain| (&domain.name, domain)).collect();
        let domains: Vec<Domain> =
            after.domains.iter().filter(|domain| old.remove(&domain.name) != Some(*domain)).cloned().collect();
        Self {
            facts: (before.facts != after.facts).then(|| after.facts.clone()),
            pools: (before.pools != after.pools).then(|| after.pools.clone()),
            domains,
            gone: old.into_keys().cloned().collect(),
        }
    }

    /// Changes an inventory whose domains are sorted by name; they stay so.
    pub fn apply(self, inventory: &mut Inventory) {
        let Self { facts, pools, domains, gone } = self;
        if let Some(facts) = facts {
            inventory.facts = facts;
        }
        if let Some(pools) = pools {
            inventory.pools = pools;
        }
        let all = &mut inventory.domains;
        if gone.is_empty() && domains.is_empty() {
            return;
        }
        // In one pass: a change may name thousands, and is not to take thousands of moves of all that come after.
        let gone: BTreeSet<DomainName> = gone.into_iter().collect();
        let new: BTreeMap<DomainName, Domain> =
            domains.into_iter().map(|domain| (domain.name.clone(), domain)).collect();
        all.retain(|known| !gone.contains(&known.name) && !new.contains_key(&known.name));
        all.extend(new.into_values());
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        inventory::{Accel, DomainState},
        units::ByteSize,
    };

    fn inventory(cpus: u32, domains: BTreeMap<u8, u32>) -> Inventory {
        let domain = |(name, vcpus): (u8, u32)| Domain {
            name: DomainName::new(format!("vm{name}")).unwrap(),
            uuid: Uuid::nil(),
            state: DomainState::Off,
            vcpus,
            memory: ByteSize::ZERO,
            autostart: false,
            marked_image: false,
            disks: Vec::new(),
            nics: Vec::new(),
            made: None,
            addresses: Vec::new(),
            console: None,
            screens: Vec::new(),
            snapshots: Vec::new(),
            schedule: None,
        };
        let facts = HostFacts {
            cpus,
            memory: ByteSize::ZERO,
            memory_free: ByteSize::ZERO,
            arch: String::new(),
            hypervisor: String::new(),
            libvirt: String::new(),
            accel: Accel::Unknown,
            worker: String::new(),
            transfer: None,
        };
        let mut domains: Vec<Domain> = domains.into_iter().map(domain).collect();
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        Inventory { facts, pools: Vec::new(), domains }
    }

    fn any_inventory() -> impl Strategy<Value = Inventory> {
        (0..2_u32, prop::collection::btree_map(0..20_u8, 0..3_u32, 0..12)).prop_map(|(cpus, all)| inventory(cpus, all))
    }

    proptest! {
        #[test]
        fn the_change_between_two_makes_the_second_of_the_first(before in any_inventory(), after in any_inventory()) {
            let change = Change::between(&before, &after);
            let same = before.domains.iter().filter(|domain| after.domains.contains(domain)).count();
            prop_assert_eq!(change.domains.len(), after.domains.len() - same, "what is the same does not travel");
            let mut made = before;
            change.apply(&mut made);
            prop_assert_eq!(made, after);
        }
    }
}
