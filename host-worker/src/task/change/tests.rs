//! Against libvirt's own in-memory driver.

use std::{path::PathBuf, sync::Arc};

use maglica_proto::{
    id::JobId,
    inventory::Accel,
    job::{BootDevice, HostEventKind, IsoSource},
    name::DomainName,
    units::ByteSize,
};

use super::*;
use crate::{
    customize::guestfs::Guestfs,
    hypervisor::{Host, Libvirt, uri},
    task::{Journal, JournalError},
    tool::ToolPaths,
};

/// Remembers nothing.
struct Deaf;

impl Journal for Deaf {
    fn intend(&self, _: &Undo) -> Result<(), JournalError> {
        Ok(())
    }

    fn step_done(&self, _: Step) {}

    fn event(&self, _: HostEventKind) {}
}

/// A node of its own with the running domain `vm0`, which has the disk `vda`, and what acts on it.
async fn machine(folder: &tempfile::TempDir) -> (VmTask, TaskContext) {
    let path = folder.path().join("node.xml");
    std::fs::write(&path, include_str!("../../recorded/test-node.xml")).unwrap();
    let host = Host::new(Arc::new(Libvirt::new(uri("test", None, path.to_str().unwrap()))));
    let uuid = host.look("looking", |hypervisor| hypervisor.domain_by_name("vm0")).await.unwrap();
    let tools = ToolPaths::with_first(Vec::<PathBuf>::new());
    let cx = TaskContext {
        job: JobId::generate(),
        host,
        accel: Accel::Unknown,
        customizer: Arc::new(Guestfs::new(tools.clone(), PathBuf::new())),
        tools,
        journal: Arc::new(Deaf),
        grants: Arc::new(crate::transfer::NoGrants),
        cancel: CancellationToken::new(),
    };
    (VmTask { name: DomainName::new("vm0").unwrap(), uuid }, cx)
}

async fn act(vm: &VmTask, change: VmChange, cx: &TaskContext) -> Result<(Applied, String), Fault> {
    let outcome = run(vm, &change, &[], cx).await?;
    let Outcome::Changed { applied, note, .. } = outcome else { panic!("{outcome:?}") };
    Ok((applied, note))
}

async fn off(vm: &VmTask, cx: &TaskContext) {
    let uuid = vm.uuid;
    cx.host.look("switching off", move |hypervisor| hypervisor.destroy(uuid)).await.unwrap();
}

#[tokio::test]
async fn a_machine_is_suspended_and_resumed_and_a_repeat_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (vm, cx) = machine(&folder).await;
    for (change, first) in [(VmChange::Suspend, Applied::Live), (VmChange::Resume, Applied::Live)] {
        assert_eq!(act(&vm, change.clone(), &cx).await.unwrap().0, first);
        assert_eq!(act(&vm, change, &cx).await.unwrap().0, Applied::Already);
    }
    off(&vm, &cx).await;
    for change in [VmChange::Suspend, VmChange::Resume, VmChange::Reboot, VmChange::Reset] {
        let fault = act(&vm, change.clone(), &cx).await.unwrap_err();
        assert_eq!(
            (fault.code, fault.message.as_str()),
            (Code::WrongState, "the virtual machine vm0 is off"),
            "{change:?}"
        );
    }
}

#[tokio::test]
async fn a_button_that_was_perhaps_pressed_before_a_crash_is_not_pressed_again() {
    let folder = tempfile::tempdir().unwrap();
    let (vm, cx) = machine(&folder).await;
    let again = async |done: &[Step]| recover(&vm, &VmChange::Reset, done, &[], &cx).await;
    assert_eq!(again(&[Step::Check]).await.unwrap_err().code, Code::OutcomeUnknown);
    assert!(again(&[Step::Check, Step::Power]).await.is_ok());
}

