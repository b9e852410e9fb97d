//! The handshake between keys: what a stranger can send who speaks ZMTP well, and what an enrolled key can do with it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use maglica_proto::{
    key::{KeyPair, PublicKey},
    request::Request,
    seal::{Header, Hello, Initiator, Kind, PeerKind, header::SessionId, refusal},
};

use crate::{
    floods::Stop,
    random::Random,
    raw::Raw,
    target::{Target, new_keys, print},
};

/// A first message of this key.
fn first(keys: &KeyPair, server: PublicKey, peer: PeerKind) -> Vec<u8> {
    Initiator::start(keys, server, peer, Hello::new("test", "evil.example.jp"), None).unwrap().1
}

/// The word of a refusal, which is all that a stranger may hear.
#[track_caller]
fn word(answer: Option<Vec<u8>>) -> String {
    let answer = answer.expect("an answer");
    let (header, rest) = Header::split(&answer).expect("a header");
    assert!(header.kind == Kind::Refusal && rest.len() < 20, "{header:?} {rest:?}");
    String::from_utf8(rest.to_vec()).unwrap()
}

fn with_kind(message: &[u8], kind: Kind) -> Vec<u8> {
    let (header, rest) = Header::split(message).unwrap();
    [&Header { kind, ..header }.to_bytes()[..], rest].concat()
}

#[test]
fn a_handshake_that_is_not_one_is_answered_by_a_word_and_has_no_effect() {
    let mut target = Target::start("handshake");
    let (server, root) = (target.server_key(), crate::target::keys(&target.cloud.state_dir(0).join("operator/key")));
    let mut random = Random::seeded("handshake");
    let before = target.cloud.facts();

    target.case("ZMTP is good, and garbage follows", &[("bus", "not-a-message", 105)], |cloud| {
        let mut peer = Raw::shaken(cloud.rep_addr(), "REQ");
        for _ in 0..100 {
            let count = random.below(3000);
            assert_eq!(word(peer.answer_to(&random.bytes(count))), "unverified");
        }
        // Kinds that only the client worker sends, in clear.
        for kind in [Kind::Welcome, Kind::Answer, Kind::Broadcast, Kind::Refusal, Kind::Beat] {
            let message = with_kind(&refusal(maglica_proto::seal::Refusal::Revoked), kind);
            assert_eq!(word(peer.answer_to(&message)), "unverified");
        }
        assert_eq!(word(peer.answer_to(&[random.bytes(1000), vec![0; 1 << 20]].concat())), "unverified");
    });

    target.case(
        "the header is good, and garbage follows",
        &[("bus", "bad-handshake", 80), ("bus", "no-session", 20)],
        |cloud| {
            let mut peer = Raw::shaken(cloud.rep_addr(), "REQ");
            for kind in [Kind::HelloHost, Kind::HelloOperator, Kind::JoinHost, Kind::JoinOperator] {
                for length in [0, 1, 31, 32, 48, 96, 200, 2048, 2049, 1 << 20] {
                    let message = [&Header::without_session(kind).to_bytes()[..], &random.bytes(length)].concat();
                    assert_eq!(word(peer.answer_to(&message)), "unverified");
                }
                // One that was good, damaged or cut.
                let good = with_kind(&first(&root, server, PeerKind::Operator), kind);
                for _ in 0..10 {
                    let mut damaged = good.clone();
                    let at = 32 + random.below(good.len() - 32);
                    damaged[at] ^= 1 << random.below(8);
                    assert_eq!(word(peer.answer_to(&damaged)), "unverified");
                    assert_eq!(word(peer.answer_to(&good[..32 + random.below(good.len() - 32)])), "unverified");
                }
            }
            for _ in 0..20 {
                let mut session = SessionId::default();
                session.0.copy_from_slice(&random.bytes(16));
                let header = Header { kind: Kind::Request, session, counter: random.next() };
                let message = [&header.to_bytes()[..], &random.bytes(200)].concat();
                assert_eq!(word(peer.answer_to(&message)), "no-session");
            }
        },
    );

    target.case(
        "made for another client worker, or in another version",
        &[("bus", "bad-handshake", 10), ("bus", "version", 2)],
        |cloud| {
            let mut peer = Raw::shaken(cloud.rep_addr(), "REQ");
            for _ in 0..10 {
                let message = first(&root, new_keys().public(), PeerKind::Operator);
                assert_eq!(word(peer.answer_to(&message)), "unverified");
            }
            for (min, max) in [(2, 255), (0, 0)] {
                let hello = Hello { protocol_min: min, protocol_max: max, ..Hello::new("test", "root") };
                let message = Initiator::start(&root, server, PeerKind::Operator, hello, None).unwrap().1;
                assert_eq!(word(peer.answer_to(&message)), "version");
            }
        },
    );

    target.case("keys that nobody let in", &[("bus", "unknown-key", 50), ("bus", "pending", 200)], |cloud| {
        let mut peer = Raw::shaken(cloud.rep_addr(), "REQ");
        for _ in 0..50 {
            assert_eq!(word(peer.answer_to(&first(&new_keys(), server, PeerKind::Operator))), "unknown-key");
        }
        // Strangers that would be hosts wait at the door, in bounded number.
        for _ in 0..200 {
            assert_eq!(word(peer.answer_to(&first(&new_keys(), server, PeerKind::Host))), "pending");
        }
        let hosts = cloud.cli(&["host", "list", "-o", "json"]).ok().json();
        let waiting = hosts["hosts"].as_array().unwrap().iter().filter(|row| row["presence"] == "pending").count();
        assert!((1..=64).contains(&waiting), "{waiting} wait at the door");
    });
    let jobs = |facts: &serde_json::Value| (facts["operators"].clone(), facts["hosts"][0].clone());
    assert_eq!(jobs(&target.cloud.facts()), jobs(&before));
}

