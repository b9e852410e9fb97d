//! A host that was let in and lies: its key is good, so all it says is opened. It may harm itself and nobody else.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use maglica_proto::{
    fault::Code,
    host::{Heartbeat, Held, HostAnswer, HostRequest, Report},
    id::JobId,
    inventory::Inventory,
    job::{HostEvent, HostEventKind, Outcome, Step},
    key::{KeyPair, PublicKey},
    request::{Answer, Request},
    seal::PeerKind,
    units::{ByteSize, Timestamp},
};
use maglica_tests::{cloud::host_name, fleet::stock as simulated, node::Node, peer::Peer};
use uuid::Uuid;

use crate::target::{GROWTH, Target, VM, builder, listed, print, usage};

/// How many domains one message of an honest inventory carries.
const PART: usize = 500;

/// An inventory with so many domains.
pub(crate) fn stock(domains: u32) -> Inventory {
    simulated::inventory(7, domains, 0).unwrap()
}

/// A heartbeat and an inventory, as an honest host worker sends them; gives the answers to the parts.
pub(crate) fn tell(host: &mut Peer, inventory: Inventory) -> Vec<HostAnswer> {
    beat(host, Vec::new());
    let Inventory { facts, pools, domains } = inventory;
    let chunks: Vec<&[_]> = domains.chunks(PART).collect();
    let parts = u32::try_from(chunks.len()).unwrap();
    let part = |(part, domains): (u32, &[_])| {
        let inventory = Inventory { facts: facts.clone(), pools: pools.clone(), domains: domains.to_vec() };
        host.say(&HostRequest::Inventory { revision: 1, part, parts, inventory: Box::new(inventory) }).unwrap()
    };
    (0..parts).zip(chunks).map(part).collect()
}

pub(crate) fn beat(host: &mut Peer, held: Vec<Held>) -> HostAnswer {
    host.say(&HostRequest::Heartbeat(Heartbeat { boot: Uuid::from_u128(7), held, inventory: 1 })).unwrap()
}

