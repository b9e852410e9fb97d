//! What images are made of: their disks, and the description of a machine that has one.

use std::{fs, path::Path};

use super::{program, text};

/// The disk of the image that boots, which `scripts/test` builds or has.
const IMAGE_VARIABLE: &str = "MAGLICA_TEST_IMAGE";

/// What the image is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// No operating system: so many MiB of something.
    Blank(u32),
    /// The files by which Debian is recognised, in a file system that does not boot.
    Files,
    /// Debian, bootable.
    Debian,
}

impl Content {
    /// Writes it as the disk of an image; `scratch` is an empty place on the same file system.
    pub(super) fn write(self, scratch: &Path, disk: &Path) {
        match self {
            Self::Blank(megabytes) => blank(disk, megabytes),
            Self::Files => files(scratch, disk),
            Self::Debian => debian(disk),
        }
    }
}

/// Makes a disk with so many MiB of something, which is no operating system.
///
/// # Panics
/// If qemu's programs fail.
pub fn blank(disk: &Path, megabytes: u32) {
    program("qemu-img", &["create", "-q", "-f", "qcow2", text(disk), "8G"]);
    program("qemu-io", &["-f", "qcow2", "-c", &format!("write -P 7 0 {megabytes}M"), text(disk)]);
}

fn debian(disk: &Path) {
    let cached = std::env::var(IMAGE_VARIABLE);
    let cached = cached
        .unwrap_or_else(|_| panic!("{IMAGE_VARIABLE} names no disk: scripts/test sets it, from scripts/image --path"));
    program("cp", &["--sparse=always", "--reflink=auto", "--", &cached, text(disk)]);
}

/// A file system with what makes a Debian: enough to be recognised and rewritten, far from bootable.
fn files(scratch: &Path, disk: &Path) {
    let tree = scratch.join("tree");
    for (path, content) in [
        (
            "etc/os-release",
            "ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
        ),
        ("etc/debian_version", "12.5\n"),
        ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
        ("etc/hostname", "original\n"),
        ("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\toriginal\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/network/interfaces", "auto lo\niface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("etc/shadow", "root:!:19000:0:99999:7:::\n"),
        ("usr/bin/dpkg", ""),
        (
            "var/lib/dpkg/status",
            "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n\n",
        ),
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
pub(super) fn domain_xml(name: &str, disk: &str) -> String {
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
