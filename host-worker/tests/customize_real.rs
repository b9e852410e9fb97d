//! Guests rewritten by the real libguestfs: a tree of the Red Hat family that the test builds, and the Debian image of
//! `scripts/image` if it has been built. Each reads the disk back with a guestfish of its own.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use maglica_host_worker::{
    customize::{CustomizeError, Customized, Customizer as _, Disk, Identity, guestfs::Guestfs},
    tool::ToolPaths,
};
use maglica_proto::{
    job::{Customization, Network},
    key::Secret,
    name::GuestName,
    net::MacAddr,
};
use tokio_util::sync::CancellationToken;

const HASH: &str = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBGC vérène@example.jp";

/// KVM is present but broken on many machines that run tests; emulation works on all.
const FORCE_TCG: bool = true;

fn guestfish(arguments: &[&str]) -> String {
    let out = Command::new("guestfish")
        .args(arguments)
        .env("LIBGUESTFS_BACKEND", "direct")
        .env("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
        .output()
        .unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program)
        .args(arguments)
        .env("LIBGUESTFS_BACKEND", "direct")
        .env("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
        .output()
        .unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn identity(network: Network) -> Identity {
    Identity {
        name: GuestName::new("vm0.example.jp").unwrap(),
        macs: vec![MacAddr::kvm([1, 2, 3])],
        customization: Customization {
            network,
            ssh_keys: vec![KEY.to_owned()],
            root_password_hash: Some(Secret::new(HASH.to_owned())),
        },
        force_tcg: FORCE_TCG,
    }
}

fn fixed() -> Network {
    Network::Static {
        address: "192.168.0.10/24".parse().unwrap(),
        gateway: Some("192.168.0.1".parse().unwrap()),
        dns: vec!["192.168.0.1".parse().unwrap()],
    }
}

async fn customize(disk: &Path, new: &Identity, cancel: &CancellationToken) -> Result<Customized, CustomizeError> {
    // Its measurements of the parts show with --nocapture.
    drop(tracing_subscriber::fmt().with_test_writer().try_init());
    let scratch = tempfile::tempdir().unwrap();
    let disks = [Disk { path: disk.to_owned(), format: "qcow2".to_owned() }];
    let began = Instant::now();
    let done = Guestfs::new(ToolPaths::default(), scratch.path().to_owned()).customize(&disks, new, cancel).await;
    tracing::info!("customize took {:?}: {done:?}", began.elapsed());
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "something is left in the scratch folder");
    done
}

fn put(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

/// A disk with a tree of the Red Hat family, as far as libguestfs and a plan look at it. Without `modern` it has no
/// `os-release`, as up to version 6, and is left to libguestfs's own inspection.
fn red_hat_disk(folder: &Path, modern: bool) -> PathBuf {
    let root = folder.join("root");
    for (path, text) in [
        ("etc/redhat-release", "CentOS release 6.10 (Final)\n"),
        ("etc/fstab", "/dev/sda1 / ext4 defaults 1 1\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("etc/shadow", "root:*:19000:0:99999:7:::\nbin:*:19000:0:99999:7:::\n"),
        ("etc/hosts", "127.0.0.1 localhost localhost.localdomain\n10.0.0.9 golden.example.jp golden\n10.0.0.1 nfs\n"),
        ("etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=golden.example.jp\nGATEWAY=10.0.0.1\n"),
        (
            "etc/sysconfig/network-scripts/ifcfg-eth0",
            "# by hand\nDEVICE=\"eth0\"\nHWADDR=\"52:54:00:AA:AA:AA\"\nUUID=aaaaaaaa-0000-0000-0000-000000000000\n\
             BOOTPROTO=static\nIPADDR=10.0.0.9\nNETMASK=255.255.255.0\nMTU=9000\n",
        ),
        ("etc/sysconfig/network-scripts/ifcfg-lo", "DEVICE=lo\nIPADDR=127.0.0.1\n"),
        (
            "etc/NetworkManager/system-connections/Wired connection 1.nmconnection",
            "[connection]\nid=Wired connection 1\nuuid=bbbbbbbb-0000-0000-0000-000000000000\ntype=ethernet\n\n\
             [ethernet]\nmac-address=52:54:00:AA:AA:AA\n\n[ipv4]\naddress1=10.0.0.9/24,10.0.0.1\nmethod=manual\n",
        ),
        ("etc/udev/rules.d/70-persistent-net.rules", "SUBSYSTEM==\"net\", NAME=\"eth0\"\n"),
        ("etc/selinux/config", "SELINUX=enforcing\n"),
        ("etc/ssh/ssh_host_rsa_key", "old\n"),
        ("etc/ssh/ssh_host_rsa_key.pub", "old\n"),
        ("etc/ssh/sshd_config", "Port 22\n"),
        ("var/lib/rpm/Packages", ""),
        ("var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("bin/bash", ""),
        ("sbin/init", ""),
        ("usr/bin/yum", ""),
        ("lib/modules/keep", ""),
        ("root/keep", ""),
        ("boot/keep", ""),
    ] {
        put(&root, path, text);
    }
    if modern {
        put(&root, "etc/os-release", "ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nPRETTY_NAME=\"CentOS Stream 9\"\n");
        put(&root, "etc/hostname", "golden.example.jp\n");
        put(&root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        put(&root, "usr/lib/systemd/systemd", "");
    }
    let disk = folder.join("guest.qcow2");
    let (from, to) = (root.to_string_lossy().into_owned(), disk.to_string_lossy().into_owned());
    run("virt-make-fs", &["--format=qcow2", "--type=ext4", "--partition", "--size=+64M", &from, &to]);
    disk
}

/// The files of a disk's first partition, each after a line with its name.
fn read_back(disk: &Path, files: &[&str], more: &str) -> String {
    let disk = disk.to_string_lossy();
    let mut arguments = vec!["--ro", "--format=qcow2", "-a", &disk, "run", ":", "mount-ro", "/dev/sda1", "/"];
    for file in files {
        arguments.extend([":", "echo", file, ":", "cat", file]);
    }
    arguments.extend(more.split(' '));
    // What a later look at the same file may find changed: times and where its data lie.
    let same = |line: &&str| !line.starts_with("st_") || line.starts_with("st_mode");
    guestfish(&arguments).split_inclusive('\n').filter(same).collect()
}

const RED_HAT_FILES: [&str; 7] = [
    "/etc/hosts",
    "/etc/sysconfig/network",
    "/etc/sysconfig/network-scripts/ifcfg-eth0",
    "/etc/sysconfig/network-scripts/ifcfg-lo",
    "/etc/NetworkManager/system-connections/Wired connection 1.nmconnection",
    "/etc/shadow",
    "/root/.ssh/authorized_keys",
];

async fn red_hat(modern: bool) -> (String, Customized) {
    let folder = tempfile::tempdir().unwrap();
    let disk = red_hat_disk(folder.path(), modern);
    let done = customize(&disk, &identity(fixed()), &CancellationToken::new()).await.unwrap();
    let more = ": ls /etc/ssh : is-file /.autorelabel : is-file /var/lib/dbus/machine-id : statns /root/.ssh : statns \
                /root/.ssh/authorized_keys : filesize /etc/udev/rules.d/70-persistent-net.rules";
    (read_back(&disk, &RED_HAT_FILES, more), done)
}

fn assert_red_hat(text: &str) {
    for part in [
        "127.0.0.1 localhost localhost.localdomain\n192.168.0.10\tvm0.example.jp\tvm0\n10.0.0.1 nfs\n",
        "NETWORKING=yes\nHOSTNAME=vm0.example.jp\n\n",
        "# by hand\nDEVICE=\"eth0\"\nBOOTPROTO=none\nMTU=9000\nONBOOT=yes\nIPADDR=192.168.0.10\nNETMASK=255.255.255.0\n\
         GATEWAY=192.168.0.1\nDNS1=192.168.0.1\n",
        "DEVICE=lo\nIPADDR=127.0.0.1\n",
        "[ethernet]\nmac-address=52:54:00:01:02:03\n",
        "[ipv4]\naddress1=192.168.0.10/24,192.168.0.1\nmethod=manual\ndns=192.168.0.1;\n",
        "root:$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789:19000:0:99999:7:::\nbin:*:19000:",
        KEY,
        "sshd_config\ntrue\nfalse\n",
        "st_mode: 16832\n",
        "st_mode: 33152\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    for gone in ["golden", "10.0.0.9", "AA:AA:AA", "aaaaaaaa-", "bbbbbbbb-", "ssh_host"] {
        assert!(!text.contains(gone), "{gone} is still in\n{text}");
    }
}

#[tokio::test]
async fn real_redhat_family_tree_is_rewritten() {
    let (text, done) = red_hat(true).await;
    assert_red_hat(&text);
    assert_eq!(done.os, "CentOS Stream 9");
    assert!(done.changed.contains(&"network (192.168.0.10/24)".to_owned()), "{done:?}");
}

#[tokio::test]
async fn real_redhat_tree_without_os_release_is_inspected_by_libguestfs_and_rewritten() {
    let (text, done) = red_hat(false).await;
    assert_red_hat(&text);
    assert!(done.os.contains("CentOS"), "{done:?}");
}

#[tokio::test]
async fn real_disk_without_a_system_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("empty.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &disk.to_string_lossy(), "64M"]);
    let before = std::fs::read(&disk).unwrap();
    let error = customize(&disk, &identity(Network::Dhcp), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, CustomizeError::NoSystem), "{error:?}");
    assert!(std::fs::read(&disk).unwrap() == before, "the disk was written to");
}

#[tokio::test]
async fn real_disk_that_is_missing_fails_with_libguestfs_own_words() {
    let error = customize(Path::new("/nonexistent/disk"), &identity(Network::Dhcp), &CancellationToken::new()).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/disk"), "{error}");
}

/// Processes whose arguments name this path.
fn processes(path: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(path))
    })
    .count()
}

fn socket_folders() -> Vec<PathBuf> {
    let all = std::fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().starts_with("/tmp/libguestfs")).collect()
}

