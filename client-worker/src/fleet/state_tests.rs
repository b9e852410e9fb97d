//! What a host says late changes nothing.

use maglica_proto::inventory::{Accel, HostFacts};

use super::*;

fn inventory(worker: &str) -> Inventory {
    let facts = HostFacts {
        cpus: 1,
        memory: maglica_proto::units::ByteSize::ZERO,
        memory_free: maglica_proto::units::ByteSize::ZERO,
        arch: String::new(),
        hypervisor: String::new(),
        libvirt: String::new(),
        accel: Accel::Unknown,
        worker: worker.to_owned(),
        transfer: None,
    };
    Inventory { facts, pools: Vec::new(), domains: Vec::new() }
}

#[test]
fn an_inventory_of_an_earlier_start_does_not_take_the_place_of_what_the_host_said_since() {
    let (now, host) = (Instant::now(), HostName::new("h1").unwrap());
    let limits = Limits { suspect_after: Duration::from_secs(15), down_after: Duration::from_secs(30) };
    let mut fleet = FleetState::new(limits, now);
    let fingerprint = maglica_proto::key::KeyPair::generate().unwrap().public().fingerprint();
    fleet.enrol(vec![Enrolled { name: host.clone(), fingerprint, since: Timestamp::from_millis(0), weight: 1 }]);
    let (old, new) = (Order::new(1, 7), Order::new(2, 0));
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert!(fleet.heartbeat(&host, Order::new(1, 6), first, 0, now, Timestamp::from_millis(1)));
    assert!(fleet.heartbeat(&host, new, second, 0, now, Timestamp::from_millis(2)), "a new start has nothing told yet");
    // Both starts number their inventories from 1.
    assert_eq!(fleet.inventory(&host, Order::new(2, 1), 1, 0, 1, inventory("new"), now), Taken::Yes);
    assert_eq!(fleet.inventory(&host, old, 1, 0, 1, inventory("old"), now), Taken::Late);
    assert!(!fleet.change(&host, old, 1, 2, Change::default(), now));
    assert!(!fleet.heartbeat(&host, Order::new(1, 8), first, 1, now, Timestamp::from_millis(3)));
    let entry = fleet.host(&host).unwrap();
    assert_eq!(entry.inventory.as_ref().unwrap().facts.worker, "new");
    assert!(
        !fleet.heartbeat(&host, Order::new(2, 2), second, 1, now, Timestamp::from_millis(4)),
        "it is still the start that counts"
    );
    assert!(fleet.change(&host, Order::new(2, 3), 1, 2, Change::default(), now));
}
