//! Messages that were recorded, said again: in the same session, in another, the other way, on the other socket, later.

use maglica_proto::{
    id::JobId,
    job::{JobSpec, VmRef},
    request::{Answer, Request},
    seal::{Header, PeerKind},
};
use maglica_tests::{
    cloud::{Cloud, host_name},
    node::Node,
    peer::Peer,
};

use crate::{
    raw::{Raw, frame},
    target::{Target, VM, builder, new_keys},
};

fn session_of(message: &[u8]) -> maglica_proto::seal::header::SessionId {
    Header::split(message).unwrap().0.session
}

fn with_header(message: &[u8], change: impl FnOnce(Header) -> Header) -> Vec<u8> {
    let (header, body) = Header::split(message).unwrap();
    [&change(header).to_bytes()[..], body].concat()
}

/// Whatever is sent, one word comes back.
#[track_caller]
fn one_word(peer: &mut Peer, message: &[u8]) {
    let answer = peer.raw(message.to_vec()).unwrap();
    assert!(answer.len() < 64, "{} bytes", answer.len());
}

/// The jobs but those by which each case sees whether honest work goes on.
fn others(cloud: &Cloud) -> Vec<serde_json::Value> {
    let jobs = cloud.facts()["jobs"]["jobs"].as_array().cloned().unwrap_or_default();
    jobs.into_iter().filter(|job| job["vm"] != VM).collect()
}

#[test]
fn what_was_recorded_is_of_no_use_anywhere() {
    // The first host's worker is the honest one; the test plays the second.
    let mut target = Target::of("replay", builder().hosts(2).node(Node::new().off("far")));
    let submit = |name: &str| Request::Submit {
        id: JobId::generate(),
        spec: JobSpec::Start(VmRef { name: name.parse().unwrap(), host: None }),
    };
    let (mut root, mut other) = (target.root(), target.root());
    root.shake_hands("root", None).unwrap();
    other.shake_hands("root", None).unwrap();
    let recorded = root.seal(&submit("no-such-machine"));
    let _: Answer = root.send(recorded.clone()).unwrap();
    let (fresh, theirs) = (root.seal(&submit("far")), other.seal(&submit("far")));
    let mut thief = target.peer(PeerKind::Operator, new_keys());
    let before = others(&target.cloud);

    target.case("in the same session, a thousand times, from anybody", &[("bus", "replayed", 1_000)], |_| {
        for _ in 0..500 {
            one_word(&mut root, &recorded);
            one_word(&mut thief, &recorded);
        }
    });
    let wrong: &[(&str, &str, u64)] =
        &[("bus", "unverified", 4), ("bus", "no-session", 1), ("bus", "not-a-message", 8)];
    target.case("in another session, under another number, the other way", wrong, |_| {
        one_word(&mut other, &with_header(&fresh, |header| Header { session: session_of(&theirs), ..header }));
        one_word(&mut root, &with_header(&theirs, |header| Header { session: session_of(&fresh), ..header }));
        one_word(&mut root, &with_header(&fresh, |header| Header { counter: header.counter + 1, ..header }));
        one_word(&mut root, &with_header(&fresh, |header| Header { counter: u64::MAX >> 6, ..header }));
        let none = maglica_proto::seal::header::SessionId([9; 16]);
        one_word(&mut root, &with_header(&fresh, |header| Header { session: none, ..header }));
        let question = other.seal(&Request::HostList);
        let answer = root.raw(question).unwrap();
        for kind in [
            maglica_proto::seal::Kind::Answer,
            maglica_proto::seal::Kind::Broadcast,
            maglica_proto::seal::Kind::Welcome,
            maglica_proto::seal::Kind::Beat,
        ] {
            one_word(&mut root, &with_header(&fresh, |header| Header { kind, ..header }));
            one_word(&mut root, &with_header(&answer, |header| Header { kind, ..header }));
        }
        // An answer passed off as a question is opened with the other key.
        one_word(
            &mut other,
            &with_header(&answer, |header| Header { kind: maglica_proto::seal::Kind::Request, ..header }),
        );
    });
    assert_eq!(others(&target.cloud), before);

    // What is published to a host, recorded there, and said to the client worker and to whoever asks.
    target.cloud.hosts[1].stop();
    let mut host = target.peer(PeerKind::Host, target.host_keys(1));
    let topic = host.shake_hands(&host_name(1), None).unwrap().topic.unwrap();
    let mut listener = Raw::shaken(target.cloud.pub_addr(), "SUB");
    listener.send(&frame(false, &[b"\x01", topic.as_bytes()].concat()));
    let beat = maglica_proto::host::HostRequest::Heartbeat(maglica_proto::host::Heartbeat {
        boot: uuid::Uuid::new_v4(),
        held: Vec::new(),
        inventory: 0,
    });
    let _ = host.say(&beat).unwrap();
    let id = target.cloud.submit(&["vm", "start", "far"]);
    let broadcast = listener.payload().unwrap();
    target.case(
        "a broadcast, said on the asking port",
        &[("bus", "not-a-message", 100), ("bus", "unverified", 1)],
        |_| {
            for _ in 0..100 {
                one_word(&mut thief, &broadcast);
            }
            let kind = maglica_proto::seal::Kind::Request;
            one_word(&mut thief, &with_header(&broadcast, |header| Header { kind, ..header }));
        },
    );
    drop(listener);
    target.cloud.hosts[1].start();
    target.cloud.wait_job(&id, "succeeded");

    // After a restart there are other sessions, and no clock says which were before it.
    target.cloud.client_worker.restart();
    target.cloud.wait_up(0);
    target.cloud.wait_up(1);
    let before = others(&target.cloud);
    let mut target = target.again();
    root.reconnect();
    thief.reconnect();
    target.case("all of it, after a restart", &[("bus", "no-session", 300)], |_| {
        for _ in 0..100 {
            one_word(&mut root, &recorded);
            one_word(&mut thief, &fresh);
            one_word(&mut thief, &theirs);
        }
    });
    assert_eq!(others(&target.cloud), before);
}