#[tokio::test]
async fn autostart_is_set_and_a_machine_that_runs_is_not_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let (vm, cx) = machine(&folder).await;
    assert_eq!(act(&vm, VmChange::Autostart { on: true }, &cx).await.unwrap().0, Applied::Defined);
    assert_eq!(act(&vm, VmChange::Autostart { on: true }, &cx).await.unwrap().0, Applied::Already);
    assert!(find(&vm, &cx).await.unwrap().autostart);
    let rename = |to: &str| VmChange::Rename { to: to.parse().unwrap() };
    assert_eq!(act(&vm, rename("vm1"), &cx).await.unwrap_err().code, Code::WrongState);
    assert_eq!(act(&vm, rename("debian12.original"), &cx).await.unwrap_err().code, Code::Conflict);
    assert_eq!(act(&vm, rename("vm0"), &cx).await.unwrap().0, Applied::Already);
}

#[tokio::test]
async fn processors_and_memory_are_bounded_by_the_host_and_the_change_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (vm, cx) = machine(&folder).await;
    off(&vm, &cx).await;
    assert_eq!(act(&vm, VmChange::Vcpus { count: 2 }, &cx).await.unwrap().0, Applied::Defined);
    assert_eq!(act(&vm, VmChange::Vcpus { count: 2 }, &cx).await.unwrap().0, Applied::Already);
    assert_eq!(act(&vm, VmChange::Vcpus { count: 100_000 }, &cx).await.unwrap_err().code, Code::NoRoom);
    assert_eq!(act(&vm, VmChange::Vcpus { count: 0 }, &cx).await.unwrap_err().code, Code::InvalidInput);
    let memory = |size| VmChange::Memory { size };
    assert_eq!(act(&vm, memory(ByteSize::mib(128)), &cx).await.unwrap().0, Applied::Defined);
    let refused = act(&vm, memory(ByteSize::mib(1 << 30)), &cx).await.unwrap_err();
    assert!(refused.code == Code::NoRoom && refused.message.contains("in all"), "{refused}");
    assert_eq!(act(&vm, memory(ByteSize::bytes(512)), &cx).await.unwrap_err().code, Code::InvalidInput);
    let seen = see(&vm, &cx).await.unwrap();
    assert_eq!((seen.description.vcpus, seen.description.memory), (2, ByteSize::mib(128)));
}

#[tokio::test]
async fn a_running_machine_says_when_a_change_holds_only_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (vm, cx) = machine(&folder).await;
    let outcome = run(&vm, &VmChange::Vcpus { count: 2 }, &[], &cx).await.unwrap();
    let Outcome::Changed { applied: Applied::AtNextStart, why: Some(why), .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(why, "it was started with at most 1");
    assert_eq!(see(&vm, &cx).await.unwrap().description.vcpus, 2, "it is so defined all the same");
    let boot = |device| VmChange::BootDevice { device };
    assert_eq!(act(&vm, boot(BootDevice::Disk), &cx).await.unwrap().0, Applied::Already);
    let iso = folder.path().join("a.iso");
    std::fs::write(&iso, "iso").unwrap();
    let iso = IsoSource::Path { path: iso.to_str().unwrap().parse().unwrap() };
    assert_eq!(act(&vm, VmChange::AttachIso { iso }, &cx).await.unwrap().0, Applied::AtNextStart);
    let outcome = run(&vm, &boot(BootDevice::Cdrom), &[], &cx).await.unwrap();
    assert!(matches!(outcome, Outcome::Changed { applied: Applied::AtNextStart, why: Some(_), .. }), "{outcome:?}");
    let none = act(&vm, boot(BootDevice::Network), &cx).await.unwrap_err();
    assert_eq!(none.message, "vm0 has no network to be started from");
}

