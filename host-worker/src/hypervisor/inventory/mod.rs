//! What the host has, as [`maglica_proto::inventory::Inventory`].
//!
//! What is known of a domain is kept until it is named as changed, has changed its name, or everything is looked at anew; so a look
//! asks about what changed, and about nothing else. Where nobody tells what changes, the states of all domains come in a fixed number
//! of calls. It owns what it remembers, nothing else.

mod room;
mod running;

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use maglica_proto::{
    inventory::{Accel, Disk, Domain, Inventory},
    name::{DomainName, PoolName, VolumeName},
};
use uuid::Uuid;

pub(crate) use self::room::host_facts;
use super::{
    DomainRow, Facts, Host, Hypervisor, HypervisorError, PoolRow,
    agent::Heard,
    domain_xml::{self, Description, DiskXml, Source},
};

/// How long a full look may take: thousands of volumes, some milliseconds each.
const SCAN_LIMIT: Duration = Duration::from_secs(120);
/// How many files of a chain of overlays are told.
const CHAIN_MAX: usize = 16;
/// The suffix of what a job builds and has not finished; no part of the inventory.
pub const PARTIAL_SUFFIX: &str = ".partial";
/// The beginning of the same.
pub const PARTIAL_PREFIX: &str = "maglica-";

/// How much is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depth {
    /// What is named, and nothing else.
    Named(Named),
    /// What is named, the states of all domains, and the new ones.
    Poll(Named),
    /// Everything anew.
    Full,
}

/// What is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Domains by name, as a job changed them.
    pub names: HashSet<DomainName>,
    /// Domains by UUID, as the hypervisor told of them.
    pub domains: HashSet<Uuid>,
    /// Storage pools.
    pub pools: bool,
    /// The addresses of guests that have none so far.
    pub no_address: bool,
    /// The addresses of all guests.
    pub addresses: bool,
}

struct Known {
    name: String,
    domain: Domain,
}

#[derive(Default)]
struct Memory {
    facts: Option<Facts>,
    pools: Vec<PoolRow>,
    domains: HashMap<Uuid, Known>,
    warned: HashSet<String>,
}

/// Looks at the host again and again. Cloning gives another handle to the same memory.
#[derive(Clone, Default)]
pub struct Scanner {
    memory: Arc<Mutex<Memory>>,
    /// What guests' agents said. A lock of its own, for a look takes time.
    heard: Arc<Mutex<HashMap<Uuid, Heard>>>,
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
        let (memory, heard) = (Arc::clone(&self.memory), Arc::clone(&self.heard));
        host.call("looking at what the host has", SCAN_LIMIT, move |hypervisor| {
            // A panic in an earlier look left nothing half done that a look would not overwrite.
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            let mut inventory = memory.scan(hypervisor, accel, &depth)?;
            running::merge(&mut inventory, &mut heard.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(inventory)
        })
        .await
    }

    /// A guest's agent says which addresses it has; whether that is new.
    #[must_use]
    pub fn heard(&self, domain: Uuid, addresses: Heard) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(domain, addresses.clone()) != Some(addresses)
    }
}

