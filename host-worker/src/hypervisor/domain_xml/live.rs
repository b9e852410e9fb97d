//! What a domain has only while it runs: its console and its screens.

use maglica_proto::inventory::Screen;
use roxmltree::Node;

use super::{DomainXmlError, child, parse};

/// As many screens as a domain can sensibly have.
const SCREENS_MAX: usize = 8;

/// What a running domain has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// The device of its serial console on the host.
    pub console: Option<String>,
    /// Its screens.
    pub screens: Vec<Screen>,
}

/// Reads the description of a running domain.
///
/// # Errors
/// [`DomainXmlError`] if it is not one.
pub fn read(xml: &str) -> Result<Running, DomainXmlError> {
    let document = parse(xml)?;
    let devices = child(document.root_element(), "devices");
    let named = |name: &'static str| {
        devices.into_iter().flat_map(|node| node.children()).filter(move |node| node.has_tag_name(name))
    };
    // The first console is the first serial port's as well, where there is one.
    let console = named("console").chain(named("serial")).find_map(|node| {
        let tty = node.attribute("tty").or_else(|| child(node, "source")?.attribute("path"));
        tty.map(str::to_owned)
    });
    Ok(Running { console, screens: named("graphics").filter_map(screen).take(SCREENS_MAX).collect() })
}

fn screen(node: Node<'_, '_>) -> Option<Screen> {
    let kind = node.attribute("type")?.to_owned();
    let listen = child(node, "listen");
    let socket = node.attribute("socket").or_else(|| listen?.attribute("socket"));
    if let Some(socket) = socket {
        return Some(Screen { kind, at: socket.to_owned() });
    }
    let port: u16 = [node.attribute("port"), node.attribute("tlsPort")]
        .into_iter()
        .flatten()
        .find_map(|port| port.parse().ok().filter(|port| *port > 0))?;
    let address = node.attribute("listen").or_else(|| listen?.attribute("address")).unwrap_or("127.0.0.1");
    let at = if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    Some(Screen { kind, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_and_the_screens_of_a_running_domain_are_found() {
        // As libvirt 9.0.0 writes it of a domain that runs.
        let xml = "<domain type='qemu' id='3'><name>vm0</name><devices>
            <serial type='pty'><source path='/dev/pts/4'/><target type='isa-serial' port='0'/></serial>
            <console type='pty' tty='/dev/pts/4'><source path='/dev/pts/4'/></console>
            <graphics type='vnc' port='5901' autoport='yes' listen='127.0.0.1'>
              <listen type='address' address='127.0.0.1'/></graphics>
            <graphics type='spice' port='-1' tlsPort='5902'><listen type='address' address='::1'/></graphics>
            <graphics type='vnc' socket='/run/vnc.sock'><listen type='socket' socket='/run/vnc.sock'/></graphics>
            <graphics type='vnc' port='-1' autoport='yes'/></devices></domain>";
        let running = read(xml).unwrap();
        assert_eq!(running.console.as_deref(), Some("/dev/pts/4"));
        let at: Vec<&str> = running.screens.iter().map(|screen| screen.at.as_str()).collect();
        assert_eq!(at, ["127.0.0.1:5901", "[::1]:5902", "/run/vnc.sock"], "one without a port is nowhere");
        assert_eq!(read("<domain><name>a</name></domain>").unwrap(), Running::default());
    }
}
