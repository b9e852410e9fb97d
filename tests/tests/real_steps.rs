//! A clone that fails or is cancelled, at every step and in the middle of those that take long, leaves libvirt, the pool and its folder
//! exactly as they were.

use maglica_tests::{
    cloud::Cloud,
    command::finish,
    libvirt::Rig,
    wait::{SOON, wait_until, when},
};
use rustix::process::{Pid, Signal, kill_process};

/// The places in a clone at which it can be stopped, in the order in which it comes by them.
const PLACES: [&str; 10] = [
    "check.before",
    "check.after",
    "volumes.before",
    "volumes.after",
    "define.before",
    "define.after",
    "start.before",
    "start.after",
    "guest.before",
    "guest.after",
];
/// Nobody is in the image's guest who would answer.
const PLAIN: [&str; 2] = ["--no-customize", "--wait=1s"];

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn wait_gone(rig: &Rig) {
    wait_until("no process works on the copies any more", SOON, || when(rig.processes().is_empty(), rig.processes()));
}

#[test]
fn real_a_failure_at_any_step_leaves_everything_as_it_was_and_the_next_attempt_succeeds() {
    let rig = Rig::blank(4);
    let before = rig.look();
    let mut cloud = rig.cloud().start();
    cloud.hosts[0].kill9();
    // Each is good once, so that each clone comes one place further.
    let points: Vec<String> = PLACES.iter().map(|place| format!("clone.{place}=1*return(broken on purpose)")).collect();
    cloud.hosts[0].start_with(&points.join(";"));
    cloud.wait_up(0);
    let name = rig.name("vm0");
    let command = rig.clone_of(&name, &PLAIN);
    for place in PLACES {
        let output = cloud.cli(&words(&command)).ended_with(1);
        output.says(&["broken on purpose"], &["maglica job show"]);
        let step = place.split('.').next().expect("it has two parts");
        assert!(output.stderr.contains(&format!("✘ {step} failed")), "{place}: {output:?}");
        assert_eq!(rig.look(), before, "{place}: {output:?}");
        assert!(cloud.vm_state(&name).is_null(), "{place}");
    }
    let output = cloud.cli(&words(&command)).ok();
    assert!(output.stdout.contains(&format!("{name} is running")), "{output:?}");
    cloud.cli(&["vm", "destroy", &name]).ok();
    cloud.cli(&["vm", "remove", &name, "--yes"]).ok();
    assert_eq!(rig.look(), before);
}

#[test]
fn real_a_cancel_at_any_step_leaves_everything_as_it_was() {
    let rig = Rig::blank(4);
    let before = rig.look();
    let mut cloud = rig.cloud().start();
    cloud.hosts[0].kill9();
    let points: Vec<String> = PLACES.iter().map(|place| format!("clone.{place}=1*return(hold)")).collect();
    cloud.hosts[0].start_with(&points.join(";"));
    cloud.wait_up(0);
    let name = rig.name("vm0");
    let command = rig.clone_of(&name, &PLAIN);
    for place in PLACES {
        let id = cloud.submit(&words(&command));
        cloud.hosts[0].wait_log(&format!("held at clone.{place}"));
        let output = cloud.cli(&["job", "cancel", &id]).ok();
        assert!(output.stdout.contains(&id), "{output:?}");
        cloud.cli(&["job", "wait", &id, "--timeout", "60s"]).ended_with(12).says(&["cancelled"], &[]);
        let job = cloud.job(&id);
        assert_eq!(job["state"], "cancelled", "{place}: {job:#}");
        assert_eq!(rig.look(), before, "{place}: {job:#}");
        assert!(cloud.vm_state(&name).is_null(), "{place}");
    }
}

