//! Strangers below and at ZMTP. The T numbers are those of the table in the gate's documentation.

use std::{
    thread,
    time::{Duration, Instant},
};

use maglica_proto::{job::JobSpec, request::Request, seal::PeerKind};

use crate::{
    random::Random,
    raw::{Raw, claim, frame, hello, message},
    target::{GROWTH, Target, listed, many_files},
};

const TIB: u64 = 1 << 40;

#[test]
fn a_stranger_who_breaks_the_protocol_costs_a_connection_and_nothing_else() {
    let mut target = Target::start("wire");
    let ports = |cloud: &maglica_tests::cloud::Cloud| [(cloud.rep_addr(), "REQ"), (cloud.pub_addr(), "SUB")];

    target.case("T1 a frame of a tebibyte", &[("ask", "too-large", 3), ("publish", "too-large", 2)], |cloud| {
        for (addr, socket) in ports(cloud) {
            for flags in [0x02, 0x03] {
                let mut peer = Raw::shaken(addr, socket);
                peer.send(&claim(flags, TIB));
                peer.hangs_up();
            }
            // Before READY, where a command is expected.
            let mut early = Raw::connect(addr);
            early.send(&hello(socket, None)[..64]);
            early.send(&claim(0x06, TIB));
            early.hangs_up();
            let mut most = Raw::shaken(addr, socket);
            most.send(&claim(0x02, u64::MAX));
            most.hangs_up();
        }
    });

    target.case("T3 asks and never reads", &[("ask", "out-of-step", 20)], |cloud| {
        let flood = message(&[b"", b"x"]).repeat(2000);
        let mut peers: Vec<Raw> = (0..20).map(|_| Raw::shaken(cloud.rep_addr(), "REQ")).collect();
        for peer in &mut peers {
            peer.send(&flood);
        }
        for peer in &mut peers {
            peer.hangs_up();
        }
    });

    target.case(
        "T3b leaves in the middle of a frame",
        &[("ask", "truncated", 40), ("publish", "truncated", 40)],
        |cloud| {
            for (addr, socket) in ports(cloud) {
                for cut in [&b"\x01\x00\x00\x05hel"[..], b"\x01", b"\x00\xff12", b"\x02\x00\x00\x00"] {
                    for _ in 0..10 {
                        Raw::shaken(addr, socket).send(cut);
                    }
                }
            }
        },
    );

    target.case("T9 subscribes without end, and to everything", &[("publish", "subscription", 4)], |cloud| {
        let mut many = Raw::shaken(cloud.pub_addr(), "SUB");
        for number in 0..1_000_000_u32 {
            if !many.send(&frame(false, format!("\x01t{number}/").as_bytes())) {
                break;
            }
        }
        many.hangs_up();
        for topic in [&b"\x01"[..], &[1; 66], &[b"\x01", &[b'x'; 4000][..]].concat()] {
            let mut peer = Raw::shaken(cloud.pub_addr(), "SUB");
            peer.send(&frame(false, topic));
            peer.hangs_up();
        }
    });

    target.case("T10 a message without end", &[("ask", "too-large", 2), ("publish", "too-large", 1)], |cloud| {
        for (addr, socket) in ports(cloud) {
            let mut parts = Raw::shaken(addr, socket);
            parts.send(&frame(true, b"").repeat(100_000));
            parts.hangs_up();
        }
        let mut large = Raw::shaken(cloud.rep_addr(), "REQ");
        large.send(&frame(true, b""));
        large.send(&frame(true, &vec![7; 1 << 20]));
        large.send(&frame(true, &vec![7; 1 << 20]));
        large.hangs_up();
    });

    target.case("not ours: HTTP, TLS, ZMTP 1 and 2, CURVE, other sockets", &[("ask", "handshake", 8)], |cloud| {
        let curve: Vec<u8> = [&hello("REQ", None)[..12], b"CURVE", &[0; 47]].concat();
        let mut old = hello("REQ", None);
        old[10] = 1;
        for first in [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[0; 500]].concat(),
            vec![1, 0],
            old,
            curve,
            hello("DEALER", None),
            hello("SUB", None),
            hello("\x1b[2J", None),
        ] {
            let mut peer = Raw::connect(cloud.rep_addr());
            peer.send(&first);
            peer.hangs_up();
        }
    });

    let mut root = target.root();
    root.ask(&Request::HostList).unwrap();
    target.case("T8 announces the identity of others", &[], |cloud| {
        for identity in [&b"known"[..], &[0; 16], &[0xff; 200]] {
            let mut thief = Raw::connect(cloud.rep_addr());
            thief.send(&hello("REQ", Some(identity)));
            assert!(thief.hear_hello());
            // The one who had it is not evicted, and its answers do not go to the thief.
            root.ask(&Request::HostList).unwrap();
            let answer = thief.answer_to(b"mine").unwrap();
            assert!(answer.len() < 64, "{answer:?}");
        }
    });

    let mut random = Random::seeded("wire");
    target.case("random bytes and bit-flipped streams", &[("ask", "handshake", 100)], |cloud| {
        for (addr, socket) in ports(cloud) {
            let honest = [hello(socket, None), message(&[b"", &[b'x'; 40]]), frame(false, b"\x01beat/")].concat();
            for _ in 0..200 {
                let mut peer = Raw::connect(addr);
                let count = 1 + random.below(400);
                peer.send(&random.bytes(count));
                let mut peer = Raw::connect(addr);
                peer.send(&random.flip(&honest));
                let mut peer = Raw::shaken(addr, socket);
                let count = 1 + random.below(400);
                peer.send(&random.bytes(count));
            }
        }
    });
}