#[tokio::test]
async fn real_cancel_during_the_start_ends_the_appliance_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("cancelled.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &disk.to_string_lossy(), "64M"]);
    let name = disk.to_string_lossy().into_owned();
    let (cancel, new) = (CancellationToken::new(), identity(Network::Dhcp));
    let before = socket_folders();
    let (done, ours) = tokio::join!(customize(&disk, &new, &cancel), async {
        let end = Instant::now() + Duration::from_secs(60);
        // guestfish, its recovery process and qemu, which has bound its socket's folder by then.
        while processes(&name) < 3 {
            assert!(Instant::now() < end, "the appliance does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let ours: Vec<PathBuf> = socket_folders().into_iter().filter(|path| !before.contains(path)).collect();
        cancel.cancel();
        ours
    });
    assert!(matches!(done, Err(CustomizeError::Cancelled)), "{done:?}");
    let end = Instant::now() + Duration::from_secs(20);
    while processes(&name) > 0 {
        assert!(Instant::now() < end, "the appliance lives on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Other tests may have made some of them, and take them away when they end.
    let end = Instant::now() + Duration::from_secs(200);
    while let Some(left) = ours.iter().find(|path| path.exists()) {
        assert!(Instant::now() < end, "{} is left", left.display());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The Debian image's disk, if `scripts/image` has built it.
fn debian_image() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MAGLICA_TEST_IMAGE") {
        return Some(named.into());
    }
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/image");
    let images = std::fs::read_dir(cache).ok()?.flatten().map(|entry| entry.path());
    let mut images: Vec<PathBuf> = images.filter(|path| path.extension().is_some_and(|end| end == "qcow2")).collect();
    images.sort();
    images.pop()?.canonicalize().ok()
}

#[tokio::test]
async fn real_debian_image_is_rewritten_and_a_second_time_changes_nothing() {
    let image = debian_image().expect("the Debian image is built: scripts/image --path");
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("overlay.qcow2");
    let (backing, overlay) = (image.to_string_lossy(), disk.to_string_lossy());
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &backing, "-F", "qcow2", &overlay]);
    let new = identity(Network::Dhcp);
    let first = customize(&disk, &new, &CancellationToken::new()).await.unwrap();
    assert!(first.os.contains("Debian"), "{first:?}");
    for what in ["hostname", "hosts", "network (dhcp)", "machine-id", "ssh host keys"] {
        assert!(first.changed.iter().any(|changed| changed == what), "{what}: {first:?}");
    }
    let files =
        ["/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/network/interfaces", "/root/.ssh/authorized_keys"];
    let more = ": ls /etc/ssh : readlink /etc/systemd/system/multi-user.target.wants/maglica-ssh-host-keys.service : \
                statns /etc/shadow";
    let text = read_back(&disk, &files, more);
    for part in [
        "/etc/hostname\nvm0.example.jp\n",
        "127.0.1.1\tvm0.example.jp\tvm0\n",
        "/etc/machine-id\n\n",
        " inet dhcp\n",
        KEY,
        "/etc/systemd/system/maglica-ssh-host-keys.service\n",
        "st_mode: 33184\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    assert!(!text.contains("ssh_host_"), "{text}");

    let second = customize(&disk, &new, &CancellationToken::new()).await.unwrap();
    assert_eq!(read_back(&disk, &files, more), text);
    assert!(second.changed.len() <= first.changed.len(), "{second:?}");
}
