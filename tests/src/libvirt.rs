//! The real libvirt of this machine, for tests of the real thing: an image and a storage pool of the test's own, and everything that
//! a job could leave behind.
//!
//! The machine's libvirt is shared: whatever is here has a tag of its own in its name or lies in a folder of its own, only that is
//! looked at, and all of it is removed with the [`Rig`], whatever the test did.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use uuid::Uuid;

use crate::cloud::{Builder, Cloud};

/// Which libvirt.
const URI: &str = "qemu:///system";
/// Where an emulator may read disks, even one that runs as somebody else and is confined.
const HOME: &str = "/var/lib/libvirt";
/// The disk of the image that boots, which `scripts/test` builds or has.
const IMAGE_VARIABLE: &str = "MAGLICA_TEST_IMAGE";
/// How long a copy that libvirtd is still making can keep a pool from being removed.
const REMOVE_LIMIT: Duration = Duration::from_secs(120);

/// Runs a program to its end and gives its stdout.
///
/// # Panics
/// If it fails, with what it said.
#[track_caller]
pub fn program(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `virsh` and gives what it printed.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn virsh(arguments: &[&str]) -> String {
    program("virsh", &[&["-q", "-c", URI], arguments].concat())
}

/// Runs `virsh` where failing is an answer, too.
#[must_use]
pub fn try_virsh(arguments: &[&str]) -> bool {
    let mut command = Command::new("virsh");
    command.args(["-q", "-c", URI]).args(arguments).stdin(Stdio::null());
    command.output().is_ok_and(|output| output.status.success())
}

/// The SHA-256 of a file.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn checksum(path: &Path) -> String {
    program("sha256sum", &["--", text(path)]).split_whitespace().next().unwrap_or_default().to_owned()
}

/// A path as text.
///
/// # Panics
/// If it is no UTF-8, which no path of a test is.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of tests are UTF-8")
}

/// What the image is.
#[derive(Debug, Clone, Copy)]
enum Content {
    /// No operating system: so many MiB of something.
    Blank(u32),
    /// The files by which Debian is recognised, in a file system that does not boot.
    Files,
    /// Debian, bootable.
    Debian,
}

/// A pool of the test's own with an image in it.
#[derive(Debug)]
pub struct Rig {
    tag: String,
    folder: TempDir,
    mounted: Vec<PathBuf>,
    pools: Vec<String>,
}

impl Rig {
    /// With an image that has no operating system, of so many MiB. A machine made of it runs, without doing anything.
    #[must_use]
    pub fn blank(megabytes: u32) -> Self {
        Self::new(Content::Blank(megabytes))
    }

    /// With an image that libguestfs takes for Debian, but does not boot.
    #[must_use]
    pub fn files() -> Self {
        Self::new(Content::Files)
    }

    /// With the Debian image, which boots.
    #[must_use]
    pub fn debian() -> Self {
        Self::new(Content::Debian)
    }

    fn new(content: Content) -> Self {
        let tag = format!("mt-{}", &Uuid::new_v4().simple().to_string()[..8]);
        let folder = tempfile::Builder::new().prefix(&format!("{tag}-")).tempdir_in(HOME);
        let folder = folder.unwrap_or_else(|error| panic!("no folder in {HOME} (run as root): {error}"));
        open_to_the_emulator(folder.path());
        let mut rig = Self { tag, folder, mounted: Vec::new(), pools: Vec::new() };
        let pool = rig.pool();
        let place = rig.add_folder("pool");
        rig.define_pool(&pool, &place);
        let disk = rig.image_disk();
        match content {
            Content::Blank(megabytes) => blank(&disk, megabytes),
            Content::Files => files(rig.folder.path(), &disk),
            Content::Debian => debian(&disk),
        }
        rig.define_image(&rig.image(), &disk);
        virsh(&["pool-refresh", &pool]);
        rig
    }

