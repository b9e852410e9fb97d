//! Descriptions of snapshots: read, and written for new ones. Pure.
//!
//! Maglica's own facts about a snapshot are the last line of its description, for libvirt keeps nothing else with it:
//! `[maglica job=… by=… expires=… scheduled]`.

use maglica_proto::{id::JobId, inventory::Snapshot, name::SnapshotName, units::Timestamp};
use roxmltree::Document;
use xmltree::{Element, XMLNode};

use super::storage_xml::{StorageXmlError, child, text_at};

const MARK: &str = "[maglica";

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// What the inventory tells.
    pub snapshot: Snapshot,
    /// The job that took it, if one did.
    pub job: Option<JobId>,
}

/// Maglica's own facts about a snapshot that is to be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// The job that takes it.
    pub job: Option<JobId>,
    /// Who asked.
    pub by: Option<String>,
    /// When it is deleted.
    pub expires: Option<Timestamp>,
    /// Whether the schedule takes it.
    pub scheduled: bool,
}

impl Mark {
    fn line(&self) -> String {
        let mut line = MARK.to_owned();
        if let Some(job) = self.job {
            line.push_str(&format!(" job={job}"));
        }
        if let Some(by) = &self.by {
            // An operator's name has no space.
            line.push_str(&format!(" by={by}"));
        }
        if let Some(expires) = self.expires {
            line.push_str(&format!(" expires={}", expires.as_millis()));
        }
        if self.scheduled {
            line.push_str(" scheduled");
        }
        line.push(']');
        line
    }

    fn read(line: &str) -> Option<Self> {
        let words = line.strip_prefix(MARK)?.strip_suffix(']')?;
        let mut mark = Self::default();
        for word in words.split_whitespace() {
            match word.split_once('=') {
                Some(("job", id)) => mark.job = id.parse().ok(),
                Some(("by", by)) => mark.by = Some(by.to_owned()),
                Some(("expires", millis)) => mark.expires = millis.parse().ok().map(Timestamp::from_millis),
                None if word == "scheduled" => mark.scheduled = true,
                Some(_) | None => {}
            }
        }
        Some(mark)
    }
}

/// How a snapshot is described that is to be taken.
#[derive(Debug, Clone)]
pub struct NewSnapshot<'a> {
    /// Its name.
    pub name: &'a str,
    /// What a person has to say of it.
    pub description: &'a str,
    /// Maglica's own facts.
    pub mark: &'a Mark,
}

fn text(name: &str, text: &str) -> XMLNode {
    let mut element = Element::new(name);
    element.children.push(XMLNode::Text(text.to_owned()));
    XMLNode::Element(element)
}

fn with(name: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::new(name);
    for (name, value) in attributes {
        element.attributes.insert((*name).to_owned(), (*value).to_owned());
    }
    element
}

fn write(element: &Element) -> String {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = element.write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

impl NewSnapshot<'_> {
    fn element(&self) -> Element {
        let mut root = Element::new("domainsnapshot");
        root.children.push(text("name", self.name));
        let description = format!("{}\n{}", self.description.trim(), self.mark.line());
        root.children.push(text("description", description.trim_start()));
        root
    }

    /// For libvirt to take it.
    #[must_use]
    pub fn to_take(&self) -> String {
        write(&self.element())
    }

    /// For libvirt to know of it: one of these disks, without memory, taken at this moment after this other one of the domain that is
    /// described so.
    ///
    /// # Errors
    /// If `domain` is no XML.
    pub fn to_know(
        &self,
        disks: &[String],
        at: Timestamp,
        parent: Option<&str>,
        domain: &str,
    ) -> Result<String, xmltree::ParseError> {
        let mut root = self.element();
        root.children.push(text("state", "shutoff"));
        root.children.push(text("creationTime", &(at.as_millis() / 1000).to_string()));
        if let Some(parent) = parent {
            let mut element = Element::new("parent");
            element.children.push(text("name", parent));
            root.children.push(XMLNode::Element(element));
        }
        root.children.push(XMLNode::Element(with("memory", &[("snapshot", "no")])));
        let mut list = Element::new("disks");
        for target in disks {
            list.children.push(XMLNode::Element(with("disk", &[("name", target), ("snapshot", "internal")])));
        }
        root.children.push(XMLNode::Element(list));
        root.children.push(XMLNode::Element(Element::parse(domain.as_bytes())?));
        Ok(write(&root))
    }
}

