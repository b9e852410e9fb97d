//! A pool of the real libvirt with an image in it, and what a task is run with; gone when dropped.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use maglica_host_worker::{
    customize::guestfs::Guestfs,
    hypervisor::{Host, Libvirt},
    task::{Journal, JournalError, TaskContext, Undo},
    tool::ToolPaths,
    transfer::NoGrants,
};
use maglica_proto::{
    id::JobId,
    inventory::Accel,
    job::{HostEventKind, Step, VmTask},
    name::DomainName,
};
use tokio_util::sync::CancellationToken;

pub(crate) const URI: &str = "qemu:///system";

pub(crate) fn program(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn virsh(args: &[&str]) -> String {
    program("virsh", &[&["-q", "-c", URI], args].concat())
}

/// A folder, a pool of it, and an image `….original` with a disk of this many MiB of content.
pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) pool: String,
    pub(crate) image: String,
    pub(crate) host: Host,
}

impl Rig {
    pub(crate) fn new(megabytes: u64) -> Self {
        let rig = Self::empty();
        let disk = rig.at("base.qcow2");
        program("qemu-img", &["create", "-q", "-f", "qcow2", &disk, "8G"]);
        let write = format!("write -P 7 0 {megabytes}M");
        program("qemu-io", &["-f", "qcow2", "-c", &write, &disk]);
        rig.define(&rig.image, &[("vda", "qcow2", &disk)]);
        virsh(&["pool-refresh", &rig.pool]);
        rig
    }

    /// A pool with nothing in it.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("mi-").tempdir().unwrap();
        let tag = folder.path().file_name().unwrap().to_str().unwrap().replace('.', "").to_lowercase();
        let (pool, image) = (format!("{tag}-pool"), format!("{tag}.original"));
        virsh(&["pool-define-as", &pool, "dir", "--target", folder.path().to_str().unwrap()]);
        virsh(&["pool-start", &pool]);
        Self { folder, pool, image, host: Host::new(Arc::new(Libvirt::new(URI))) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    /// Defines a domain that is off, with these disks: target, format, path.
    pub(crate) fn define(&self, name: &str, disks: &[(&str, &str, &str)]) {
        let disks: String = disks
            .iter()
            .map(|(target, format, path)| {
                format!(
                    "<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/><target dev='{target}' bus='virtio'/></disk>"
                )
            })
            .collect();
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
             <os><type arch='x86_64' machine='q35'>hvm</type></os>
             <devices>{disks}<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
             <interface type='user'><model type='virtio'/></interface></devices></domain>"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), xml).unwrap();
        virsh(&["define", file.path().to_str().unwrap()]);
    }

    pub(crate) fn task(&self, name: &str) -> VmTask {
        let uuid = virsh(&["domuuid", name]).trim().parse().unwrap();
        VmTask { name: DomainName::new(name).unwrap(), uuid }
    }

    /// Everything that a task could leave behind: files, volumes, domains.
    pub(crate) fn state(&self) -> BTreeSet<String> {
        let files =
            std::fs::read_dir(self.path()).unwrap().map(|entry| format!("file {:?}", entry.unwrap().file_name()));
        let volumes = virsh(&["vol-list", &self.pool]);
        let volumes = volumes.lines().map(|line| format!("volume {}", line.split_whitespace().next().unwrap_or("")));
        let tag = self.pool.trim_end_matches("-pool").to_owned();
        let domains = virsh(&["list", "--all", "--name"]);
        let domains = domains.lines().filter(|name| name.starts_with(&tag)).map(|name| format!("domain {name}"));
        files.chain(volumes).chain(domains).collect()
    }

    pub(crate) fn context(&self) -> (TaskContext, Arc<Record>) {
        let tools = ToolPaths::default();
        let cancel = CancellationToken::new();
        let record = Arc::new(Record { cancel: cancel.clone(), ..Record::default() });
        let journal: Arc<dyn Journal> = Arc::clone(&record) as Arc<dyn Journal>;
        let cx = TaskContext {
            job: JobId::generate(),
            host: self.host.clone(),
            accel: Accel::Emulation { reason: "a test".to_owned() },
            customizer: Arc::new(Guestfs::new(tools.clone(), self.path().to_owned())),
            tools,
            journal,
            grants: Arc::new(NoGrants),
            cancel,
        };
        (cx, record)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let tag = self.pool.trim_end_matches("-pool");
        for name in virsh(&["list", "--all", "--name"]).lines().filter(|name| name.starts_with(tag)) {
            let _ = Command::new("virsh").args(["-q", "-c", URI, "undefine", name]).output();
        }
        let _ = Command::new("virsh").args(["-q", "-c", URI, "pool-destroy", &self.pool]).output();
        let _ = Command::new("virsh").args(["-q", "-c", URI, "pool-undefine", &self.pool]).output();
    }
}

/// What a task wrote down.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) events: Mutex<Vec<HostEventKind>>,
    pub(crate) undo: Mutex<Vec<Undo>>,
    pub(crate) done: Mutex<Vec<Step>>,
    pub(crate) cancel: CancellationToken,
    /// Cancels the job when a step tells that it is under way.
    pub(crate) cancel_at_progress: Mutex<bool>,
}

impl Journal for Record {
    fn intend(&self, undo: &Undo) -> Result<(), JournalError> {
        self.undo.lock().unwrap().push(undo.clone());
        Ok(())
    }

    fn step_done(&self, step: Step) {
        self.done.lock().unwrap().push(step);
    }

    fn event(&self, what: HostEventKind) {
        if matches!(what, HostEventKind::StepProgress { .. }) && *self.cancel_at_progress.lock().unwrap() {
            self.cancel.cancel();
        }
        self.events.lock().unwrap().push(what);
    }
}
