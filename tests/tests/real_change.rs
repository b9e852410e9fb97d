//! Everything that can be changed about a machine, and its snapshots, on the real hypervisor.

use std::{fs, path::Path};

use maglica_tests::{
    cloud::Cloud,
    command::finish,
    libvirt::{Rig, text, virsh},
    wait::{SOON, wait_until, when},
};
use serde_json::Value;

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// A machine of the rig's image that does nothing.
fn machine(rig: &Rig, cloud: &Cloud, name: &str, more: &[&str]) {
    let more: Vec<&str> = ["--no-customize"].iter().chain(more).copied().collect();
    cloud.cli(&words(&rig.clone_of(name, &more))).ok();
}

fn shown(cloud: &Cloud, name: &str) -> Value {
    cloud.cli(&["vm", "show", name, "-o", "json"]).ok().json()
}

fn disk<'a>(view: &'a Value, target: &str) -> &'a Value {
    view["disks"].as_array().into_iter().flatten().find(|disk| disk["target"] == target).unwrap_or(&Value::Null)
}

fn iso(rig: &Rig, name: &str) -> String {
    let path = rig.path(name);
    fs::write(&path, vec![7; 64 * 1024]).expect("a file can be written");
    text(&path).to_owned()
}

fn live(name: &str, word: &str) -> bool {
    virsh(&["dumpxml", name]).contains(word)
}

fn kept(name: &str, word: &str) -> bool {
    virsh(&["dumpxml", "--inactive", name]).contains(word)
}

