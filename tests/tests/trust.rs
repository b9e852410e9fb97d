//! Nobody without a key can do anything, nobody can do more than its key allows, and after each attempt nothing has happened.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, thread, time::Duration};

use maglica_proto::{
    config::keyfile,
    fault::{Code, Fault},
    host::{Denial, HostAnswer, HostRequest, Report},
    id::JobId,
    job::{JobSpec, Outcome, VmRef},
    join::{Invitation, JoinAnswer},
    key::{KeyPair, PublicKey, Token},
    request::{Answer, Invite, Request},
    seal::{Header, PeerKind, header::SessionId},
};
use maglica_tests::{
    cloud::{Cloud, host_name},
    command::{maglica, run},
    node::Node,
    peer::{Peer, PeerError},
    wait::{SOON, wait_until, when},
};
use serde_json::Value;

const VM: &str = "vm0";

fn cloud() -> Cloud {
    Cloud::builder().node(Node::new().off(VM)).start()
}

fn server_key(cloud: &Cloud) -> PublicKey {
    keyfile::read_public(&cloud.state_dir(0).join("operator/server.pub")).expect("the pinned key")
}

fn keys(file: &Path) -> KeyPair {
    keyfile::read_private(file).expect("a private key")
}

fn new_keys() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn peer(cloud: &Cloud, kind: PeerKind, keys: KeyPair) -> Peer {
    Peer::new(cloud.rep_addr(), kind, keys, server_key(cloud))
}

fn root(cloud: &Cloud) -> Peer {
    peer(cloud, PeerKind::Operator, keys(&cloud.state_dir(0).join("operator/key")))
}

fn host(cloud: &Cloud, index: usize) -> Peer {
    peer(cloud, PeerKind::Host, keys(&cloud.state_dir(index).join("host-worker/key")))
}

fn submit() -> Request {
    Request::Submit {
        id: JobId::generate(),
        spec: JobSpec::Start(VmRef { name: VM.parse().expect("a name"), host: None }),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, PeerError>, word: &str) {
    let error = result.expect_err("a refusal");
    assert!(error.refusal().contains(word), "{word:?} expected: {error:?}");
}

/// The words of refusals, as people read them.
const UNKNOWN: &str = "unknown";
const REVOKED: &str = "revoked";
const UNVERIFIED: &str = "verif";
const NO_SESSION: &str = "session";
const PENDING: &str = "let in";

#[test]
fn a_stranger_with_a_key_of_its_own_is_refused() {
    let cloud = cloud();
    let before = cloud.facts();
    refused(peer(&cloud, PeerKind::Operator, new_keys()).ask(&submit()), UNKNOWN);
    // Root's key is no host's, and a host's is no operator's.
    let root_key = keys(&cloud.state_dir(0).join("operator/key"));
    refused(peer(&cloud, PeerKind::Host, root_key).shake_hands(&host_name(0), None), UNKNOWN);
    let host_key = keys(&cloud.state_dir(0).join("host-worker/key"));
    refused(peer(&cloud, PeerKind::Operator, host_key).ask(&submit()), UNKNOWN);
    let config = cloud.operator_config("stranger");
    keyfile::read_or_create_private(&cloud.path("keys-stranger/key")).expect("a key");
    keyfile::write_public(&cloud.path("keys-stranger/server.pub"), server_key(&cloud)).expect("a file");
    cloud.cli_as(&config, &["vm", "start", VM]).ended_with(9).says(&["refuses this key"], &["invitation"]);
    assert_eq!(cloud.facts(), before);
}

#[test]
fn who_has_no_key_at_all_is_refused() {
    let cloud = cloud();
    let before = cloud.facts();
    let mut stranger = root(&cloud);
    for bytes in [vec![], vec![0; 64], b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 4096]] {
        // One word, or none at all; never more.
        let answer = stranger.raw(bytes);
        assert!(answer.as_ref().is_ok_and(|answer| answer.len() < 64), "{answer:?}");
    }
    cloud
        .cli_as(&cloud.operator_config("nobody"), &["vm", "list"])
        .ended_with(9)
        .says(&["there is no private key"], &["operator join"]);
    assert_eq!(cloud.facts(), before);
}

