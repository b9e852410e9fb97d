//! What the daemons log, for programs: each line a JSON object, and everything about a job found by its id.

use maglica_proto::{
    config::keyfile,
    fault::{Code, Fault},
    host::{HostAnswer, HostRequest},
    seal::PeerKind,
};
use maglica_tests::{
    cloud::Cloud,
    daemon::Daemon,
    node::Node,
    peer::Peer,
    wait::{SOON, wait_until, when},
};
use serde_json::Value;

/// All lines so far.
fn lines(daemon: &Daemon) -> Vec<Value> {
    let log = daemon.log();
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What is said of a job, in its order.
fn said<'a>(lines: &'a [Value], job: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["job"] == job).collect()
}

#[test]
fn everything_about_a_job_is_found_by_its_id_in_the_logs_of_both_daemons() {
    let cloud =
        Cloud::builder().node(Node::new().off("vm0")).set("/log/format", "json").set("/log/level", "debug").start();
    let alice = cloud.operator("alice", "operator");
    let answer = cloud.cli_as(&alice, &["vm", "start", "vm0", "-o", "json"]).ok().json();
    let job = answer["id"].as_str().expect("a job has an id");
    let (ours, theirs) = wait_until("both have logged its end", SOON, || {
        let (ours, theirs) = (lines(&cloud.client_worker), lines(&cloud.hosts[0]));
        let ended = said(&ours, job).iter().any(|line| line["message"] == "reported")
            && said(&theirs, job).iter().any(|line| line["message"] == "done");
        when(ended, &(said(&ours, job), said(&theirs, job))).map(|()| (ours.clone(), theirs.clone()))
    });
    let messages = |lines: &[Value]| -> Vec<String> {
        said(lines, job).iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let client_worker = messages(&ours);
    for message in ["submitted", "broadcast", "granted", "reported"] {
        assert!(client_worker.iter().any(|said| said == message), "{message}: {client_worker:?}");
    }
    let host_worker = messages(&theirs);
    for message in ["offered", "done"] {
        assert!(host_worker.iter().any(|said| said == message), "{message}: {host_worker:?}");
    }
    let submitted = said(&ours, job).into_iter().find(|line| line["message"] == "submitted").expect("just seen");
    assert_eq!(
        (&submitted["operator"], &submitted["vm"], &submitted["verb"]),
        (&"alice".into(), &"vm0".into(), &"start".into())
    );
    for line in said(&ours, job).into_iter().filter(|line| line["message"] != "broadcast") {
        assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("SHA256:")), "whose key it was: {line}");
    }
    for message in ["broadcast", "granted", "reported"] {
        let line = said(&ours, job).into_iter().find(|line| line["message"] == message).expect("just seen");
        assert_eq!(line["host"], "host0.example.jp", "{line}");
    }
    assert!(theirs.iter().all(|line| line["host"] == "host0.example.jp"), "a host's lines are that host's");
    // Nothing names the job without the field.
    for line in ours.iter().chain(&theirs).filter(|line| line.to_string().contains(job)) {
        assert_eq!(line["job"], job, "{line}");
    }
}

#[test]
fn what_a_host_writes_cannot_begin_a_line_of_the_log() {
    const FORGED: &str = "2026-11-21T00:00:00.000000Z  INFO maglica_client_worker: granted job=1";
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    cloud.hosts[0].stop();
    let id = cloud.submit(&["vm", "start", "vm0"]);
    let key = |path: &str| cloud.state_dir(0).join(path);
    let keys = keyfile::read_private(&key("host-worker/key")).expect("the host's key");
    let server = keyfile::read_public(&key("operator/server.pub")).expect("the client worker's key");
    let mut host = Peer::new(cloud.rep_addr(), PeerKind::Host, keys, server);
    let fault = Fault::new(Code::Hypervisor, format!("no such pool\n{FORGED}\u{1b}[2J"));
    let job = id.parse().expect("an id");
    let answer = host.say(&HostRequest::Refuse { job, fault }).expect("an answer");
    assert_eq!(answer, HostAnswer::Stored);
    cloud.client_worker.wait_log("refused by its host");
    let log = cloud.client_worker.log();
    let line = log.lines().find(|line| line.contains("refused by its host")).expect("just seen");
    assert!(line.contains(&id) && line.contains("granted job=1"), "{line}");
    assert!(log.lines().all(|line| !line.starts_with(FORGED) && !line.contains('\u{1b}')), "{log}");
}
