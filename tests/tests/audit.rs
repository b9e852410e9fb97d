//! The audit of a real client worker: who did what, and that nothing of it can be lost or changed unseen.

use std::{fs, path::PathBuf};

use maglica_tests::{
    cloud::Cloud,
    node::Node,
    wait::{SOON, wait_until, when},
};
use serde_json::Value;

fn file(cloud: &Cloud) -> PathBuf {
    cloud.state_dir(0).join("client-worker/audit.log")
}

/// What `maglica audit` shows, oldest first.
fn entries(cloud: &Cloud, options: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = ["audit", "-n", "1000", "-o", "json"].iter().chain(options).copied().collect();
    cloud.cli(&all).ok().json()["entries"].as_array().cloned().unwrap_or_default()
}

/// Who, what, about what, and what came of it.
fn short(entries: &[Value]) -> Vec<[String; 4]> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    entries.iter().map(|entry| ["who", "verb", "object", "result"].map(|key| text(&entry[key]))).collect()
}

#[test]
fn everything_that_changes_something_is_in_the_audit_and_so_is_what_was_forbidden() {
    let cloud = Cloud::builder().hosts(2).node(Node::new().off("vm0")).start();
    let viewer = cloud.operator("vera", "viewer");
    let alice = cloud.operator("alice", "operator");
    cloud.cli_as(&viewer, &["vm", "start", "vm0"]).ended_with(10);
    cloud.cli_as(&alice, &["vm", "start", "vm0"]).ok();
    cloud.cli_as(&alice, &["vm", "start", "nothing"]).ended_with(4);
    cloud.cli_as(&alice, &["operator", "list"]).ended_with(10);
    cloud.cli_as(&alice, &["audit"]).ended_with(10);
    cloud.cli(&["host", "revoke", "host1.example.jp"]).ok();
    cloud.cli(&["operator", "revoke", "vera"]).ok();
    cloud.cli(&["vm", "list"]).ok();

    let mut all = short(&entries(&cloud, &[]));
    let mut expected = [
        ["client-worker", "operator-add", "root", "ok"],
        ["client-worker", "host-invite", "host0.example.jp", "ok"],
        ["host0.example.jp", "join", "host0.example.jp", "ok"],
        ["root", "host-invite", "host1.example.jp", "ok"],
        ["host1.example.jp", "join", "host1.example.jp", "ok"],
        ["root", "operator-add", "vera", "ok"],
        ["vera", "join", "vera", "ok"],
        ["root", "operator-add", "alice", "ok"],
        ["alice", "join", "alice", "ok"],
        ["vera", "submit", "vm0", "forbidden"],
        ["alice", "submit", "vm0", "ok"],
        ["alice", "submit", "nothing", "not-found"],
        ["alice", "operator-list", "-", "forbidden"],
        ["alice", "audit", "-", "forbidden"],
        ["root", "host-revoke", "host1.example.jp", "ok"],
        ["root", "operator-revoke", "vera", "ok"],
    ]
    .map(|row| row.map(str::to_owned));
    assert_eq!(all[9..], expected[9..]);
    // The first host joins when it likes.
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    let submitted = entries(&cloud, &["--operator", "alice", "--object", "vm0"]);
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    assert_eq!((submitted.len(), &submitted[0]["job"]), (1, &jobs["jobs"][0]["id"]));
    let operators = cloud.cli(&["operator", "list", "-o", "json"]).ok().json();
    let rows = operators["operators"].as_array().cloned().unwrap_or_default();
    let alice = rows.iter().find(|row| row["name"] == "alice").expect("alice is an operator");
    assert_eq!(submitted[0]["key"], alice["fingerprint"]);
    cloud.cli(&["audit", "--verify"]).ok();
}

#[test]
fn a_line_that_is_removed_changed_or_cut_off_shows() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    for _ in 0..2 {
        cloud.cli(&["vm", "start", "vm0"]).ok();
        cloud.cli(&["vm", "destroy", "vm0"]).ok();
    }
    let head = cloud.cli(&["audit", "--verify", "-o", "name"]).ok().stdout.trim().to_owned();
    let sound = fs::read_to_string(file(&cloud)).expect("an audit");
    let lines: Vec<&str> = sound.split_inclusive('\n').collect();
    assert!(lines.len() > 10, "{sound}");
    let without: String = lines.iter().enumerate().filter(|(at, _)| *at != 5).map(|(_, line)| *line).collect();
    let changed = sound.replacen("\"root\"", "\"rope\"", 1);
    let cut: String = lines[..lines.len() - 2].concat();
    let noted = ["audit", "--verify", "--head", &head];
    cloud.cli(&noted).ok();

    // Whether it runs while that is done or not.
    fs::write(file(&cloud), &without).expect("the audit can be written");
    cloud.cli(&["audit", "--verify"]).ended_with(1).says(&["line 5 is missing"], &[]);
    cloud.client_worker.restart();
    cloud.wait_answers();
    cloud.client_worker.wait_log("the audit's chain does not hold");
    cloud.cli(&["audit", "--verify"]).ended_with(1).says(&["line 5 is missing"], &[]);
    let status = cloud.cli(&["status"]).ok().stdout;
    assert!(status.contains("CHANGED: line 5 is missing"), "{status}");
    let listed = cloud.cli(&["audit", "-o", "json"]).ended_with(1);
    listed.says(&["line 5 is missing"], &["--verify"]);
    let entries = listed.json()["entries"].as_array().cloned().unwrap_or_default();
    assert!(entries.iter().any(|entry| entry["event"] == "broken"), "it says so itself, and goes on: {entries:#?}");

    cloud.client_worker.kill9();
    fs::write(file(&cloud), &changed).expect("the audit can be written");
    cloud.client_worker.start();
    cloud.wait_answers();
    cloud.cli(&["audit", "--verify"]).ended_with(1).says(&["does not follow"], &[]);

    // Nothing is wrong with what is left, but for the head that somebody noted.
    cloud.client_worker.kill9();
    fs::write(file(&cloud), &cut).expect("the audit can be written");
    cloud.client_worker.start();
    cloud.wait_answers();
    cloud.cli(&["audit", "--verify"]).ok();
    cloud.cli(&noted).ended_with(1).says(&["was cut off"], &[]);
    // The daemon's log has such heads, too: one of each start.
    let log = cloud.client_worker.log();
    assert_eq!(log.matches("the audit's head").count(), 4, "{log}");
}

