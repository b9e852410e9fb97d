//! Several machines at once, and the verbs that change one, through the command, on libvirt's in-memory driver.

use maglica_tests::{
    cloud::{Cloud, host_name},
    node::Node,
};
use serde_json::Value;

fn rows(value: &Value) -> Vec<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    value.as_array().into_iter().flatten().map(|row| (text(row, "vm"), text(row, "result"))).collect()
}

#[test]
fn names_and_patterns_at_once_are_told_one_by_one_and_the_exit_code_says_all_some_or_none() {
    let node = Node::new().off("web-1").off("web-2").off("web-3").running("db1").off("other");
    let cloud = Cloud::builder().node(node).start();
    let all = cloud.cli(&["vm", "start", "web-*", "db1", "-o", "json"]).ok().json();
    let wanted = ["db1", "web-1", "web-2", "web-3"].map(|vm| (vm.to_owned(), "succeeded".to_owned()));
    let mut told = rows(&all);
    told.sort();
    assert_eq!(told, wanted, "{all:#}");
    assert_eq!(cloud.vm_state("other"), "off", "what does not fit is left alone");

    let some = cloud.cli(&["vm", "suspend", "web-1", "other", "nope"]).ended_with(15);
    for words in ["web-1", "other", "is off", "nope", "refused", "there is no virtual machine nope"] {
        assert!(some.stdout.contains(words), "{words}: {some:?}");
    }
    let none = cloud.cli(&["vm", "start", "nope1", "nope2"]).ended_with(4);
    assert!(none.stdout.lines().count() == 3, "{none:?}");
    cloud.cli(&["vm", "start", "mail*"]).ended_with(4).says(&["mail*"], &["maglica vm list"]);
    cloud.cli(&["vm", "start"]).ended_with(2).says(&["--all"], &[]);
}

#[test]
fn what_destroys_several_asks_first_and_without_a_terminal_wants_a_yes() {
    let node = Node::new().running("web-1").running("web-2").off("old-1").off("old-2").running("old-3");
    let cloud = Cloud::builder().node(node).start();
    for command in [&["vm", "destroy", "web-*"][..], &["vm", "remove", "--all", "--state", "off"]] {
        cloud.cli(command).ended_with(2).says(&["--yes"], &[]);
    }
    assert_eq!((cloud.vm_state("web-1"), cloud.vm_state("old-1")), ("running".into(), "off".into()));
    cloud.cli(&["vm", "destroy", "web-*", "--yes"]).ok();
    assert_eq!(cloud.vm_state("web-2"), "off");
    // Named ones are switched off as one is.
    cloud.cli(&["vm", "start", "web-1", "web-2"]).ok();
    cloud.cli(&["vm", "destroy", "web-1", "web-2"]).ok();
    let removed = cloud.cli(&["vm", "remove", "old-*", "--state", "off", "--yes", "-o", "json"]).ok().json();
    let mut gone = rows(&removed);
    gone.sort();
    assert_eq!(gone, ["old-1", "old-2"].map(|vm| (vm.to_owned(), "succeeded".to_owned())), "{removed:#}");
    assert_eq!(cloud.vm_state("old-3"), "running");
}

#[test]
fn machines_of_a_host_that_is_away_are_left_out_unless_they_are_named() {
    let cloud = Cloud::builder().hosts(2).node(Node::new().off("web-1")).node(Node::new().off("web-2"));
    let mut cloud = cloud.start();
    cloud.hosts[1].kill9();
    cloud.wait_presence(1, "down");
    let told = cloud.cli(&["vm", "start", "web-*", "-o", "json"]).ended_with(15).json();
    assert_eq!(
        rows(&told),
        [("web-1".to_owned(), "succeeded".to_owned()), ("web-2".to_owned(), "left-out".to_owned())],
        "{told:#}"
    );
}

#[test]
fn a_list_is_filtered_sorted_and_has_the_columns_that_are_asked_for() {
    let cloud = Cloud::builder().node(Node::new().off("web-1").running("web-2").off("web-3").off("db1")).start();
    let list = |words: &[&str]| cloud.cli(&[&["vm", "list"], words].concat()).ok().stdout;
    assert_eq!(
        list(&["web-*", "--state", "off", "--columns", "name,state", "--reverse"]),
        "Name   State\nweb-3  off\nweb-1  off\n"
    );
    assert_eq!(list(&["--sort", "state", "-o", "name"]), "db1\nweb-1\nweb-3\nweb-2\n");
    assert_eq!(list(&["--image", "*", "-o", "name"]), "", "none of them is a clone");
    assert_eq!(list(&["--host", &host_name(0), "db?", "-o", "name"]), "db1\n");
}

