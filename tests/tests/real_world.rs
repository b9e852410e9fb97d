//! What goes on around a job on a real host: others' disks, two jobs at once, full pools, missing programs, a libvirtd that stops.
//! Each that cannot be done is one clear sentence with a hint, and nothing is left.

use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use maglica_tests::{
    cloud::Cloud,
    command::{Output, finish},
    libvirt::{Rig, program, text, virsh},
    wait::{SOON, wait_until, when},
};

const PLAIN: [&str; 2] = ["--no-customize", "--no-start"];

fn clone(rig: &Rig, cloud: &Cloud, name: &str, more: &[&str]) -> Output {
    let command = rig.clone_of(name, more);
    cloud.cli(&command.iter().map(String::as_str).collect::<Vec<_>>())
}

fn wait_image(cloud: &Cloud, name: &str, state: &str) {
    wait_until(&format!("the image {name} is {state}"), SOON, || {
        let images = cloud.cli(&["image", "list", "-o", "json"]).ok().json();
        let found =
            images["images"].as_array().into_iter().flatten().any(|row| row["name"] == name && row["state"] == state);
        when(found, images)
    });
}

#[test]
fn real_two_clones_at_once_both_succeed_and_of_two_with_one_name_only_one() {
    let rig = Rig::blank(300);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let (first, second, third) = (rig.name("vm0"), rig.name("vm1"), rig.name("vm2"));
    let commands = [&first, &second, &third].map(|name| rig.clone_of(name, &PLAIN));
    let running = commands.map(|command| cloud.cli_spawn(&command.iter().map(String::as_str).collect::<Vec<_>>()));
    for command in running {
        finish(command).ok();
    }
    let disk = |name: &str| format!("file {}", text(&rig.folder_of_pool().join(format!("{name}.qcow2"))));
    let mut expected = Vec::new();
    for name in [&first, &second, &third] {
        expected.extend([format!("domain {name} shut off"), disk(name), format!("volume {}/{name}.qcow2", rig.pool())]);
    }
    expected.sort();
    assert_eq!(rig.added(&before), expected);
    for name in [&first, &second, &third] {
        program("qemu-img", &["compare", "-q", text(&rig.image_disk()), disk(name).trim_start_matches("file ")]);
        let removed = cloud.cli(&["vm", "remove", name, "--yes"]).ok();
        assert!(!removed.stdout.contains("left alone"), "{removed:?}");
    }
    assert_eq!(rig.look(), before);

    let command = rig.clone_of(&first, &PLAIN);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let outputs = [cloud.cli_spawn(&command), cloud.cli_spawn(&command)].map(finish);
    let (won, lost): (Vec<&Output>, Vec<&Output>) = outputs.iter().partition(|output| output.code == 0);
    assert_eq!((won.len(), lost.len()), (1, 1), "{outputs:?}");
    assert_eq!(lost[0].code, 5, "{lost:?}");
    lost[0].says(&[&first], &["maglica"]);
    assert_eq!(rig.added(&before).len(), 3);
    cloud.cli(&["vm", "remove", &first, "--yes"]).ok();
    assert_eq!(rig.look(), before);
}

#[test]
fn real_a_removal_leaves_disks_alone_that_others_stand_on() {
    let rig = Rig::blank(4);
    let cloud = rig.cloud().start();
    let (name, other) = (rig.name("vm0"), rig.name("other"));
    clone(&rig, &cloud, &name, &PLAIN).ok();
    let disk = rig.folder_of_pool().join(format!("{name}.qcow2"));
    rig.define_image(&other, &disk);
    let before = rig.look();
    let removed = cloud.cli(&["vm", "remove", &name, "--yes"]).ok();
    assert!(
        removed.stdout.contains("left alone") && removed.stdout.contains(&format!("{other} uses it")),
        "{removed:?}"
    );
    let mut after = before.clone();
    assert!(after.remove(&format!("domain {name} shut off")));
    assert_eq!(rig.look(), after);
    virsh(&["undefine", &other]);
    virsh(&["vol-delete", "--pool", &rig.pool(), &format!("{name}.qcow2")]);

    // An overlay that no domain has for now.
    clone(&rig, &cloud, &name, &PLAIN).ok();
    let overlay = rig.folder_of_pool().join("overlay.qcow2");
    program("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", text(&disk), text(&overlay)]);
    virsh(&["pool-refresh", &rig.pool()]);
    let removed = cloud.cli(&["vm", "remove", &name, "--yes"]).ok();
    assert!(
        removed.stdout.contains("left alone") && removed.stdout.contains("overlay.qcow2 is an overlay on it"),
        "{removed:?}"
    );
    assert!(disk.exists());
}

