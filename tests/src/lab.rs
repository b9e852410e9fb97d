//! A lab of a test's own: complete libvirt hosts on this machine, by `scripts/lab`. Ends with this value, whatever the test does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    command::{Output, run},
    libvirt::blank_disk,
    programs::program,
    wait::{wait_until, when},
};

/// What takes a second or two, hosts being emulated on two cores, may take so long before it counts as never.
const LIMIT: Duration = Duration::from_secs(60);
/// The image of the hosts that have one.
pub const IMAGE: &str = "debian12-x86_64.original";

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
}

impl Lab {
    /// Switches on host1 to host`hosts`; with so many MiB of something as the image of each. Hosts are given up soon.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn up(hosts: usize, image: Option<u32>) -> Self {
        let folder = tempfile::Builder::new().prefix("mglab").tempdir_in("/tmp").expect("a folder can be made in /tmp");
        let lab = Self { folder };
        // With all that is in it, this is the lab's, too.
        fs::write(lab.path(".maglica-lab"), "").expect("a file can be written");
        let settings = json!({
            "timing": {"heartbeat_ms": 300, "suspect_ms": 2000, "down_ms": 4000, "beat_ms": 300, "offer_first_ms": 50},
            "log": {"level": "debug"},
        });
        let lines = ["timing", "log"].map(|key| format!("{key}: {}\n", settings[key]));
        let conf = lab.path("test.conf");
        fs::write(&conf, lines.concat()).expect("a file can be written");
        let disk = lab.path("blank.qcow2");
        let image = image.map_or("none", |megabytes| {
            blank_disk(&disk, megabytes);
            crate::libvirt::text(&disk)
        });
        // A test that is killed does not take it down.
        let own = std::process::id().to_string();
        let conf = crate::libvirt::text(&conf);
        lab.run(&["up", &hosts.to_string(), "--image", image, "--conf", conf, "--while", &own]).ok();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A host's own log of a daemon.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn log(&self, host: &str, daemon: &str) -> String {
        let path = self.path("hosts").join(host).join("log").join(format!("{daemon}.log"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs `scripts/lab`.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        run(self.command(arguments), "")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lab");
        let maglica = program("maglica");
        let mut command = Command::new(script);
        command
            .env("MAGLICA_LAB", self.folder.path())
            .env("MAGLICA_BIN_DIR", maglica.parent().expect("a program is in a folder"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// `scripts/lab VERB HOST`: `kill`, `start`, `pause`, `resume`, `cut`, `heal`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn host(&self, verb: &str, host: &str) {
        let _ = self.run(&[verb, host]).ok();
    }

    /// Runs the command.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let all: Vec<&str> = ["maglica"].into_iter().chain(arguments.iter().copied()).collect();
        self.run(&all)
    }

    /// Starts the command and goes on.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn cli_spawn(&self, arguments: &[&str]) -> std::process::Child {
        let all: Vec<&str> = ["maglica"].into_iter().chain(arguments.iter().copied()).collect();
        let mut command = self.command(&all);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("scripts/lab can be run")
    }

    /// Runs a program on a host.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn exec(&self, host: &str, command: &[&str]) -> Output {
        let all: Vec<&str> = ["exec", host].into_iter().chain(command.iter().copied()).collect();
        self.run(&all)
    }

    /// Runs `virsh` on a host; gives what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    #[must_use]
    pub fn virsh(&self, host: &str, arguments: &[&str]) -> String {
        let all: Vec<&str> = ["virsh", host, "-q"].into_iter().chain(arguments.iter().copied()).collect();
        self.run(&all).ok().stdout
    }

    /// The lines that `virsh` prints on a host, sorted, without padding.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    #[must_use]
    pub fn lines(&self, host: &str, arguments: &[&str]) -> Vec<String> {
        let said = self.virsh(host, arguments);
        let mut lines: Vec<String> = said
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|line| !line.is_empty())
            .collect();
        lines.sort_unstable();
        lines
    }

    /// Domains and volumes of a host: what a job must not leave behind.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn look(&self, host: &str) -> Vec<String> {
        // What is not libvirt's yet counts as well.
        let _ = self.virsh(host, &["pool-refresh", "default"]);
        let mut seen = self.lines(host, &["list", "--all", "--name"]);
        seen.extend(self.lines(host, &["vol-list", "default"]));
        seen
    }

    /// Defines a machine without a disk on a host, by plain `virsh`.
    ///
    /// # Panics
    /// If it is refused.
    pub fn define(&self, host: &str, name: &str) {
        let file = self.path(&format!("{name}.xml"));
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
        );
        fs::write(&file, xml).expect("a file can be written");
        let _ = self.virsh(host, &["define", crate::libvirt::text(&file)]);
    }

    /// Submits a job by a command with `--detach`; gives its id.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn submit(&self, arguments: &[&str]) -> String {
        let all: Vec<&str> = arguments.iter().copied().chain(["--detach", "-o", "name"]).collect();
        self.cli(&all).ok().stdout.trim().to_owned()
    }

    /// A job as `maglica job show` has it.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn job(&self, id: &str) -> Value {
        self.cli(&["job", "show", id, "-o", "json"]).ok().json()
    }

    /// Waits until a job has this state; gives it.
    pub fn wait_job(&self, id: &str, state: &str) -> Value {
        wait_until(&format!("job {id} is {state}"), LIMIT, || {
            let job = self.job(id);
            if job["state"] == state { Ok(job) } else { Err(job.to_string()) }
        })
    }

    /// Waits until a host has this presence.
    pub fn wait_presence(&self, host: &str, presence: &str) {
        wait_until(&format!("{host} is {presence}"), LIMIT, || {
            let hosts = self.cli(&["host", "list", "-o", "json"]).json();
            let so = hosts["hosts"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|row| row["name"] == host && row["presence"] == presence);
            when(so, hosts)
        });
    }

    /// The virtual machine as `maglica vm list` has it; null if it is not there.
    #[must_use]
    pub fn vm(&self, name: &str) -> Value {
        let vms = self.cli(&["vm", "list", "-o", "json"]).json();
        vms["vms"].as_array().into_iter().flatten().find(|row| row["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until a virtual machine is shown in this state.
    pub fn wait_vm(&self, name: &str, state: &str) {
        wait_until(&format!("{name} is {state}"), LIMIT, || {
            let vm = self.vm(name);
            when(vm["state"] == state, vm)
        });
    }

    /// Waits until a host copies an image, and stops the copying program.
    pub fn stall_copy(&self, host: &str) {
        wait_until(&format!("{host} copies an image"), LIMIT, || {
            let found = self.exec(host, &["pkill", "-STOP", "-x", "qemu-img"]);
            when(found.code == 0, found)
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let ended = self.run(&["down"]);
        // A second panic would hide the first.
        if !std::thread::panicking() {
            let _ = ended.ok();
        }
    }
}
