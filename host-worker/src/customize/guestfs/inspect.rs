//! Which operating system is on the disks, and its file systems mounted.
//!
//! libguestfs's own inspection looks into every file system for everything that it knows: 12 s under emulation, more
//! than the appliance's start. Nearly all images are simpler than that: partitions, exactly one of which holds a Linux
//! root whose `fstab` mounts nothing that a plan touches. That is tried first, in a second; whatever does not look
//! exactly like it is left to libguestfs.

use super::{
    fish::{Fish, quoted},
    read,
};
use crate::customize::CustomizeError;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct System {
    /// `linux`, `windows` …
    pub(super) kind: String,
    /// `debian`, `centos` …, as libguestfs or `/etc/os-release` has it.
    pub(super) distro: String,
    /// `apt`, `dnf` …; empty if it is not needed.
    pub(super) packages: String,
    /// As the system calls itself.
    pub(super) name: String,
}

/// File systems on a partition that cannot hold a root, or hold a root that is simply mounted. Anything else (LVM, RAID,
/// encryption, subvolumes) is for libguestfs to find out.
const MOUNTABLE: [&str; 4] = ["ext2", "ext3", "ext4", "xfs"];
const NO_ROOT: [&str; 5] = ["", "swap", "vfat", "iso9660", "ntfs"];
/// Where file systems may be mounted without a plan having to know: it reads and writes nothing there.
const ELSEWHERE: [&str; 10] = ["/boot", "/home", "/tmp", "/proc", "/sys", "/dev", "/mnt", "/media", "/srv", "/var/log"];

/// The most characters that are kept of what a system calls itself.
const NAME_MAX: usize = 100;

/// Finds the system and mounts it for writing.
pub(super) async fn find(fish: &mut Fish) -> Result<System, CustomizeError> {
    match simple(fish).await? {
        Some(system) => Ok(system),
        None => thorough(fish).await,
    }
}

async fn simple(fish: &mut Fish) -> Result<Option<System>, CustomizeError> {
    let doing = "looking at the guest's disks";
    let found = fish.ask(doing, &["list-partitions".to_owned()]).await?;
    let partitions: Vec<&str> = found.iter().flat_map(|answer| answer.lines()).collect();
    if partitions.is_empty() {
        return Ok(None);
    }
    let kinds: Vec<String> =
        partitions.iter().map(|device| format!("vfs-type {}", quoted(device.as_bytes()))).collect();
    let kinds = fish.ask(doing, &kinds).await?;
    let mut roots = Vec::new();
    for (device, kind) in partitions.iter().zip(&kinds) {
        let kind = kind.trim_ascii();
        if NO_ROOT.contains(&kind) {
            continue;
        }
        if !MOUNTABLE.contains(&kind) {
            return Ok(None);
        }
        if let Some(system) = look_into(fish, device).await? {
            roots.push((*device, system));
        }
    }
    let mut roots = roots.into_iter();
    let (Some((device, Some(system))), None) = (roots.next(), roots.next()) else { return Ok(None) };
    fish.run("mounting the guest", &[format!("mount {} /", quoted(device.as_bytes()))]).await?;
    Ok(Some(system))
}

/// What is on a file system: no root, or a root that is simple enough to be judged here, or one that is not.
async fn look_into(fish: &mut Fish, device: &str) -> Result<Option<Option<System>>, CustomizeError> {
    let doing = format!("looking into {device}");
    fish.run(&doing, &[format!("mount-ro {} /", quoted(device.as_bytes()))]).await?;
    let looks = ["is-file /etc/fstab", "is-file /etc/os-release", "is-symlink /etc/os-release", "is-dir /etc"];
    let looks: Vec<bool> =
        fish.ask(&doing, &looks.map(str::to_owned)).await?.iter().map(|answer| answer.trim_ascii() == "true").collect();
    let [fstab, release, release_link, etc] = looks.as_slice() else { return Ok(None) };
    let looked = if !etc {
        None
    } else if *fstab && (*release || *release_link) {
        let fstab = read::text(fish, "/etc/fstab").await?;
        // Followed inside the guest: libguestfs never leaves its root.
        let release = read::text(fish, "/etc/os-release").await?;
        Some(
            release
                .filter(|_| fstab.is_some_and(|fstab| mounts_nothing_that_matters(&fstab)))
                .and_then(|text| of_release(&text)),
        )
    } else {
        Some(None)
    };
    fish.run(&doing, &["umount-all".to_owned()]).await?;
    Ok(looked)
}