#[test]
fn real_a_machine_whose_disk_libvirt_has_not_seen_yet_is_removed_with_it_even_from_a_busy_pool() {
    let rig = Rig::blank(400);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let (name, other) = (rig.name("vm0"), rig.name("vm1"));
    clone(&rig, &cloud, &name, &PLAIN).ok();
    let command = rig.clone_of(&other, &PLAIN);
    let copying = cloud.cli_spawn(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let stalled = rig.stall_copy();
    // Now libvirt forgets the first one's disk, as if it had got its name only while the pool was busy and could not be refreshed.
    let (disk, aside) = (rig.folder_of_pool().join(format!("{name}.qcow2")), rig.path("aside"));
    fs::rename(&disk, &aside).expect("a file can be renamed");
    virsh(&["vol-delete", "--pool", &rig.pool(), &format!("{name}.qcow2")]);
    fs::rename(&aside, &disk).expect("a file can be renamed");
    let id = cloud.submit(&["vm", "remove", &name, "--yes"]);
    cloud.cli(&["job", "wait", &id, "--timeout", "6s"]).ended_with(11);
    drop(stalled);
    let removed = cloud.cli(&["job", "wait", &id, "--timeout", "60s"]).ok();
    assert!(!removed.stdout.contains("left alone"), "{removed:?}");
    finish(copying).ok();
    cloud.cli(&["vm", "remove", &other, "--yes"]).ok();
    assert_eq!(rig.look(), before);
}

#[test]
fn real_a_running_machine_is_neither_removed_nor_cloned() {
    let rig = Rig::blank(4);
    let cloud = rig.cloud().start();
    let name = rig.name("vm0");
    clone(&rig, &cloud, &name, &["--no-customize"]).ok();
    let before = rig.look();
    cloud.cli(&["vm", "remove", &name, "--yes"]).ended_with(6).says(&[&name, "is running"], &["vm show"]);
    assert_eq!(rig.look(), before);
    virsh(&["start", &rig.image()]);
    wait_image(&cloud, &rig.image(), "running");
    let before = rig.look();
    let refused = clone(&rig, &cloud, &rig.name("vm1"), &PLAIN).ended_with(6);
    refused.says(&[&rig.image(), "running"], &["maglica"]);
    assert_eq!(rig.look(), before);
}

#[test]
fn real_what_a_host_cannot_clone_is_said_in_one_sentence_and_changes_nothing() {
    let mut rig = Rig::blank(4);
    let (small, _) = rig.add_small_pool("small", 64);
    let loose = rig.path("loose.qcow2");
    program("qemu-img", &["create", "-q", "-f", "qcow2", text(&loose), "16M"]);
    let (no_pool, no_file) = (rig.name("loose.original"), rig.name("lost.original"));
    let (no_pool, no_file) = (no_pool.replace(".example.jp", ""), no_file.replace(".example.jp", ""));
    rig.define_image(&no_pool, &loose);
    let lost = rig.folder_of_pool().join("lost.qcow2");
    rig.define_image(&no_file, &lost);
    let name = rig.name("vm0");
    let taken = rig.folder_of_pool().join(format!("{}.qcow2", rig.name("vm1")));
    fs::write(&taken, "somebody's").expect("a file can be written");
    virsh(&["pool-refresh", &rig.pool()]);
    let before = rig.look();
    let cloud = rig.cloud().start();

    clone(&rig, &cloud, &name, &["--no-customize", "--pool", &small])
        .ended_with(7)
        .says(&[&small, "free"], &["--pool"]);
    clone(&rig, &cloud, &name, &["--no-customize", "--pool", "mt-nowhere"])
        .ended_with(4)
        .says(&["mt-nowhere"], &["maglica"]);
    clone(&rig, &cloud, &rig.name("vm1"), &PLAIN).ended_with(5).says(&[text(&taken), "exists already"], &[]);
    let of = |image: &str| cloud.cli(&["vm", "clone", "--image", image, "--hostname", &name, "--no-customize"]);
    of(&no_pool).ended_with(1).says(&["vda", text(&loose), "not in an active storage pool"], &["maglica vm show"]);
    of(&no_file).ended_with(1).says(&["vda", text(&lost), "missing"], &["maglica vm show"]);
    // Nothing is on its disk; the clone that was made so far is gone again.
    let nobody = clone(&rig, &cloud, &name, &["--no-start"]).ended_with(1);
    nobody.says(&["no operating system"], &["--no-customize"]);
    assert_eq!(rig.look(), before);
    assert_eq!(fs::read_to_string(&taken).expect("it is there"), "somebody's");
    wait_until("the appliance is gone", SOON, || when(rig.processes().is_empty(), rig.processes()));
}

#[test]
fn real_a_pool_that_fills_up_while_it_is_copied_into_leaves_nothing() {
    let mut rig = Rig::blank(450);
    // Compressed it is so small that nobody doubts that there is room, until its copy grows.
    let compressed = rig.path("compressed.qcow2");
    program("qemu-img", &["convert", "-c", "-O", "qcow2", text(&rig.image_disk()), text(&compressed)]);
    fs::rename(&compressed, rig.image_disk()).expect("a file can be renamed");
    virsh(&["pool-refresh", &rig.pool()]);
    let (pool, _) = rig.add_small_pool("small", 384);
    let before = rig.look();
    let cloud = rig.cloud().start();
    let full = clone(&rig, &cloud, &rig.name("vm0"), &["--no-customize", "--pool", &pool]).ended_with(1);
    // In libvirt's own words, of which it cuts off the last when paths are long.
    for part in ["virt-clone failed", "error while writing", "hint: the whole story"] {
        assert!(full.stderr.contains(part) && !full.stderr.contains("WARNING"), "{part}: {full:?}");
    }
    assert_eq!(rig.look(), before);
}

#[test]
fn real_a_host_without_virt_clone_says_so() {
    let rig = Rig::blank(4);
    let before = rig.look();
    let mut cloud = rig.cloud().start();
    cloud.hosts[0].kill9();
    // In a mount namespace of its own, where something that is no program lies over it. /run is the machine's, with libvirt in it.
    let hide = "mount --bind /dev/null \"$(command -v virt-clone)\" && exec \"$0\" \"$@\"";
    cloud.hosts[0].within(&["unshare", "--mount", "sh", "-c", hide]);
    cloud.hosts[0].start();
    cloud.wait_up(0);
    let missing = clone(&rig, &cloud, &rig.name("vm0"), &PLAIN).ended_with(1);
    missing.says(&["virt-clone", "not installed"], &["install it on the host"]);
    assert_eq!(rig.look(), before);
}

/// libvirtd as one host worker sees it: a socket of the test's own that leads to the machine's, until the test stops it.
struct Door {
    path: PathBuf,
    open: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<UnixStream>>>,
}

impl Door {
    fn new(path: PathBuf) -> Self {
        let door = Self { path, open: Arc::default(), connections: Arc::default() };
        door.start();
        door
    }

    fn start(&self) {
        self.open.store(true, Ordering::SeqCst);
        let listener = UnixListener::bind(&self.path).expect("a socket can be made");
        let (open, connections) = (Arc::clone(&self.open), Arc::clone(&self.connections));
        thread::spawn(move || {
            for near in listener.incoming() {
                // The last one only wakes it up.
                if !open.load(Ordering::SeqCst) {
                    return;
                }
                let near = near.expect("a connection can be accepted");
                let far = UnixStream::connect("/run/libvirt/libvirt-sock").expect("libvirtd runs");
                let mut kept = connections.lock().expect("nobody panicked");
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    kept.push(from.try_clone().expect("a socket"));
                    thread::spawn(move || {
                        let mut buffer = [0; 65_536];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        // The other direction ends with it.
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
    }

    /// As if libvirtd had ended: connections are closed, and nobody listens any more.
    fn stop(&self) {
        self.open.store(false, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
        fs::remove_file(&self.path).expect("the socket is there");
        for stream in self.connections.lock().expect("nobody panicked").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn real_a_stopped_libvirtd_is_said_and_used_again_when_it_is_back() {
    let rig = Rig::blank(4);
    let before = rig.look();
    let door = Door::new(rig.path("door"));
    let look =
        || rig.look().into_iter().filter(|seen| !seen.ends_with("/door")).collect::<std::collections::BTreeSet<_>>();
    let mut cloud = rig.cloud().libvirt("qemu", &format!("system?socket={}", text(&door.path))).start();
    let name = rig.name("vm0");
    door.stop();
    let down = clone(&rig, &cloud, &name, &PLAIN).ended_with(1);
    down.says(&["libvirt does not answer"], &["is libvirtd running on the host?"]);
    assert_eq!(look(), before);
    door.start();
    clone(&rig, &cloud, &name, &PLAIN).ok();
    cloud.cli(&["vm", "remove", &name, "--yes"]).ok();
    assert_eq!(look(), before);

    // It stops in the middle of a job: the way back waits until it is there again.
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("clone.define.before=1*return(hold)");
    cloud.wait_up(0);
    let command = rig.clone_of(&name, &PLAIN);
    let id = cloud.submit(&command.iter().map(String::as_str).collect::<Vec<_>>());
    cloud.hosts[0].wait_log("held at clone.define.before");
    door.stop();
    cloud.cli(&["job", "cancel", &id]).ok();
    cloud.cli(&["job", "wait", &id, "--timeout", "2s"]).ended_with(11);
    assert_ne!(look(), before, "nothing can have been taken back yet");
    door.start();
    cloud.cli(&["job", "wait", &id, "--timeout", "60s"]).ended_with(12);
    assert_eq!(look(), before);
    door.stop();
}
