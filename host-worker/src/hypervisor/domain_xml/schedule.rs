//! How snapshots of a domain are taken, as kept in its metadata: an element of its own namespace, so that libvirt can change it
//! without the rest. It is `<schedule every='86400' keep='7' memory='no'/>`.

use maglica_proto::inventory::Schedule;
use roxmltree::Node;

/// The namespace.
pub const NAMESPACE: &str = "https://maglica.org/xmlns/snapshots/1";
/// The prefix that libvirt gives it.
pub const KEY: &str = "snapshots";

/// The element.
#[must_use]
pub fn write(Schedule { every_s, keep, memory }: Schedule) -> String {
    let memory = if memory { "yes" } else { "no" };
    // Numbers and words of ours only: there is nothing to escape.
    format!("<schedule every='{every_s}' keep='{keep}' memory='{memory}'/>")
}

/// Reads it of a domain's `<metadata>`.
pub(super) fn read(metadata: Node<'_, '_>) -> Option<Schedule> {
    let element = metadata
        .children()
        .find(|node| node.tag_name().name() == "schedule" && node.tag_name().namespace() == Some(NAMESPACE))?;
    let number = |name: &str| element.attribute(name)?.parse::<u32>().ok().filter(|number| *number > 0);
    Some(Schedule {
        every_s: number("every")?,
        keep: number("keep")?,
        memory: element.attribute("memory") == Some("yes"),
    })
}
