//! A domain's serial port: where the host has its end of it, and where what it puts out is kept.

use xmltree::{Element, XMLNode};

use super::{DomainXmlError, child, parse};

/// What is known of the first serial port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serial {
    /// The pseudo-terminal, while the domain runs.
    pub tty: Option<String>,
    /// The file in which what it puts out is kept.
    pub log: Option<String>,
}

/// Reads it; a domain without one has neither.
///
/// # Errors
/// [`DomainXmlError`] if the text is no domain's description.
pub fn read(xml: &str) -> Result<Serial, DomainXmlError> {
    let document = parse(xml)?;
    let devices = child(document.root_element(), "devices").ok_or(DomainXmlError::Missing("devices"))?;
    let mut serial = Serial::default();
    // The first serial port and the first console are two names of one thing.
    for name in ["serial", "console"] {
        let Some(port) = devices.children().find(|node| node.tag_name().name() == name) else { continue };
        if serial.tty.is_none() && port.attribute("type") == Some("pty") {
            let source = child(port, "source").and_then(|source| source.attribute("path"));
            serial.tty = source.or_else(|| port.attribute("tty")).map(str::to_owned);
        }
        if serial.log.is_none() {
            serial.log = child(port, "log").and_then(|log| log.attribute("file")).map(str::to_owned);
        }
    }
    Ok(serial)
}

/// Has what the first serial port puts out kept in a file. A domain without one stays as it is.
pub(super) fn keep_log(devices: &mut Element, file: &str) {
    let ports = devices.children.iter_mut().filter_map(XMLNode::as_mut_element);
    let ports = ports.filter(|element| element.name == "serial" || element.name == "console");
    // An image's own would be shared by all its clones.
    for port in ports {
        if port.take_child("log").is_some() || port.name == "serial" {
            let mut log = Element::new("log");
            log.attributes.insert("file".to_owned(), file.to_owned());
            log.attributes.insert("append".to_owned(), "on".to_owned());
            port.children.push(XMLNode::Element(log));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "<domain><devices><serial type='pty'><source path='/dev/pts/3'/><target port='0'/><log file='/var/log/libvirt/qemu/vm0.log' append='on'/></serial>\
                           <console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console></devices></domain>";

    #[test]
    fn the_terminal_and_the_log_are_found() {
        let serial = read(RUNNING).unwrap();
        assert_eq!(serial.tty.as_deref(), Some("/dev/pts/3"));
        assert_eq!(serial.log.as_deref(), Some("/var/log/libvirt/qemu/vm0.log"));
        let console = read("<domain><devices><console type='pty' tty='/dev/pts/9'/></devices></domain>").unwrap();
        assert_eq!(console.tty.as_deref(), Some("/dev/pts/9"));
        let other = read("<domain><devices><serial type='tcp'><source host='x'/></serial></devices></domain>").unwrap();
        assert_eq!(other, Serial::default());
    }

    #[test]
    fn a_log_is_put_in_the_place_of_the_images() {
        let mut root = Element::parse(RUNNING.as_bytes()).unwrap();
        keep_log(root.get_mut_child("devices").unwrap(), "/new.log");
        let mut out = Vec::new();
        root.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(read(&text).unwrap().log.as_deref(), Some("/new.log"));
        assert_eq!(text.matches("<log ").count(), 1);
        let mut none = Element::parse("<devices><disk/></devices>".as_bytes()).unwrap();
        keep_log(&mut none, "/new.log");
        assert_eq!(none.children.len(), 1);
    }
}