#[test]
fn real_the_resources_of_a_machine_that_runs_are_changed_live_where_they_can_be_and_kept_in_any_case() {
    let rig = Rig::blank(1);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let (name, new) = (rig.name("vm0"), rig.name("vm1"));
    machine(&rig, &cloud, &name, &[]);
    let said = |words: &[&str]| cloud.cli(&[&["vm"], words].concat()).ok().stdout;

    // A disk: added to what runs, made larger, taken away with its volume.
    let out = said(&["attach-disk", &name, "--size", "64M"]);
    assert!(out.contains("vdb is a new disk of 64.0 MiB") && !out.contains("only after"), "{out}");
    assert!(live(&name, "dev='vdb'") && kept(&name, "dev='vdb'"));
    let out = said(&["resize-disk", &name, "vdb", "128M"]);
    assert!(out.contains("vdb has 128.0 MiB"), "{out}");
    assert_eq!(disk(&shown(&cloud, &name), "vdb")["capacity"], 128 << 20);
    cloud.cli(&["vm", "resize-disk", &name, "vdb", "64M"]).ended_with(2).says(&["never made smaller"], &[]);
    assert!(virsh(&["domblkinfo", &name, "vdb"]).contains("134217728"));

    // The CD drive: none yet, so that it takes a restart; then it is filled and emptied live.
    let (first, second) = (iso(&rig, "first.iso"), iso(&rig, "second.iso"));
    let out = said(&["attach-iso", &name, &first]);
    assert!(out.contains("new CD drive sda") && out.contains("only after it was switched off"), "{out}");
    assert!(kept(&name, &first) && !live(&name, &first));
    let out = said(&["set-vcpus", &name, "2"]);
    assert!(out.contains("2 processors") && out.contains("it was started with at most 1"), "{out}");
    let out = said(&["set-memory", &name, "256M"]);
    assert!(out.contains("256.0 MiB of memory") && !out.contains("only after"), "{out}");
    let out = said(&["set-boot-device", &name, "cdrom"]);
    assert!(out.contains("CD drive first") && out.contains("only after"), "{out}");
    cloud.cli(&["vm", "destroy", &name]).ok();
    cloud.cli(&["vm", "start", &name]).ok();
    assert!(live(&name, &first) && live(&name, ">2</vcpu>"), "what was to come at the next start has come");
    let out = said(&["attach-iso", "--name", &name, "--iso", &second]);
    assert!(out.contains(&format!("in the place of {first}")) && !out.contains("only after"), "{out}");
    assert!(live(&name, &second) && kept(&name, &second) && !live(&name, &first));
    assert!(said(&["eject-iso", &name]).contains("sda is empty"));
    assert!(!live(&name, &second) && !kept(&name, &second));
    let pool_iso = format!("{}/disc.iso", rig.pool());
    fs::copy(&first, rig.folder_of_pool().join("disc.iso")).expect("a file can be copied");
    virsh(&["pool-refresh", &rig.pool()]);
    assert!(said(&["attach-iso", &name, &pool_iso]).contains("disc.iso is in its CD drive sda"));
    said(&["eject-iso", &name]);
    fs::remove_file(rig.folder_of_pool().join("disc.iso")).expect("a file can be removed");
    virsh(&["pool-refresh", &rig.pool()]);
    // Down to one again, which the guest (that does nothing) is not asked for: kept all the same.
    said(&["set-vcpus", &name, "1"]);
    assert!(kept(&name, ">1</vcpu>"));

    // Power.
    said(&["suspend", &name]);
    assert_eq!(cloud.vm_state(&name), "paused");
    said(&["resume", &name]);
    said(&["reset", &name]);
    said(&["reboot", &name]);
    assert_eq!(cloud.vm_state(&name), "running");
    let view = shown(&cloud, &name);
    assert!(view["console"].as_str().is_some_and(|console| console.starts_with("/dev/pts/")), "{view:#}");
    assert_eq!(view["made"]["image"], rig.image().as_str(), "{view:#}");

    // The guest does not help, so that the disk goes only with the power.
    cloud.cli(&["vm", "rename", &name, &new]).ended_with(6).says(&["is running"], &[]);
    cloud.cli(&["vm", "destroy", &name]).ok();
    let out = said(&["detach-disk", &name, "vdb", "--delete", "--yes"]);
    assert!(out.contains("vdb is taken away") && out.contains("is deleted"), "{out}");
    assert_eq!(disk(&shown(&cloud, &name), "vdb"), &Value::Null);
    assert!(said(&["rename", &name, &new]).contains(&format!("its name is {new}")));
    assert!(cloud.vm_state(&name).is_null());
    assert_eq!(cloud.vm_state(&new), "off");
    said(&["autostart", "on", &new]);
    assert_eq!(shown(&cloud, &new)["autostart"], true);

    // A machine that is off is a source too; one that runs is not.
    let copy = rig.name("copy");
    let of_new = ["vm", "clone", "--image", &new, "--hostname", &copy, "--no-customize", "--no-start"];
    cloud.cli(&["vm", "start", &new]).ok();
    cloud.cli(&of_new).ended_with(6).says(&["running"], &[]);
    cloud.cli(&["vm", "destroy", &new]).ok();
    cloud.cli(&of_new).ok();
    assert_eq!(shown(&cloud, &copy)["made"]["image"], new.as_str());
    cloud.cli(&["vm", "remove", &new, &copy, "--yes"]).ok();
    for name in ["first.iso", "second.iso"] {
        fs::remove_file(rig.path(name)).expect("a file can be removed");
    }
    assert_eq!(rig.look(), before);
}

/// What the first bytes of a machine's disk are.
fn first_bytes(path: &Path) -> String {
    maglica_tests::libvirt::program("qemu-io", &["-U", "-r", "-f", "qcow2", "-c", "read -v 0 16", text(path)])
}

fn write_pattern(path: &Path, pattern: &str) {
    maglica_tests::libvirt::program(
        "qemu-io",
        &["-f", "qcow2", "-c", &format!("write -P {pattern} 0 64k"), text(path)],
    );
}