#[tokio::test]
async fn an_iso_goes_into_a_drive_that_is_not_there_yet_and_in_the_place_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let (vm, cx) = machine(&folder).await;
    off(&vm, &cx).await;
    let iso = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "iso").unwrap();
        VmChange::AttachIso { iso: IsoSource::Path { path: path.to_str().unwrap().parse().unwrap() } }
    };
    let (applied, note) = act(&vm, iso("a.iso"), &cx).await.unwrap();
    assert!(applied == Applied::Defined && note.contains("new CD drive hda"), "{note}");
    assert_eq!(act(&vm, iso("a.iso"), &cx).await.unwrap().0, Applied::Already);
    let (applied, note) = act(&vm, iso("b.iso"), &cx).await.unwrap();
    assert!(applied == Applied::Defined && note.contains("b.iso") && note.contains("in the place of"), "{note}");
    let drives = async || {
        let disks = see(&vm, &cx).await.unwrap().description.disks;
        disks.into_iter().filter(|disk| disk.device == maglica_proto::inventory::DiskDevice::Cdrom).collect::<Vec<_>>()
    };
    assert_eq!(drives().await.len(), 1);
    let eject = VmChange::EjectIso { target: None };
    assert_eq!(act(&vm, eject.clone(), &cx).await.unwrap().0, Applied::Defined);
    assert_eq!(act(&vm, eject, &cx).await.unwrap().0, Applied::Already);
    assert_eq!(drives().await[0].source, domain_xml::Source::Empty);
    let missing = VmChange::AttachIso { iso: IsoSource::Path { path: "/nowhere/x.iso".parse().unwrap() } };
    assert_eq!(act(&vm, missing, &cx).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_disk_is_added_and_taken_away_again_with_its_volume() {
    let folder = tempfile::tempdir().unwrap();
    let (vm, cx) = machine(&folder).await;
    off(&vm, &cx).await;
    let attach = |size| VmChange::AttachDisk { size, pool: None };
    let (applied, note) = act(&vm, attach(ByteSize::mib(20)), &cx).await.unwrap();
    assert!(applied == Applied::Defined && note.starts_with("vdb is a new disk of 20.0 MiB (pool0/vm0-"), "{note}");
    // Begun again after a crash, it is the same disk.
    let again = recover(&vm, &attach(ByteSize::mib(20)), &[], &[], &cx).await.unwrap();
    assert!(matches!(&again, Outcome::Changed { note, .. } if note.starts_with("vdb ")), "{again:?}");
    assert_eq!(see(&vm, &cx).await.unwrap().description.disks.len(), 2);
    let refused = act(&vm, attach(ByteSize::bytes(1 << 60)), &cx).await.unwrap_err();
    assert_eq!(refused.code, Code::NoRoom, "{refused}");
    let resize = |target: &str, size| VmChange::ResizeDisk { target: target.parse().unwrap(), size };
    let shrink = act(&vm, resize("vdb", ByteSize::mib(10)), &cx).await.unwrap_err();
    assert!(shrink.code == Code::InvalidInput && shrink.message.contains("never made smaller"), "{shrink}");
    assert_eq!(act(&vm, resize("vdb", ByteSize::mib(20)), &cx).await.unwrap().0, Applied::Already);
    assert_eq!(act(&vm, resize("vdz", ByteSize::mib(20)), &cx).await.unwrap_err().code, Code::NotFound);
    let detach = |target: &str, delete| VmChange::DetachDisk { target: target.parse().unwrap(), delete };
    let missing = act(&vm, detach("vdz", false), &cx).await.unwrap_err();
    assert_eq!(missing.message, "vm0 has no disk vdz (it has: vda, vdb)");
    let (_, note) = act(&vm, detach("vdb", true), &cx).await.unwrap();
    assert!(note.contains("vdb is taken away; its volume pool0/vm0-"), "{note}");
    assert_eq!(see(&vm, &cx).await.unwrap().description.disks.len(), 1);
    let volumes = cx.host.look("listing", |hypervisor| hypervisor.volumes("pool0")).await.unwrap();
    assert_eq!(volumes.len(), 1, "{volumes:?}");
}
