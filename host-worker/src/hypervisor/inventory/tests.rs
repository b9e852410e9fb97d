//! Against libvirt's own in-memory driver.

use super::*;
use crate::hypervisor::{
    Libvirt,
    happenings::{Happened, Happenings},
    uri,
};
use maglica_proto::{inventory::DomainState, units::ByteSize};

const NODE: &str = include_str!("../../recorded/test-node.xml");

fn host(folder: &tempfile::TempDir) -> Host {
    let path = folder.path().join("node.xml");
    fs::write(&path, NODE).unwrap();
    Host::new(Arc::new(Libvirt::new(uri("test", None, path.to_str().unwrap()))))
}

fn poll(changed: &[&str]) -> Depth {
    Depth::Poll(Named {
        names: changed.iter().map(|name| DomainName::new(*name).unwrap()).collect(),
        ..Named::default()
    })
}

#[tokio::test]
async fn domains_pools_and_disks_are_found_and_unfinished_ones_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (host, scanner) = (host(&folder), Scanner::new());
    let seen = scanner.scan(&host, Accel::Unknown, Depth::Full).await.unwrap();
    let names: Vec<_> = seen.domains.iter().map(|domain| domain.name.as_str()).collect();
    assert_eq!(names, ["debian12.original", "vm0"], "maglica-…partial is nobody's");
    let image = &seen.domains[0];
    assert!(image.is_image());
    assert_eq!(image.state, DomainState::Off);
    let [disk] = image.disks.as_slice() else { panic!("{:?}", image.disks) };
    assert_eq!(disk.pool.as_ref().map(PoolName::as_str), Some("pool0"));
    assert_eq!(disk.volume.as_ref().map(VolumeName::as_str), Some("debian12.qcow2"));
    assert_eq!((disk.capacity, disk.trouble.as_deref()), (Some(ByteSize::mib(1024)), None));
    assert_eq!(image.capacity(), Some(ByteSize::mib(1024)));
    assert_eq!(seen.domains[1].disks[0].trouble.as_deref(), Some("its file is missing"));
    assert_eq!(seen.pools.len(), 1);
    assert_eq!(seen.facts.memory_free.as_bytes() % room::MEMORY_STEP.as_bytes(), 0);
}

#[tokio::test]
async fn a_poll_sees_states_and_new_domains_and_reads_again_what_it_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (host, scanner) = (host(&folder), Scanner::new());
    let first = scanner.scan(&host, Accel::Unknown, poll(&[])).await.unwrap();
    let vm0 = first.domains.iter().find(|domain| domain.name.as_str() == "vm0").unwrap().clone();
    assert_eq!(vm0.vcpus, 1);
    let changed = host
        .look("changing vm0", move |hypervisor| {
            let xml = hypervisor.domain_xml(vm0.uuid)?.replace(">1</vcpu>", ">3</vcpu>");
            hypervisor.define(&xml)?;
            hypervisor.destroy(vm0.uuid)
        })
        .await;
    changed.unwrap();
    let find =
        |inventory: Inventory| inventory.domains.into_iter().find(|domain| domain.name.as_str() == "vm0").unwrap();
    let polled = find(scanner.scan(&host, Accel::Unknown, poll(&[])).await.unwrap());
    assert_eq!((polled.state, polled.vcpus), (DomainState::Off, 1));
    let told = find(scanner.scan(&host, Accel::Unknown, poll(&["vm0"])).await.unwrap());
    assert_eq!(told.vcpus, 3);
}

#[tokio::test]
async fn only_what_is_named_is_read_and_what_is_gone_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (host, scanner) = (host(&folder), Scanner::new());
    let first = scanner.scan(&host, Accel::Unknown, Depth::Full).await.unwrap();
    let uuid = |name: &str| first.domains.iter().find(|domain| domain.name.as_str() == name).unwrap().uuid;
    let (vm0, image) = (uuid("vm0"), uuid("debian12.original"));
    let changed = host
        .look("changing both", move |hypervisor| {
            hypervisor.destroy(vm0)?;
            hypervisor.undefine(image, crate::hypervisor::Nvram::Keep)
        })
        .await;
    changed.unwrap();
    let look = |domains: &[Uuid]| {
        let named = Named { domains: domains.iter().copied().collect(), ..Named::default() };
        scanner.scan(&host, Accel::Unknown, Depth::Named(named))
    };
    let seen = look(&[image]).await.unwrap();
    let states: Vec<_> = seen.domains.iter().map(|domain| (domain.name.as_str(), domain.state)).collect();
    assert_eq!(states, [("vm0", DomainState::Running)], "nobody named vm0");
    let seen = look(&[vm0, Uuid::from_u128(7)]).await.unwrap();
    let states: Vec<_> = seen.domains.iter().map(|domain| (domain.name.as_str(), domain.state)).collect();
    assert_eq!(states, [("vm0", DomainState::Off)]);
}

#[tokio::test]
async fn the_hypervisor_tells_which_domain_a_job_or_somebody_else_changed() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder);
    let happenings = Happenings::new();
    host.listen(happenings.clone());
    assert!(!happenings.are_told(), "before there is a connection");
    let vm0 = host.look("finding vm0", |hypervisor| hypervisor.domain_by_name("vm0")).await.unwrap();
    assert!(happenings.are_told());
    assert_eq!(happenings.take(), Happened::default());
    host.look("switching it off", move |hypervisor| hypervisor.destroy(vm0)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), happenings.some()).await.unwrap();
    assert_eq!(happenings.take(), Happened { domains: HashSet::from([vm0]), ..Happened::default() });
}

#[test]
fn available_memory_is_read_as_the_kernel_writes_it() {
    let text = "MemTotal:       16316412 kB\nMemFree:         1000000 kB\nMemAvailable:    8388608 kB\n";
    assert_eq!(room::meminfo(text, "MemAvailable:"), Some(ByteSize::mib(8192)));
    assert_eq!(room::meminfo("MemTotal: 1 kB\n", "MemAvailable:"), None);
}
