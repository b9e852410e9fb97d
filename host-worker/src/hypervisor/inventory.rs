//! What the host has, as [`maglica_proto::inventory::Inventory`].
//!
//! A look is cheap: the states of all domains come in a fixed number of calls, and what is known of a domain is kept until it
//! is named as changed, has changed its name, or everything is looked at anew. It owns what it remembers, nothing else.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use maglica_proto::{
    inventory::{Accel, Disk, Domain, HostFacts, Inventory, Pool},
    name::{DomainName, PoolName, VolumeName},
    units::ByteSize,
};
use uuid::Uuid;

use super::{
    DomainRow, Facts, Host, Hypervisor, HypervisorError, PoolRow,
    domain_xml::{self, Description, DiskXml, Source},
};

/// Free memory is told in steps of this, so that it does not change the inventory at every look.
const MEMORY_STEP: ByteSize = ByteSize::mib(64);
/// How long a full look may take: thousands of volumes, some milliseconds each.
const SCAN_LIMIT: Duration = Duration::from_secs(120);
/// The suffix of what a job builds and has not finished; no part of the inventory.
pub const PARTIAL_SUFFIX: &str = ".partial";
/// The beginning of the same.
pub const PARTIAL_PREFIX: &str = "maglica-";

/// How much is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depth {
    /// States and sizes, new domains, and these domains in full.
    Poll {
        /// The domains that a job has changed.
        changed: HashSet<DomainName>,
    },
    /// Everything anew.
    Full,
}

struct Known {
    name: String,
    domain: Domain,
}

#[derive(Default)]
struct Memory {
    facts: Option<Facts>,
    domains: HashMap<Uuid, Known>,
    warned: HashSet<String>,
}

/// Looks at the host again and again. Cloning gives another handle to the same memory.
#[derive(Clone, Default)]
pub struct Scanner {
    memory: Arc<Mutex<Memory>>,
}

impl Scanner {
    /// One that knows nothing yet: its first look is full.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the host.
    ///
    /// # Errors
    /// [`HypervisorError`] if it does not answer.
    pub async fn scan(&self, host: &Host, accel: Accel, depth: Depth) -> Result<Inventory, HypervisorError> {
        let memory = Arc::clone(&self.memory);
        host.call("looking at what the host has", SCAN_LIMIT, move |hypervisor| {
            // A panic in an earlier look left nothing half done that a look would not overwrite.
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.scan(hypervisor, accel, &depth)
        })
        .await
    }
}

impl Memory {
    fn scan(&mut self, hypervisor: &dyn Hypervisor, accel: Accel, depth: &Depth) -> Result<Inventory, HypervisorError> {
        let full = *depth == Depth::Full;
        let facts = match (&self.facts, full) {
            (Some(facts), false) => facts.clone(),
            (Some(_) | None, _) => self.facts.insert(hypervisor.facts()?).clone(),
        };
        let pool_rows = hypervisor.pools()?;
        let mut pools = Vec::with_capacity(pool_rows.len());
        for row in &pool_rows {
            match PoolName::new(row.name.as_str()) {
                Ok(name) => pools.push(pool(name, row)),
                Err(error) => self.warn(error.to_string()),
            }
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        let mut refreshed = HashSet::new();
        let mut domains = Vec::new();
        let mut before = std::mem::take(&mut self.domains);
        for row in hypervisor.domains()? {
            let name = match DomainName::new(row.name.as_str()) {
                Ok(name) => name,
                Err(error) => {
                    self.warn(error.to_string());
                    continue;
                }
            };
            if is_partial(&row.name) {
                continue;
            }
            let changed = match depth {
                Depth::Full => true,
                Depth::Poll { changed } => changed.contains(&name),
            };
            let known = before.remove(&row.uuid).filter(|known| known.name == row.name);
            let known = match known {
                Some(known) if !changed => Some(known),
                Some(_) | None => {
                    match read_domain(hypervisor, name, &row, &pool_rows, &mut refreshed) {
                        Ok(domain) => Some(Known { name: row.name.clone(), domain }),
                        // Gone between the two calls.
                        Err(error) if error.is_not_found() => None,
                        Err(error) => return Err(error),
                    }
                }
            };
            let Some(mut known) = known else { continue };
            follow(hypervisor, &mut known.domain, &row, changed);
            domains.push(known.domain.clone());
            self.domains.insert(row.uuid, known);
        }
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Inventory { facts: host_facts(facts, accel), pools, domains })
    }

    fn warn(&mut self, what: String) {
        if !self.warned.contains(&what) {
            tracing::warn!(error = what, "left out of the inventory");
            self.warned.insert(what);
        }
    }
}

/// Whether a name is one under which jobs build, so that the object is not shown as anybody's.
#[must_use]
pub fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL_PREFIX) && name.ends_with(PARTIAL_SUFFIX)
}

/// Brings a known domain up to what the list of domains says.
fn follow(hypervisor: &dyn Hypervisor, domain: &mut Domain, row: &DomainRow, changed: bool) {
    let started = row.state.is_active() && !domain.state.is_active();
    domain.state = row.state;
    domain.autostart = row.autostart;
    if !row.state.is_active() {
        domain.addresses.clear();
    } else if (changed || started || domain.addresses.is_empty()) && has_leases(domain) {
        // A guest without a lease, or with an agent only, is asked again at every look: one local call.
        if let Ok(addresses) = hypervisor.lease_addresses(row.uuid) {
            domain.addresses = sorted(addresses);
        }
    }
}

/// Whether one of its interfaces is on a network of libvirt's, which alone gives leases.
fn has_leases(domain: &Domain) -> bool {
    domain.nics.iter().any(|nic| nic.kind == "network")
}