#[test]
fn a_client_worker_with_another_key_than_the_pinned_one_is_not_talked_to() {
    let cloud = cloud();
    let before = cloud.facts();
    let pinned = new_keys().public();
    let config = cloud.operator_config("careful");
    fs::create_dir_all(cloud.path("keys-careful")).expect("a folder");
    fs::copy(cloud.state_dir(0).join("operator/key"), cloud.path("keys-careful/key")).expect("a copy");
    keyfile::write_public(&cloud.path("keys-careful/server.pub"), pinned).expect("a file");
    let expected = pinned.fingerprint().to_string();
    let output = cloud.cli_as(&config, &["vm", "start", VM]).ended_with(9);
    output.says(&[&expected], &[]);
    assert!(!output.stderr.contains("--force") && !output.stderr.contains("continue"), "{output:?}");
    assert_eq!(cloud.facts(), before);
}

#[test]
fn a_message_is_of_no_use_in_another_session() {
    let cloud = Cloud::builder().hosts(2).node(Node::new().off(VM)).start();
    let before = cloud.facts();
    let (mut ours, mut theirs) = (root(&cloud), root(&cloud));
    ours.shake_hands("test", None).expect("a session");
    theirs.shake_hands("test", None).expect("a session");
    let (of_ours, of_theirs) = (ours.seal(&submit()), theirs.seal(&submit()));
    let session = |message: &[u8]| Header::split(message).expect("a header").0.session;
    let crossed = with_session(of_ours.clone(), session(&of_theirs));
    refused(theirs.send::<Answer>(crossed), UNVERIFIED);
    // Neither in one that there never was.
    refused(ours.send::<Answer>(with_session(of_ours, SessionId([7; 16]))), NO_SESSION);
    // A host's session carries no operator's question, nor another host's report.
    let mut host = host(&cloud, 1);
    host.shake_hands("test", None).expect("a session");
    let sealed = host.seal(&submit());
    let answer: HostAnswer = host.send(sealed).expect("an answer");
    assert!(matches!(&answer, HostAnswer::Fault { fault } if fault.code == Code::Version), "{answer:?}");
    assert_eq!(cloud.facts(), before);
}

fn with_session(message: Vec<u8>, session: SessionId) -> Vec<u8> {
    let (header, body) = Header::split(&message).expect("a header");
    let mut other = Header { session, ..header }.to_bytes().to_vec();
    other.extend_from_slice(body);
    other
}

#[test]
fn a_recorded_message_is_refused_the_second_time() {
    let mut cloud = cloud();
    let mut asker = root(&cloud);
    asker.shake_hands("test", None).expect("a session");
    let sealed = asker.seal(&submit());
    let Answer::Job(view) = asker.send(sealed.clone()).expect("an answer") else { panic!("a job was asked for") };
    cloud.wait_job(&view.row.id.to_string(), "succeeded");
    let before = cloud.facts();
    refused(asker.send::<Answer>(sealed.clone()), UNVERIFIED);
    // From another connection, too, and after the client worker has forgotten its sessions.
    let mut thief = peer(&cloud, PeerKind::Operator, new_keys());
    let word = thief.raw(sealed.clone()).expect("an answer");
    assert!(word.len() < 64, "{word:?}");
    assert_eq!(cloud.facts(), before);
    cloud.client_worker.restart();
    cloud.wait_up(0);
    let before = cloud.facts();
    asker.reconnect();
    refused(asker.send::<Answer>(sealed), NO_SESSION);
    assert_eq!(cloud.facts(), before);
}