#[test]
fn a_stranger_who_takes_its_time_is_given_five_seconds() {
    many_files();
    let mut target = Target::start("wire");
    let refused = [
        ("ask", "handshake-timeout", 301),
        ("publish", "handshake-timeout", 21),
        ("ask", "message-timeout", 3),
        ("publish", "message-timeout", 2),
    ];
    target.case_within("T7 300 silent connections; greeting and frames byte by byte", &refused, GROWTH, |cloud| {
        let silent: Vec<Raw> = (0..300).map(|_| Raw::connect(cloud.rep_addr())).collect();
        let quiet: Vec<Raw> = (0..20).map(|_| Raw::connect(cloud.pub_addr())).collect();
        let drip = |addr, shaken: Option<&'static str>, bytes: Vec<u8>| {
            thread::spawn(move || {
                let mut peer = shaken.map_or_else(|| Raw::connect(addr), |socket| Raw::shaken(addr, socket));
                let began = Instant::now();
                for byte in &bytes {
                    if !peer.send(&[*byte]) {
                        break;
                    }
                    thread::sleep(Duration::from_millis(150));
                }
                peer.hangs_up();
                began.elapsed()
            })
        };
        let long = message(&[b"", &[b'x'; 200]]);
        let mut drips = Vec::new();
        for (addr, socket) in [(cloud.rep_addr(), "REQ"), (cloud.pub_addr(), "SUB")] {
            drips.push(drip(addr, None, hello(socket, None)));
            drips.push(drip(addr, Some(socket), long.clone()));
            drips.push(drip(addr, Some(socket), vec![2, 0, 0, 0, 0, 0, 0, 8, 0]));
        }
        drips.push(drip(cloud.rep_addr(), Some("REQ"), frame(true, &[b'x'; 100])));
        for drip in drips {
            let kept = drip.join().unwrap();
            assert!(kept < Duration::from_secs(12), "kept for {kept:?}");
        }
        for mut peer in silent.into_iter().chain(quiet) {
            peer.hangs_up();
        }
    });
}

#[test]
fn more_connections_than_file_descriptors_are_turned_away_and_local_commands_go_on() {
    many_files();
    let mut cloud = crate::target::builder().prepare();
    let shell = ["sh", "-c", "ulimit -n 400; exec \"$@\"", "sh"];
    cloud.client_worker.within(&shell);
    cloud.client_worker.start();
    cloud.wait_answers();
    cloud.hosts[0].start();
    cloud.wait_up(0);
    let mut target = Target::running("wire", cloud);
    target.case("T7b 600 connections where 400 files may be open", &[("ask", "displaced", 1)], |cloud| {
        let mut held = Vec::new();
        for at in 0..600 {
            held.extend(Raw::try_connect(cloud.rep_addr()));
            if at % 100 == 99 {
                listed(cloud);
            }
        }
        drop(held);
    });
    target.case("T7b the same with the handshake done", &[("ask", "displaced", 1)], |cloud| {
        let mut held = Vec::new();
        for _ in 0..200 {
            let mut peer = Raw::connect(cloud.rep_addr());
            peer.send(&hello("REQ", None));
            held.push(peer);
        }
        // While they are all there.
        listed(cloud);
        drop(held);
    });
}

#[test]
fn the_wire_of_the_type_system_is_not_the_peers_choice() {
    // A SUB that asks, a REQ that subscribes: each port speaks one way.
    let mut target = Target::start("wire");
    let mut viewer = target.operator("vera", "viewer");
    viewer.shake_hands("vera", None).unwrap();
    let sealed = viewer.seal(&Request::HostList);
    let submit = Request::Submit {
        id: maglica_proto::id::JobId::generate(),
        spec: JobSpec::Start(maglica_proto::job::VmRef { name: "vm0".parse().unwrap(), host: None }),
    };
    let mut host = target.peer(PeerKind::Host, target.host_keys(0));
    host.shake_hands("host0.example.jp", None).unwrap();
    let wrong = host.seal(&submit);
    target.case(
        "a good message at the wrong port, and a publisher's at the asking one",
        &[("publish", "envelope", 2), ("ask", "envelope", 2)],
        |cloud| {
            for payload in [&sealed, &wrong] {
                let mut peer = Raw::shaken(cloud.pub_addr(), "SUB");
                peer.send(&message(&[b"", payload]));
                peer.hangs_up();
                let mut peer = Raw::shaken(cloud.rep_addr(), "REQ");
                peer.send(&message(&[b"s/topic/", payload]));
                peer.hangs_up();
            }
        },
    );
}