impl Memory {
    fn scan(&mut self, hypervisor: &dyn Hypervisor, accel: Accel, depth: &Depth) -> Result<Inventory, HypervisorError> {
        let nothing = Named::default();
        let (full, list, named) = match depth {
            Depth::Full => (true, true, &nothing),
            Depth::Poll(named) => (false, true, named),
            Depth::Named(named) => (false, false, named),
        };
        let facts = match (&self.facts, full) {
            (Some(facts), false) => facts.clone(),
            (Some(_) | None, _) => self.facts.insert(hypervisor.facts()?).clone(),
        };
        // A job makes and deletes volumes, of which no pool tells.
        if list || named.pools || !named.names.is_empty() {
            self.pools = hypervisor.pools()?;
        }
        let mut pools = Vec::with_capacity(self.pools.len());
        for row in &self.pools {
            match PoolName::new(row.name.as_str()) {
                Ok(name) => pools.push(room::pool(name, row)),
                Err(error) => warn(&mut self.warned, error.to_string()),
            }
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        let mut refreshed = HashSet::new();
        let changed = self.changed(hypervisor, named)?;
        if list {
            let mut before = std::mem::take(&mut self.domains);
            for row in hypervisor.domains()? {
                let anew = full || changed.contains(&row.uuid);
                let known = before.remove(&row.uuid);
                self.look(hypervisor, &row, known, anew, &mut refreshed)?;
            }
        } else {
            for uuid in changed {
                let known = self.domains.remove(&uuid);
                match hypervisor.domain(uuid) {
                    Ok(row) => self.look(hypervisor, &row, known, true, &mut refreshed)?,
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        // In full they have just been asked for.
        if !full && (list || named.no_address || named.addresses) {
            for known in self.domains.values_mut() {
                if known.domain.state.is_active() && (named.addresses || known.domain.addresses.is_empty()) {
                    running::ask_addresses(hypervisor, &mut known.domain);
                }
            }
        }
        let mut domains: Vec<Domain> = self.domains.values().map(|known| known.domain.clone()).collect();
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Inventory { facts: host_facts(facts, accel), pools, domains })
    }

    /// The domains behind what is named: those that have the name, and those that had it.
    fn changed(&self, hypervisor: &dyn Hypervisor, named: &Named) -> Result<HashSet<Uuid>, HypervisorError> {
        let mut changed = named.domains.clone();
        for name in &named.names {
            match hypervisor.domain_by_name(name.as_str()) {
                Ok(uuid) => {
                    changed.insert(uuid);
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        if !named.names.is_empty() {
            let had = self.domains.iter().filter(|(_, known)| named.names.contains(&known.domain.name));
            changed.extend(had.map(|(uuid, _)| *uuid));
        }
        Ok(changed)
    }

    /// Takes up a domain of a list, as it was known or read anew.
    fn look(
        &mut self,
        hypervisor: &dyn Hypervisor,
        row: &DomainRow,
        known: Option<Known>,
        anew: bool,
        refreshed: &mut HashSet<String>,
    ) -> Result<(), HypervisorError> {
        let name = match DomainName::new(row.name.as_str()) {
            Ok(name) => name,
            Err(error) => {
                warn(&mut self.warned, error.to_string());
                return Ok(());
            }
        };
        if is_partial(&row.name) {
            return Ok(());
        }
        let mut known = match known.filter(|known| known.name == row.name) {
            Some(known) if !anew => known,
            Some(_) | None => match read_domain(hypervisor, name, row, &self.pools, refreshed) {
                Ok(domain) => Known { name: row.name.clone(), domain },
                // Gone between the two calls.
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        follow(hypervisor, &mut known.domain, row, anew);
        self.domains.insert(row.uuid, known);
        Ok(())
    }
}

fn warn(warned: &mut HashSet<String>, what: String) {
    if !warned.contains(&what) {
        tracing::warn!(error = what, "left out of the inventory");
        warned.insert(what);
    }
}

/// Whether a name is one under which jobs build, so that the object is not shown as anybody's.
#[must_use]
pub fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL_PREFIX) && name.ends_with(PARTIAL_SUFFIX)
}

/// Brings a known domain up to what the list of domains says.
fn follow(hypervisor: &dyn Hypervisor, domain: &mut Domain, row: &DomainRow, anew: bool) {
    let started = row.state.is_active() && !domain.state.is_active();
    domain.state = row.state;
    domain.autostart = row.autostart;
    if !row.state.is_active() {
        running::forget(domain);
    } else if anew || started {
        running::read(hypervisor, domain);
        running::ask_addresses(hypervisor, domain);
    }
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
    let Description { vcpus, memory, disks, nics, made, marked_image, schedule, .. } = description;
    // A driver without snapshots has none.
    let snapshots = hypervisor.snapshots(row.uuid).unwrap_or_default().into_iter().map(|row| row.snapshot).collect();
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
        console: None,
        screens: Vec::new(),
        snapshots,
        schedule,
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
        below: Vec::new(),
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
            disk.below = row.backing.as_deref().map_or_else(Vec::new, |path| below(hypervisor, path));
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

/// The files below an overlay's own backing file, as far as they are volumes.
fn below(hypervisor: &dyn Hypervisor, backing: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut next = Some(backing.to_owned());
    while let Some(path) = next.take().filter(|_| found.len() < CHAIN_MAX) {
        next = hypervisor.volume_by_path(&path).ok().and_then(|row| row.backing);
        found.extend(next.clone());
    }
    found
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
mod tests;
