//! A domain's description: read into what Maglica wants to know, and rewritten for a clone. Pure; always by an XML library.
//!
//! Maglica's own facts about a domain lie in its `<metadata>`, as one element of the namespace [`NAMESPACE`]:
//!
//! ```xml
//! <maglica:domain xmlns:maglica="https://maglica.org/xmlns/domain/1">
//!   <maglica:job>…</maglica:job> <maglica:image>…</maglica:image> <maglica:by>…</maglica:by>   made by this job
//!   <maglica:anti-affinity>…</maglica:anti-affinity>                                          no two of this group on one host
//!   <maglica:role>image</maglica:role>                                                        kept to be cloned
//! </maglica:domain>
//! ```
//! and one of [`schedule`]'s.

pub mod change;
mod copy;
pub mod live;
pub mod schedule;
pub mod serial;
mod write;

use std::net::IpAddr;

use maglica_proto::{
    id::JobId,
    inventory::{DiskDevice, Nic, Provenance, Schedule},
    name::{DomainName, GroupName},
    units::ByteSize,
};
use roxmltree::{Document, Node};
use uuid::Uuid;

pub use self::{
    copy::{CopyEdit, for_copy},
    write::{CloneEdit, for_clone, marked},
};
use super::storage_xml::{child, text_at};

/// The namespace of Maglica's element in a domain's metadata.
pub const NAMESPACE: &str = "https://maglica.org/xmlns/domain/1";

/// libxml2's own limit. What rewrites a description goes down it by recursion.
const DEPTH_MAX: usize = 256;

/// A description cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DomainXmlError {
    /// It is not XML.
    #[error("the domain's description is not XML: {0}")]
    Syntax(String),
    /// It is nested deeper than libvirt, which reads it with libxml2, would take it.
    #[error("the domain's description is nested more than {DEPTH_MAX} deep")]
    Deep,
    /// Something is missing that every domain has.
    #[error("the domain's description has no {0}")]
    Missing(&'static str),
    /// It has another number of network interfaces than there are addresses for.
    #[error("the domain has {nics} network interfaces and {macs} addresses were given")]
    Nics {
        /// Those of the domain.
        nics: usize,
        /// The addresses.
        macs: usize,
    },
}

/// What Maglica wants to know of a domain's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name, not checked.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// What runs it: `kvm`, `qemu`, `test` …
    pub kind: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory it may use.
    pub memory: ByteSize,
    /// Its disks and drives.
    pub disks: Vec<DiskXml>,
    /// Its network interfaces.
    pub nics: Vec<Nic>,
    /// The file with its firmware's variables.
    pub nvram: Option<String>,
    /// Who made it, if Maglica did.
    pub made: Option<Provenance>,
    /// Whether it is marked as an image.
    pub marked_image: bool,
    /// How snapshots of it are taken.
    pub schedule: Option<Schedule>,
}

/// A disk or drive as its domain describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskXml {
    /// The device's name in the domain.
    pub target: String,
    /// What it is.
    pub device: DiskDevice,
    /// What is behind it.
    pub source: Source,
    /// Its format.
    pub format: String,
    /// Whether the guest may not write to it.
    pub readonly: bool,
    /// Whether several domains may have it at once.
    pub shareable: bool,
    /// Whether qemu decrypts it.
    pub encrypted: bool,
}

/// What is behind a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing: an empty drive.
    Empty,
    /// A file or a block device.
    Path(String),
    /// A volume, by name.
    Volume {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// Something else, with libvirt's word for it, such as `network (rbd)`.
    Other(String),
}

