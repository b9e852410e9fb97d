//! Placement judged on hosts made up for it.

use proptest::prelude::*;

use super::*;

fn candidate(name: &str, active: u32, weight: u32, free_mib: u64) -> Candidate {
    Candidate {
        name: HostName::new(name).unwrap(),
        presence: Presence::Up,
        weight,
        active,
        memory_free: ByteSize::mib(free_mib),
        cpus: Some(8),
        vcpus: active,
        image: Some(ImageThere {
            state: ImageState::Ready,
            trouble: None,
            memory: ByteSize::mib(512),
            vcpus: 2,
            disk: Some(ByteSize::mib(1000)),
            home: Some(PoolName::new("default").unwrap()),
            raw: false,
        }),
        pools: vec![pool("default", 100_000)],
        group: Vec::new(),
    }
}

fn pool(name: &str, free_mib: u64) -> PoolRoom {
    let name = PoolName::new(name).unwrap();
    PoolRoom { name, active: true, folder: true, logical: false, free: ByteSize::mib(free_mib) }
}

fn image() -> DomainName {
    DomainName::new("debian.original").unwrap()
}

fn judged(hosts: &[Candidate], group: Option<&GroupName>, pool: Option<&PoolName>) -> Judgement {
    judge(hosts, &Wish { image: &image(), on: None, group, pool, start: true })
}

fn chosen(hosts: &[Candidate]) -> Option<String> {
    judged(hosts, None, None).chosen().map(ToString::to_string)
}

#[test]
fn the_least_loaded_host_by_weight_is_chosen_and_the_reasons_are_told() {
    let hosts = [candidate("a", 2, 10, 8000), candidate("b", 3, 30, 4000), candidate("c", 1, 10, 100)];
    let judgement = judged(&hosts, None, None);
    assert_eq!(judgement.chosen().unwrap().as_str(), "b");
    assert_eq!(
        judgement.why(),
        [
            "chosen b: 3 active × 10 / weight 30 = 1.00, 3.9 GiB free",
            "not a: 2 active × 10 / weight 10 = 2.00, 7.8 GiB free",
            "not c: the machine needs 512.0 MiB of memory, 100.0 MiB are free"
        ]
    );
    assert_eq!(judgement.considered[1].pool.as_ref().unwrap().as_str(), "default");
}

#[test]
fn a_tie_goes_to_the_host_with_fewer_virtual_processors_then_to_more_free_memory() {
    let mut hosts = [candidate("a", 0, 10, 1000), candidate("b", 0, 10, 2000)];
    assert_eq!(chosen(&hosts).unwrap(), "b");
    hosts[1].vcpus = 4;
    assert_eq!(chosen(&hosts).unwrap(), "a");
    // The same number on a larger host is less.
    (hosts[0].vcpus, hosts[1].cpus) = (4, Some(64));
    assert_eq!(chosen(&hosts).unwrap(), "b");
}

#[test]
fn when_nobody_can_the_fault_says_why_for_each() {
    let mut hosts = [candidate("a", 0, 10, 100), candidate("b", 0, 10, 8000), candidate("c", 0, 10, 8000)];
    hosts[1].presence = Presence::Down;
    hosts[2].image = None;
    let fault = judged(&hosts, None, None).fault.unwrap();
    assert_eq!(fault.code, Code::NoHost);
    assert!(fault.message.contains("a: the machine needs") && fault.message.contains("b: it is down"), "{fault}");
    hosts[0].image = None;
    hosts[1].image = None;
    hosts[1].presence = Presence::Up;
    assert_eq!(judged(&hosts, None, None).fault.unwrap().code, Code::NotFound);
}

#[test]
fn a_host_with_one_of_the_group_is_refused_and_named_with_it() {
    let group = GroupName::new("web").unwrap();
    let mut hosts = [candidate("a", 0, 10, 8000), candidate("b", 5, 10, 8000)];
    hosts[0].group = vec![DomainName::new("web1").unwrap()];
    let judgement = judged(&hosts, Some(&group), None);
    assert_eq!(judgement.chosen().unwrap().as_str(), "b");
    assert_eq!(judgement.why()[1], "not a: web1 of the group web is there");
    hosts[1].group = vec![DomainName::new("web2").unwrap()];
    assert_eq!(judged(&hosts, Some(&group), None).fault.unwrap().code, Code::NoHost);
    assert_eq!(chosen(&hosts).unwrap(), "a", "without the group it does not matter");
}

#[test]
fn a_host_without_enough_processors_is_refused() {
    let mut hosts = [candidate("a", 0, 10, 8000)];
    hosts[0].cpus = Some(1);
    let fault = judged(&hosts, None, None).fault.unwrap();
    assert_eq!(fault.code, Code::NoRoom);
    assert!(fault.message.ends_with("a: the machine wants 2 processors, there are 1"), "{fault}");
    hosts[0].cpus = None;
    assert!(chosen(&hosts).is_some(), "what is not known refuses nobody");
}

#[test]
fn a_host_is_refused_when_no_pool_of_it_has_room_or_the_one_asked_for_is_not_there() {
    let mut hosts = [candidate("a", 0, 10, 8000), candidate("b", 9, 10, 8000)];
    hosts[0].pools = vec![pool("default", 1100)];
    let judgement = judged(&hosts, None, None);
    assert_eq!(judgement.chosen().unwrap().as_str(), "b", "the margin is kept");
    assert!(judgement.why()[1].starts_with("not a: its storage pool default has 1.0 GiB free"), "{judgement:?}");
    hosts[0].pools.push(pool("large", 90_000));
    let judgement = judged(&hosts, None, None);
    assert_eq!(judgement.considered[0].pool.as_ref().unwrap().as_str(), "large");
    let asked = PoolName::new("ssd").unwrap();
    let fault = judged(&hosts, None, Some(&asked)).fault.unwrap();
    assert_eq!((fault.code, fault.object.as_deref()), (Code::NotFound, Some("ssd")));
    assert!(fault.message.contains("a: it has no storage pool ssd"), "{fault}");
    hosts[1].pools.push(PoolRoom { active: false, ..pool("ssd", 90_000) });
    assert_eq!(judged(&hosts[1..], None, Some(&asked)).fault.unwrap().code, Code::WrongState);
    hosts.iter_mut().filter_map(|host| host.image.as_mut()).for_each(|image| image.disk = None);
    hosts[0].pools = vec![pool("default", 1)];
    assert_eq!(chosen(&hosts).unwrap(), "a", "what is not known refuses nobody");
}

proptest! {
    #[test]
    fn no_fitting_host_has_a_lower_score_than_the_chosen_one(loads in proptest::collection::vec((0_u32..50, 1_u32..100, 0_u64..4000), 1..8)) {
        let hosts: Vec<_> = loads.iter().enumerate().map(|(i, &(active, weight, free))| candidate(&format!("h{i}"), active, weight, free)).collect();
        let judgement = judged(&hosts, None, None);
        prop_assert_eq!(judgement.considered.len(), hosts.len());
        if let Some(chosen) = judgement.chosen() {
            let chosen = hosts.iter().find(|host| host.name == *chosen).unwrap();
            for host in hosts.iter().filter(|host| host.memory_free >= ByteSize::mib(512)) {
                prop_assert!(score(chosen) <= score(host));
            }
            prop_assert!(chosen.memory_free >= ByteSize::mib(512));
        } else {
            prop_assert!(hosts.iter().all(|host| host.memory_free < ByteSize::mib(512)));
        }
    }
}
