//! The rows that operators see, made of what is known, with a note for each host that is not up.

use std::{collections::HashMap, time::Instant};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::Domain,
    name::{DomainName, HostName},
    request::{Absence, HostRow, ImageRow, ImageState, Listing, Presence, VmCursor, VmRow, VmView},
};

use super::state::{FleetState, HostEntry};
use crate::similar::similar;

/// How many rows a page of virtual machines has: ordinary ones have 400 bytes.
const PAGE: usize = 1500;
/// How many bytes of rows a message has room for, whatever hosts put into them; beside it the absent hosts have to fit.
const ROWS_BYTES: usize = 640 << 10;
/// What the keys and numbers of a row take.
const ROW_BYTES: usize = 160;
/// What an address takes at most.
const ADDRESS_BYTES: usize = 41;

impl FleetState {
    fn absent(&self, now: Instant) -> Vec<Absence> {
        self.hosts()
            .filter_map(|entry| {
                let presence = self.presence(entry, now);
                let absence = || Absence { host: entry.enrolled.name.clone(), presence, heard: entry.heard };
                (presence != Presence::Up || entry.inventory.is_none()).then(absence)
            })
            .collect()
    }

    /// All images.
    #[must_use]
    pub fn images(&self, now: Instant) -> Listing<ImageRow> {
        let mut rows: Vec<ImageRow> = self
            .domains()
            .filter(|(_, domain)| domain.is_image())
            .map(|(entry, domain)| ImageRow {
                name: domain.name.clone(),
                host: entry.enrolled.name.clone(),
                disk: domain.capacity(),
                format: domain.data_disks().next().map_or_else(|| "-".to_owned(), |disk| disk.format.clone()),
                state: image_state(domain),
                age_ms: entry.age_ms(now),
            })
            .collect();
        rows.sort_by(|a, b| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
        fair(&mut rows);
        Listing { rows, absent: self.absent(now) }
    }

    /// A page of virtual machines by name and host, images left out.
    #[must_use]
    pub fn vms<'a>(&'a self, after: Option<&VmCursor>, now: Instant) -> (Listing<VmRow>, Option<VmCursor>) {
        // Each host's are sorted, so that where the page begins is looked up and not looked for.
        let of_host = |entry: &'a HostEntry| {
            let domains = entry.inventory.as_ref().map_or(&[][..], |inventory| &inventory.domains);
            let shown = |domain: &Domain| {
                after.is_some_and(|cursor| (&domain.name, &entry.enrolled.name) <= (&cursor.name, &cursor.host))
            };
            let rest = &domains[domains.partition_point(shown)..];
            rest.iter().filter(|domain| !domain.is_image()).take(PAGE + 1).map(move |domain| (entry, domain))
        };
        let mut found: Vec<(&HostEntry, &Domain)> = self.hosts().flat_map(of_host).collect();
        let order = |a: &(&HostEntry, &Domain), b: &(&HostEntry, &Domain)| {
            (&a.1.name, &a.0.enrolled.name).cmp(&(&b.1.name, &b.0.enrolled.name))
        };
        let mut more = found.len() > PAGE;
        if more {
            found.select_nth_unstable_by(PAGE, order);
            found.truncate(PAGE);
        }
        found.sort_unstable_by(order);
        let mut bytes = 0;
        let fits = found.iter().take_while(|(entry, domain)| {
            bytes += row_bytes(entry, domain);
            bytes <= ROWS_BYTES
        });
        // One row is far smaller than a page, so every page has some.
        let fits = fits.count().max(1);
        more |= fits < found.len();
        found.truncate(fits);
        let rows: Vec<VmRow> = found
            .into_iter()
            .map(|(entry, domain)| VmRow {
                name: domain.name.clone(),
                host: entry.enrolled.name.clone(),
                state: domain.state,
                vcpus: domain.vcpus,
                memory: domain.memory,
                disk: domain.capacity(),
                image: domain.made.as_ref().map(|made| made.image.clone()),
                addresses: domain.addresses.clone(),
                age_ms: entry.age_ms(now),
            })
            .collect();
        let next = rows.last().filter(|_| more).map(|row| VmCursor { name: row.name.clone(), host: row.host.clone() });
        (Listing { rows, absent: self.absent(now) }, next)
    }

    /// The one domain that is meant by a name, and perhaps a host.
    ///
    /// # Errors
    /// A fault: none, or more than one.
    pub fn find(&self, name: &DomainName, host: Option<&HostName>) -> Result<(&HostEntry, &Domain), Fault> {
        if let Some(host) = host {
            self.known_host(host)?;
        }
        // A host that is named is looked up, not looked for.
        let entries: Box<dyn Iterator<Item = &HostEntry>> = match host {
            Some(host) => Box::new(self.host(host).into_iter()),
            None => Box::new(self.hosts()),
        };
        let mut found = entries.filter_map(|entry| entry.domain(name).map(|domain| (entry, domain)));
        let Some(first) = found.next() else {
            let place = host.map_or_else(String::new, |host| format!(" on host {host}"));
            let mut fault = Fault::new(Code::NotFound, format!("there is no virtual machine {name}{place}"))
                .about(name.to_string());
            fault.similar = similar(name.as_str(), self.domains().map(|(_, domain)| domain.name.as_str()));
            let unheard: Vec<&str> = self
                .hosts()
                .filter(|entry| entry.inventory.is_none() && host.is_none_or(|host| entry.enrolled.name == *host))
                .map(|entry| entry.enrolled.name.as_str())
                .collect();
            // Said of a machine that is only out of sight, "there is none" would be a lie.
            if fault.similar.is_empty() && !unheard.is_empty() {
                fault.code = Code::HostDown;
                fault.message = format!(
                    "no host that was heard of has a virtual machine {name}; not heard of yet: {}",
                    unheard.join(", ")
                );
            }
            return Err(fault);
        };
        let others: Vec<&str> = found.map(|(entry, _)| entry.enrolled.name.as_str()).collect();
        if others.is_empty() {
            return Ok(first);
        }
        let message =
            format!("{name} exists on {} and on {}: say which is meant", first.0.enrolled.name, others.join(", "));
        Err(Fault::new(Code::Conflict, message).about(name.to_string()))
    }

    /// A host by its name.
    ///
    /// # Errors
    /// A fault: no such host.
    pub fn known_host(&self, name: &HostName) -> Result<&HostEntry, Fault> {
        self.host(name).ok_or_else(|| {
            let mut fault = Fault::new(Code::NotFound, format!("there is no host {name}")).about(name.to_string());
            fault.similar = similar(name.as_str(), self.hosts().map(|entry| entry.enrolled.name.as_str()));
            fault
        })
    }

    /// One virtual machine with all its details.
    ///
    /// # Errors
    /// A fault as of [`Self::find`].
    pub fn vm(&self, name: &DomainName, host: Option<&HostName>, now: Instant) -> Result<VmView, Fault> {
        let (entry, domain) = self.find(name, host)?;
        Ok(VmView {
            host: entry.enrolled.name.clone(),
            presence: self.presence(entry, now),
            age_ms: entry.age_ms(now),
            domain: domain.clone(),
        })
    }

    /// All enrolled hosts.
    #[must_use]
    pub fn host_rows(&self, now: Instant) -> Vec<HostRow> {
        self.hosts()
            .map(|entry| {
                let inventory = entry.inventory.as_deref();
                let domains = inventory
                    .map_or(0, |inventory| inventory.domains.iter().filter(|domain| !domain.is_image()).count());
                HostRow {
                    name: entry.enrolled.name.clone(),
                    presence: self.presence(entry, now),
                    heard: entry.heard,
                    weight: entry.enrolled.weight,
                    active: entry.active(),
                    domains: u32::try_from(domains).unwrap_or(u32::MAX),
                    fingerprint: entry.enrolled.fingerprint.clone(),
                    facts: inventory.map(|inventory| inventory.facts.clone()),
                    pools: inventory.map_or_else(Vec::new, |inventory| inventory.pools.clone()),
                }
            })
            .collect()
    }

    fn domains(&self) -> impl Iterator<Item = (&HostEntry, &Domain)> {
        self.hosts().flat_map(|entry| {
            entry
                .inventory
                .iter()
                .flat_map(move |inventory| inventory.domains.iter().map(move |domain| (entry, domain)))
        })
    }
}