#[test]
fn real_ctrl_c_ends_the_command_and_not_the_job() {
    let rig = Rig::blank(4);
    let before = rig.look();
    let mut cloud = rig.cloud().start();
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("clone.define.before=1*return(hold)");
    cloud.wait_up(0);
    let name = rig.name("vm0");
    let command = cloud.cli_spawn(&words(&rig.clone_of(&name, &PLAIN)));
    cloud.hosts[0].wait_log("held at clone.define.before");
    let process = i32::try_from(command.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
    kill_process(process, Signal::INT).expect("the command can be signalled");
    let output = finish(command).ended_with(130);
    output.says(&["interrupted", "goes on"], &["maglica job cancel"]);
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    let job = &jobs["jobs"][0];
    assert_eq!(job["state"], "running", "{jobs:#}");
    let id = job["id"].as_str().expect("an id");
    cloud.cli(&["job", "cancel", id]).ok();
    cloud.cli(&["job", "wait", id, "--timeout", "60s"]).ended_with(12);
    assert_eq!(rig.look(), before);
}

#[test]
fn real_a_cancel_while_libvirt_copies_waits_for_it_and_leaves_nothing() {
    let rig = Rig::blank(400);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let id = cloud.submit(&words(&rig.clone_of(&rig.name("vm0"), &PLAIN)));
    let stalled = rig.stall_copy();
    cloud.cli(&["job", "cancel", &id]).ok();
    cloud.hosts[0].wait_log("is to be stopped");
    // Nobody but libvirt can end the copy, and while it is made its volume cannot be deleted.
    cloud.cli(&["job", "wait", &id, "--timeout", "2s"]).ended_with(11);
    assert_eq!(cloud.job(&id)["state"], "cancelling");
    drop(stalled);
    cloud.cli(&["job", "wait", &id, "--timeout", "60s"]).ended_with(12);
    assert_eq!(cloud.job(&id)["state"], "cancelled");
    assert_eq!(rig.look(), before);
    wait_gone(&rig);
}

/// Waits until an appliance works on a copy.
fn wait_customizing(rig: &Rig, cloud: &Cloud, id: &str) {
    wait_until("an appliance works on the copy", SOON, || {
        let processes = rig.processes();
        when(
            processes.iter().any(|line| line.contains("qemu-system") && line.contains(".partial")),
            (processes, cloud.job(id)),
        )
    });
}

#[test]
fn real_customizing_that_fails_or_is_cancelled_leaves_nothing() {
    let rig = Rig::files();
    let before = rig.look();
    let mut cloud = rig.cloud().start();
    cloud.hosts[0].kill9();
    let points = ["before=1*return(broken on purpose)", "after=1*return(broken on purpose)"];
    cloud.hosts[0].start_with(&points.map(|point| format!("clone.customize.{point}")).join(";"));
    cloud.wait_up(0);
    let command = rig.clone_of(&rig.name("vm0"), &["--no-start"]);
    for attempt in ["before", "after"] {
        let output = cloud.cli(&words(&command)).ended_with(1);
        output.says(&["broken on purpose"], &[]);
        assert_eq!(rig.look(), before, "{attempt}");
        wait_gone(&rig);
    }
    let id = cloud.submit(&words(&command));
    wait_customizing(&rig, &cloud, &id);
    cloud.cli(&["job", "cancel", &id]).ok();
    cloud.cli(&["job", "wait", &id, "--timeout", "60s"]).ended_with(12);
    assert_eq!(rig.look(), before);
    wait_gone(&rig);
    // Killed in the middle of it instead: the appliance ends with the host worker, and the next one takes everything back.
    let id = cloud.submit(&words(&command));
    wait_customizing(&rig, &cloud, &id);
    cloud.hosts[0].kill9();
    wait_gone(&rig);
    cloud.hosts[0].start();
    cloud
        .cli(&["job", "wait", &id, "--timeout", "60s"])
        .ended_with(8)
        .says(&["interrupted", "customize"], &["job show"]);
    assert_eq!(rig.look(), before);
    let scratch: Vec<_> =
        std::fs::read_dir(cloud.state_dir(0).join("host-worker/scratch")).expect("it is there").collect();
    assert!(scratch.is_empty(), "{scratch:?}");
}

#[test]
fn real_a_guest_that_goes_off_while_it_is_waited_for_is_a_failure_that_leaves_nothing() {
    let rig = Rig::blank(4);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let name = rig.name("vm0");
    let command = cloud.cli_spawn(&words(&rig.clone_of(&name, &["--no-customize", "--wait"])));
    wait_until("it runs", SOON, || when(rig.added(&before).contains(&format!("domain {name} running")), rig.look()));
    maglica_tests::libvirt::virsh(&["destroy", &name]);
    let output = finish(command).ended_with(6);
    output.says(&["went off"], &[]);
    assert_eq!(rig.look(), before);
}
