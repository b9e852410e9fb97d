//! The real libvirt of this machine, for tests of the real thing: an image and a storage pool of the test's own, and everything that
//! a job could leave behind.
//!
//! The machine's libvirt is shared: whatever is here has a tag of its own in its name or lies in a folder of its own, only that is
//! looked at, and all of it is removed with the [`Rig`], whatever the test did.

mod image;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use uuid::Uuid;

use self::image::Content;
pub use self::image::blank as blank_disk;
use crate::{
    cloud::{Builder, Cloud},
    wait::{SOON, wait_until},
};

/// Which libvirt.
const URI: &str = "qemu:///system";
/// Where an emulator may read disks, even one that runs as somebody else and is confined.
const HOME: &str = "/var/lib/libvirt";
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
        content.write(rig.folder.path(), &disk);
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
        fs::write(&xml, image::domain_xml(name, text(disk))).expect("a file can be written");
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

    /// The command lines of the processes that name one of the rig's files: emulators, copiers, appliances.
    #[must_use]
    pub fn processes(&self) -> Vec<String> {
        self.working().into_iter().map(|(_, line)| line).collect()
    }

    fn working(&self) -> Vec<(Pid, String)> {
        let folder = text(self.folder.path());
        let entries = fs::read_dir("/proc").expect("there is /proc");
        entries
            .flatten()
            .filter_map(|entry| {
                let process = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                Some((process, String::from_utf8_lossy(&line).replace('\0', " ")))
            })
            .filter(|(process, line)| {
                process.as_raw_nonzero().get().unsigned_abs() != std::process::id() && line.contains(folder)
            })
            .collect()
    }

    /// Waits until libvirtd copies an image of the rig, and stalls that until the value is dropped.
    pub fn stall_copy(&self) -> Stalled {
        let process = wait_until("an image is being copied", SOON, || {
            let working = self.working();
            let copy = working.iter().find(|(_, line)| line.contains("qemu-img convert") && line.contains(".partial"));
            copy.map(|(process, _)| *process).ok_or_else(|| format!("{working:?}"))
        });
        kill_process(process, Signal::STOP).expect("it takes longer than to find it");
        Stalled(process)
    }
}

/// A copy that stands still.
#[derive(Debug)]
pub struct Stalled(Pid);

impl Drop for Stalled {
    fn drop(&mut self) {
        // Somebody has killed it otherwise.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A test that failed must clean up as far as it can, so nothing here panics.
        let list = Command::new("virsh").args(["-q", "-c", URI, "list", "--all", "--name"]).output();
        let names = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for name in names.lines().filter(|name| self.is_ours(name)) {
            let _ = try_virsh(&["destroy", name]);
            let _ = try_virsh(&["undefine", "--nvram", "--snapshots-metadata", name]);
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