fn sorted(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn pool(name: PoolName, row: &PoolRow) -> Pool {
    Pool {
        name,
        kind: row.kind.clone(),
        active: row.active,
        path: row.path.clone(),
        capacity: row.capacity,
        available: row.available,
    }
}

fn host_facts(facts: Facts, accel: Accel) -> HostFacts {
    // libvirt counts the page cache as taken, and memory that was plugged in later not at all; the kernel knows better.
    let kernel = facts.hypervisor.starts_with("QEMU").then(|| fs::read_to_string("/proc/meminfo").ok()).flatten();
    let figure = |name| kernel.as_deref().and_then(|text| meminfo(text, name));
    let free = figure("MemAvailable:").unwrap_or(facts.memory_free);
    let memory = figure("MemTotal:").unwrap_or(facts.memory);
    let step = MEMORY_STEP.as_bytes();
    HostFacts {
        cpus: facts.cpus,
        memory,
        memory_free: ByteSize::bytes(free.as_bytes() / step * step),
        arch: facts.arch,
        hypervisor: facts.hypervisor,
        libvirt: facts.libvirt,
        accel,
        worker: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn meminfo(text: &str, name: &str) -> Option<ByteSize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok().map(ByteSize::kib)
}

fn read_domain(
    hypervisor: &dyn Hypervisor,
    name: DomainName,
    row: &DomainRow,
    pools: &[PoolRow],
    refreshed: &mut HashSet<String>,
) -> Result<Domain, HypervisorError> {
    let xml = hypervisor.domain_xml(row.uuid)?;
    let description = domain_xml::read(&xml).map_err(|error| HypervisorError::Refused {
        doing: format!("reading the description of domain {name}"),
        why: error.to_string(),
    })?;
    let Description { vcpus, memory, disks, nics, made, marked_image, .. } = description;
    Ok(Domain {
        name,
        uuid: row.uuid,
        state: row.state,
        vcpus,
        memory,
        autostart: row.autostart,
        marked_image,
        disks: disks.into_iter().map(|disk| read_disk(hypervisor, disk, pools, refreshed)).collect(),
        nics,
        made,
        addresses: Vec::new(),
    })
}

fn read_disk(hypervisor: &dyn Hypervisor, xml: DiskXml, pools: &[PoolRow], refreshed: &mut HashSet<String>) -> Disk {
    let DiskXml { target, device, source, format, readonly, encrypted, .. } = xml;
    let mut disk = Disk {
        target,
        device,
        path: None,
        format,
        pool: None,
        volume: None,
        capacity: None,
        allocation: None,
        backing: None,
        readonly,
        trouble: None,
    };
    let found = match &source {
        Source::Empty => return disk,
        Source::Other(kind) => {
            disk.trouble = Some(format!("it is of type {kind}, not a file"));
            return disk;
        }
        Source::Path(path) => {
            disk.path = Some(path.clone());
            find(hypervisor, path, pools, refreshed)
        }
        Source::Volume { pool, volume } => hypervisor.volume(pool, volume),
    };
    match found {
        Ok(row) => {
            disk.pool = PoolName::new(row.pool).ok();
            disk.volume = VolumeName::new(row.name).ok();
            disk.capacity = Some(row.capacity);
            disk.allocation = Some(row.allocation);
            disk.backing = row.backing;
            disk.path = Some(row.path);
        }
        Err(error) => {
            let gone = disk.path.as_ref().is_some_and(|path| !fs::exists(path).unwrap_or(true));
            disk.trouble = Some(if gone {
                "its file is missing".to_owned()
            } else if error.is_not_found() {
                "it is not in an active storage pool".to_owned()
            } else {
                error.to_string()
            });
        }
    }
    if disk.trouble.is_none() && encrypted {
        disk.trouble = Some("it is encrypted".to_owned());
    }
    disk
}

/// The volume behind a path. A file that a program put into a pool's folder is no volume until the pool is looked at anew,
/// which is done once a look.
fn find(
    hypervisor: &dyn Hypervisor,
    path: &str,
    pools: &[PoolRow],
    refreshed: &mut HashSet<String>,
) -> Result<super::VolumeRow, HypervisorError> {
    let first = hypervisor.volume_by_path(path);
    if !first.as_ref().is_err_and(HypervisorError::is_not_found) || !fs::exists(path).unwrap_or(false) {
        return first;
    }
    let folder = path.rsplit_once('/').map(|(folder, _)| folder);
    let pool = pools.iter().find(|pool| pool.active && pool.is_folder() && pool.path.as_deref() == folder);
    match pool {
        Some(pool) if refreshed.insert(pool.name.clone()) && hypervisor.refresh_pool(&pool.name).is_ok() => {
            hypervisor.volume_by_path(path)
        }
        Some(_) | None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{Libvirt, uri};
    use maglica_proto::inventory::DomainState;

    const NODE: &str = include_str!("../recorded/test-node.xml");

    fn host(folder: &tempfile::TempDir) -> Host {
        let path = folder.path().join("node.xml");
        fs::write(&path, NODE).unwrap();
        Host::new(Arc::new(Libvirt::new(uri("test", None, path.to_str().unwrap()))))
    }

    fn poll(changed: &[&str]) -> Depth {
        Depth::Poll { changed: changed.iter().map(|name| DomainName::new(*name).unwrap()).collect() }
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
        assert_eq!(seen.facts.memory_free.as_bytes() % MEMORY_STEP.as_bytes(), 0);
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

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       16316412 kB\nMemFree:         1000000 kB\nMemAvailable:    8388608 kB\n";
        assert_eq!(meminfo(text, "MemAvailable:"), Some(ByteSize::mib(8192)));
        assert_eq!(meminfo("MemTotal: 1 kB\n", "MemAvailable:"), None);
    }
}
