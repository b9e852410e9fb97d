//! Fixed values of what a host has.

use maglica_proto::inventory::{Accel, Disk, DiskDevice, Domain, DomainState, HostFacts, Nic, Pool, Provenance};

use super::fixtures::{address, covers, gib, job, name, uuid};

pub(crate) fn facts(accel: Accel) -> HostFacts {
    HostFacts {
        cpus: 16,
        memory: gib(64),
        memory_free: gib(40),
        arch: "x86_64".to_owned(),
        hypervisor: "QEMU 7.2.22".to_owned(),
        libvirt: "9.0.0".to_owned(),
        accel,
        worker: "0.1.0".to_owned(),
        transfer: None,
    }
}

pub(crate) fn accels() -> Vec<(&'static str, Accel)> {
    let accels = vec![
        ("kvm", Accel::Kvm),
        ("emulation", Accel::Emulation { reason: "no /dev/kvm".to_owned() }),
        ("unknown", Accel::Unknown),
    ];
    let values: Vec<_> = accels.iter().map(|(_, accel)| accel).collect();
    covers!(values, "kvm" => Accel::Kvm, "emulation" => Accel::Emulation { .. }, "unknown" => Accel::Unknown);
    accels
}

pub(crate) fn pools() -> Vec<Pool> {
    let pool = |path| Pool {
        name: name("default"),
        kind: "dir".to_owned(),
        active: true,
        path,
        capacity: gib(500),
        available: gib(300),
    };
    vec![pool(Some("/var/lib/libvirt/images".to_owned())), pool(None)]
}

pub(crate) fn disk_devices() -> Vec<(&'static str, DiskDevice)> {
    let devices = vec![
        ("disk", DiskDevice::Disk),
        ("cdrom", DiskDevice::Cdrom),
        ("floppy", DiskDevice::Floppy),
        ("lun", DiskDevice::Lun),
    ];
    let values: Vec<_> = devices.iter().map(|(_, device)| device).collect();
    covers!(values, "disk" => DiskDevice::Disk, "cdrom" => DiskDevice::Cdrom, "floppy" => DiskDevice::Floppy, "lun" => DiskDevice::Lun);
    devices
}

pub(crate) fn domain_states() -> Vec<(&'static str, DomainState)> {
    let all = [
        DomainState::Running,
        DomainState::Blocked,
        DomainState::Paused,
        DomainState::ShuttingDown,
        DomainState::Off,
        DomainState::Crashed,
        DomainState::Suspended,
        DomainState::Unknown,
    ];
    covers!(all, "running" => DomainState::Running, "blocked" => DomainState::Blocked, "paused" => DomainState::Paused,
        "shutting-down" => DomainState::ShuttingDown, "off" => DomainState::Off, "crashed" => DomainState::Crashed,
        "suspended" => DomainState::Suspended, "unknown" => DomainState::Unknown);
    all.into_iter().map(|state| (state.as_str(), state)).collect()
}

pub(crate) fn domain() -> Domain {
    let disk = Disk {
        target: "vda".to_owned(),
        device: DiskDevice::Disk,
        path: Some("/var/lib/libvirt/images/vm0.qcow2".to_owned()),
        format: "qcow2".to_owned(),
        pool: Some(name("default")),
        volume: Some(name("vm0.qcow2")),
        capacity: Some(gib(10)),
        allocation: Some(gib(2)),
        backing: Some("/var/lib/libvirt/images/base.qcow2".to_owned()),
        below: Vec::new(),
        readonly: false,
        trouble: None,
    };
    let drive = Disk {
        target: "sda".to_owned(),
        device: DiskDevice::Cdrom,
        path: None,
        format: "raw".to_owned(),
        pool: None,
        volume: None,
        capacity: None,
        allocation: None,
        backing: None,
        below: Vec::new(),
        readonly: true,
        trouble: Some("the file is missing".to_owned()),
    };
    let nic = |source: Option<&str>| Nic {
        mac: "52:54:00:12:34:56".parse().unwrap(),
        kind: "network".to_owned(),
        source: source.map(str::to_owned),
        model: source.map(|_| "virtio".to_owned()),
        addresses: Vec::new(),
    };
    Domain {
        name: name("vm0.example.jp"),
        uuid: uuid(),
        state: DomainState::Running,
        vcpus: 2,
        memory: gib(2),
        autostart: true,
        marked_image: false,
        disks: vec![disk, drive],
        nics: vec![nic(Some("default")), nic(None)],
        made: Some(Provenance {
            job: job(),
            image: name("debian12-x86_64.original"),
            by: "root".to_owned(),
            anti_affinity: None,
        }),
        addresses: vec![address("192.168.0.10"), address("2001:db8::10")],
        console: None,
        screens: Vec::new(),
        snapshots: Vec::new(),
        schedule: None,
    }
}

pub(crate) fn bare_domain() -> Domain {
    Domain {
        name: name("my old vm"),
        state: DomainState::Off,
        autostart: false,
        marked_image: true,
        disks: Vec::new(),
        nics: Vec::new(),
        made: None,
        addresses: Vec::new(),
        ..domain()
    }
}
