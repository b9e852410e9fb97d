//! The main thing: machines cloned as a user clones them run, and the running guests themselves say who they are.

use std::{collections::BTreeSet, fs, path::Path, thread};

use maglica_tests::{
    cloud::{Cloud, host_name},
    command::finish,
    guest::Guest,
    libvirt::{Rig, checksum, program, text, virsh},
    wait::{SOON, wait_until},
};
use serde_json::Value;

/// A key that nobody has; what follows the type is read by the guest's sshd.
const SSH_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHh3bmvMwcVoCDwxIKEWgGNIHqNGBWRdEHQhsNq3fTzS admin@example.jp";
const PASSWORD: &str = "Correct horse, battery: $1 \"staple\"";
/// Two emulated guests on two cores: half a minute each when alone.
const BOOT: &str = "--wait=300";

/// A file of the image, read without changing or mounting anything.
fn file_of_image(raw: &Path, path: &str) -> String {
    let table: Value = serde_json::from_str(&program("sfdisk", &["--json", text(raw)])).expect("sfdisk writes JSON");
    let sector = table["partitiontable"]["sectorsize"].as_u64().unwrap_or(512);
    let start = table["partitiontable"]["partitions"][0]["start"].as_u64().expect("there is a partition");
    program("debugfs", &["-R", &format!("cat {path}"), &format!("{}?offset={}", text(raw), start * sector)])
}

/// An address of libvirt's default network that nobody has been given.
fn free_address() -> String {
    let leases = virsh(&["net-dhcp-leases", "default"]);
    let free = |last: &u8| !leases.contains(&format!("192.168.122.{last}/"));
    format!("192.168.122.{}", (200..250).rev().find(free).expect("not all are taken"))
}

fn addresses(guest: &Guest<'_>) -> Vec<String> {
    let shown: Value =
        serde_json::from_str(&guest.run("/sbin/ip", &["-json", "-4", "address", "show", "scope", "global"]))
            .expect("ip writes JSON");
    let all = shown
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default());
    all.map(|address| format!("{}/{}", address["local"].as_str().unwrap_or_default(), address["prefixlen"])).collect()
}

/// What makes a machine itself.
#[derive(Debug)]
struct Who {
    machine_id: String,
    ssh_keys: BTreeSet<String>,
}

/// Asks a guest who it is; everything that is the same for both is checked here.
fn who(name: &str) -> Who {
    let guest = Guest::of(name);
    let short = name.split('.').next().expect("it has a first label");
    assert_eq!(guest.host_name(), name);
    assert_eq!(guest.run("/bin/hostname", &[]).trim(), name);
    assert_eq!(guest.file("/etc/hostname").trim(), name);
    let hosts = guest.file("/etc/hosts");
    let own: Vec<&str> = hosts.lines().filter(|line| line.contains(name)).collect();
    assert!(matches!(own.as_slice(), [line] if line.split_whitespace().any(|word| word == short)), "{hosts}");
    assert!(hosts.contains("127.0.0.1\tlocalhost") && !hosts.contains("debian12"), "{hosts}");
    // The running system resolves its own name, and its full name is the one that it was given.
    assert_eq!(guest.run("/bin/hostname", &["--fqdn"]).trim(), name);
    guest.wait_run("/bin/systemctl", &["is-active", "--quiet", "ssh.service"]);
    let keys = guest.run("/bin/sh", &["-c", "cat /etc/ssh/ssh_host_*_key.pub"]);
    let ssh_keys: BTreeSet<String> =
        keys.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect();
    assert!(ssh_keys.len() >= 2, "{keys}");
    assert_eq!(guest.run("/bin/sh", &["-c", "stat -c %a /etc/ssh/ssh_host_*_key | sort -u"]).trim(), "600");
    let machine_id = guest.file("/etc/machine-id").trim().to_owned();
    assert!(machine_id.len() == 32 && machine_id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{machine_id}");
    assert_eq!(guest.file("/var/lib/dbus/machine-id").trim(), machine_id);
    let failed = guest.run("/bin/systemctl", &["list-units", "--failed", "--plain", "--no-legend"]);
    assert_eq!(failed, "", "units that failed in {name}");
    Who { machine_id, ssh_keys }
}

fn row<'a>(list: &'a Value, kind: &str, name: &str) -> &'a Value {
    let rows = list[kind].as_array().expect("a list");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {list:#}"))
}