#[test]
fn a_host_speaks_for_itself_only() {
    let mut cloud = Cloud::builder().hosts(2).node(Node::new().off(VM)).start();
    cloud.hosts[0].stop();
    cloud.hosts[1].stop();
    let id = cloud.submit(&["vm", "start", VM]);
    let before = cloud.job(&id);
    let job: JobId = id.parse().expect("an id");
    let mut other = host(&cloud, 1);
    let fault = Fault::new(Code::Internal, "a lie");
    let report = Report { job, result: Ok(Outcome::Started { already: false }), events: Vec::new() };
    for lie in [
        HostRequest::Accept { job, attempt: 1 },
        HostRequest::Refuse { job, fault },
        HostRequest::Progress { job, events: Vec::new() },
        HostRequest::Report(Box::new(report)),
    ] {
        let answer = other.say(&lie).expect("an answer");
        assert!(matches!(answer, HostAnswer::Denied { why: Denial::NotYours }), "{lie:?}: {answer:?}");
    }
    assert_eq!(cloud.job(&id)["events"].as_array().map(Vec::len), before["events"].as_array().map(Vec::len));
    assert_eq!(cloud.job(&id)["state"], before["state"]);
    cloud.hosts[0].start();
    cloud.wait_job(&id, "succeeded");
}

#[test]
fn a_role_is_the_most_that_its_operator_can_do() {
    let cloud = cloud();
    let (viewer, operator) = (cloud.operator("vera", "viewer"), cloud.operator("otto", "operator"));
    let before = cloud.facts();
    cloud.cli_as(&viewer, &["vm", "list"]).ok();
    cloud.cli_as(&viewer, &["vm", "start", VM]).ended_with(10).says(&["vera", "viewer"], &["administrator"]);
    cloud.cli_as(&viewer, &["job", "cancel", &JobId::generate().to_string()]).ended_with(10);
    for config in [&viewer, &operator] {
        cloud.cli_as(config, &["host", "invite", "evil.example.jp"]).ended_with(10);
        cloud.cli_as(config, &["host", "revoke", &host_name(0)]).ended_with(10);
        cloud.cli_as(config, &["operator", "add", "eve", "--role", "admin"]).ended_with(10);
        cloud.cli_as(config, &["operator", "revoke", "root"]).ended_with(10);
        cloud.cli_as(config, &["operator", "list"]).ended_with(10);
    }
    assert_eq!(cloud.facts(), before);
    cloud.cli_as(&operator, &["vm", "start", VM]).ok();
}

#[test]
fn a_revoked_operator_is_cut_off_in_the_open_session_and_for_ever() {
    let cloud = cloud();
    let config = cloud.operator("alice", "operator");
    let alice_keys = keys(&cloud.path("keys-alice/key"));
    let mut alice = peer(&cloud, PeerKind::Operator, alice_keys.clone());
    assert!(matches!(alice.ask(&Request::ImageList), Ok(Answer::Images(_))));
    cloud.cli(&["operator", "revoke", "alice"]).ok();
    let before = cloud.facts();
    refused(alice.ask(&submit()), REVOKED);
    refused(alice.ask(&submit()), NO_SESSION);
    refused(alice.shake_hands("alice", None), REVOKED);
    cloud.cli_as(&config, &["vm", "start", VM]).ended_with(9).says(&["revoked"], &["never accepted again"]);
    assert_eq!(cloud.facts(), before);
    // Nor does a new invitation let the old key in again; the name is free for a new one.
    let line = cloud.cli(&["operator", "add", "alice"]).ok().stdout;
    let before = cloud.facts();
    run(maglica(&config, &cloud.path(""), &["operator", "join"]), &line).ended_with(9);
    assert_eq!(cloud.facts(), before);
    let invitation: Invitation = line.parse().expect("an invitation");
    let joined = peer(&cloud, PeerKind::Operator, new_keys()).join("alice", &invitation.token);
    assert!(matches!(joined, Ok(JoinAnswer::Joined(_))), "{joined:?}");
}

#[test]
fn a_revoked_host_is_cut_off_in_the_open_session_and_for_ever() {
    let mut cloud = Cloud::builder().hosts(2).node(Node::new()).node(Node::new().off(VM)).start();
    cloud.cli(&["host", "revoke", &host_name(1)]).ok();
    cloud.hosts[1].wait_log(REVOKED);
    cloud.cli(&["vm", "start", VM]).ended_with(4).says(&["there is no virtual machine"], &[]);
    cloud.hosts[1].restart();
    cloud.hosts[1].wait_log("no answer to the heartbeat");
    assert_eq!(cloud.host(1), Value::Null);
    refused(host(&cloud, 1).shake_hands(&host_name(1), None), REVOKED);
}