#[test]
fn the_verbs_that_change_one_machine_say_from_when_on_the_change_holds() {
    let cloud = Cloud::builder().node(Node::new().running("vm0").off("vm1")).start();
    let said = |words: &[&str]| cloud.cli(&[&["vm"], words].concat()).ok().stdout;
    assert!(said(&["suspend", "vm0"]).contains("it stands still"));
    assert_eq!(cloud.vm_state("vm0"), "paused");
    assert!(said(&["resume", "vm0"]).contains("it runs"));
    assert!(said(&["autostart", "on", "vm0", "vm1"]).contains("starts with its host"));
    assert!(said(&["autostart", "on", "vm0"]).contains("as it was already"));
    assert!(said(&["set-vcpus", "vm1", "2"]).contains("2 processors"));
    assert!(
        said(&["set_vcpus", "--name=vm0", "--vcpus=2"]).contains("only after it was switched off and started again")
    );
    assert!(said(&["set-memory", "vm1", "96M"]).contains("96.0 MiB of memory"));
    cloud.cli(&["vm", "set-vcpus", "vm1", "100000"]).ended_with(7).says(&["its host has"], &[]);
    assert!(said(&["attach-disk", "vm1", "--size", "20M"]).contains("vdb is a new disk of 20.0 MiB (pool0/vm1-"));
    cloud.cli(&["vm", "resize-disk", "vm1", "vdb", "10M"]).ended_with(2).says(&["never made smaller"], &[]);
    cloud.cli(&["vm", "detach-disk", "vm1", "vdb", "--delete"]).ended_with(2).says(&["--yes"], &[]);
    assert!(said(&["detach-disk", "vm1", "vdb", "--delete", "--yes"]).contains("is deleted"));
    cloud.cli(&["vm", "attach-iso", "vm1", "/nowhere/a.iso"]).ended_with(4).says(&["/nowhere/a.iso"], &[]);
    cloud.cli(&["vm", "set-boot-device", "vm1", "floppy"]).ended_with(2).says(&["disk, cdrom or network"], &[]);
    let shown = cloud.cli(&["vm", "info", "vm1", "-o", "json"]).ok().json();
    assert_eq!((shown["vcpus"].as_u64(), shown["autostart"].as_bool()), (Some(2), Some(true)), "{shown:#}");
    let audit = cloud.cli(&["audit", "-o", "json"]).ok().stdout;
    assert!(audit.contains("set-memory") && audit.contains("attach-disk"), "the audit names what was done");
}

#[test]
fn snapshots_are_taken_listed_gone_back_to_and_deleted() {
    let cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    let said = |words: &[&str]| cloud.cli(&[&["snapshot"], words].concat()).ok().stdout;
    assert!(said(&["create", "vm0", "fresh", "--description", "as new", "--expires", "7d"]).contains("fresh is taken"));
    cloud.cli(&["snapshot", "create", "vm0", "fresh"]).ended_with(5).says(&["has a snapshot fresh already"], &[]);
    cloud.cli(&["snapshot", "create", "vm0", "7"]).ended_with(2).says(&["is a number"], &[]);
    cloud.cli(&["snapshot", "create", "vm0", "ram", "--memory"]).ended_with(6).says(&["has no memory"], &[]);
    said(&["create", "vm0", "second"]);
    let list = cloud.cli(&["snapshot", "list", "vm0", "-o", "json"]).ok().json();
    let names: Vec<_> = list["snapshots"].as_array().into_iter().flatten().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["fresh", "second"], "{list:#}");
    let fresh = cloud.cli(&["snapshot", "show", "vm0", "fresh", "-o", "json"]).ok().json();
    assert_eq!((fresh["description"].as_str(), fresh["by"].as_str()), (Some("as new"), Some("root")), "{fresh:#}");
    assert!(fresh["expires"].as_u64() > fresh["created"].as_u64().map(|at| at + 6 * 86_400_000), "{fresh:#}");
    cloud.cli(&["vm", "start", "vm0"]).ok();
    cloud.cli(&["snapshot", "revert", "vm0", "fresh"]).ended_with(2).says(&["--yes"], &[]);
    assert!(said(&["revert", "vm0", "fresh", "--yes"]).contains("is off"));
    assert_eq!(cloud.vm_state("vm0"), "off");
    assert!(said(&["revert", "vm0", "second", "--start", "--yes"]).contains("runs"));
    assert_eq!(cloud.vm_state("vm0"), "running");
    said(&["delete", "vm0", "fresh", "--yes"]);
    cloud.cli(&["snapshot", "show", "vm0", "fresh"]).ended_with(4).says(&["no snapshot fresh"], &["snapshot list vm0"]);
    cloud.cli(&["snapshot", "delete", "vm0", "fresh", "--yes"]).ended_with(4);
    cloud.cli(&["vm", "destroy", "vm0"]).ok();
    cloud.cli(&["vm", "rename", "vm0", "vm1"]).ended_with(6).says(&["has snapshots (1)"], &[]);
}
