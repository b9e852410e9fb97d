//! The host worker is killed in the middle of a clone, also twice, also while it takes back what it did: after its next start the job
//! ends once and truly, and there is exactly one machine or nothing at all.

use std::{collections::BTreeSet, time::Duration};

use maglica_tests::{
    cloud::Cloud,
    libvirt::{Rig, text, virsh},
    wait::{SOON, wait_until, when},
};
use serde_json::Value;

/// Where it is killed, and whether the machine is defined by then: then it stays, otherwise everything is taken back.
const PLACES: [(&str, bool); 10] = [
    ("check.before", false),
    ("check.after", false),
    ("volumes.before", false),
    ("volumes.after", false),
    ("define.before", false),
    ("define.after", false),
    ("start.before", true),
    ("start.after", true),
    ("guest.before", true),
    ("guest.after", true),
];
/// A job that has to wait for libvirt's copy, and its host worker.
const END: &str = "90s";

fn clone(rig: &Rig, cloud: &Cloud, name: &str) -> String {
    let command = rig.clone_of(name, &["--no-customize", "--wait=1s"]);
    cloud.submit(&command.iter().map(String::as_str).collect::<Vec<_>>())
}

fn state(cloud: &Cloud, id: &str) -> Value {
    cloud.job(id)["state"].clone()
}

/// Starts it with failure points, and waits until it has died of them, or the job has ended without coming by any.
fn die(cloud: &mut Cloud, id: &str, points: &str) -> bool {
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with(points);
    wait_until("the host worker dies or the job ends", SOON, || {
        let state = state(cloud, id);
        when(!cloud.hosts[0].running() || state == "failed" || state == "succeeded", state)
    });
    !cloud.hosts[0].running()
}

/// The job has ended as it had to, is said to have ended once, and what is there is what it says.
fn assert_ended(rig: &Rig, cloud: &Cloud, id: &str, name: &str, made: bool, before: &BTreeSet<String>, place: &str) {
    let ended = cloud.cli(&["job", "wait", id, "--timeout", END]);
    let job = cloud.job(id);
    let events = job["events"].as_array().cloned().unwrap_or_default();
    let ends = events.iter().filter(|event| event["what"]["event"] == "ended").count();
    assert_eq!(ends, 1, "{place}: {job:#}");
    let added = rig.added(before);
    if made {
        assert_eq!((ended.code, &job["state"]), (0, &"succeeded".into()), "{place}: {job:#}");
        let disk = rig.folder_of_pool().join(format!("{name}.qcow2"));
        let expected = [
            format!("domain {name} running"),
            format!("file {}", text(&disk)),
            format!("volume {}/{name}.qcow2", rig.pool()),
        ];
        assert_eq!(added, expected, "{place}: {job:#}");
        assert_eq!(cloud.vm_state(name), "running", "{place}");
        assert!(virsh(&["dumpxml", name]).contains(id), "{place}: its metadata names the job");
    } else {
        assert_eq!((ended.code, &job["state"]), (8, &"failed".into()), "{place}: {job:#}");
        assert_eq!(rig.look(), *before, "{place}: {job:#}");
        assert!(cloud.vm_state(name).is_null(), "{place}");
    }
}

#[test]
fn real_a_host_worker_that_dies_at_any_step_twice_leaves_one_machine_or_none() {
    let rig = Rig::blank(4);
    let before = rig.look();
    let mut cloud = rig.cloud().start();
    let name = rig.name("vm0");
    for (place, made) in PLACES {
        let point = format!("clone.{place}=return(abort)");
        cloud.hosts[0].kill9();
        cloud.hosts[0].start_with(&point);
        let id = clone(&rig, &cloud, &name);
        cloud.hosts[0].wait_end(SOON);
        // The same place again, if it comes by; or the first thing taken back, and then the second.
        let mut deaths = 1;
        for points in [format!("{point};undo.before=return(abort)"), format!("{point};undo.after=1*off->return(abort)")]
        {
            deaths += u32::from(die(&mut cloud, &id, &points));
        }
        cloud.hosts[0].restart();
        assert_ended(&rig, &cloud, &id, &name, made, &before, place);
        let expected = if place.starts_with("check") || place == "volumes.before" { 1 } else { 3 };
        assert_eq!(deaths, expected, "{place}");
        if made {
            cloud.cli(&["vm", "destroy", &name]).ok();
            cloud.cli(&["vm", "remove", &name, "--yes"]).ok();
            assert_eq!(rig.look(), before, "{place}");
        }
    }
}

#[test]
fn real_a_host_worker_killed_twice_while_libvirt_copies_leaves_nothing() {
    let rig = Rig::blank(400);
    let before = rig.look();
    let mut cloud = rig.cloud().start();
    let name = rig.name("vm0");
    let id = clone(&rig, &cloud, &name);
    let stalled = rig.stall_copy();
    cloud.hosts[0].kill9();
    wait_until("virt-clone has died with it", SOON, || {
        let processes = rig.processes();
        when(!processes.iter().any(|line| line.contains("virt-clone")), processes)
    });
    cloud.hosts[0].start();
    cloud.hosts[0].wait_log("found in the ledger");
    cloud.hosts[0].restart();
    cloud.cli(&["job", "wait", &id, "--timeout", "2s"]).ended_with(11);
    drop(stalled);
    assert_ended(&rig, &cloud, &id, &name, false, &before, "while it copied");
    assert_eq!(rig.processes(), Vec::<String>::new());
    // The name is free again, and the pool fit for use.
    let id = clone(&rig, &cloud, &name);
    let limit = Duration::from_secs(60);
    wait_until("the next clone succeeds", limit, || when(state(&cloud, &id) == "succeeded", cloud.job(&id)));
    cloud.cli(&["vm", "destroy", &name]).ok();
    cloud.cli(&["vm", "remove", &name, "--yes"]).ok();
    assert_eq!(rig.look(), before);
}

/// A removal has no way back: whoever kills it, it is done in the end.
#[test]
fn real_a_removal_that_is_killed_at_any_step_is_done_after_the_next_start() {
    let rig = Rig::blank(4);
    let before = rig.look();
    let mut cloud = rig.cloud().start();
    let name = rig.name("vm0");
    for place in ["check.before", "check.after", "remove.before", "remove.after"] {
        let command = rig.clone_of(&name, &["--no-customize", "--no-start"]);
        cloud.cli(&command.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let point = format!("remove.{place}=return(abort)");
        cloud.hosts[0].kill9();
        cloud.hosts[0].start_with(&point);
        let id = cloud.submit(&["vm", "remove", &name, "--yes"]);
        cloud.hosts[0].wait_end(SOON);
        die(&mut cloud, &id, &point);
        cloud.hosts[0].restart();
        let ended = cloud.cli(&["job", "wait", &id, "--timeout", END]).ok();
        assert!(ended.stdout.contains(&format!("{name} is removed")), "{place}: {ended:?}");
        if place != "remove.after" {
            assert!(ended.stdout.contains(&format!("{}/{name}.qcow2", rig.pool())), "{place}: {ended:?}");
        }
        assert_eq!(rig.look(), before, "{place}");
        assert!(cloud.vm_state(&name).is_null(), "{place}");
    }
}
