//! Against libvirt's own in-memory driver.

use super::*;

const GUEST: &str =
    "<domain type='test'><name>mt-unit</name><memory unit='KiB'>65536</memory><os><type>hvm</type></os></domain>";

fn node(folder: &tempfile::TempDir) -> Libvirt {
    // A node of its own for each test: `test:///default` is one for the whole process.
    let path = folder.path().join("node.xml");
    std::fs::write(
        &path,
        "<node><pool type='dir'><name>pool0</name><target><path>/mt/pool0</path></target></pool></node>",
    )
    .unwrap();
    Libvirt::new(uri("test", None, path.to_str().unwrap()))
}

#[test]
fn the_old_configuration_keys_make_a_uri() {
    assert_eq!(uri("qemu", None, "system"), "qemu:///system");
    assert_eq!(uri("qemu", Some("tcp"), "/system"), "qemu+tcp:///system");
    assert_eq!(uri("test", Some(""), "/tmp/node.xml"), "test:///tmp/node.xml");
}

#[test]
fn a_domain_is_defined_started_switched_off_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let libvirt = node(&folder);
    let uuid = libvirt.define(GUEST).unwrap();
    assert_eq!(libvirt.domain_by_name("mt-unit").unwrap(), uuid);
    assert_eq!(libvirt.state(uuid).unwrap(), DomainState::Off);
    libvirt.start(uuid).unwrap();
    assert_eq!(libvirt.state(uuid).unwrap(), DomainState::Running);
    let row = libvirt.domains().unwrap().into_iter().find(|row| row.uuid == uuid).unwrap();
    assert_eq!((row.name.as_str(), row.state, row.autostart), ("mt-unit", DomainState::Running, false));
    assert_eq!(row, libvirt.domain(uuid).unwrap());
    assert!(matches!(libvirt.start(uuid), Err(HypervisorError::WrongState { .. } | HypervisorError::Refused { .. })));
    libvirt.destroy(uuid).unwrap();
    libvirt.undefine(uuid, Nvram::Delete).unwrap();
    let error = libvirt.domain_xml(uuid).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn the_host_and_its_pools_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let libvirt = node(&folder);
    let facts = libvirt.facts().unwrap();
    assert!(facts.cpus > 0 && facts.memory > ByteSize::ZERO, "{facts:?}");
    let pool = libvirt.pool("pool0").unwrap();
    assert_eq!((pool.kind.as_str(), pool.path.as_deref(), pool.active), ("dir", Some("/mt/pool0"), true));
    assert_eq!(libvirt.pools().unwrap(), [pool]);
    assert!(libvirt.volume("pool0", "nothing").unwrap_err().is_not_found());
    assert!(libvirt.volume_by_path("/nowhere").unwrap_err().is_not_found());
    assert!(libvirt.pool("nothing").unwrap_err().is_not_found());
}

#[test]
fn a_libvirt_that_is_not_there_is_down() {
    let libvirt = Libvirt::new("qemu+unix:///system?socket=/nonexistent/libvirt-sock");
    let error = libvirt.domains().unwrap_err();
    assert!(matches!(error, HypervisorError::Down { .. }), "{error}");
    assert!(matches!(libvirt.define(GUEST), Err(HypervisorError::Down { .. })));
}