/// Reads a domain's description.
///
/// # Errors
/// [`DomainXmlError`] if it is not one.
pub fn read(xml: &str) -> Result<Description, DomainXmlError> {
    let document = parse(xml)?;
    let root = document.root_element();
    let devices = child(root, "devices");
    let named = |name: &'static str| {
        devices.into_iter().flat_map(|node| node.children()).filter(move |node| node.has_tag_name(name))
    };
    let own = child(root, "metadata").and_then(|node| {
        node.children()
            .find(|node| node.tag_name().name() == "domain" && node.tag_name().namespace() == Some(NAMESPACE))
    });
    Ok(Description {
        name: text_at(root, &["name"]).ok_or(DomainXmlError::Missing("name"))?.to_owned(),
        uuid: text_at(root, &["uuid"])
            .and_then(|text| Uuid::parse_str(text).ok())
            .ok_or(DomainXmlError::Missing("UUID"))?,
        kind: root.attribute("type").unwrap_or_default().to_owned(),
        vcpus: text_at(root, &["vcpu"]).and_then(|text| text.parse().ok()).unwrap_or(1),
        // libvirt always writes KiB, whatever unit was defined.
        memory: text_at(root, &["memory"]).and_then(|text| text.parse().ok()).map_or(ByteSize::ZERO, ByteSize::kib),
        disks: named("disk").filter_map(disk).collect(),
        nics: named("interface").filter_map(nic).collect(),
        nvram: text_at(root, &["os", "nvram"]).map(str::to_owned),
        made: own.and_then(provenance),
        marked_image: own.is_some_and(|own| text_at(own, &["role"]) == Some("image")),
        schedule: child(root, "metadata").and_then(schedule::read),
    })
}

fn parse(xml: &str) -> Result<Document<'_>, DomainXmlError> {
    let document = Document::parse(xml).map_err(|error| DomainXmlError::Syntax(error.to_string()))?;
    // In the order of the document, which is that of the ids: each node comes after its parent.
    let mut depths: Vec<usize> = Vec::new();
    for node in document.descendants() {
        let above = node.parent().and_then(|parent| depths.get(parent.id().get_usize()));
        let depth = above.map_or(0, |above| above + 1);
        if depth > DEPTH_MAX {
            return Err(DomainXmlError::Deep);
        }
        depths.push(depth);
    }
    Ok(document)
}

fn disk(node: Node<'_, '_>) -> Option<DiskXml> {
    let source = child(node, "source");
    let attribute = |name: &str| source.and_then(|source| source.attribute(name)).map(str::to_owned);
    let kind = node.attribute("type").unwrap_or("file");
    let source = match kind {
        "file" => attribute("file").map_or(Source::Empty, Source::Path),
        "block" => attribute("dev").map_or(Source::Empty, Source::Path),
        "volume" => match (attribute("pool"), attribute("volume")) {
            (Some(pool), Some(volume)) => Source::Volume { pool, volume },
            (Some(_) | None, Some(_) | None) => Source::Empty,
        },
        other => Source::Other(
            attribute("protocol").map_or_else(|| other.to_owned(), |protocol| format!("{other} ({protocol})")),
        ),
    };
    let encrypted = child(node, "encryption").is_some()
        || child(node, "source").is_some_and(|source| child(source, "encryption").is_some());
    Some(DiskXml {
        target: child(node, "target")?.attribute("dev")?.to_owned(),
        device: match node.attribute("device") {
            Some("cdrom") => DiskDevice::Cdrom,
            Some("floppy") => DiskDevice::Floppy,
            Some("lun") => DiskDevice::Lun,
            Some(_) | None => DiskDevice::Disk,
        },
        source,
        format: child(node, "driver").and_then(|driver| driver.attribute("type")).unwrap_or("raw").to_owned(),
        readonly: child(node, "readonly").is_some(),
        shareable: child(node, "shareable").is_some(),
        encrypted,
    })
}

fn nic(node: Node<'_, '_>) -> Option<Nic> {
    let kind = node.attribute("type").unwrap_or("network");
    let source = child(node, "source").and_then(|source| {
        ["network", "bridge", "dev"].iter().find_map(|name| source.attribute(*name)).map(str::to_owned)
    });
    Some(Nic {
        mac: child(node, "mac")?.attribute("address")?.parse().ok()?,
        kind: kind.to_owned(),
        source,
        model: child(node, "model").and_then(|model| model.attribute("type")).map(str::to_owned),
        addresses: Vec::new(),
    })
}

fn provenance(own: Node<'_, '_>) -> Option<Provenance> {
    Some(Provenance {
        job: text_at(own, &["job"])?.parse::<JobId>().ok()?,
        image: DomainName::new(text_at(own, &["image"])?).ok()?,
        by: text_at(own, &["by"]).unwrap_or_default().to_owned(),
        anti_affinity: text_at(own, &["anti-affinity"]).and_then(|group| GroupName::new(group).ok()),
    })
}

/// An address that others can reach a guest by: not of its loopback, not of the link alone.
#[must_use]
pub fn guest_address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    (!address.is_loopback() && !link_local && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests;
