//! Turns the description of a copied domain into that of the clone it is to be.

use std::collections::BTreeMap;

use maglica_proto::{inventory::Provenance, net::MacAddr};
use uuid::Uuid;
use xmltree::{Element, Namespace, XMLNode};

use super::{DomainXmlError, NAMESPACE};

/// What is changed in a description to make it a clone's.
#[derive(Debug, Clone)]
pub struct CloneEdit<'a> {
    /// The new name.
    pub name: &'a str,
    /// The new UUID.
    pub uuid: Uuid,
    /// The new file or device of each disk that was copied, by target.
    pub disks: &'a BTreeMap<String, String>,
    /// The addresses of the network interfaces, in their order.
    pub macs: &'a [MacAddr],
    /// Run it by emulation, whatever the image says.
    pub emulate: bool,
    /// Where what its serial port puts out is kept, if it is to be.
    pub log: Option<&'a str>,
    /// Written into the metadata in place of what the image had there.
    pub made: &'a Provenance,
}

/// Rewrites a description as `edit` says and leaves the rest as it is.
///
/// # Errors
/// [`DomainXmlError`] if the text is no domain's description, or the number of interfaces is not that of the addresses.
pub fn for_clone(xml: &str, edit: &CloneEdit<'_>) -> Result<String, DomainXmlError> {
    super::parse(xml)?;
    let mut root = Element::parse(xml.as_bytes()).map_err(|error| DomainXmlError::Syntax(error.to_string()))?;
    set_text(&mut root, "name", edit.name);
    set_text(&mut root, "uuid", &edit.uuid.to_string());
    if edit.emulate {
        emulate(&mut root);
    }
    let devices = root.get_mut_child("devices").ok_or(DomainXmlError::Missing("devices"))?;
    set_disks(devices, edit.disks);
    set_macs(devices, edit.macs)?;
    if let Some(file) = edit.log {
        super::serial::keep_log(devices, file);
    }
    set_metadata(&mut root, edit.made);
    text(&root)
}

fn set_text(parent: &mut Element, name: &str, text: &str) {
    if parent.get_child(name).is_none() {
        parent.children.insert(0, XMLNode::Element(Element::new(name)));
    }
    if let Some(element) = parent.get_mut_child(name) {
        element.children = vec![XMLNode::Text(text.to_owned())];
    }
}

fn elements<'a>(parent: &'a mut Element, name: &'a str) -> impl Iterator<Item = &'a mut Element> {
    parent.children.iter_mut().filter_map(XMLNode::as_mut_element).filter(move |element| element.name == name)
}

/// A guest that is emulated cannot have the host's own processor passed through.
fn emulate(root: &mut Element) {
    root.attributes.insert("type".to_owned(), "qemu".to_owned());
    let passed_through =
        root.get_child("cpu").and_then(|cpu| cpu.attributes.get("mode")).is_some_and(|mode| mode == "host-passthrough");
    if passed_through {
        root.take_child("cpu");
    }
}

fn set_disks(devices: &mut Element, paths: &BTreeMap<String, String>) {
    for disk in elements(devices, "disk") {
        let target = disk.get_child("target").and_then(|target| target.attributes.get("dev"));
        let Some(path) = target.and_then(|target| paths.get(target)).cloned() else {
            continue;
        };
        // A full copy stands alone, whatever chain the image's disk had.
        disk.take_child("backingStore");
        let block = disk.attributes.get("type").is_some_and(|kind| kind == "block");
        if disk.get_child("source").is_none() {
            disk.children.push(XMLNode::Element(Element::new("source")));
        }
        if let Some(source) = disk.get_mut_child("source") {
            source.attributes.insert(if block { "dev" } else { "file" }.to_owned(), path);
        }
    }
}

fn set_macs(devices: &mut Element, macs: &[MacAddr]) -> Result<(), DomainXmlError> {
    let nics = elements(devices, "interface").count();
    if nics != macs.len() {
        return Err(DomainXmlError::Nics { nics, macs: macs.len() });
    }
    for (nic, address) in elements(devices, "interface").zip(macs) {
        if nic.get_child("mac").is_none() {
            nic.children.insert(0, XMLNode::Element(Element::new("mac")));
        }
        if let Some(mac) = nic.get_mut_child("mac") {
            mac.attributes.insert("address".to_owned(), address.to_string());
        }
    }
    Ok(())
}

/// Marks a domain as an image, or takes the mark away, and leaves the rest as it is.
///
/// # Errors
/// [`DomainXmlError`] if the text is no domain's description.
pub fn marked(xml: &str, image: bool) -> Result<String, DomainXmlError> {
    super::parse(xml)?;
    let mut root = Element::parse(xml.as_bytes()).map_err(|error| DomainXmlError::Syntax(error.to_string()))?;
    ensure_metadata(&mut root);
    let metadata = root.get_mut_child("metadata").ok_or(DomainXmlError::Missing("metadata"))?;
    let found = metadata
        .children
        .iter()
        .position(|node| node.as_element().is_some_and(|element| is_own(element) && element.name == "domain"));
    let at = found.unwrap_or_else(|| {
        metadata.children.push(XMLNode::Element(own_domain()));
        metadata.children.len() - 1
    });
    let mut empty = false;
    if let Some(domain) = metadata.children[at].as_mut_element() {
        domain.children.retain(|node| node.as_element().is_none_or(|element| element.name != "role"));
        if image {
            domain.children.push(XMLNode::Element(own("role", Some("image".to_owned()))));
        }
        empty = domain.children.iter().all(|node| node.as_element().is_none());
    }
    if empty {
        metadata.children.remove(at);
    }
    text(&root)
}

fn ensure_metadata(root: &mut Element) {
    if root.get_child("metadata").is_none() {
        root.children.push(XMLNode::Element(Element::new("metadata")));
    }
}

fn set_metadata(root: &mut Element, made: &Provenance) {
    ensure_metadata(root);
    let Some(metadata) = root.get_mut_child("metadata") else { return };
    // The image's origin and its snapshots are not the clone's.
    let schedule = |element: &Element| element.namespace.as_deref() == Some(super::schedule::NAMESPACE);
    metadata.children.retain(|node| !node.as_element().is_some_and(|element| is_own(element) || schedule(element)));
    let mut domain = own_domain();
    let group = made.anti_affinity.as_ref().map(|group| ("anti-affinity", group.to_string()));
    let facts = [("job", made.job.to_string()), ("image", made.image.to_string()), ("by", made.by.clone())];
    for (name, text) in facts.into_iter().chain(group) {
        domain.children.push(XMLNode::Element(own(name, Some(text))));
    }
    metadata.children.push(XMLNode::Element(domain));
}

fn is_own(element: &Element) -> bool {
    element.namespace.as_deref() == Some(NAMESPACE)
}

fn own(name: &str, text: Option<String>) -> Element {
    let mut element = Element::new(name);
    element.prefix = Some("maglica".to_owned());
    element.namespace = Some(NAMESPACE.to_owned());
    element.children.extend(text.map(XMLNode::Text));
    element
}

fn own_domain() -> Element {
    let mut namespaces = Namespace::empty();
    namespaces.put("maglica", NAMESPACE);
    Element { namespaces: Some(namespaces), ..own("domain", None) }
}

pub(super) fn text(root: &Element) -> Result<String, DomainXmlError> {
    let mut out = Vec::new();
    root.write(&mut out).map_err(|error| DomainXmlError::Syntax(error.to_string()))?;
    String::from_utf8(out).map_err(|error| DomainXmlError::Syntax(error.to_string()))
}
