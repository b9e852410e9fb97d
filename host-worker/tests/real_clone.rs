//! Tasks against the real libvirt of this machine (`scripts/setup --start`), with a pool and domains of their own.
//!
//! They need root: `cargo test -p maglica-host-worker --features failpoints --test real_clone -- --test-threads=1`, or `scripts/test real_`.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use maglica_host_worker::{
    customize::{CustomizeError, Customizer, Customizing, Disk, Identity},
    hypervisor::{
        Host, Libvirt,
        accel::{self, AccelSetting},
        inventory::{Depth, Scanner},
    },
    task::{self, Journal, JournalError, TaskContext, Undo},
    tool::ToolPaths,
    transfer::NoGrants,
};
use maglica_proto::{
    fault::{Code, Fault},
    id::JobId,
    inventory::{Accel, DomainState},
    job::{CloneSpec, CloneTask, HostEventKind, Outcome, Step, Task, VmTask},
    name::{DomainName, GuestName},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const URI: &str = "qemu:///system";

fn program(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn virsh(args: &[&str]) -> String {
    program("virsh", &[&["-q", "-c", URI], args].concat())
}

/// A pool with an image of two disks and a CD drive; gone with everything that is in it when dropped.
struct Rig {
    folder: tempfile::TempDir,
    pool: String,
    image: String,
    host: Host,
}

impl Rig {
    fn new(megabytes: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("mt-").tempdir().unwrap();
        let tag = folder.path().file_name().unwrap().to_str().unwrap().replace('.', "").to_lowercase();
        let (pool, image) = (format!("{tag}-pool"), format!("{tag}.original"));
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        program("qemu-img", &["create", "-q", "-f", "qcow2", &at("base.qcow2"), "8G"]);
        let write = format!("write -P 7 0 {megabytes}M");
        program("qemu-io", &["-f", "qcow2", "-c", &write, &at("base.qcow2")]);
        program("qemu-img", &["create", "-q", "-f", "raw", &at("data.raw"), "4M"]);
        std::fs::write(at("cd.iso"), "no real CD").unwrap();
        virsh(&["pool-define-as", &pool, "dir", "--target", folder.path().to_str().unwrap()]);
        virsh(&["pool-start", &pool]);
        let xml = format!(
            "<domain type='kvm'><name>{image}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
             <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><cpu mode='host-passthrough'/>
             <devices>
             <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='vda' bus='virtio'/></disk>
             <disk type='file' device='cdrom'><source file='{}'/><target dev='sda' bus='sata'/><readonly/></disk>
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/><target dev='vdb' bus='virtio'/></disk>
             <interface type='user'><model type='virtio'/></interface>
             </devices></domain>",
            at("base.qcow2"),
            at("cd.iso"),
            at("data.raw"),
        );
        std::fs::write(at("image.xml"), xml).unwrap();
        virsh(&["define", &at("image.xml")]);
        std::fs::remove_file(at("image.xml")).unwrap();
        virsh(&["pool-refresh", &pool]);
        Self { folder, pool, image, host: Host::new(Arc::new(Libvirt::new(URI))) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Everything that a clone could leave behind.
    fn state(&self) -> BTreeSet<String> {
        let files =
            std::fs::read_dir(self.path()).unwrap().map(|entry| format!("file {:?}", entry.unwrap().file_name()));
        let volumes = virsh(&["vol-list", &self.pool]);
        let domains = virsh(&["list", "--all", "--name"]);
        // Others work on this machine as well: only what could be ours counts.
        let domains = domains.lines().filter(|name| name.starts_with("mt") || name.starts_with("maglica-"));
        let volumes = volumes.lines().map(|line| format!("volume {}", line.split_whitespace().next().unwrap_or("")));
        files.chain(volumes).chain(domains.map(|name| format!("domain {name}"))).collect()
    }

    fn clone_task(&self, start: bool) -> CloneTask {
        let name = format!("{}-vm.example.jp", self.pool);
        CloneTask {
            spec: CloneSpec {
                image: DomainName::new(self.image.as_str()).unwrap(),
                name: GuestName::new(name).unwrap(),
                on: None,
                anti_affinity: None,
                pool: None,
                customize: None,
                start,
                wait_s: None,
            },
            uuid: Uuid::new_v4(),
            macs: vec!["52:54:00:0a:0b:0c".parse().unwrap()],
            by: "tester".to_owned(),
            disk: None,
            memory: maglica_proto::units::ByteSize::mib(64),
        }
    }

    fn context(&self) -> (TaskContext, Arc<Record>) {
        let cancel = CancellationToken::new();
        let record = Arc::new(Record { cancel: cancel.clone(), ..Record::default() });
        let journal: Arc<dyn Journal> = Arc::clone(&record) as Arc<dyn Journal>;
        let cx = TaskContext {
            job: JobId::generate(),
            host: self.host.clone(),
            accel: Accel::Emulation { reason: "a test".to_owned() },
            tools: ToolPaths::default(),
            customizer: Arc::new(NotAsked),
            journal,
            grants: Arc::new(NoGrants),
            cancel,
        };
        (cx, record)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for name in virsh(&["list", "--all", "--name"])
            .lines()
            .filter(|name| name.starts_with(&self.pool) || *name == self.image)
        {
            let _ = Command::new("virsh").args(["-q", "-c", URI, "destroy", name]).output();
            let _ = Command::new("virsh").args(["-q", "-c", URI, "undefine", name]).output();
        }
        let _ = Command::new("virsh").args(["-q", "-c", URI, "pool-destroy", &self.pool]).output();
        let _ = Command::new("virsh").args(["-q", "-c", URI, "pool-undefine", &self.pool]).output();
    }
}

struct NotAsked;

impl Customizer for NotAsked {
    fn customize<'a>(&'a self, _: &'a [Disk], _: &'a Identity, _: &'a CancellationToken) -> Customizing<'a> {
        Box::pin(async { Err(CustomizeError::NoSystem) })
    }

    fn check_tools(&self) -> Result<(), CustomizeError> {
        Ok(())
    }
}

#[derive(Default)]
struct Record {
    events: Mutex<Vec<HostEventKind>>,
    undo: Mutex<Vec<Undo>>,
    done: Mutex<Vec<Step>>,
    cancel: CancellationToken,
    /// Cancels the job when a step tells that it is under way.
    cancel_at_progress: Mutex<bool>,
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

fn checksum(path: &Path) -> String {
    program("sha256sum", &[path.to_str().unwrap()]).split_whitespace().next().unwrap().to_owned()
}

async fn fails(task: &CloneTask, cx: &TaskContext) -> Fault {
    task::run(&Task::Clone(task.clone()), cx).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_a_machine_is_cloned_started_stopped_and_removed_and_the_image_is_untouched() {
    let rig = Rig::new(16);
    let (before, sum) = (rig.state(), checksum(&rig.path().join("base.qcow2")));
    let task = rig.clone_task(true);
    let name = task.spec.name.as_str().to_owned();
    let (cx, record) = rig.context();
    let whole = Task::Clone(task.clone());
    let running = task::run(&whole, &cx);
    assert!(size_of_val(&running) < 4096, "{} bytes on the stack of who runs it", size_of_val(&running));
    let outcome = running.await.unwrap();
    assert_eq!(outcome, Outcome::Cloned { uuid: task.uuid, started: true, guest: None });
    assert_eq!(*record.done.lock().unwrap(), [Step::Check, Step::Volumes, Step::Define, Step::Start]);

    let added: Vec<String> = rig.state().difference(&before).cloned().collect();
    let expected = [
        format!("domain {name}"),
        format!("file \"{name}-vdb.raw\""),
        format!("file \"{name}.qcow2\""),
        format!("volume {name}-vdb.raw"),
        format!("volume {name}.qcow2"),
    ];
    assert_eq!(added, expected);
    assert_eq!(checksum(&rig.path().join("base.qcow2")), sum);
    let seen = Scanner::new().scan(&rig.host, cx.accel.clone(), Depth::Full).await.unwrap();
    let vm = seen.domains.iter().find(|domain| domain.name.as_str() == name).unwrap();
    assert_eq!((vm.uuid, vm.state), (task.uuid, DomainState::Running));
    assert_eq!(vm.nics[0].mac, task.macs[0]);
    let made = vm.made.as_ref().unwrap();
    assert_eq!((made.job, made.image.as_str(), made.by.as_str()), (cx.job, rig.image.as_str(), "tester"));
    assert!(vm.disks.iter().all(|disk| disk.trouble.is_none()), "{:?}", vm.disks);
    let xml = virsh(&["dumpxml", &name]);
    assert!(xml.contains("type='qemu'"), "{xml}");

    // Doing it again is refused and changes nothing.
    let (again, _) = rig.context();
    assert_eq!(fails(&task, &again).await.code, Code::Conflict);

    let vm = VmTask { name: DomainName::new(name).unwrap(), uuid: task.uuid };
    let (cx, _) = rig.context();
    assert_eq!(task::run(&Task::Start(vm.clone()), &cx).await.unwrap(), Outcome::Started { already: true });
    let running = task::run(&Task::Remove(vm.clone()), &cx).await.unwrap_err();
    assert_eq!(running.code, Code::WrongState);
    // There is no operating system in it that would hear the button.
    let deaf = task::run(&Task::Stop { vm: vm.clone(), timeout_s: 1 }, &cx).await.unwrap_err();
    assert_eq!(deaf.code, Code::Timeout);
    for already in [false, true] {
        assert_eq!(task::run(&Task::Destroy(vm.clone()), &cx).await.unwrap(), Outcome::Stopped { already });
    }
    let removed = task::run(&Task::Remove(vm.clone()), &cx).await.unwrap();
    let Outcome::Removed { volumes, kept } = &removed else { panic!("{removed:?}") };
    assert_eq!((volumes.len(), kept.len()), (2, 0), "{removed:?}");
    assert_eq!(rig.state(), before);
    assert_eq!(task::run(&Task::Remove(vm), &cx).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_a_clone_that_is_cancelled_while_it_copies_leaves_nothing() {
    let rig = Rig::new(1024);
    let before = rig.state();
    let task = rig.clone_task(true);
    let (cx, record) = rig.context();
    *record.cancel_at_progress.lock().unwrap() = true;
    let fault = fails(&task, &cx).await;
    assert_eq!((fault.code, fault.left.as_slice()), (Code::Cancelled, [].as_slice()), "{fault:?}");
    assert_eq!(*record.done.lock().unwrap(), [Step::Check]);
    assert_eq!(rig.state(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_what_cannot_be_cloned_is_refused_before_anything_is_changed() {
    let rig = Rig::new(1);
    let (cx, record) = rig.context();
    let mut task = rig.clone_task(false);
    let file = rig.path().join(format!("{}.qcow2", task.spec.name));
    std::fs::write(&file, "somebody's").unwrap();
    let before = rig.state();
    let taken = fails(&task, &cx).await;
    assert!(taken.code == Code::Conflict && taken.message.contains("exists already"), "{taken:?}");
    task.spec.pool = Some("mt-nowhere".parse().unwrap());
    assert_eq!(fails(&task, &cx).await.code, Code::NotFound);
    task.spec.pool = None;
    task.macs.clear();
    assert_eq!(fails(&task, &cx).await.code, Code::Conflict);
    task.spec.image = "mt-no-such-image".parse().unwrap();
    assert_eq!(fails(&task, &cx).await.code, Code::NotFound);
    std::fs::remove_file(rig.path().join("data.raw")).unwrap();
    let task = CloneTask {
        spec: CloneSpec { name: "mt-other".parse().unwrap(), ..rig.clone_task(false).spec },
        ..rig.clone_task(false)
    };
    let missing = fails(&task, &cx).await;
    assert!(missing.message.contains("vdb"), "{missing:?}");
    let bare = TaskContext { tools: ToolPaths::only([PathBuf::from("/nonexistent")]), ..cx };
    assert_eq!(fails(&task, &bare).await.code, Code::ToolMissing);
    assert!(record.undo.lock().unwrap().is_empty());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody's");
    let mut now = rig.state();
    now.insert("file \"data.raw\"".to_owned());
    assert_eq!(now, before);
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn real_a_failure_or_a_cancel_at_any_step_leaves_nothing() {
    let scenario = fail::FailScenario::setup();
    let rig = Rig::new(4);
    let before = rig.state();
    for step in ["check", "volumes", "define", "start"] {
        for when in ["before", "after"] {
            for action in ["return(broken on purpose)", "return(hold)"] {
                let point = format!("clone.{step}.{when}");
                fail::cfg(&point, action).unwrap();
                let (cx, _) = rig.context();
                let task = rig.clone_task(true);
                let cancel = cx.cancel.clone();
                let canceller = tokio::spawn(async move {
                    // A held step waits for this; one that fails is over before, and then nothing hears it.
                    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
                    cancel.cancel();
                });
                let fault = fails(&task, &cx).await;
                canceller.abort();
                fail::remove(&point);
                let expected = if action == "return(hold)" { Code::Cancelled } else { Code::Internal };
                assert_eq!(
                    (fault.code, fault.left.as_slice()),
                    (expected, [].as_slice()),
                    "{point} {action}: {fault:?}"
                );
                assert_eq!(rig.state(), before, "{point} {action}");
            }
        }
    }
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread")]
async fn real_a_crash_is_taken_back_before_the_definition_and_gone_on_from_after_it() {
    let rig = Rig::new(4);
    let before = rig.state();
    let task = rig.clone_task(true);
    let whole = Task::Clone(task.clone());
    let (cx, record) = rig.context();
    task::run(&whole, &cx).await.unwrap();
    let undo = record.undo.lock().unwrap().clone();
    // The same journal, as a crash after the definition leaves it: the machine runs already, and that is fine.
    let done = [Step::Check, Step::Volumes, Step::Define];
    let outcome = task::recover(&whole, &done, &undo, &cx).await.unwrap();
    assert!(matches!(outcome, Outcome::Cloned { started: true, .. }), "{outcome:?}");
    // As one before its end leaves it, with everything done that can be done.
    for _ in 0..2 {
        let fault = task::recover(&whole, &done[..2], &undo, &cx).await.unwrap_err();
        assert!(fault.left.is_empty() && fault.message.contains("define"), "{fault:?}");
        assert_eq!(rig.state(), before);
    }
}

#[tokio::test]
async fn real_the_kvm_probe_comes_to_an_answer_and_remembers_it() {
    let host = Host::new(Arc::new(Libvirt::new(URI)));
    let facts = host.look("asking", |hypervisor| hypervisor.facts()).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let (cancel, device) = (CancellationToken::new(), Path::new("/dev/kvm"));
    let first = accel::decide(AccelSetting::Auto, &facts, device, state.path(), &cancel).await;
    assert_ne!(first, Accel::Unknown);
    println!("{first:?}");
    // A probe needs a program; the remembered answer is given even to who may not run any.
    cancel.cancel();
    assert_eq!(accel::decide(AccelSetting::Auto, &facts, device, state.path(), &cancel).await, first);
}
