//! Keys are renewed while everything goes on: nothing is refused that is honest, nothing is lost, nothing is done twice, and the
//! old key is good for nothing afterwards. Whatever dies in between, it ends with one key on each side.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use maglica_proto::{
    config::keyfile,
    fault::Code,
    host::{HostAnswer, HostRequest},
    key::{KeyPair, PublicKey},
    seal::PeerKind,
};
use maglica_tests::{
    cloud::{Builder, Cloud, host_name},
    node::Node,
    peer::Peer,
    wait::{SOON, wait_until, when},
};
use serde_json::Value;

/// Machines that are started and stopped over and over.
const MACHINES: usize = 3;

fn cloud() -> Builder {
    Cloud::builder().node((0..MACHINES).fold(Node::new(), |node, i| node.off(&format!("m{i}"))))
}

fn new_keys() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn server_key(cloud: &Cloud) -> PublicKey {
    keyfile::read_public(&cloud.state_dir(0).join("operator/server.pub")).expect("the pinned key")
}

fn host_keys(cloud: &Cloud, host: usize) -> KeyPair {
    keyfile::read_private(&cloud.state_dir(host).join("host-worker/key")).expect("the host's key")
}

fn as_host(cloud: &Cloud, keys: KeyPair) -> Peer {
    Peer::new(cloud.rep_addr(), PeerKind::Host, keys, server_key(cloud))
}

/// What goes on meanwhile: jobs one after the other, and a look at every host. Ends when it is told to, and gives how
/// many jobs there were.
fn busy(cloud: &Cloud, stop: &AtomicBool) -> usize {
    let mut jobs = 0;
    while !stop.load(Ordering::SeqCst) {
        for verb in ["start", "destroy"] {
            for machine in 0..MACHINES {
                cloud.cli(&["vm", verb, &format!("m{machine}")]).ok();
                jobs += 1;
            }
        }
    }
    jobs
}

/// Every host was up at every look.
fn watch(cloud: &Cloud, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let list = cloud.cli(&["host", "list", "-o", "json"]).ok().json();
        let rows = list["hosts"].as_array().cloned().unwrap_or_default();
        assert!(rows.iter().all(|row| row["presence"] == "up"), "{list:#}");
    }
}

/// Does something while jobs run and hosts are looked at; nothing may fail, and each job ran once.
fn meanwhile(cloud: &Cloud, act: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let jobs = thread::scope(|scope| {
        let jobs = scope.spawn(|| busy(cloud, &stop));
        let hosts = scope.spawn(|| watch(cloud, &stop));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        stop.store(true, Ordering::SeqCst);
        hosts.join().expect("every host was up all the time");
        let jobs = jobs.join().expect("every job went well");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        jobs
    });
    let list = cloud.cli(&["job", "list", "-n", "1000", "-o", "json"]).ok().json();
    let rows = list["jobs"].as_array().cloned().unwrap_or_default();
    assert!(jobs > 0 && rows.len() == jobs, "{jobs} were asked for: {list:#}");
    for row in rows {
        assert_eq!(row["state"], "succeeded", "{row}");
        let id = row["id"].as_str().expect("an id");
        let ran: usize = cloud.hosts.iter().map(|host| host.log().matches(&format!("done job={id}")).count()).sum();
        assert_eq!(ran, 1, "job {id}");
    }
}

fn fingerprint(cloud: &Cloud, host: usize) -> Value {
    cloud.host(host)["fingerprint"].clone()
}

/// The host has another key than `old` on both sides, is up, and the old one is shut out.
#[track_caller]
fn assert_changed(cloud: &Cloud, host: usize, old: &KeyPair) {
    wait_until("the host has a new key", SOON, || {
        let (row, own) = (cloud.host(host), host_keys(cloud, host).public());
        let changed = row["fingerprint"] == own.fingerprint().to_string() && own != old.public();
        when(changed && row["presence"] == "up" && !row["facts"].is_null(), row)
    });
    assert!(!cloud.state_dir(host).join("host-worker/key.next").exists());
    let refused = as_host(cloud, old.clone()).shake_hands(&host_name(host), None).expect_err("a refusal");
    assert!(refused.refusal().contains("revoked"), "{refused:?}");
    let list = cloud.cli(&["host", "list", "-o", "json"]).ok().json();
    let rows = list["hosts"].as_array().cloned().unwrap_or_default();
    assert!(rows.iter().all(|row| row["presence"] != "pending"), "{list:#}");
}

#[test]
fn a_host_gets_a_new_key_while_it_works() {
    let cloud = cloud().hosts(2).set("/timing/suspect_ms", 2000).start();
    let (first, second) = (host_keys(&cloud, 0), host_keys(&cloud, 1));
    meanwhile(&cloud, || {
        let output = cloud.cli(&["host", "rekey", &host_name(0)]).ok();
        assert!(output.stderr.contains("is changing its key"), "{output:?}");
        assert_changed(&cloud, 0, &first);
        let again = host_keys(&cloud, 0);
        cloud.cli(&["host", "rekey", &host_name(0)]).ok();
        assert_changed(&cloud, 0, &again);
    });
    assert_eq!(host_keys(&cloud, 1).public(), second.public(), "the other one keeps its key");
    cloud.cli(&["host", "rekey", "host7.example.jp"]).ended_with(4).says(&["there is no host"], &[]);
    let viewer = cloud.operator("vera", "operator");
    cloud.cli_as(&viewer, &["host", "rekey", &host_name(0)]).ended_with(10);
}

