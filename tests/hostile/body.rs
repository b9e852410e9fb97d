//! Sealed by an enrolled key, so that it is opened: and nonsense inside.

use maglica_proto::{
    codec,
    fault::Code,
    host::HostAnswer,
    join::JoinAnswer,
    request::{Answer, Request},
    seal::{MAX_BODY, PeerKind},
};
use maglica_tests::peer::{Peer, PeerError};

use crate::{
    random::Random,
    raw::Raw,
    target::{Target, new_keys},
};

/// A string of MessagePack.
fn string(text: &str) -> Vec<u8> {
    [&[0xda][..], &u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// A map of one key.
fn map(key: &str, value: &[u8]) -> Vec<u8> {
    [&[0x81][..], &string(key), value].concat()
}

/// Arrays within arrays.
fn deep(levels: usize, level: &[u8]) -> Vec<u8> {
    [level.repeat(levels), vec![0xc0]].concat()
}

fn nonsense(random: &mut Random, verb: &str) -> Vec<(String, Vec<u8>)> {
    let good = map(verb, &string("heartbeat"));
    let claim = |tag: u8, count: u32| [&[tag][..], &count.to_be_bytes()].concat();
    let mut all: Vec<(String, Vec<u8>)> = vec![
        ("nothing".into(), Vec::new()),
        ("truncated".into(), good[..good.len() - 3].to_vec()),
        ("followed by bytes".into(), [good.clone(), vec![0; 5]].concat()),
        ("an unknown verb".into(), map(verb, &string("launch-missiles"))),
        ("a verb of 60,000 bytes".into(), map(verb, &string(&"\x1b[2J".repeat(15_000)))),
        ("a verb that is a number".into(), map(verb, &[0xcf, 255, 255, 255, 255, 255, 255, 255, 255])),
        ("text that is not UTF-8".into(), map(verb, &[0xa3, 0xff, 0xfe, 0xfd])),
        ("100,000 arrays within one another".into(), deep(100_000, &[0x91])),
        ("100,000 maps within one another".into(), map(verb, &deep(100_000, &[0x81, 0xa1, b'x']))),
        ("an array that claims 2^32 elements".into(), claim(0xdd, u32::MAX)),
        ("a map that claims 2^32 entries".into(), claim(0xdf, u32::MAX)),
        ("a string that claims 2^32 bytes".into(), map(verb, &claim(0xdb, u32::MAX))),
        ("bytes that claim 2^32".into(), map(verb, &claim(0xc6, u32::MAX))),
        ("an extension".into(), [&[0xc9][..], &u32::MAX.to_be_bytes(), &[7]].concat()),
        ("a million nothings".into(), [claim(0xdd, 1_000_000), vec![0xc0; 1_000_000]].concat()),
        ("the same key 100,000 times".into(), {
            let entry = [&[0xa4][..], b"verb", &[0xa1, b'x']].concat();
            [claim(0xdf, 100_000), entry.repeat(100_000)].concat()
        }),
        (
            "as large as a message can be".into(),
            map(verb, &[claim(0xdb, 1_048_000), vec![b'x'; MAX_BODY - 20 - 13]].concat()),
        ),
    ];
    for number in 0..40 {
        let count = 1 + random.below(2000);
        all.push((format!("random {number}"), random.bytes(count)));
        all.push((format!("bit-flipped {number}"), random.flip(&good)));
    }
    all
}

#[track_caller]
fn refused(what: &str, fault: Option<&maglica_proto::fault::Fault>) {
    let fault = fault.unwrap_or_else(|| panic!("{what} was understood"));
    assert_eq!(fault.code, Code::Version, "{what}: {fault:?}");
    assert!(fault.message.len() < 2000, "{what}: the answer has {} bytes", fault.message.len());
}

fn try_all<A: serde::de::DeserializeOwned>(
    peer: &mut Peer,
    bodies: &[(String, Vec<u8>)],
    fault: impl Fn(&A) -> Option<&maglica_proto::fault::Fault>,
) {
    for (what, body) in bodies {
        let answer: Result<A, PeerError> = peer.say_body(body);
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        // A flipped bit may leave a good question.
        if !what.starts_with("bit-flipped") {
            refused(what, fault(&answer));
        }
    }
}

#[test]
fn nonsense_that_is_sealed_well_is_answered_by_a_fault_and_counted() {
    let mut target = Target::start("body");
    let mut random = Random::seeded("body");
    let mut viewer = target.operator("vera", "viewer");
    let bodies = nonsense(&mut random, "verb");
    target.case("a viewer sends 97 kinds of nonsense", &[("bus", "unreadable", 50)], |_| {
        try_all::<Answer>(
            &mut viewer,
            &bodies,
            |answer| if let Answer::Fault { fault } = answer { Some(fault) } else { None },
        );
    });

    let mut host = target.peer(PeerKind::Host, target.host_keys(0));
    let bodies = nonsense(&mut random, "ask");
    target.case("a host sends 97 kinds of nonsense", &[("bus", "unreadable", 50)], |_| {
        try_all::<HostAnswer>(&mut host, &bodies, |answer| {
            if let HostAnswer::Fault { fault } = answer { Some(fault) } else { None }
        });
    });

    let line = target.cloud.cli(&["host", "invite", "h7.example.jp"]).ok().stdout;
    let invitation: maglica_proto::join::Invitation = line.parse().unwrap();
    let mut joiner = target.peer(PeerKind::Host, new_keys());
    joiner.shake_hands("h7.example.jp", Some(&invitation.token)).unwrap();
    target.case("who joins by a token sends nonsense, and asks as an operator", &[("bus", "unreadable", 2)], |_| {
        for body in [vec![0xc1; 500], codec::encode(&vec![Request::HostList]).unwrap()] {
            let answer: JoinAnswer = joiner.say_body(&body).unwrap();
            assert!(matches!(&answer, JoinAnswer::Fault { fault } if fault.code == Code::Version), "{answer:?}");
        }
    });

    viewer.shake_hands("vera", None).unwrap();
    let sealed = viewer.seal(&Request::HostList);
    target.case("sealed, and changed on the way", &[("bus", "unverified", 100), ("ask", "too-large", 1)], |cloud| {
        for _ in 0..100 {
            let mut changed = sealed.clone();
            let at = 32 + random.below(sealed.len() - 32);
            changed[at] ^= 1 << random.below(8);
            assert!(viewer.raw(changed).unwrap().len() < 64);
            assert!(viewer.raw(sealed[..33 + random.below(sealed.len() - 33)].to_vec()).unwrap().len() < 64);
        }
        assert!(viewer.raw([&sealed[..], &vec![0; 900_000]].concat()).unwrap().len() < 64);
        let mut raw = Raw::shaken(cloud.rep_addr(), "REQ");
        raw.ask(&[&sealed[..], &vec![0; 2 << 20]].concat());
        raw.hangs_up();
        // What was damaged was not used up: the genuine one is still good.
        let answer: Answer = viewer.send(sealed.clone()).unwrap();
        assert!(matches!(answer, Answer::Hosts { .. }));
    });
}
