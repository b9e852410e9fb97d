//! Keys are renewed while everything goes on: nothing is refused that is honest, nothing is lost, nothing is done twice, and the
//! old key is good for nothing afterwards. Whatever dies in between, it ends with one key on each side.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
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
    request::Request,
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

fn keys(cloud: &Cloud) -> Value {
    cloud.cli(&["key", "show", "-o", "json"]).ok().json()
}

/// What a host has pinned.
fn pinned(cloud: &Cloud, host: usize) -> String {
    let file = fs::read(cloud.state_dir(host).join("host-worker/server.json")).expect("the host is enrolled");
    let server: Value = serde_json::from_slice(&file).expect("JSON");
    server["key"].as_str().expect("a key").to_owned()
}

/// Begins a rotation, and waits until every host uses the next key. Gives that one.
fn rotate(cloud: &Cloud) -> PublicKey {
    cloud.cli(&["key", "rotate"]).ok();
    wait_until("every host uses the next key", SOON, || {
        let keys = keys(cloud);
        when(keys["hosts"] == serde_json::json!([]), keys)
    });
    keys(cloud)["next"]["key"].as_str().expect("a next key").parse().expect("a key")
}

/// A peer that has this key of the client worker hears nothing but that it is the wrong one.
#[track_caller]
fn assert_retired(cloud: &Cloud, old: PublicKey) {
    let root = keyfile::read_private(&cloud.state_dir(0).join("operator/key")).expect("root's key");
    let mut late = Peer::new(cloud.rep_addr(), PeerKind::Operator, root, old);
    let refused = late.shake_hands("root", None).expect_err("a refusal");
    assert!(refused.refusal().contains("verif"), "{refused:?}");
}

#[test]
fn the_client_workers_key_is_rotated_while_everything_goes_on() {
    let mut cloud = cloud().hosts(3).set("/timing/suspect_ms", 2000).start();
    let alice = cloud.operator("alice", "viewer");
    let alices = || keyfile::read_public(&cloud.path("keys-alice/server.pub")).expect("alice's pinned key");
    let old = server_key(&cloud);
    let mut watcher = Peer::new(
        cloud.rep_addr(),
        PeerKind::Operator,
        keyfile::read_private(&cloud.path("keys-alice/key")).expect("alice's key"),
        old,
    );
    watcher.ask(&Request::HostList).expect("an answer in a session of the old key");
    let mut next = old;
    meanwhile(&cloud, || {
        next = rotate(&cloud);
        assert_ne!(next, old);
        assert_eq!(rotate(&cloud), next, "one at a time");
        assert!((0..3).all(|host| pinned(&cloud, host) == next.to_string()));
        // Who never heard of it can still come with the old key, and learns the next one.
        assert_eq!(alices(), old);
        cloud.cli_as(&alice, &["vm", "list"]).ok();
        assert_eq!((alices(), server_key(&cloud)), (next, next));
        wait_until("every operator is known to use it", SOON, || {
            let keys = keys(&cloud);
            when(keys["operators"] == serde_json::json!([]), keys)
        });
        // Invitations carry the one that stays.
        for invitation in [["host", "invite", "host9.example.jp"], ["operator", "add", "bob"]] {
            let line = cloud.cli(&invitation).ok().stdout;
            assert!(line.contains(&next.to_string()), "{line}");
        }
        let mut init = cloud.client_worker.command();
        let printed = maglica_tests::command::run(
            {
                init.arg("init");
                init
            },
            "",
        )
        .ok()
        .stdout;
        assert!(printed.contains(&next.to_string()) && printed.contains(&old.fingerprint().to_string()), "{printed}");
        cloud.cli(&["key", "retire"]).ok();
        assert_retired(&cloud, old);
    });
    assert!(watcher.ask(&Request::HostList).is_err(), "its session was made for a key that is gone");
    assert_eq!(keys(&cloud)["present"]["key"], next.to_string());
    assert!(keys(&cloud)["next"].is_null());
    cloud.cli(&["key", "retire"]).ended_with(6);
    cloud.client_worker.restart();
    (0..3).for_each(|host| cloud.wait_up(host));
    cloud.cli_as(&alice, &["vm", "list"]).ok();
    assert_retired(&cloud, old);
    for verb in ["show", "rotate", "retire"] {
        cloud.cli_as(&alice, &["key", verb]).ended_with(10);
    }
}

#[test]
fn a_host_that_was_off_during_a_rotation_holds_it_up_or_pins_the_new_key_by_hand() {
    let mut cloud = cloud().hosts(2).set("/timing/suspect_ms", 700).set("/timing/down_ms", 1400).start();
    let old = server_key(&cloud);
    cloud.hosts[1].stop();
    cloud.cli(&["key", "rotate"]).ok();
    let refused = cloud.cli(&["key", "retire"]).ended_with(6);
    assert!(refused.stderr.contains(&host_name(1)), "{refused:?}");
    cloud.cli(&["key", "retire", "--force"]).ok();
    assert_retired(&cloud, old);
    cloud.hosts[1].start();
    cloud.hosts[1].wait_log("pin the new one");
    assert_eq!(pinned(&cloud, 1), old.to_string(), "it takes nobody's word for another key");
    cloud.hosts[1].stop();
    let mut join = cloud.hosts[1].command();
    join.args(["join", "--server", &cloud.rep_addr().to_string(), "--key", &server_key(&cloud).to_string()]);
    maglica_tests::command::run(join, "").ok();
    cloud.hosts[1].start();
    cloud.wait_up(1);
}