/// Reads a snapshot's description. One whose name cannot be shown is none.
///
/// # Errors
/// [`StorageXmlError`] if it is something else.
pub fn read(xml: &str, current: bool) -> Result<Option<SnapshotRow>, StorageXmlError> {
    let document = Document::parse(xml)?;
    let root = document.root_element();
    let name = text_at(root, &["name"]).ok_or(StorageXmlError::Missing("name"))?;
    let Ok(name) = SnapshotName::new(name) else { return Ok(None) };
    let whole = text_at(root, &["description"]).unwrap_or_default();
    let (description, last) = whole.rsplit_once('\n').unwrap_or(("", whole));
    let (description, mark) = match Mark::read(last.trim()) {
        Some(mark) => (description.trim().to_owned(), mark),
        None => (whole.to_owned(), Mark::default()),
    };
    let seconds: u64 = text_at(root, &["creationTime"]).and_then(|text| text.parse().ok()).unwrap_or_default();
    let memory = child(root, "memory").and_then(|memory| memory.attribute("snapshot")).is_some_and(|kind| kind != "no");
    let state = text_at(root, &["state"]).unwrap_or_default();
    let snapshot = Snapshot {
        name,
        created: Timestamp::from_millis(seconds.saturating_mul(1000)),
        // The driver for tests names no memory, but the state in which the domain was.
        memory: memory || matches!(state, "running" | "paused"),
        current,
        parent: text_at(root, &["parent", "name"]).and_then(|name| SnapshotName::new(name).ok()),
        description,
        by: mark.by,
        expires: mark.expires,
        scheduled: mark.scheduled,
    };
    Ok(Some(SnapshotRow { snapshot, job: mark.job }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_a_snapshot_is_read_again() {
        let mark = Mark {
            job: Some(JobId::generate()),
            by: Some("alice@example.jp".to_owned()),
            expires: Some(Timestamp::from_millis(1_700_000_000_000)),
            scheduled: true,
        };
        for description in ["", "before the <upgrade> & co", "two\nlines"] {
            let new = NewSnapshot { name: "a b", description, mark: &mark };
            let domain = "<domain type='test'><name>vm0</name></domain>";
            let xml = new.to_know(&["vda".to_owned()], Timestamp::from_millis(5_000), Some("before"), domain).unwrap();
            let row = read(&xml, true).unwrap().unwrap();
            assert_eq!((row.snapshot.description.as_str(), row.job), (description, mark.job));
            assert_eq!((row.snapshot.by, row.snapshot.expires), (mark.by.clone(), mark.expires));
            assert!(row.snapshot.scheduled && row.snapshot.current && !row.snapshot.memory);
            assert_eq!(row.snapshot.parent.as_ref().map(SnapshotName::as_str), Some("before"));
            assert_eq!(row.snapshot.created, Timestamp::from_millis(5_000));
        }
    }

    #[test]
    fn a_snapshot_of_others_is_shown_as_they_described_it() {
        // As libvirt 9.0.0 writes it, its domain left out.
        let xml =
            "<domainsnapshot><name>s1</name><description>by hand [maglica not]</description><state>running</state>
            <creationTime>1700000000</creationTime><memory snapshot='internal'/>
            <disks><disk name='vda' snapshot='internal'/></disks></domainsnapshot>";
        let row = read(xml, false).unwrap().unwrap();
        assert_eq!((row.job, row.snapshot.description.as_str()), (None, "by hand [maglica not]"));
        assert!(row.snapshot.memory);
        assert!(read("<domainsnapshot><name>a/b</name></domainsnapshot>", false).unwrap().is_none());
        assert!(read("<domainsnapshot/>", false).is_err());
    }
}