#[test]
fn a_watcher_that_is_revoked_hears_no_more() {
    let mut cloud = cloud();
    let _ = cloud.operator("alice", "viewer");
    cloud.hosts[0].stop();
    let id: JobId = cloud.submit(&["vm", "start", VM]).parse().expect("an id");
    let mut alice = peer(&cloud, PeerKind::Operator, keys(&cloud.path("keys-alice/key")));
    let Ok(Answer::Watch { events, .. }) = alice.ask(&Request::JobWatch { id, after: 0, wait_ms: 0 }) else {
        panic!("a viewer may watch")
    };
    let after = u32::try_from(events.len()).expect("few events");
    let watching = thread::spawn(move || alice.ask(&Request::JobWatch { id, after, wait_ms: 9000 }));
    cloud.cli(&["operator", "revoke", "alice"]).ok();
    cloud.hosts[0].start();
    cloud.wait_job(&id.to_string(), "succeeded");
    let heard = watching.join().expect("no panic");
    assert!(heard.is_err(), "{heard:?}");
}

fn invitation(cloud: &Cloud, arguments: &[&str]) -> Invitation {
    cloud.cli(arguments).ok().stdout.parse().expect("an invitation")
}

#[test]
fn a_token_lets_in_one_key_once() {
    let cloud = cloud();
    let Invitation { token, .. } = invitation(&cloud, &["host", "invite", "h7.example.jp"]);
    let results: Vec<bool> = thread::scope(|scope| {
        let joiners: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    matches!(
                        peer(&cloud, PeerKind::Host, new_keys()).join("h7.example.jp", &token),
                        Ok(JoinAnswer::Joined(_))
                    )
                })
            })
            .collect();
        joiners.into_iter().map(|joiner| joiner.join().expect("no panic")).collect()
    });
    assert_eq!(results.iter().filter(|joined| **joined).count(), 1, "{results:?}");
    let before = cloud.facts();
    assert!(!matches!(
        peer(&cloud, PeerKind::Host, new_keys()).join("h7.example.jp", &token),
        Ok(JoinAnswer::Joined(_))
    ));
    assert_eq!(cloud.facts(), before);
}

#[test]
fn a_token_that_is_wrong_or_expired_or_of_another_kind_lets_nobody_in() {
    let cloud = cloud();
    let line = cloud.cli(&["operator", "add", "bob", "--valid", "1s"]).ok().stdout;
    let known = invitation(&cloud, &["operator", "add", "carol"]).token;
    let before = cloud.facts();
    let wrong = Token::generate().expect("a token");
    refused(peer(&cloud, PeerKind::Operator, new_keys()).join("bob", &wrong), UNVERIFIED);
    // What a token is good for is in the register, not in what its holder says to be.
    let sly = new_keys();
    let as_host = peer(&cloud, PeerKind::Host, sly.clone()).join(&host_name(3), &known);
    assert!(matches!(&as_host, Ok(JoinAnswer::Joined(joined)) if joined.name == "carol"), "{as_host:?}");
    refused(peer(&cloud, PeerKind::Host, sly).shake_hands(&host_name(3), None), UNKNOWN);
    assert_eq!(cloud.facts()["hosts"], before["hosts"]);
    // Expiry is a matter of the clock, so this waits for the clock.
    thread::sleep(Duration::from_millis(1100));
    let config = cloud.operator_config("bob");
    let output = run(maglica(&config, &cloud.path(""), &["operator", "join"]), &line).ended_with(9);
    output.says(&["does not accept the invitation"], &["ask for a new one"]);
    assert_eq!(cloud.facts()["hosts"], before["hosts"]);
    cloud.cli_as(&config, &["vm", "list"]).ended_with(9);
}