/// The client worker dies while its key is changed; the command does not notice, and it can be ended.
fn client_worker_dies_in(command: &str, failpoint: &str) {
    let mut cloud = cloud().start();
    let old = server_key(&cloud);
    if command == "retire" {
        rotate(&cloud);
    }
    cloud.client_worker.kill9();
    cloud.client_worker.start_with(&format!("{failpoint}=return(abort)"));
    cloud.wait_up(0);
    let asked = cloud.cli_spawn(&["key", command]);
    assert!(!cloud.client_worker.wait_end(SOON).success());
    cloud.client_worker.start();
    maglica_tests::command::finish(asked).ok();
    if command == "rotate" {
        rotate(&cloud);
        cloud.cli(&["key", "retire"]).ok();
    }
    cloud.wait_up(0);
    assert_ne!(server_key(&cloud), old);
    assert_eq!(keys(&cloud)["present"]["key"], server_key(&cloud).to_string());
    assert_retired(&cloud, old);
    cloud.cli(&["vm", "start", "m0"]).ok();
}

#[test]
fn the_client_worker_dies_when_it_has_made_its_next_key() {
    client_worker_dies_in("rotate", "rotate.made");
}

#[test]
fn the_client_worker_dies_when_it_has_noted_its_next_key() {
    client_worker_dies_in("rotate", "rotate.noted");
}

#[test]
fn the_client_worker_dies_before_its_old_key_is_gone() {
    client_worker_dies_in("retire", "retire.before");
}

#[test]
fn the_client_worker_dies_after_its_old_key_is_gone() {
    client_worker_dies_in("retire", "retire.after");
}

#[test]
fn the_client_worker_dies_before_it_has_noted_that_its_old_key_is_gone() {
    client_worker_dies_in("retire", "trust.before-write");
}

#[test]
fn a_host_worker_that_dies_while_it_pins_the_next_key_finds_the_client_worker_again() {
    for failpoint in ["repin.before", "repin.after"] {
        let mut cloud = cloud().start();
        let old = server_key(&cloud);
        cloud.hosts[0].kill9();
        cloud.hosts[0].start_with(&format!("{failpoint}=return(abort)"));
        cloud.wait_up(0);
        cloud.cli(&["key", "rotate"]).ok();
        assert!(!cloud.hosts[0].wait_end(SOON).success());
        cloud.hosts[0].start();
        rotate(&cloud);
        cloud.cli(&["key", "retire"]).ok();
        assert_retired(&cloud, old);
        cloud.cli(&["vm", "start", "m0"]).ok();
    }
}

#[test]
fn a_command_that_cannot_write_what_it_pins_goes_on_and_says_what_to_do() {
    let cloud = cloud().start();
    let old = fs::File::open(cloud.state_dir(0).join("operator/server.pub")).expect("the pinned key");
    // Can be read, and no file can be put into its place.
    let fixed = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&old));
    let config = cloud.config_with("fixed.conf", &[("/operator/server_key", fixed.as_str().into())]);
    cloud.cli_as(&config, &["vm", "list"]).ok();
    let next = rotate(&cloud);
    let output = cloud.cli_as(&config, &["vm", "list"]).ok();
    assert!(output.stderr.contains(&fixed) && output.stderr.contains(&next.to_string()), "{output:?}");
    let line = cloud.cli_as(&config, &["host", "invite", "host9.example.jp"]).ok().stdout;
    assert!(line.contains(&next.to_string()), "{line}");
}

#[test]
fn a_recorded_announcement_makes_nobody_pin_another_key() {
    let cloud = cloud().start();
    let old = server_key(&cloud);
    let next = rotate(&cloud);
    let pin = |name: &str, at: std::net::SocketAddr| {
        let path = cloud.path(name);
        keyfile::write_public(&path, old).expect("a file can be written");
        let keys = [
            ("/operator/server_key", path.to_str().expect("UTF-8").into()),
            ("/client/rep_port", at.port().into()),
            ("/listen", serde_json::json!({})),
        ];
        (cloud.config_with(&format!("{name}.conf"), &keys), path)
    };
    // What the client worker says to a command that learns the next key.
    let listener = TcpListener::bind(cloud.spare_addr(0)).expect("an address of this cloud");
    let real = cloud.rep_addr();
    let recording = thread::spawn(move || {
        let (mut near, _) = listener.accept().expect("a connection");
        let mut far = TcpStream::connect(real).expect("the client worker");
        let (mut from, mut to) = (near.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
        let there = thread::spawn(move || {
            let copied = std::io::copy(&mut from, &mut to);
            // The command has gone, and so does the connection; what was said till then is what is wanted.
            let _ = to.shutdown(Shutdown::Both);
            copied
        });
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = far.read(&mut buffer) {
            said.extend_from_slice(&buffer[..count]);
            if near.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = there.join();
        said
    });
    let (config, path) = pin("first", cloud.spare_addr(0));
    cloud.cli_as(&config, &["vm", "list"]).ok();
    assert_eq!(keyfile::read_public(&path).expect("a key"), next, "an announcement went by");
    let said = recording.join().expect("no panic");
    // The same words to another command that has the same key pinned.
    let listener = TcpListener::bind(cloud.spare_addr(1)).expect("an address of this cloud");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(&said);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let (config, path) = pin("second", cloud.spare_addr(1));
    let output = cloud.cli_as(&config, &["vm", "list", "--timeout", "3s"]);
    assert_ne!(output.code, 0, "{output:?}");
    assert_eq!(keyfile::read_public(&path).expect("a key"), old);
}