#[test]
fn what_a_host_says_takes_a_bounded_amount_of_memory() {
    let mut target = Target::of("enrolled host", builder().hosts(2));
    target.cloud.hosts[1].stop();
    let mut host = target.peer(PeerKind::Host, target.host_keys(1));
    beat(&mut host, Vec::new());
    let part = |part, parts, inventory: &Inventory| HostRequest::Inventory {
        revision: 3,
        part,
        parts,
        inventory: Box::new(inventory.clone()),
    };
    let mut full = stock(u32::try_from(PART).unwrap());
    for domain in &mut full.domains {
        domain.disks[0].path = Some("p".repeat(1_000));
        domain.addresses = vec!["::".parse().unwrap(); 64];
    }
    // What a host may make the client worker hold, stated in docs/security.md: what it has, and what it is sending.
    let most = 96 << 20;
    target.case_within("parts of an inventory without end", &[("bus", "excessive", 1)], most, |_| {
        let began = Instant::now();
        let taken =
            (0..64).take_while(|number| host.say(&part(*number, u32::MAX, &full)).unwrap() == HostAnswer::Stored);
        let taken = taken.count();
        print(&format!("enrolled host: {taken} parts without end are taken, in {:?}", began.elapsed()));
        assert!((5..64).contains(&taken), "{taken}");
    });

    let mut other = target.peer(PeerKind::Host, target.host_keys(1));
    target.case_within(
        "an inventory that is small on the wire and large in memory",
        &[("bus", "excessive", 1)],
        most,
        |_| {
            let mut inventory = stock(1);
            inventory.domains[0].addresses = vec!["::".parse().unwrap(); 250_000];
            for number in 0..8 {
                let _ = other.say(&part(number, 40, &inventory)).unwrap();
            }
            let mut inventory = stock(1);
            inventory.pools = vec![inventory.pools[0].clone(); 7_000];
            for number in 0..4 {
                let _ = other.say(&part(number, 40, &inventory)).unwrap();
            }
        },
    );

    target.case_within("ever new domains, ten thousand at a time", &[], most, |cloud| {
        // They replace one another; how many there may be at once is the bound of the case before.
        for round in 0..2_u32 {
            let mut inventory = simulated::inventory(7, 10_000, 0).unwrap();
            for (at, domain) in inventory.domains.iter_mut().enumerate() {
                domain.name = format!("r{round}-{at}").parse().unwrap();
                (domain.disks, domain.nics, domain.made) = (Vec::new(), Vec::new(), None);
            }
            for answer in tell(&mut other, inventory) {
                assert_eq!(answer, HostAnswer::Stored);
            }
        }
        let rows =
            cloud.cli(&["vm", "list", "-o", "json", "--timeout", "20s"]).json()["vms"].as_array().map_or(0, Vec::len);
        assert_eq!(rows, 10_001);
        let _ = tell(&mut other, stock(1));
    });

    target.case_within("lists and pages stay whole: long names, many addresses, many images", &[], most, |cloud| {
        let mut inventory = stock(2_500);
        for (at, domain) in inventory.domains.iter_mut().enumerate() {
            let kind = if at % 2 == 0 { "v" } else { "" };
            domain.name = format!("{at:05}{}{kind}{}", "n".repeat(230), if kind.is_empty() { ".original" } else { "" })
                .parse()
                .unwrap();
            domain.addresses = vec!["2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap(); 20];
            domain.made = None;
        }
        inventory.pools = vec![inventory.pools[0].clone(); 60];
        for answer in tell(&mut other, inventory) {
            assert_eq!(answer, HostAnswer::Stored);
        }
        let rows = |command: &str, key: &str| {
            cloud.cli(&[command, "list", "-o", "json", "--timeout", "20s"]).json()[key].as_array().map_or(0, Vec::len)
        };
        assert_eq!(rows("vm", "vms"), 1_250 + 1);
        assert_eq!(rows("host", "hosts"), 2);
        assert_eq!(rows("image", "images"), 1_250);
    });

    target.case("a heartbeat that holds as many jobs as fit", &[("bus", "excessive", 5)], |_| {
        let held: Vec<Held> = (0..19_000).map(|_| Held { job: JobId::generate(), progress: None }).collect();
        for _ in 0..5 {
            let answer = other
                .say(&HostRequest::Heartbeat(Heartbeat { boot: Uuid::from_u128(7), held: held.clone(), inventory: 3 }))
                .unwrap();
            assert!(matches!(&answer, HostAnswer::Fault { fault } if fault.code == Code::InvalidInput), "{answer:?}");
        }
    });
}

/// Says something as often as it can for some time; how often.
fn flood(addr: SocketAddr, keys: KeyPair, server: PublicKey, time: Duration, request: &HostRequest) -> u64 {
    let mut peer = Peer::new(addr, PeerKind::Host, keys, server);
    let (mut count, until) = (0, Instant::now() + time);
    while Instant::now() < until {
        // Refused as too much is as good as answered.
        let _ = peer.say(request);
        count += 1;
    }
    count
}

#[test]
fn a_host_that_speaks_without_pause_delays_nobody_and_harms_only_itself() {
    let mut target = Target::of("enrolled host", builder().hosts(2).node(Node::new().off("far")));
    let (server, keys) = (target.server_key(), target.host_keys(1));
    let (mac, uuid) = {
        let view = target.cloud.cli(&["vm", "show", VM, "-o", "json"]).ok().json();
        (view["nics"][0]["mac"].as_str().map(str::to_owned), view["uuid"].as_str().unwrap().to_owned())
    };
    target.cloud.hosts[1].stop();
    let mut host = target.peer(PeerKind::Host, keys.clone());
    let job = target.cloud.submit(&["vm", "start", "far"]);
    let id: JobId = job.parse().unwrap();
    beat(&mut host, Vec::new());
    assert_eq!(host.say(&HostRequest::Accept { job: id, attempt: 1 }).unwrap(), HostAnswer::Granted);
    let inventory = |domains| Box::new(stock(domains));
    let progress = HostEvent {
        seq: 0,
        at: Timestamp::from_millis(0),
        what: HostEventKind::StepProgress { step: Step::Volumes, done: ByteSize::bytes(1), total: None },
    };
    let floods = [
        (
            "heartbeats",
            HostRequest::Heartbeat(Heartbeat {
                boot: Uuid::from_u128(7),
                held: vec![Held { job: id, progress: None }],
                inventory: 1,
            }),
        ),
        ("progress", HostRequest::Progress { job: id, events: vec![progress] }),
        (
            "inventories of 1,500 domains",
            HostRequest::Inventory { revision: 9, part: 0, parts: 1, inventory: inventory(1_500) },
        ),
    ];
    for (name, request) in floods {
        target.case_within(
            &format!("{name} as fast as they can be said, on four connections"),
            &[],
            2 * GROWTH,
            |cloud| {
                let time = Duration::from_millis(1_500);
                thread::scope(|scope| {
                    let floods: Vec<_> = (0..4)
                        .map(|_| {
                            let (keys, request, addr) = (keys.clone(), &request, cloud.rep_addr());
                            scope.spawn(move || flood(addr, keys, server, time, request))
                        })
                        .collect();
                    let (mut slowest, began) = (Duration::ZERO, Instant::now());
                    while began.elapsed() < time {
                        let began = Instant::now();
                        listed(cloud);
                        slowest = slowest.max(began.elapsed());
                    }
                    let count: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
                    print(&format!("enrolled host: {count} {name}; the slowest command meanwhile {slowest:?}"));
                    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
                });
            },
        );
    }

    target.case("says that it has another host's machine, UUID and address", &[], |cloud| {
        let mut lie = stock(1);
        lie.domains[0].name = VM.parse().unwrap();
        lie.domains[0].uuid = uuid.parse().unwrap();
        if let Some(mac) = &mac {
            lie.domains[0].nics[0].mac = mac.parse().unwrap();
        }
        let mut liar = Peer::new(cloud.rep_addr(), PeerKind::Host, keys.clone(), server);
        let _ = tell(&mut liar, lie);
        // Nothing is done to either by mistake: the command asks which is meant, and does it there.
        cloud.cli(&["vm", "show", VM]).ended_with(5).says(&[&host_name(0), &host_name(1)], &[]);
        let show = cloud.cli(&["vm", "show", VM, "--on", &host_name(0), "-o", "json"]).ok().json();
        assert_eq!((&show["host"], &show["uuid"]), (&host_name(0).into(), &uuid.clone().into()));
        let _ = tell(&mut liar, stock(1));
        // It may end its own job as it likes; that is all it can do.
        let report = Report { job: id, result: Ok(Outcome::Started { already: false }), events: Vec::new() };
        assert_eq!(liar.say(&HostRequest::Report(Box::new(report))).unwrap(), HostAnswer::Stored);
    });
    let mut root = target.root();
    assert!(matches!(root.ask(&Request::JobShow { id }), Ok(Answer::Job(_))));
    print(&format!("enrolled host: {:?}", usage(target.cloud.client_worker.pid())));
}