#[test]
fn an_invitation_longer_than_a_week_is_refused() {
    let cloud = cloud();
    let token = Token::generate().expect("a token");
    let invite = Invite { token: token.id(), psk: token.psk(), valid_s: 8 * 24 * 3600 };
    let answer =
        root(&cloud).ask(&Request::HostInvite { name: "h9".parse().expect("a name"), invite }).expect("an answer");
    assert!(matches!(&answer, Answer::Fault { fault } if fault.code == Code::InvalidInput), "{answer:?}");
}

#[test]
fn a_host_without_a_token_waits_until_its_fingerprint_is_named() {
    let mut cloud = Cloud::builder().hosts(2).node(Node::new()).node(Node::new().off(VM)).prepare();
    cloud.client_worker.start();
    cloud.wait_answers();
    let pinned = cloud.hosts[1]
        .command()
        .args(["join", "--server", &cloud.rep_addr().to_string(), "--key", &server_key(&cloud).to_string()])
        .output()
        .expect("the host worker runs");
    let said = String::from_utf8_lossy(&pinned.stdout).into_owned();
    assert!(pinned.status.success() && said.contains("maglica host accept"), "{pinned:?}");
    let folder = cloud.state_dir(1).join("host-worker");
    cloud.hosts[1].start();
    cloud.wait_presence(1, "pending");
    cloud.hosts[1].wait_log(PENDING);
    let name = host_name(1);
    let fingerprint = cloud.host(1)["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let own = keys(&folder.join("key")).public().fingerprint().to_string();
    assert_eq!(fingerprint, own);
    assert!(said.contains(&own), "{said}");
    let wrong = new_keys().public().fingerprint().to_string();
    cloud.cli(&["host", "accept", &name, "--fingerprint", &wrong]).ended_with(9);
    cloud.cli(&["host", "accept", &name]).ended_with(2);
    assert_eq!(cloud.host(1)["presence"], "pending");
    cloud.cli(&["vm", "start", VM]).ended_with(4);
    cloud.cli(&["host", "accept", &name, "--fingerprint", &fingerprint]).ok();
    cloud.wait_up(1);
    cloud.cli(&["vm", "start", VM]).ok();
}

fn open_to_others(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("a mode can be set");
}

#[test]
fn a_private_key_that_others_can_read_is_not_used() {
    let mut cloud = cloud();
    let file = cloud.state_dir(0).join("operator/key");
    for secret in [
        "operator/key",
        "client-worker/key",
        "client-worker/trust.json",
        "client-worker/jobs.db",
        "host-worker/key",
        "host-worker/ledger.db",
    ] {
        let mode = fs::metadata(cloud.state_dir(0).join(secret)).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{secret}");
    }
    open_to_others(&file);
    cloud.cli(&["vm", "list"]).ended_with(9).says(&["can be read by others", "0644"], &["chmod 600"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
    cloud.cli(&["vm", "list"]).ok();
    cloud.hosts[0].stop();
    open_to_others(&cloud.state_dir(0).join("host-worker/key"));
    cloud.hosts[0].start();
    assert!(!cloud.hosts[0].wait_end(SOON).success());
    assert!(cloud.hosts[0].log().contains("can be read by others"), "{}", cloud.hosts[0].log());
    cloud.client_worker.stop();
    open_to_others(&cloud.state_dir(0).join("client-worker/key"));
    cloud.client_worker.start();
    assert!(!cloud.client_worker.wait_end(SOON).success());
    assert!(cloud.client_worker.log().contains("can be read by others"));
}

#[test]
fn keys_are_made_anew_for_nobody() {
    let mut cloud = cloud();
    let before = wait_until("the first look", SOON, || Ok(cloud.facts()));
    let server = server_key(&cloud);
    cloud.client_worker.restart();
    cloud.hosts[0].restart();
    cloud.wait_up(0);
    assert_eq!(server_key(&cloud), server);
    wait_until("all is as it was", SOON, || {
        let now = cloud.facts();
        when(now == before, now)
    });
}
