//! Reads what libvirt says of pools, volumes and its own abilities in XML. Pure.

use std::path::PathBuf;

use maglica_proto::units::ByteSize;
use roxmltree::{Document, Node};
use xmltree::{Element, XMLNode};

use super::VolumeRow;

/// The XML is not what libvirt is known to send.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageXmlError {
    /// Not XML at all.
    #[error("libvirt's description is not XML: {0}")]
    Syntax(#[from] roxmltree::Error),
    /// Something that is always there is not.
    #[error("libvirt's description has no <{0}>")]
    Missing(&'static str),
}

/// The first child element of this name.
pub(super) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.is_element() && child.tag_name().name() == name)
}

/// The text of the element at the end of this path of children; none if it is empty.
pub(super) fn text_at<'a>(node: Node<'a, '_>, path: &[&str]) -> Option<&'a str> {
    let found = path.iter().try_fold(node, |node, name| child(node, name))?;
    found.text().map(str::trim).filter(|text| !text.is_empty())
}

/// A pool's type and its folder or device.
///
/// # Errors
/// [`StorageXmlError`] if it is something else.
pub fn pool(xml: &str) -> Result<(String, Option<String>), StorageXmlError> {
    let document = Document::parse(xml)?;
    let root = document.root_element();
    let kind = root.attribute("type").ok_or(StorageXmlError::Missing("pool type"))?;
    Ok((kind.to_owned(), text_at(root, &["target", "path"]).map(str::to_owned)))
}

/// A volume of the pool of this name. libvirt writes sizes in bytes.
///
/// # Errors
/// [`StorageXmlError`] if it is something else.
pub fn volume(pool: &str, xml: &str) -> Result<VolumeRow, StorageXmlError> {
    let document = Document::parse(xml)?;
    let root = document.root_element();
    let size = |name: &'static str| {
        text_at(root, &[name])
            .and_then(|text| text.parse().ok())
            .map(ByteSize::bytes)
            .ok_or(StorageXmlError::Missing(name))
    };
    let format = child(root, "target").and_then(|target| child(target, "format"));
    Ok(VolumeRow {
        pool: pool.to_owned(),
        name: text_at(root, &["name"]).ok_or(StorageXmlError::Missing("name"))?.to_owned(),
        path: text_at(root, &["target", "path"]).ok_or(StorageXmlError::Missing("path"))?.to_owned(),
        format: format.and_then(|format| format.attribute("type")).unwrap_or("raw").to_owned(),
        capacity: size("capacity")?,
        allocation: size("allocation")?,
        backing: text_at(root, &["backingStore", "path"]).map(str::to_owned),
    })
}

/// The description of an empty volume that is to be made. Nothing of it is allocated beforehand.
#[must_use]
pub fn new_volume(name: &str, format: &str, size: ByteSize) -> String {
    let text = |tag: &str, text: String| {
        let mut element = Element::new(tag);
        element.children.push(XMLNode::Text(text));
        element
    };
    let mut volume = Element::new("volume");
    let mut target = Element::new("target");
    let mut kind = Element::new("format");
    kind.attributes.insert("type".to_owned(), format.to_owned());
    target.children.push(XMLNode::Element(kind));
    let bytes = |tag: &str, size: ByteSize| {
        let mut element = text(tag, size.as_bytes().to_string());
        element.attributes.insert("unit".to_owned(), "bytes".to_owned());
        element
    };
    let capacity = bytes("capacity", size);
    let allocation = bytes("allocation", ByteSize::ZERO);
    for child in [text("name", name.to_owned()), capacity, allocation, target] {
        volume.children.push(XMLNode::Element(child));
    }
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = volume.write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The host's architecture and the program that runs guests of it, of libvirt's capabilities.
///
/// # Errors
/// [`StorageXmlError`] if it is something else.
pub fn capabilities(xml: &str) -> Result<(String, Option<PathBuf>), StorageXmlError> {
    let document = Document::parse(xml)?;
    let root = document.root_element();
    let arch = child(root, "host")
        .and_then(|host| text_at(host, &["cpu", "arch"]))
        .ok_or(StorageXmlError::Missing("arch"))?
        .to_owned();
    let emulator = root
        .children()
        .filter(|node| node.has_tag_name("guest"))
        .filter_map(|guest| child(guest, "arch"))
        .find(|node| node.attribute("name") == Some(&arch))
        .and_then(|node| text_at(node, &["emulator"]))
        .map(PathBuf::from);
    Ok((arch, emulator))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libvirt 9.0.0 wrote it for an overlay in a directory pool.
    const VOLUME: &str = "<volume type='file'>
  <name>vm0.qcow2</name>
  <key>/var/lib/libvirt/images/vm0.qcow2</key>
  <capacity unit='bytes'>1073741824</capacity>
  <allocation unit='bytes'>200704</allocation>
  <physical unit='bytes'>196616</physical>
  <target>
    <path>/var/lib/libvirt/images/vm0.qcow2</path>
    <format type='qcow2'/>
    <permissions><mode>0644</mode><owner>0</owner><group>0</group></permissions>
    <compat>1.1</compat>
  </target>
  <backingStore>
    <path>/var/lib/libvirt/images/debian.qcow2</path>
    <format type='qcow2'/>
  </backingStore>
</volume>";

    #[test]
    fn a_volume_knows_its_sizes_format_and_backing_file() {
        let row = volume("default", VOLUME).unwrap();
        assert_eq!((row.name.as_str(), row.format.as_str()), ("vm0.qcow2", "qcow2"));
        assert_eq!((row.capacity, row.allocation), (ByteSize::mib(1024), ByteSize::bytes(200_704)));
        assert_eq!(row.backing.as_deref(), Some("/var/lib/libvirt/images/debian.qcow2"));
    }

    #[test]
    fn the_emulator_is_that_of_the_hosts_own_architecture() {
        let xml = "<capabilities><host><cpu><arch>x86_64</arch></cpu></host>
            <guest><os_type>hvm</os_type><arch name='i686'><emulator>/usr/bin/qemu-system-i386</emulator></arch></guest>
            <guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/usr/libexec/qemu-kvm</emulator></arch></guest>
            </capabilities>";
        assert_eq!(capabilities(xml).unwrap(), ("x86_64".to_owned(), Some(PathBuf::from("/usr/libexec/qemu-kvm"))));
    }

    #[test]
    fn a_new_volume_is_described_with_its_size_in_bytes_and_its_name_escaped() {
        let xml = new_volume("a<b&c", "qcow2", ByteSize::mib(3));
        let document = Document::parse(&xml).unwrap();
        let root = document.root_element();
        assert_eq!(text_at(root, &["name"]), Some("a<b&c"));
        assert_eq!(text_at(root, &["capacity"]), Some("3145728"));
        assert_eq!(child(child(root, "target").unwrap(), "format").unwrap().attribute("type"), Some("qcow2"));
    }

    #[test]
    fn what_is_not_a_description_is_an_error() {
        assert!(volume("default", "<volume/>").is_err());
        assert!(pool("not xml").is_err());
    }
}