#[test]
fn a_client_worker_killed_before_the_job_is_stored_leaves_the_question_without_an_outcome() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    cloud.client_worker.kill9();
    cloud.client_worker.start_with("store.before-commit=return(abort)");
    // Its host's heartbeats store nothing; only the submission does.
    cloud.wait_up(0);
    let _ = cloud.cli(&["vm", "start", "vm0", "--detach", "--timeout", "3s"]);
    cloud.client_worker.wait_end(SOON);
    cloud.client_worker.start();
    cloud.wait_answers();
    let submits = short(&entries(&cloud, &["--verb", "submit"]));
    assert!(!submits.is_empty() && submits.iter().all(|row| row[3] == "-"), "{submits:?}");
    let table = cloud.cli(&["audit", "--verb", "submit"]).ok().stdout;
    assert!(table.contains("unknown"), "{table}");
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    assert_eq!(jobs["jobs"], Value::Array(Vec::new()), "nothing was done");
    cloud.cli(&["audit", "--verify"]).ok();
}

#[test]
fn a_client_worker_killed_before_the_line_is_synced_has_done_nothing() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    cloud.client_worker.kill9();
    cloud.client_worker.start_with("audit.before-sync=return(abort)");
    cloud.wait_up(0);
    let _ = cloud.cli(&["vm", "start", "vm0", "--detach", "--timeout", "3s"]);
    cloud.client_worker.wait_end(SOON);
    cloud.client_worker.start();
    cloud.wait_answers();
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    assert_eq!(jobs["jobs"], Value::Array(Vec::new()));
    cloud.cli(&["audit", "--verify"]).ok();
}

#[test]
fn a_torn_last_line_is_told_and_does_not_break_the_chain() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    cloud.client_worker.kill9();
    let mut text = fs::read(file(&cloud)).expect("an audit");
    text.extend_from_slice(b"{\"seq\":99,\"at\":17");
    fs::write(file(&cloud), text).expect("the audit can be written");
    cloud.client_worker.start();
    cloud.wait_answers();
    cloud.cli(&["vm", "start", "vm0"]).ok();
    cloud.cli(&["audit", "--verify"]).ok();
    let torn = entries(&cloud, &[]).into_iter().find(|entry| entry["event"] == "torn").expect("a line tells of it");
    assert_eq!((&torn["bytes"], &torn["text"]), (&17.into(), &"{\"seq\":99,\"at\":17".into()));
}

#[test]
fn without_room_for_the_audit_nothing_is_changed_and_everything_is_still_shown() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    cloud.client_worker.kill9();
    // What it writes at its own start is let through, and after a while the disk has room again.
    cloud.client_worker.start_with("audit.full=6*off->8*return->off");
    // A list is complete only when the host is back.
    cloud.wait_up(0);
    let refused = wait_until("a request is refused", SOON, || {
        let output = cloud.cli(&["host", "revoke", "host9.example.jp"]);
        when(output.code == 8, &output).map(|()| output)
    });
    refused.says(&["nothing was done", "audit", "No space left"], &[]);
    cloud.cli(&["vm", "list"]).ok();
    cloud.cli(&["audit"]).ok();
    wait_until("there is room again", SOON, || {
        let output = cloud.cli(&["vm", "start", "vm0"]);
        when(output.code == 0, &output)
    });
    cloud.client_worker.wait_log("the audit can be written again");
    cloud.cli(&["audit", "--verify"]).ok();
    let revokes = short(&entries(&cloud, &["--verb", "host-revoke"]));
    assert!(revokes.iter().all(|row| row[3] == "not-found"), "none of those that were not done: {revokes:?}");
}

#[test]
fn somebody_who_is_refused_again_and_again_does_not_fill_the_disk() {
    let cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    let viewer = cloud.operator("vera", "viewer");
    for _ in 0..80 {
        cloud.cli_as(&viewer, &["job", "cancel", "0193e0a5-7f3e-7c1a-9d3b-2f6c1a0b4d5e"]).ended_with(10);
    }
    let lines = entries(&cloud, &["--operator", "vera", "--verb", "job-cancel"]).len();
    assert!((1..=61).contains(&lines), "{lines}");
}
