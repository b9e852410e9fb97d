//! On descriptions as libvirt wrote them.

use std::collections::BTreeMap;

use super::*;

/// An image with two disks, a CD drive, two interfaces, UEFI, and a part in qemu's own namespace.
const IMAGE: &str = include_str!("../../recorded/domain-uefi-two-disks.xml");

fn made() -> Provenance {
    Provenance {
        job: "0193e0a5-7f3e-7c1a-9d3b-2f6c1a0b4d5e".parse().unwrap(),
        image: DomainName::new("debian12.original").unwrap(),
        by: "root@<local> & co".to_owned(),
        anti_affinity: Some("web".parse().unwrap()),
    }
}

fn edited(emulate: bool) -> String {
    let disks = BTreeMap::from([
        ("vda".to_owned(), "/pool/vm0.qcow2".to_owned()),
        ("vdb".to_owned(), "/pool/vm0-vdb.raw".to_owned()),
    ]);
    let macs = ["52:54:00:00:00:01".parse().unwrap(), "52:54:00:00:00:02".parse().unwrap()];
    for_clone(
        IMAGE,
        &CloneEdit {
            name: "vm0.example.jp",
            uuid: Uuid::from_u128(7),
            disks: &disks,
            macs: &macs,
            emulate,
            log: None,
            made: &made(),
        },
    )
    .unwrap()
}

#[test]
fn a_description_is_read() {
    let read = read(IMAGE).unwrap();
    assert_eq!((read.name.as_str(), read.kind.as_str(), read.vcpus), ("debian12.original", "kvm", 2));
    assert_eq!(read.memory, ByteSize::mib(512));
    let disks: Vec<_> =
        read.disks.iter().map(|disk| (disk.target.as_str(), disk.device, disk.format.as_str())).collect();
    assert_eq!(
        disks,
        [
            ("vda", DiskDevice::Disk, "qcow2"),
            ("vdb", DiskDevice::Disk, "raw"),
            ("sda", DiskDevice::Cdrom, "raw"),
            ("vdc", DiskDevice::Disk, "raw"),
        ]
    );
    assert_eq!(read.disks[0].source, Source::Path("/var/lib/libvirt/images/debian12.qcow2".to_owned()));
    assert_eq!(read.disks[2].source, Source::Empty);
    assert_eq!(read.disks[3].source, Source::Other("network (rbd)".to_owned()));
    assert_eq!(read.nics.len(), 2);
    assert_eq!(read.nics[1].source.as_deref(), Some("br0"));
    assert_eq!(read.nvram.as_deref(), Some("/var/lib/libvirt/qemu/nvram/debian12.original_VARS.fd"));
    assert!(read.marked_image);
    assert_eq!(read.made, None);
}

#[test]
fn a_clone_has_its_own_name_uuid_disks_addresses_and_origin() {
    let read = read(&edited(false)).unwrap();
    assert_eq!((read.name.as_str(), read.uuid, read.kind.as_str()), ("vm0.example.jp", Uuid::from_u128(7), "kvm"));
    assert_eq!(read.disks[0].source, Source::Path("/pool/vm0.qcow2".to_owned()));
    assert_eq!(read.disks[1].source, Source::Path("/pool/vm0-vdb.raw".to_owned()));
    assert_eq!(read.nics[1].mac.to_string(), "52:54:00:00:00:02");
    assert_eq!(read.made, Some(made()), "text is escaped and reads back the same");
    assert!(!read.marked_image, "the clone of a marked image is no image");
}

#[test]
fn what_a_clone_does_not_change_stays() {
    let before = Document::parse(IMAGE).unwrap();
    let xml = edited(false);
    let after = Document::parse(&xml).unwrap();
    let qemu = "http://libvirt.org/schemas/domain/qemu/1.0";
    let commandline = |document: &Document<'_>| {
        document.descendants().filter(|node| node.tag_name().namespace() == Some(qemu)).count()
    };
    assert_eq!(commandline(&before), 3);
    assert_eq!(commandline(&after), 3);
    let other = |document: &Document<'_>| document.descendants().any(|node| node.tag_name().name() == "libosinfo");
    assert!(other(&before) && other(&after), "other programs' metadata stays");
    assert!(xml.contains("host-passthrough"));
}

#[test]
fn a_clone_for_a_host_without_kvm_is_emulated_without_the_hosts_processor() {
    let xml = edited(true);
    assert_eq!(read(&xml).unwrap().kind, "qemu");
    assert!(!xml.contains("host-passthrough"));
}

#[test]
fn the_wrong_number_of_addresses_is_an_error() {
    let error = for_clone(
        IMAGE,
        &CloneEdit {
            name: "vm0",
            uuid: Uuid::nil(),
            disks: &BTreeMap::new(),
            macs: &[],
            emulate: false,
            log: None,
            made: &made(),
        },
    )
    .unwrap_err();
    assert!(matches!(error, DomainXmlError::Nics { nics: 2, macs: 0 }), "{error}");
}

#[test]
fn a_description_nested_without_end_is_refused_before_the_stack_is_used_up() {
    let (front, back) = IMAGE.split_at(IMAGE.rfind("</domain>").unwrap());
    let nested = |depth: usize| format!("{front}{}{}{back}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(read(&nested(200)).is_ok());
    for depth in [300, 100_000] {
        assert!(matches!(read(&nested(depth)), Err(DomainXmlError::Deep)), "{depth}");
        let edit = CloneEdit {
            name: "vm0",
            uuid: Uuid::nil(),
            disks: &BTreeMap::new(),
            macs: &[],
            emulate: false,
            log: None,
            made: &made(),
        };
        assert!(matches!(for_clone(&nested(depth), &edit), Err(DomainXmlError::Deep)), "{depth}");
    }
}

#[test]
fn loopback_and_link_local_addresses_are_not_a_guests() {
    assert_eq!(guest_address("127.0.0.1"), None);
    assert_eq!(guest_address("fe80::1"), None);
    assert_eq!(guest_address("192.168.122.7").map(|ip| ip.to_string()).as_deref(), Some("192.168.122.7"));
}

#[test]
fn a_mark_comes_and_goes_and_leaves_who_made_the_domain() {
    let clone = edited(false);
    let image = marked(&clone, true).unwrap();
    let read_image = read(&image).unwrap();
    assert!(read_image.marked_image);
    assert_eq!(read_image.made, Some(made()));
    assert_eq!(read(&marked(&image, true).unwrap()).unwrap(), read_image);
    assert_eq!(read(&marked(&image, false).unwrap()).unwrap(), read(&clone).unwrap());
    let bare = "<domain type='test'><name>a</name><uuid>6f1d2c3b-4a59-4788-9697-a5b4c3d2e1f0</uuid><devices/></domain>";
    let image = marked(bare, true).unwrap();
    assert!(read(&image).unwrap().marked_image);
    assert!(!marked(&image, false).unwrap().contains("maglica"), "nothing is left of it");
}
