//! Against libvirt's own in-memory driver, within this process.

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use super::*;

const GUEST: &str =
    "<domain type='test'><name>mt-unit</name><memory unit='KiB'>65536</memory><os><type>hvm</type></os></domain>";
const LIMIT: Duration = Duration::from_secs(10);

/// A node of its own, what is heard of it, and the folder that it is in.
fn node() -> (Connect, Watch, Receiver<Event>, tempfile::TempDir) {
    start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.xml");
    std::fs::write(
        &path,
        "<node><pool type='dir'><name>pool0</name><target><path>/mt/pool0</path></target></pool></node>",
    )
    .unwrap();
    let connection = Connect::open(Some(&format!("test://{}", path.display()))).unwrap();
    let (sender, heard) = channel();
    let watch =
        Watch::open(&connection, &(Arc::new(move |event| sender.send(event).unwrap_or_default()) as Hearer)).unwrap();
    (connection, watch, heard, folder)
}

#[test]
fn what_is_done_to_a_domain_is_heard_with_its_uuid() {
    let (connection, _watch, heard, _folder) = node();
    let domain = connection.define_domain_xml(GUEST).unwrap();
    let its = Event::Domain(domain.uuid().unwrap());
    assert_eq!(heard.recv_timeout(LIMIT), Ok(its), "defined");
    domain.create().unwrap();
    assert_eq!(heard.recv_timeout(LIMIT), Ok(its), "started");
    domain.destroy().unwrap();
    assert_eq!(heard.recv_timeout(LIMIT), Ok(its), "stopped");
    connection.lookup_domain_by_name("mt-unit").unwrap().undefine().unwrap();
    assert_eq!(heard.recv_timeout(LIMIT), Ok(its), "undefined");
}

#[test]
fn what_is_done_to_a_pool_is_heard() {
    let (connection, _watch, heard, _folder) = node();
    let pool = connection.lookup_storage_pool_by_name("pool0").unwrap();
    pool.refresh(0).unwrap();
    assert_eq!(heard.recv_timeout(LIMIT), Ok(Event::Pool), "refreshed");
    pool.destroy().unwrap();
    assert_eq!(heard.recv_timeout(LIMIT), Ok(Event::Pool), "stopped");
}

#[test]
fn who_does_not_listen_any_more_hears_nothing_and_keeps_no_connection() {
    let (connection, watch, heard, _folder) = node();
    drop(watch);
    connection.define_domain_xml(GUEST).unwrap();
    // The only sender was in libvirt's hands, in several callbacks; all have been freed.
    assert!(heard.recv_timeout(LIMIT).is_err(), "freed, and not silent for {LIMIT:?}");
    assert!(matches!(heard.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)));
}