#[test]
fn a_host_that_is_away_gets_its_new_key_when_it_is_back() {
    let mut cloud = cloud().set("/timing/suspect_ms", 700).set("/timing/down_ms", 1400).start();
    let old = host_keys(&cloud, 0);
    cloud.hosts[0].stop();
    cloud.wait_presence(0, "down");
    let output = cloud.cli(&["host", "rekey", &host_name(0)]).ok();
    assert!(output.stderr.contains("when it is back"), "{output:?}");
    cloud.client_worker.restart();
    cloud.hosts[0].start();
    assert_changed(&cloud, 0, &old);
    cloud.cli(&["vm", "start", "m0"]).ok();
}

/// The host worker dies while it changes its key.
fn host_worker_dies(failpoint: &str) {
    let mut cloud = cloud().start();
    let old = host_keys(&cloud, 0);
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with(&format!("{failpoint}=return(abort)"));
    cloud.wait_up(0);
    cloud.cli(&["host", "rekey", &host_name(0)]).ok();
    assert!(!cloud.hosts[0].wait_end(SOON).success());
    assert!(cloud.state_dir(0).join("host-worker/key.next").exists());
    cloud.hosts[0].start();
    assert_changed(&cloud, 0, &old);
    cloud.cli(&["vm", "start", "m0"]).ok();
}

#[test]
fn the_host_worker_dies_when_it_has_made_its_next_key() {
    host_worker_dies("rekey.made");
}

#[test]
fn the_host_worker_dies_when_it_has_said_its_next_key() {
    host_worker_dies("rekey.said");
}

#[test]
fn the_host_worker_dies_when_it_has_spoken_with_its_next_key() {
    host_worker_dies("rekey.answered");
}

/// The client worker dies while a host changes its key.
fn client_worker_dies(failpoint: &str) {
    let mut cloud = cloud().start();
    let old = host_keys(&cloud, 0);
    cloud.client_worker.kill9();
    cloud.client_worker.start_with(failpoint);
    cloud.wait_up(0);
    let command = cloud.cli_spawn(&["host", "rekey", &host_name(0)]);
    assert!(!cloud.client_worker.wait_end(SOON).success());
    cloud.client_worker.start();
    maglica_tests::command::finish(command).ok();
    assert_changed(&cloud, 0, &old);
    cloud.cli(&["vm", "start", "m0"]).ok();
}

#[test]
fn the_client_worker_dies_before_it_has_stored_that_a_key_is_to_be_changed() {
    client_worker_dies("trust.before-write=return(abort)");
}

#[test]
fn the_client_worker_dies_after_it_has_stored_that_a_key_is_to_be_changed() {
    client_worker_dies("trust.after-write=return(abort)");
}

#[test]
fn the_client_worker_dies_before_it_has_stored_the_next_key() {
    client_worker_dies("trust.before-write=1*off->return(abort)");
}

#[test]
fn the_client_worker_dies_after_it_has_stored_the_next_key() {
    client_worker_dies("trust.after-write=1*off->return(abort)");
}

#[test]
fn the_client_worker_dies_before_it_has_stored_that_the_next_key_is_in_use() {
    client_worker_dies("rekey.promote.before=return(abort)");
}

#[test]
fn the_client_worker_dies_after_it_has_stored_that_the_next_key_is_in_use() {
    client_worker_dies("rekey.promote.after=return(abort)");
}

#[test]
fn a_host_cannot_have_a_key_that_nobody_asked_it_for_or_that_is_known_already() {
    let mut cloud = cloud().hosts(3).start();
    for host in &mut cloud.hosts {
        host.stop();
    }
    let before = fingerprint(&cloud, 0);
    let mut host = as_host(&cloud, host_keys(&cloud, 0));
    let mut refused = |key: PublicKey, code: Code| {
        let answer = host.say(&HostRequest::Rekey { key }).expect("an answer");
        assert!(matches!(&answer, HostAnswer::Fault { fault } if fault.code == code), "{answer:?}");
    };
    refused(new_keys().public(), Code::WrongState);
    cloud.cli(&["host", "rekey", &host_name(0)]).ok();
    let (other, shut_out) = (host_keys(&cloud, 1).public(), host_keys(&cloud, 2).public());
    cloud.cli(&["host", "revoke", &host_name(2)]).ok();
    let root = keyfile::read_private(&cloud.state_dir(0).join("operator/key")).expect("root's key").public();
    for key in [other, shut_out, root] {
        refused(key, Code::Conflict);
    }
    assert_eq!(fingerprint(&cloud, 0), before);
    // A key that was said and not used yet is nobody else's either, and lets nobody in who does not have it.
    let next = new_keys();
    let answer = as_host(&cloud, host_keys(&cloud, 0)).say(&HostRequest::Rekey { key: next.public() });
    assert!(matches!(answer, Ok(HostAnswer::Stored)), "{answer:?}");
    let stored = fs::read_to_string(cloud.state_dir(0).join("client-worker/trust.json")).expect("the register");
    assert!(stored.contains(&next.public().to_string()), "stored before it was answered");
    assert_eq!(fingerprint(&cloud, 0), before, "a key counts from its first request");
    as_host(&cloud, next.clone()).shake_hands("any", None).expect("a session");
    assert_eq!(fingerprint(&cloud, 0), before, "a handshake can be replayed, so it changes nothing");
    let mut same = as_host(&cloud, next.clone());
    assert!(matches!(same.say(&HostRequest::Rekey { key: next.public() }), Ok(HostAnswer::Stored)));
    wait_until("the next key is the host's", SOON, || {
        let now = fingerprint(&cloud, 0);
        when(now == next.public().fingerprint().to_string(), now)
    });
}
