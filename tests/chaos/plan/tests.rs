//! The same seed is the same plan; other seeds are others; every fault is met.

use std::collections::BTreeSet;

use super::{
    LENGTH_MS, Plan,
    fault::{Kit, Whom},
};

const ALL: Kit = Kit { disks: true, clocks: true };
const SEEDS: std::ops::Range<u64> = 0..500;

#[test]
fn the_same_seed_is_the_same_plan() {
    for seed in SEEDS {
        assert_eq!(Plan::new(seed, ALL), Plan::new(seed, ALL));
    }
    let plans: BTreeSet<String> = SEEDS.map(|seed| format!("{:?}", Plan { seed: 0, ..Plan::new(seed, ALL) })).collect();
    assert_eq!(plans.len(), 500, "no two seeds are the same plan");
}

#[test]
fn every_fault_and_every_way_to_ask_is_met() {
    let plans: Vec<Plan> = SEEDS.map(|seed| Plan::new(seed, ALL)).collect();
    let kinds: BTreeSet<&str> = plans.iter().flat_map(|plan| &plan.blows).map(|blow| blow.fault.kind()).collect();
    assert_eq!(kinds.len(), 11, "{kinds:?}");
    let wishes = || plans.iter().flat_map(|plan| plan.clients.iter().flatten());
    assert!(wishes().any(|wish| wish.twice) && wishes().any(|wish| wish.again.is_some()));
    assert!(wishes().any(|wish| wish.cancel.is_some()));
    let verbs: BTreeSet<&str> = wishes().map(|wish| wish.spec.verb()).collect();
    assert_eq!(verbs, BTreeSet::from(["destroy", "remove", "start", "stop"]));
    let ids: BTreeSet<_> = wishes().map(|wish| wish.id(0)).collect();
    assert_eq!(ids.len(), wishes().count(), "no id is made twice");
    let hosts: BTreeSet<usize> = plans.iter().map(|plan| plan.hosts).collect();
    assert_eq!(hosts, BTreeSet::from([2, 3, 4]));
}

#[test]
fn faults_hit_what_is_there_and_begin_while_there_is_work() {
    for plan in SEEDS.map(|seed| Plan::new(seed, ALL)) {
        for blow in &plan.blows {
            assert!(blow.at < LENGTH_MS && blow.lasts <= LENGTH_MS, "{blow:?}");
            if let Whom::Host(host) | Whom::Cable(host) = blow.whom {
                assert!(host < plan.hosts, "{blow:?}");
            }
        }
        assert!(plan.blows.is_sorted_by_key(|blow| blow.at));
        assert!(plan.machines.iter().all(|machine| machine.host < plan.hosts));
    }
}

#[test]
fn what_the_machine_cannot_do_is_left_out() {
    let none = Kit { disks: false, clocks: false };
    for plan in SEEDS.map(|seed| Plan::new(seed, none)) {
        let kinds: Vec<&str> = plan.blows.iter().map(|blow| blow.fault.kind()).collect();
        assert!(!kinds.iter().any(|kind| kind.starts_with("disk") || kind.starts_with("clock")), "{kinds:?}");
    }
}