#[test]
fn real_snapshots_bring_disks_and_memory_back() {
    let rig = Rig::blank(1);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let name = rig.name("vm0");
    machine(&rig, &cloud, &name, &["--no-start"]);
    let place = disk(&shown(&cloud, &name), "vda")["path"].as_str().map(std::path::PathBuf::from).expect("a disk");
    let said = |words: &[&str]| cloud.cli(&[&["snapshot"], words].concat()).ok().stdout;

    // Off: the disk is as it was.
    said(&["create", &name, "off", "--description", "with sevens"]);
    write_pattern(&place, "0x11");
    assert!(first_bytes(&place).contains("11 11"));
    said(&["revert", &name, "off", "--yes"]);
    assert!(first_bytes(&place).contains("07 07"));

    // Running, without memory: libvirt alone could not go back to it.
    cloud.cli(&["vm", "start", &name]).ok();
    let out = said(&["create", &name, "live"]);
    assert!(out.contains("live is taken, of its disks"), "{out}");
    said(&["create", &name, "ram", "--memory"]);
    let list = cloud.cli(&["snapshot", "list", &name, "-o", "json"]).ok().json();
    let rows = list["snapshots"].as_array().cloned().unwrap_or_default();
    let memory: Vec<_> = rows.iter().map(|row| (row["name"].as_str(), row["memory"].as_bool())).collect();
    assert_eq!(
        memory,
        [(Some("off"), Some(false)), (Some("live"), Some(false)), (Some("ram"), Some(true))],
        "{list:#}"
    );
    cloud.cli(&["vm", "destroy", &name]).ok();
    write_pattern(&place, "0x22");
    let out = said(&["revert", &name, "live", "--yes"]);
    assert!(out.contains("is off") && first_bytes(&place).contains("07 07"), "{out}");
    let out = said(&["revert", &name, "ram", "--yes"]);
    assert!(out.contains("runs"), "{out}");
    assert_eq!(cloud.vm_state(&name), "running");

    // A schedule is kept with the machine, and what it is brought back to does not undo it.
    said(&["schedule", &name, "--every", "1d", "--keep", "2"]);
    wait_until("the host has taken one by itself", SOON, || {
        let view = shown(&cloud, &name);
        let taken = view["snapshots"].as_array().into_iter().flatten().any(|row| row["scheduled"] == true);
        when(taken, view["snapshots"].clone())
    });
    said(&["revert", &name, "off", "--yes"]);
    assert_eq!(shown(&cloud, &name)["schedule"]["keep"], 2);
    said(&["unschedule", &name]);
    for snapshot in ["live", "off", "ram"] {
        said(&["delete", &name, snapshot, "--yes"]);
    }
    assert_eq!(cloud.vm_state(&name), "off");
    // Another disk that keeps no snapshots is said to be in the way.
    let raw = rig.path("raw.img");
    fs::write(&raw, vec![0; 1 << 20]).expect("a file can be written");
    virsh(&["attach-disk", &name, text(&raw), "vdz", "--config", "--subdriver", "raw"]);
    cloud.cli(&["snapshot", "create", &name, "no"]).ended_with(1).says(&["vdz", "is raw", "qcow2"], &[]);
    virsh(&["detach-disk", &name, "vdz", "--config"]);
    fs::remove_file(raw).expect("a file can be removed");
    cloud.cli(&["vm", "remove", &name, "--yes"]).ok();
    assert_eq!(rig.look(), before);
}

#[test]
fn real_two_clones_of_one_name_at_the_same_moment_are_one_and_of_two_names_two() {
    let rig = Rig::blank(1);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let name = rig.name("same");
    let command = rig.clone_of(&name, &["--no-customize", "--no-start"]);
    let both = [cloud.cli_spawn(&words(&command)), cloud.cli_spawn(&words(&command))].map(finish);
    let mut codes: Vec<i32> = both.iter().map(|output| output.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 5], "{both:?}");
    let lost = both.iter().find(|output| output.code == 5).expect("one lost");
    assert!(lost.stderr.contains(&name) && lost.stderr.contains("error: "), "{lost:?}");

    let names = [rig.name("a"), rig.name("b")];
    let both =
        names.each_ref().map(|name| cloud.cli_spawn(&words(&rig.clone_of(name, &["--no-customize", "--no-start"]))));
    for output in both.map(finish) {
        output.ok();
    }
    cloud.cli(&["vm", "remove", &name, &names[0], &names[1], "--yes"]).ok();
    assert_eq!(rig.look(), before);
}

#[test]
fn real_fifty_clones_submitted_at_once_all_end() {
    const COUNT: usize = 50;
    let rig = Rig::blank(1);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let names: Vec<String> = (0..COUNT).map(|number| rig.name(&format!("many{number}"))).collect();
    let clone = |name: &String| cloud.submit(&words(&rig.clone_of(name, &["--no-customize", "--no-start"])));
    let ids: Vec<String> = names.iter().map(clone).collect();
    for id in &ids {
        cloud.cli(&["job", "wait", id, "--timeout", "9m"]).ok();
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let removed = cloud.cli(&[&["vm", "remove", "--yes"], &all[..]].concat()).ok();
    assert_eq!(removed.stdout.lines().count(), COUNT + 1);
    assert_eq!(rig.look(), before);
}