    /// A name of the rig's own, good for a machine.
    #[must_use]
    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}.example.jp", self.tag)
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> String {
        format!("{}.original", self.tag)
    }

    /// The image's disk.
    #[must_use]
    pub fn image_disk(&self) -> PathBuf {
        self.folder_of_pool().join(format!("{}.qcow2", self.image()))
    }

    /// The pool of the image.
    #[must_use]
    pub fn pool(&self) -> String {
        format!("{}-pool", self.tag)
    }

    /// Its folder.
    #[must_use]
    pub fn folder_of_pool(&self) -> PathBuf {
        self.folder.path().join("pool")
    }

    /// Where a file of the rig outside of any pool is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A cloud of one host that is this machine.
    #[must_use]
    pub fn cloud(&self) -> Builder {
        Cloud::builder().libvirt("qemu", "system")
    }

    /// The options of a clone of the image: of this name, its files as they are.
    #[must_use]
    pub fn clone_of<'a>(&self, name: &'a str, more: &[&'a str]) -> Vec<String> {
        let image = self.image();
        let fixed = ["vm", "clone", "--image", &image, "--hostname", name];
        fixed.iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    /// Another pool with a folder of its own.
    pub fn add_pool(&mut self, what: &str) -> (String, PathBuf) {
        let (pool, place) = (format!("{}-{what}", self.tag), self.add_folder(what));
        self.define_pool(&pool, &place);
        (pool, place)
    }

    /// Another pool on a file system of its own that has so many MiB.
    pub fn add_small_pool(&mut self, what: &str, megabytes: u32) -> (String, PathBuf) {
        let (pool, place) = (format!("{}-{what}", self.tag), self.add_folder(what));
        program("mount", &["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=0711"), "tmpfs", text(&place)]);
        self.mounted.push(place.clone());
        self.define_pool(&pool, &place);
        (pool, place)
    }

    fn add_folder(&self, what: &str) -> PathBuf {
        let place = self.folder.path().join(what);
        fs::create_dir(&place).expect("a folder can be made");
        open_to_the_emulator(&place);
        place
    }

    fn define_pool(&mut self, pool: &str, place: &Path) {
        self.pools.push(pool.to_owned());
        virsh(&["pool-define-as", pool, "dir", "--target", text(place)]);
        virsh(&["pool-start", pool]);
    }

    /// Defines a domain of this name (which begins with the rig's tag) that has this disk.
    pub fn define_image(&self, name: &str, disk: &Path) {
        assert!(name.starts_with(&self.tag), "{name} would not be removed");
        let xml = self.path("domain.xml");
        fs::write(&xml, domain_xml(name, text(disk))).expect("a file can be written");
        virsh(&["define", text(&xml)]);
        fs::remove_file(xml).expect("a file can be removed");
    }

    /// Everything that a job could leave behind: domains with their states, volumes of the rig's pools as libvirt lists them, and the
    /// files that there really are.
    #[must_use]
    pub fn look(&self) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for line in virsh(&["list", "--all"]).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, name, state @ ..] = words.as_slice() else { continue };
            if self.is_ours(name) {
                seen.insert(format!("domain {name} {}", state.join(" ")));
            }
        }
        for pool in &self.pools {
            for line in virsh(&["vol-list", pool]).lines() {
                if let Some(volume) = line.split_whitespace().next() {
                    seen.insert(format!("volume {pool}/{volume}"));
                }
            }
        }
        files_below(self.folder.path(), &mut seen);
        seen
    }

    /// What is there now and was not.
    #[must_use]
    pub fn added(&self, before: &BTreeSet<String>) -> Vec<String> {
        self.look().difference(before).cloned().collect()
    }

    /// An unfinished domain has a job's id in its name; its disks say whose it is.
    fn is_ours(&self, name: &str) -> bool {
        name.starts_with(&self.tag)
            || name.starts_with("maglica-") && {
                let output = Command::new("virsh").args(["-q", "-c", URI, "dumpxml", name]).output();
                output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(text(self.folder.path())))
            }
    }

    /// The processes whose command line names one of the rig's files: emulators, copiers, appliances.
    #[must_use]
    pub fn processes(&self) -> Vec<String> {
        let own = std::process::id().to_string();
        let folder = text(self.folder.path());
        let entries = fs::read_dir("/proc").expect("there is /proc");
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| name != own && name.bytes().all(|byte| byte.is_ascii_digit())))
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(folder))
            .collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A test that failed must clean up as far as it can, so nothing here panics.
        let list = Command::new("virsh").args(["-q", "-c", URI, "list", "--all", "--name"]).output();
        let names = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for name in names.lines().filter(|name| self.is_ours(name)) {
            let _ = try_virsh(&["destroy", name]);
            let _ = try_virsh(&["undefine", "--nvram", name]);
        }
        let until = Instant::now() + REMOVE_LIMIT;
        for pool in &self.pools {
            while !try_virsh(&["pool-destroy", pool]) && Instant::now() < until {
                thread::sleep(Duration::from_millis(200));
            }
            let _ = try_virsh(&["pool-undefine", pool]);
        }
        for place in &self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(place).status();
        }
    }
}

