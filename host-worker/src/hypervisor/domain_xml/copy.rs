//! Turns the description of an image of another host's into that of its copy here.

use xmltree::{Element, XMLNode};

use super::{
    DomainXmlError,
    write::{CloneEdit, for_clone, marked, text},
};

/// What is changed in a description to make it a copy's.
#[derive(Debug, Clone)]
pub struct CopyEdit<'a> {
    /// What is changed as for a clone.
    pub clone: CloneEdit<'a>,
    /// Where the firmware's variables are; none: libvirt makes them at the first start.
    pub nvram: Option<&'a str>,
    /// Whether it is an image by mark.
    pub marked: bool,
}

/// Rewrites a description as `edit` says. Disks become files, drives are emptied, for what was in them is the other host's.
///
/// # Errors
/// As [`for_clone`].
pub fn for_copy(xml: &str, edit: &CopyEdit<'_>) -> Result<String, DomainXmlError> {
    let xml = for_clone(xml, &edit.clone)?;
    let mut root = Element::parse(xml.as_bytes()).map_err(|error| DomainXmlError::Syntax(error.to_string()))?;
    let devices = root.get_mut_child("devices").ok_or(DomainXmlError::Missing("devices"))?;
    for disk in devices.children.iter_mut().filter_map(XMLNode::as_mut_element) {
        if disk.name != "disk" {
            continue;
        }
        let target = disk.get_child("target").and_then(|target| target.attributes.get("dev"));
        let path = target.and_then(|target| edit.clone.disks.get(target));
        disk.take_child("source");
        disk.attributes.insert("type".to_owned(), "file".to_owned());
        if let Some(path) = path {
            let mut source = Element::new("source");
            source.attributes.insert("file".to_owned(), path.clone());
            disk.children.push(XMLNode::Element(source));
        }
    }
    if let Some(os) = root.get_mut_child("os") {
        match (os.get_mut_child("nvram"), edit.nvram) {
            (Some(nvram), Some(path)) => {
                for name in ["type", "format"] {
                    nvram.attributes.remove(name);
                }
                nvram.children = vec![XMLNode::Text(path.to_owned())];
            }
            // Its path is another host's; the template, if one is named, says what to make it of.
            (Some(nvram), None) => nvram.children.clear(),
            (None, _) => {}
        }
    }
    let xml = text(&root)?;
    if edit.marked { marked(&xml, true) } else { Ok(xml) }
}
