//! Fixed values of changes of a machine and of its snapshots.

use maglica_proto::{
    inventory::{Domain, Schedule, Screen, Snapshot},
    job::{Applied, BootDevice, IsoSource, JobSpec, Outcome, SnapshotChange, Task, VmChange},
};

use super::{
    fixtures::{address, at, covers, gib, name, vm_ref, vm_task},
    inventory::domain,
};

fn changes() -> Vec<(&'static str, VmChange)> {
    let changes = vec![
        ("reboot", VmChange::Reboot),
        ("reset", VmChange::Reset),
        ("suspend", VmChange::Suspend),
        ("resume", VmChange::Resume),
        ("rename", VmChange::Rename { to: name("vm1.example.jp") }),
        ("autostart", VmChange::Autostart { on: true }),
        ("attach-disk", VmChange::AttachDisk { size: gib(20), pool: Some(name("default")) }),
        ("attach-disk-anywhere", VmChange::AttachDisk { size: gib(20), pool: None }),
        ("detach-disk", VmChange::DetachDisk { target: name("vdb"), delete: true }),
        ("resize-disk", VmChange::ResizeDisk { target: name("vdb"), size: gib(40) }),
        ("attach-iso", VmChange::AttachIso { iso: IsoSource::Path { path: name("/srv/debian.iso") } }),
        (
            "attach-iso-volume",
            VmChange::AttachIso { iso: IsoSource::Volume { pool: name("iso"), volume: name("debian.iso") } },
        ),
        ("eject-iso", VmChange::EjectIso { target: Some(name("sda")) }),
        ("eject-iso-any", VmChange::EjectIso { target: None }),
        ("set-boot-device", VmChange::BootDevice { device: BootDevice::Cdrom }),
        ("set-vcpus", VmChange::Vcpus { count: 4 }),
        ("set-memory", VmChange::Memory { size: gib(4) }),
    ];
    let values: Vec<_> = changes.iter().map(|(_, change)| change).collect();
    covers!(values, "reboot" => VmChange::Reboot, "reset" => VmChange::Reset, "suspend" => VmChange::Suspend,
        "resume" => VmChange::Resume, "rename" => VmChange::Rename { .. }, "autostart" => VmChange::Autostart { .. },
        "attach-disk" => VmChange::AttachDisk { .. }, "detach-disk" => VmChange::DetachDisk { .. },
        "resize-disk" => VmChange::ResizeDisk { .. }, "attach-iso" => VmChange::AttachIso { .. },
        "eject-iso" => VmChange::EjectIso { .. }, "set-boot-device" => VmChange::BootDevice { .. },
        "set-vcpus" => VmChange::Vcpus { .. }, "set-memory" => VmChange::Memory { .. });
    changes
}

fn snapshot_changes() -> Vec<(&'static str, SnapshotChange)> {
    let snapshot = || name("before-upgrade");
    let changes = vec![
        (
            "snapshot-create",
            SnapshotChange::Create {
                snapshot: snapshot(),
                memory: true,
                description: "before the upgrade".to_owned(),
                expires_s: Some(604_800),
            },
        ),
        (
            "snapshot-create-bare",
            SnapshotChange::Create { snapshot: snapshot(), memory: false, description: String::new(), expires_s: None },
        ),
        ("snapshot-revert", SnapshotChange::Revert { snapshot: snapshot(), start: true }),
        ("snapshot-delete", SnapshotChange::Delete { snapshot: snapshot() }),
        ("snapshot-schedule", SnapshotChange::Schedule { every_s: 86_400, keep: 7, memory: false }),
        ("snapshot-unschedule", SnapshotChange::Unschedule),
    ];
    let values: Vec<_> = changes.iter().map(|(_, change)| change).collect();
    covers!(values, "create" => SnapshotChange::Create { .. }, "revert" => SnapshotChange::Revert { .. },
        "delete" => SnapshotChange::Delete { .. }, "schedule" => SnapshotChange::Schedule { .. },
        "unschedule" => SnapshotChange::Unschedule);
    changes
}

fn applied() -> Vec<(&'static str, Applied)> {
    let all = [Applied::Live, Applied::Defined, Applied::AtNextStart, Applied::Already, Applied::Other];
    covers!(all, "live" => Applied::Live, "defined" => Applied::Defined, "at-next-start" => Applied::AtNextStart,
        "already" => Applied::Already, "other" => Applied::Other);
    let names = ["changed-live", "changed-defined", "changed-at-next-start", "changed-already", "changed-other"];
    names.into_iter().zip(all).collect()
}

pub(crate) fn specs() -> Vec<(&'static str, JobSpec)> {
    let vm = vm_ref;
    let changes = changes().into_iter().map(|(name, change)| (name, JobSpec::Change { vm: vm(), change }));
    let snapshots = snapshot_changes().into_iter();
    changes.chain(snapshots.map(|(name, snapshot)| (name, JobSpec::Snapshot { vm: vm(), snapshot }))).collect()
}

pub(crate) fn tasks() -> Vec<(&'static str, Task)> {
    let by = "root".to_owned();
    vec![
        ("change", Task::Change { vm: vm_task(), change: VmChange::Vcpus { count: 4 } }),
        ("snapshot", Task::Snapshot { vm: vm_task(), snapshot: SnapshotChange::Unschedule, by }),
    ]
}

pub(crate) fn outcomes() -> Vec<(&'static str, Outcome)> {
    let why = || Some("it was started with at most 2".to_owned());
    let changed = |applied| {
        let why = if applied == Applied::AtNextStart { why() } else { None };
        Outcome::Changed { applied, note: "4 processors".to_owned(), why }
    };
    applied().into_iter().map(|(name, applied)| (name, changed(applied))).collect()
}

/// A domain with all that one can have.
pub(crate) fn whole_domain() -> Domain {
    let mut domain = domain();
    domain.disks[0].below = vec!["/var/lib/libvirt/images/base-of-base.qcow2".to_owned()];
    domain.nics[0].addresses = vec![address("192.168.0.10")];
    domain.console = Some("/dev/pts/4".to_owned());
    domain.screens = vec![Screen { kind: "vnc".to_owned(), at: "127.0.0.1:5901".to_owned() }];
    domain.snapshots = vec![Snapshot {
        name: name("before-upgrade"),
        created: at(1),
        memory: true,
        current: true,
        parent: Some(name("fresh")),
        description: "before the upgrade".to_owned(),
        by: Some("root".to_owned()),
        expires: Some(at(604_800)),
        scheduled: false,
    }];
    domain.schedule = Some(Schedule { every_s: 86_400, keep: 7, memory: false });
    domain
}