fn open_to_the_emulator(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).expect("rights can be set");
}

fn files_below(folder: &Path, seen: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, seen);
        } else {
            seen.insert(format!("file {}", path.display()));
        }
    }
}

fn blank(disk: &Path, megabytes: u32) {
    program("qemu-img", &["create", "-q", "-f", "qcow2", text(disk), "8G"]);
    program("qemu-io", &["-f", "qcow2", "-c", &format!("write -P 7 0 {megabytes}M"), text(disk)]);
}

fn debian(disk: &Path) {
    let cached = std::env::var(IMAGE_VARIABLE);
    let cached = cached.unwrap_or_else(|_| panic!("{IMAGE_VARIABLE} names no disk: scripts/test sets it, from scripts/image --path"));
    program("cp", &["--sparse=always", "--reflink=auto", "--", &cached, text(disk)]);
}

/// A file system with what makes a Debian: enough to be recognised and rewritten, far from bootable.
fn files(scratch: &Path, disk: &Path) {
    let tree = scratch.join("tree");
    for (path, content) in [
        ("etc/os-release", "ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
        ("etc/debian_version", "12.5\n"),
        ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
        ("etc/hostname", "original\n"),
        ("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\toriginal\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/network/interfaces", "auto lo\niface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("etc/shadow", "root:!:19000:0:99999:7:::\n"),
        ("usr/bin/dpkg", ""),
        ("var/lib/dpkg/status", "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n\n"),
        ("root/.profile", ""),
        ("bin/sh", ""),
        ("dev/null", ""),
        ("proc/empty", ""),
        ("sys/empty", ""),
        ("tmp/empty", ""),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder can be made");
        fs::write(path, content).expect("a file can be written");
    }
    let raw = scratch.join("files.raw");
    program("mke2fs", &["-q", "-t", "ext4", "-L", "root", "-d", text(&tree), text(&raw), "64M"]);
    program("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", text(&raw), text(disk)]);
    fs::remove_file(raw).expect("a file can be removed");
    fs::remove_dir_all(tree).expect("a folder can be removed");
}

/// A machine as `scripts/image` describes one, with as little memory as the guest gets by with.
fn domain_xml(name: &str, disk: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>384</memory><vcpu>1</vcpu>
         <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os><features><acpi/><apic/></features>
         <cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model><feature policy='disable' name='svm'/></cpu>
         <clock offset='utc'/>
         <devices>
         <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>
         <interface type='network'><source network='default'/><model type='virtio'/></interface>
         <serial type='pty'><target port='0'/></serial><console type='pty'><target type='serial' port='0'/></console>
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
         <controller type='usb' model='none'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
         </devices></domain>"
    )
}
