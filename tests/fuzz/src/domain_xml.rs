//! A domain's description, read, and rewritten for a clone.
//!
//! Input: the XML.

use std::collections::BTreeMap;

use maglica_host_worker::hypervisor::domain_xml::{CloneEdit, DomainXmlError, Source, for_clone, read};
use maglica_proto::{inventory::Provenance, name::DomainName, net::MacAddr};
use uuid::Uuid;

use crate::input::text;

/// More interfaces than this nobody has.
const NICS: usize = 64;

/// Reads it; makes a clone's of it; reads that.
pub fn check(data: &[u8]) {
    let text = text(data);
    let Ok(image) = read(&text) else { return };
    let made = Provenance {
        job: Uuid::from_u128(1).into(),
        image: DomainName::new("debian12.original").expect("a name"),
        by: "a <b> & \"c\" ]]>".to_owned(),
        anti_affinity: Some("web".parse().expect("a name")),
    };
    let disks: BTreeMap<String, String> =
        image.disks.iter().map(|disk| (disk.target.clone(), "/pool/a&b'<c>.qcow2".to_owned())).collect();
    let edit = |macs| {
        let (name, uuid) = ("vm0.example.jp", Uuid::from_u128(7));
        for_clone(&text, &CloneEdit { name, uuid, disks: &disks, macs, emulate: true, log: Some("/log"), made: &made })
    };
    let macs: Vec<MacAddr> = (0..=255).map(|last| MacAddr::kvm([0, 0, last])).take(NICS).collect();
    let rewritten = match edit(&[]) {
        Err(DomainXmlError::Nics { nics, macs: 0 }) if nics <= NICS => edit(&macs[..nics]),
        other => other,
    };
    let Ok(rewritten) = rewritten else { return };
    let clone = read(&rewritten).unwrap_or_else(|error| panic!("the clone's cannot be read: {error}\n{rewritten}"));
    assert_eq!((clone.name.as_str(), clone.uuid, clone.kind.as_str()), ("vm0.example.jp", Uuid::from_u128(7), "qemu"));
    assert_eq!(clone.made.as_ref(), Some(&made));
    assert!(!clone.marked_image);
    assert_eq!((clone.vcpus, clone.memory, clone.disks.len()), (image.vcpus, image.memory, image.disks.len()));
    for (before, after) in image.disks.iter().zip(&clone.disks) {
        assert_eq!((&before.target, before.device), (&after.target, after.device));
        if matches!(before.source, Source::Path(_)) {
            assert_eq!(after.source, Source::Path("/pool/a&b'<c>.qcow2".to_owned()));
        }
    }
    assert!(clone.nics.iter().all(|nic| macs.contains(&nic.mac)), "an interface has the image's address");
}