fn row_bytes(entry: &HostEntry, domain: &Domain) -> usize {
    let image = domain.made.as_ref().map_or(0, |made| made.image.as_str().len());
    let names = entry.enrolled.name.as_str().len() + domain.name.as_str().len() + image;
    ROW_BYTES + names + domain.addresses.len() * ADDRESS_BYTES
}

/// Images all travel in one message. If they do not fit, those who have most show fewer, so that none hides another's.
fn fair(rows: &mut Vec<ImageRow>) {
    let bytes = |row: &ImageRow| ROW_BYTES + row.name.as_str().len() + row.host.as_str().len() + row.format.len();
    let total = |rows: &[ImageRow]| rows.iter().map(bytes).sum::<usize>();
    let (all, mut most) = (rows.len(), rows.len());
    while total(rows) > ROWS_BYTES && most > 1 {
        most = most.div_ceil(2);
        let mut shown: HashMap<HostName, usize> = HashMap::new();
        rows.retain(|row| {
            let count = shown.entry(row.host.clone()).or_default();
            *count += 1;
            *count <= most
        });
    }
    if rows.len() < all {
        tracing::warn!(all, shown = rows.len(), most, "there are more images than a list can show");
    }
}

/// Whether an image can be cloned.
#[must_use]
pub fn image_state(domain: &Domain) -> ImageState {
    if domain.state.is_active() {
        ImageState::Running
    } else if domain.data_disks().count() == 0 || domain.data_disks().any(|disk| disk.trouble.is_some()) {
        ImageState::Broken
    } else {
        ImageState::Ready
    }
}
