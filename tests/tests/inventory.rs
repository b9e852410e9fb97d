//! What somebody does on a host with libvirt's own tools shows in Maglica, because libvirt tells; what it does not tell is found in
//! time. Each host has a libvirtd of its own, and polls so seldom that no test would live to see it.

use std::fs;

use maglica_tests::{
    cloud::{Builder, Cloud},
    libvirtd::Libvirtd,
    wait::{SOON, wait_until, when},
};

const NEVER_MS: u64 = 600_000;

fn cloud(libvirtd: &Libvirtd) -> Builder {
    Cloud::builder()
        .libvirt("test+unix", &libvirtd.path())
        .set("/timing/inventory_poll_ms", NEVER_MS)
        .set("/timing/inventory_full_ms", NEVER_MS)
}

fn libvirtd() -> (tempfile::TempDir, Libvirtd) {
    // The path of a socket in it has 107 bytes at most.
    let folder = tempfile::Builder::new().prefix("mgv").tempdir_in("/tmp").expect("a folder can be made in /tmp");
    let libvirtd = Libvirtd::start(folder.path()).expect("libvirtd can be started");
    (folder, libvirtd)
}

/// Defines a domain and gives its name.
fn define(libvirtd: &Libvirtd, name: &str, vcpus: u32) {
    let file = libvirtd.folder().join(format!("{name}.xml"));
    let xml = format!(
        "<domain type='test'><name>{name}</name><uuid>00000000-0000-4000-8000-{:012x}</uuid><memory unit='MiB'>64</memory>\
         <vcpu>{vcpus}</vcpu><os><type>hvm</type></os></domain>",
        name.bytes().fold(0_u64, |sum, byte| sum * 31 + u64::from(byte)) & 0xffff_ffff_ffff
    );
    fs::write(&file, xml).expect("a file can be written");
    libvirtd.virsh(&[&format!("define {}", file.display())]).expect("it is defined");
}

fn wait_gone(cloud: &Cloud, name: &str) {
    wait_until(&format!("{name} is gone"), SOON, || {
        let state = cloud.vm_state(name);
        when(state.is_null(), state)
    });
}

#[test]
fn what_virsh_does_shows_though_nobody_polls() {
    let (_folder, libvirtd) = libvirtd();
    let cloud = cloud(&libvirtd).start();
    let virsh = |command: &str| libvirtd.virsh(&[command]).expect("virsh does it");
    cloud.wait_vm("test", "running");
    define(&libvirtd, "vm0", 1);
    cloud.wait_vm("vm0", "off");
    virsh("start vm0");
    cloud.wait_vm("vm0", "running");
    virsh("suspend vm0");
    cloud.wait_vm("vm0", "paused");
    virsh("resume vm0");
    cloud.wait_vm("vm0", "running");
    virsh("destroy vm0");
    cloud.wait_vm("vm0", "off");
    define(&libvirtd, "vm0", 3);
    wait_until("the new definition shows", SOON, || {
        let vm = cloud.cli(&["vm", "show", "vm0", "-o", "json"]).ok().json();
        when(vm["vcpus"] == 3, vm)
    });
    virsh("undefine vm0");
    wait_gone(&cloud, "vm0");
    virsh("pool-destroy default-pool");
    wait_until("the stopped pool shows", SOON, || {
        let host = cloud.host(0);
        when(host["pools"][0]["active"] == false, host)
    });
}

#[test]
fn a_restarted_libvirtd_is_listened_to_again_and_what_changed_meanwhile_shows() {
    let (_folder, mut libvirtd) = libvirtd();
    let cloud = cloud(&libvirtd).start();
    define(&libvirtd, "vm0", 1);
    cloud.wait_vm("vm0", "off");
    libvirtd.virsh(&["destroy test"]).expect("virsh does it");
    cloud.wait_vm("test", "off");
    libvirtd.kill9();
    cloud.hosts[0].wait_log("the inventory cannot be told");
    // What there was is still shown meanwhile, by a host that is up.
    assert_eq!(cloud.vm_state("vm0"), "off");
    libvirtd.resume().expect("libvirtd can be started");
    // Its driver has forgotten everything.
    wait_gone(&cloud, "vm0");
    cloud.wait_vm("test", "running");
    libvirtd.virsh(&["suspend test"]).expect("virsh does it");
    cloud.wait_vm("test", "paused");
    assert!(cloud.cli(&["vm", "destroy", "test"]).ok().stdout.contains("test"), "and jobs are done on it");
}

#[test]
fn a_storm_of_events_is_a_few_looks_and_its_end_shows() {
    const ROUNDS: usize = 400;
    let (_folder, libvirtd) = libvirtd();
    let cloud = cloud(&libvirtd).start();
    cloud.wait_vm("test", "running");
    let told = || {
        let log = fs::read_to_string(cloud.path("host0.log")).expect("there is a log");
        log.lines().filter(|line| line.contains("telling what changed")).count()
    };
    let before = told();
    let mut commands = ["suspend test", "resume test"].repeat(ROUNDS);
    commands.push("suspend test");
    libvirtd.virsh(&commands).expect("virsh does it");
    cloud.wait_vm("test", "paused");
    let looks = told() - before;
    assert!(looks * 4 < ROUNDS, "{looks} looks for {ROUNDS} rounds");
}

#[test]
fn what_nobody_told_is_found_by_the_next_look_at_everything() {
    let (_folder, libvirtd) = libvirtd();
    let cloud = cloud(&libvirtd).set("/timing/inventory_full_ms", 300).start();
    define(&libvirtd, "vm0", 1);
    cloud.wait_vm("vm0", "off");
    // libvirt has no event for this.
    libvirtd.virsh(&["autostart vm0"]).expect("virsh does it");
    wait_until("autostart shows", SOON, || {
        let vm = cloud.cli(&["vm", "show", "vm0", "-o", "json"]).ok().json();
        when(vm["autostart"] == true, vm)
    });
}