/// Sends first messages as fast as they are answered, over several connections, until told to stop.
fn flood(addr: SocketAddr, stop: &AtomicBool, mut next: impl FnMut() -> Vec<u8>) -> u64 {
    let mut count = 0;
    let mut peer = Raw::shaken(addr, "REQ");
    while !stop.load(Ordering::Relaxed) {
        if peer.answer_to(&next()).is_none() {
            match Raw::try_connect(addr) {
                Ok(_) => peer = Raw::shaken(addr, "REQ"),
                Err(_) => continue,
            }
        }
        count += 1;
    }
    count
}

#[test]
fn a_flood_of_handshakes_delays_no_session_and_costs_no_memory() {
    let mut target = Target::start("handshake");
    let server = target.server_key();
    let root = crate::target::keys(&target.cloud.state_dir(0).join("operator/key"));
    let mut session = target.root();
    session.ask(&Request::HostList).unwrap();

    target.case("a first message replayed 10,000 times", &[("bus", "repeated-handshake", 9_900)], |cloud| {
        let recorded = first(&root, server, PeerKind::Operator);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut peer = Raw::shaken(cloud.rep_addr(), "REQ");
                    for _ in 0..2_500 {
                        assert!(peer.answer_to(&recorded).is_some());
                    }
                });
            }
        });
        // The session that was open before goes on.
        session.ask(&Request::HostList).unwrap();
    });

    target.case("4,000 handshakes of an enrolled key, and nothing after each", &[], |cloud| {
        let mut slowest = Duration::ZERO;
        thread::scope(|scope| {
            let floods: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut peer = Raw::shaken(cloud.rep_addr(), "REQ");
                        for _ in 0..1_000 {
                            assert!(peer.answer_to(&first(&root, server, PeerKind::Operator)).is_some());
                        }
                    })
                })
                .collect();
            while floods.iter().any(|flood| !flood.is_finished()) {
                let began = Instant::now();
                session.ask(&Request::HostList).unwrap();
                slowest = slowest.max(began.elapsed());
            }
        });
        print(&format!("handshake: slowest honest answer in an open session meanwhile: {slowest:?}"));
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    });

    target.case("strangers shake hands as fast as they can for two seconds", &[("bus", "unknown-key", 100)], |cloud| {
        let stop = AtomicBool::new(false);
        let (mut slowest, mut slowest_command) = (Duration::ZERO, Duration::ZERO);
        thread::scope(|scope| {
            let floods: Vec<_> = (0..4)
                .map(|_| {
                    let stranger = new_keys();
                    scope.spawn({
                        let stop = &stop;
                        move || flood(cloud.rep_addr(), stop, || first(&stranger, server, PeerKind::Operator))
                    })
                })
                .collect();
            let stopping = Stop(&stop);
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until {
                let began = Instant::now();
                session.ask(&Request::HostList).unwrap();
                slowest = slowest.max(began.elapsed());
                let began = Instant::now();
                cloud.cli(&["host", "list"]).ok();
                slowest_command = slowest_command.max(began.elapsed());
            }
            drop(stopping);
            let count: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
            print(&format!(
                "handshake: {count} strangers' handshakes; slowest honest answer {slowest:?}, command {slowest_command:?}"
            ));
        });
        assert!(slowest_command < Duration::from_secs(3), "{slowest_command:?}");
    });
}