/// What the lists say while both run.
fn lists(rig: &Rig, cloud: &Cloud, first: &str, second: &str) {
    let images = cloud.cli(&["image", "list"]).ok().stdout;
    let image = images.lines().find(|line| line.contains(&rig.image())).unwrap_or_else(|| panic!("{images}"));
    let words: Vec<&str> = image.split_whitespace().collect();
    assert_eq!(words, [rig.image().as_str(), &host_name(0), "1.0", "GiB", "qcow2", "ready"]);
    // The address that a guest was given is known from libvirt's DHCP server; one that it has by itself only the guest knows.
    let vms = wait_until("the list has the address", SOON, || {
        let vms = cloud.cli(&["vm", "list", "-o", "json"]).ok().json();
        let known = row(&vms, "vms", first)["addresses"].to_string().contains("\"192.168.122.");
        if known { Ok(vms) } else { Err(vms.to_string()) }
    });
    for name in [first, second] {
        assert_eq!(row(&vms, "vms", name)["state"], "running", "{vms:#}");
    }
    let shown = cloud.cli(&["vm", "show", first]).ok().stdout;
    for part in
        [first, "running", &rig.image(), &format!("{}/{first}.qcow2", rig.pool()), "on network default", "by root"]
    {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
}

/// The story of the first clone.
fn story(rig: &Rig, cloud: &Cloud, name: &str) {
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    let job = jobs["jobs"].as_array().into_iter().flatten().find(|job| job["vm"] == name).cloned().unwrap_or_default();
    let id = job["id"].as_str().unwrap_or_else(|| panic!("no job in {jobs:#}"));
    let told = cloud.cli(&["job", "show", id]).ok().stdout;
    for part in [
        "submitted by root",
        &format!("placed on {}", host_name(0)),
        "checked",
        "volume copied",
        "guest customized",
        "domain defined",
        "guest answered",
        &format!("clone {} → {name}", rig.image()),
        "succeeded",
    ] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    assert!(!told.contains(PASSWORD), "{told}");
}

#[test]
fn real_a_clone_boots_and_the_running_guest_says_who_it_is() {
    let rig = Rig::debian();
    let (before, sum) = (rig.look(), checksum(&rig.image_disk()));
    let cloud = rig.cloud().start();
    let (first, second) = (rig.name("vm0"), rig.name("vm1"));
    let (key_file, password_file) = (cloud.path("admin.pub"), cloud.path("password"));
    fs::write(&key_file, format!("{SSH_KEY}\n")).expect("a file can be written");
    fs::write(&password_file, format!("{PASSWORD}\n")).expect("a file can be written");
    let address = free_address();
    let image = rig.image();
    let dhcp = cloud.cli_spawn(&["vm", "clone", &format!("--image={image}"), &format!("--hostname={first}"), BOOT]);
    let fixed = cloud.cli_spawn(&[
        "vm",
        "clone",
        "--image",
        &image,
        "--name",
        &second,
        BOOT,
        "--ip",
        &format!("{address}/24"),
        "--gateway",
        "192.168.122.1",
        "--dns",
        "192.168.122.1",
        "--ssh-key",
        text(&key_file),
        "--root-password-file",
        text(&password_file),
    ]);
    // What the image has, meanwhile.
    let raw = cloud.path("image.raw");
    program("qemu-img", &["convert", "-U", "-f", "qcow2", "-O", "raw", text(&rig.image_disk()), text(&raw)]);
    let original_id = file_of_image(&raw, "/etc/machine-id").trim().to_owned();
    let original_key = file_of_image(&raw, "/etc/ssh/ssh_host_ed25519_key.pub");
    let original_key = original_key.split_whitespace().nth(1).expect("the image has a key").to_owned();
    fs::remove_file(raw).expect("a file can be removed");

    let (dhcp, fixed) = (finish(dhcp).ok(), finish(fixed).ok());
    assert!(dhcp.stderr.contains(&format!("clone {image} → {first} on {}", host_name(0))), "{dhcp:?}");
    for step in ["✔ volume copied", "✔ guest customized", "✔ domain defined", "✔ started", "✔ guest answered"]
    {
        assert!(dhcp.stderr.contains(step), "{step}: {dhcp:?}");
    }
    for changed in ["hostname", "hosts", "network (dhcp)", "machine-id", "ssh host keys"] {
        assert!(dhcp.stderr.contains(changed), "{changed}: {dhcp:?}");
    }
    assert!(dhcp.stdout.contains(&format!("{first} is running on {}, at 192.168.122.", host_name(0))), "{dhcp:?}");
    assert!(fixed.stdout.contains(&format!("{second} is running on {}, at {address}", host_name(0))), "{fixed:?}");
    assert!(!format!("{fixed:?}").contains(PASSWORD));

    let (one, other) = (who(&first), who(&second));
    assert_ne!(one.machine_id, other.machine_id);
    assert!(one.ssh_keys.is_disjoint(&other.ssh_keys), "{one:?} {other:?}");
    for clone in [&one, &other] {
        assert_ne!(clone.machine_id, original_id);
        assert!(!clone.ssh_keys.contains(&original_key), "{clone:?}");
    }
    let (one, other) = (Guest::of(&first), Guest::of(&second));
    assert!(
        matches!(addresses(&one).as_slice(), [one] if one.starts_with("192.168.122.") && one.ends_with("/24")),
        "{:?}",
        addresses(&one)
    );
    assert_eq!(addresses(&other), [format!("{address}/24")]);
    assert!(other.run("/sbin/ip", &["-4", "route"]).contains("default via 192.168.122.1 "));
    assert!(other.file("/etc/resolv.conf").contains("nameserver 192.168.122.1"));
    assert_eq!(other.file("/root/.ssh/authorized_keys").trim(), SSH_KEY);
    assert_eq!(
        other.run("/usr/bin/stat", &["-c", "%a %U", "/root/.ssh", "/root/.ssh/authorized_keys"]),
        "700 root\n600 root\n"
    );
    // Whether the password is right is the guest's own crypt(3) to say.
    let right = r#"my $h = (getpwnam "root")[1]; exit(crypt($ARGV[0], $h) eq $h ? 0 : 1)"#;
    assert_eq!(other.try_run("/usr/bin/perl", &["-e", right, PASSWORD]).0, 0);
    assert_eq!(other.try_run("/usr/bin/perl", &["-e", right, "another"]).0, 1);
    assert_eq!(
        one.try_run("/usr/bin/perl", &["-e", right, PASSWORD]).0,
        1,
        "root stays locked without --root-password-file"
    );

    lists(&rig, &cloud, &first, &second);
    story(&rig, &cloud, &first);
    assert_eq!(checksum(&rig.image_disk()), sum, "the image's disk");
    cloud.cli(&["vm", "remove", &first, "--yes"]).ended_with(6).says(&["is running", &first], &["vm show"]);

    let (cloud, rig) = (&cloud, &rig);
    thread::scope(|scope| {
        for name in [&first, &second] {
            scope.spawn(move || {
                let stopped = cloud.cli(&["vm", "stop", name, "--timeout", "120s"]).ok();
                assert!(stopped.stdout.contains(&format!("{name} on {} is off", host_name(0))), "{stopped:?}");
                let removed = cloud.cli(&["vm", "remove", name, "--yes"]).ok();
                assert!(removed.stdout.contains(&format!("{}/{name}.qcow2", rig.pool())), "{removed:?}");
            });
        }
    });
    assert_eq!(rig.look(), before);
    assert_eq!(rig.processes(), Vec::<String>::new());
    assert_eq!(checksum(&rig.image_disk()), sum, "the image's disk");
    let vms = cloud.cli(&["vm", "list", "-o", "name"]).ok().stdout;
    assert!(!vms.contains(&first) && !vms.contains(&second), "{vms}");
}