fn mounts_nothing_that_matters(fstab: &str) -> bool {
    fstab.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#')).all(|line| {
        let point = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        let below =
            |folder: &str| point.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        matches!(point, "/" | "none" | "swap") || ELSEWHERE.into_iter().any(below)
    })
}

fn of_release(text: &str) -> Option<System> {
    let get = |key: &str| {
        let value = text.lines().find_map(|line| line.trim_ascii().strip_prefix(key)?.strip_prefix('='))?.trim_ascii();
        Some(value.trim_matches(['"', '\'']).to_owned())
    };
    let id = get("ID")?;
    // What it is like matters only for names that nobody has heard of.
    let like = get("ID_LIKE").unwrap_or_default();
    let packages = like.split_ascii_whitespace().find_map(|word| match word {
        "debian" | "ubuntu" => Some("apt"),
        "rhel" | "fedora" | "centos" => Some("dnf"),
        _ => None,
    });
    Some(System {
        kind: "linux".to_owned(),
        name: plain(&get("PRETTY_NAME").unwrap_or_else(|| id.clone())),
        distro: id,
        packages: packages.unwrap_or_default().to_owned(),
    })
}

/// What a guest calls itself, as it can be shown and stored: the guest may be anybody's.
fn plain(name: &str) -> String {
    name.chars().take(NAME_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

async fn thorough(fish: &mut Fish) -> Result<System, CustomizeError> {
    let doing = "inspecting the guest";
    let answers = fish.ask(doing, &["inspect-os".to_owned()]).await?;
    let roots: Vec<&str> = answers.iter().flat_map(|answer| answer.lines()).collect();
    let root = match roots.as_slice() {
        [] => return Err(CustomizeError::NoSystem),
        [root] => quoted(root.as_bytes()),
        several => {
            return Err(CustomizeError::SeveralSystems { systems: several.iter().map(ToString::to_string).collect() });
        }
    };
    let ask = ["type", "distro", "package-management", "product-name", "mountpoints"];
    let answers = fish.ask(doing, &ask.map(|what| format!("inspect-get-{what} {root}"))).await?;
    let [kind, distro, packages, name, mountpoints] = answers.as_slice() else { return Err(CustomizeError::NoSystem) };
    let system = System {
        kind: kind.trim_ascii().to_owned(),
        distro: distro.trim_ascii().to_owned(),
        packages: packages.trim_ascii().to_owned(),
        name: match name.trim_ascii() {
            "" | "unknown" => plain(distro.trim_ascii()),
            name => plain(name),
        },
    };
    let mut mountpoints: Vec<(&str, &str)> = mountpoints.lines().filter_map(|line| line.split_once(": ")).collect();
    // "/" before "/var" before "/var/lib".
    mountpoints.sort_by_key(|(point, _)| point.len());
    let root_only: Vec<String> = mountpoints
        .iter()
        .filter(|(point, _)| !ELSEWHERE.contains(point))
        .map(|(point, device)| format!("mount {} {}", quoted(device.as_bytes()), quoted(point.as_bytes())))
        .collect();
    fish.run("mounting the guest", &root_only).await?;
    Ok(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_with_file_systems_where_we_write_is_left_to_libguestfs() {
        let simple = "# a\nUUID=1 / ext4 defaults 0 1\nLABEL=EFI /boot/efi vfat x 0 0\n/dev/vda2 none swap sw 0 0\n";
        assert!(mounts_nothing_that_matters(simple));
        assert!(mounts_nothing_that_matters(""));
        for line in ["/dev/vda3 /var ext4 x", "/dev/vda3 /etc/ssh ext4 x", "/dev/vda3 /bootx ext4 x", "broken"] {
            assert!(!mounts_nothing_that_matters(&format!("{simple}{line}\n")), "{line}");
        }
    }

    #[test]
    fn a_release_file_tells_distribution_and_relatives() {
        let text = "PRETTY_NAME=\"Rocky Linux 9.3 (Blue Onyx)\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        let system = of_release(text).unwrap();
        assert_eq!((system.distro.as_str(), system.packages.as_str()), ("rocky", "dnf"));
        assert_eq!(system.name, "Rocky Linux 9.3 (Blue Onyx)");
        assert_eq!(of_release("NAME=x\n"), None);
        let long = of_release(&format!("ID=x\nPRETTY_NAME=\u{1b}[2J{}\n", "x".repeat(1 << 20))).unwrap();
        assert!(long.name.starts_with("?[2Jx") && long.name.len() == NAME_MAX, "{}", long.name);
    }
}
