//! What is known of every host: presence and inventory. Pure: the moment is given.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use maglica_proto::{
    change::Change,
    inventory::{Domain, Inventory},
    key::Fingerprint,
    name::{DomainName, HostName},
    net::MacAddr,
    news::{HostNews, News},
    request::Presence,
    units::Timestamp,
};
use uuid::Uuid;

use super::{news, weight};
use crate::order::Order;

/// After how much silence a host counts as what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// As suspect.
    pub suspect_after: Duration,
    /// As down.
    pub down_after: Duration,
}

/// An enrolled host, as the register of keys has it.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Its name.
    pub name: HostName,
    /// Its key's fingerprint.
    pub fingerprint: Fingerprint,
    /// Since when; stays when it gets a new key.
    pub since: Timestamp,
    /// Its weight in placement.
    pub weight: u32,
}

/// What is known of one host.
#[derive(Debug)]
pub struct HostEntry {
    /// As what it is enrolled.
    pub enrolled: Enrolled,
    /// When it was last heard of, for people.
    pub heard: Option<Timestamp>,
    /// The same by a clock that never jumps.
    heard_at: Option<Instant>,
    /// Which start of the host worker is speaking.
    boot: Option<Uuid>,
    /// When it said what is known of it.
    said: Order,
    revision: u64,
    /// What it has.
    pub inventory: Option<Arc<Inventory>>,
    /// When the inventory was last known to be as it is.
    confirmed: Option<Instant>,
    gathered: Option<Gathered>,
    reported_down: bool,
    /// As what those who watch know it.
    told: Presence,
}

/// An inventory of which parts are still to come.
#[derive(Debug)]
struct Gathered {
    whole: Inventory,
    next: u32,
    weight: usize,
}

/// What became of an inventory that a host sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is what is known now, or will be with its other parts.
    Yes,
    /// It is more than a host may have; what was known before stays as it is.
    TooMuch,
    /// The host has said something newer already.
    Late,
}

/// Everything.
pub struct FleetState {
    limits: Limits,
    started: Instant,
    hosts: BTreeMap<HostName, HostEntry>,
    /// Whether the register has been read: what it holds at the start is no news.
    enrolled: bool,
    /// What happened since it was last taken.
    news: Vec<News>,
}

impl FleetState {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, started: now, hosts: BTreeMap::new(), enrolled: false, news: Vec::new() }
    }

    /// The limits it was made with.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// These are the enrolled hosts: new ones appear, others go.
    pub fn enrol(&mut self, enrolled: Vec<Enrolled>) {
        let (news, known) = (&mut self.news, self.enrolled);
        self.hosts.retain(|name, _| {
            let stays = enrolled.iter().any(|host| host.name == *name);
            if !stays {
                news.push(News::Host { host: name.clone(), change: HostNews::Left });
            }
            stays
        });
        self.enrolled = true;
        for host in enrolled {
            match self.hosts.get_mut(&host.name) {
                // Enrolled anew under an old name is a new host: what the old one said is not to be believed of it.
                Some(entry) if entry.enrolled.since == host.since => entry.enrolled = host,
                Some(_) | None => {
                    let entry = HostEntry {
                        heard: None,
                        heard_at: None,
                        boot: None,
                        said: Order::default(),
                        revision: 0,
                        inventory: None,
                        confirmed: None,
                        gathered: None,
                        reported_down: false,
                        told: Presence::Suspect,
                        enrolled: host.clone(),
                    };
                    if known {
                        self.news.push(News::Host { host: host.name.clone(), change: HostNews::Joined });
                    }
                    self.hosts.insert(host.name, entry);
                }
            }
        }
    }

    /// A host says that it is there, and which inventory it sent last. Tells whether it should send it again.
    pub fn heartbeat(
        &mut self,
        host: &HostName,
        said: Order,
        boot: Uuid,
        revision: u64,
        now: Instant,
        wall: Timestamp,
    ) -> bool {
        let Some(entry) = self.hosts.get_mut(host) else { return false };
        if !entry.is_next(said) {
            return false;
        }
        entry.heard = Some(wall);
        entry.heard_at = Some(now);
        entry.reported_down = false;
        if entry.told != Presence::Up {
            entry.told = Presence::Up;
            let change = HostNews::Presence { presence: Presence::Up };
            self.news.push(News::Host { host: host.clone(), change });
        }
        if entry.boot != Some(boot) {
            entry.boot = Some(boot);
            entry.revision = 0;
        }
        if entry.revision == revision && revision != 0 {
            entry.confirmed = Some(now);
            return false;
        }
        true
    }

    /// A host sends a part of its inventory; with the last part it takes effect.
    #[expect(clippy::too_many_arguments, reason = "they are the message's own fields, and who said it when")]
    pub fn inventory(
        &mut self,
        host: &HostName,
        said: Order,
        revision: u64,
        part: u32,
        parts: u32,
        inventory: Inventory,
        now: Instant,
    ) -> Taken {
        let Some(entry) = self.hosts.get_mut(host) else { return Taken::Yes };
        if !entry.is_next(said) {
            return Taken::Late;
        }
        let gathered = match entry.gathered.take() {
            _ if part >= parts => None,
            _ if part == 0 => {
                let weight = weight::of(&inventory);
                Some(Gathered { whole: inventory, next: 1, weight })
            }
            // Facts and pools are the same in every part.
            Some(mut gathered) if gathered.next == part => {
                gathered.weight += weight::domains(&inventory.domains);
                gathered.whole.domains.extend(inventory.domains);
                gathered.next += 1;
                Some(gathered)
            }
            // Not the next part: an earlier one was lost. The heartbeat will ask for all of them again.
            Some(_) | None => None,
        };
        let Some(gathered) = gathered else { return Taken::Yes };
        if gathered.weight > weight::MOST {
            return Taken::TooMuch;
        }
        if gathered.next == parts {
            let mut whole = gathered.whole;
            whole.domains.sort_by(|a, b| a.name.cmp(&b.name));
            whole.domains.shrink_to_fit();
            // What a host has when it is first heard of is no news.
            if let Some(before) = &entry.inventory {
                self.news.extend(news::between(host, before, &whole));
            }
            entry.inventory = Some(Arc::new(whole));
            entry.revision = revision;
            entry.confirmed = Some(now);
        } else {
            entry.gathered = Some(gathered);
        }
        Taken::Yes
    }

    /// A host says what changed since a revision. False: that is not the one that is known here, or it may be too much; then all
    /// is to be sent.
    pub fn change(
        &mut self,
        host: &HostName,
        said: Order,
        from: u64,
        revision: u64,
        change: Change,
        now: Instant,
    ) -> bool {
        let Some(entry) = self.hosts.get_mut(host) else { return false };
        if !entry.is_next(said) {
            return false;
        }
        let Some(inventory) = entry.inventory.as_mut().filter(|_| entry.revision == from && from != 0) else {
            return false;
        };
        if weight::of(inventory) + weight::of_change(&change) > weight::MOST {
            // Told as a whole, it is weighed as a whole.
            return false;
        }
        self.news.extend(news::of_change(host, inventory, &change));
        change.apply(Arc::make_mut(inventory));
        entry.revision = revision;
        entry.confirmed = Some(now);
        true
    }

    /// Whether hosts are still about to say what they have: the client worker started less than `grace` ago, and not all have.
    #[must_use]
    pub fn is_gathering(&self, grace: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.started) < grace
            && self.hosts.values().any(|entry| entry.inventory.is_none())
    }

    /// Whether a host is there.
    #[must_use]
    pub fn presence(&self, entry: &HostEntry, now: Instant) -> Presence {
        // A client worker that has just started has not heard of anybody: its own age is the silence.
        let silence = now.saturating_duration_since(entry.heard_at.unwrap_or(self.started));
        if entry.heard_at.is_some() && silence < self.limits.suspect_after {
            Presence::Up
        } else if silence < self.limits.down_after {
            Presence::Suspect
        } else {
            Presence::Down
        }
    }

    /// Looks which hosts fell silent, for those who watch.
    pub fn look(&mut self, now: Instant) {
        let silent: Vec<(HostName, Presence)> = self
            .hosts
            .values()
            .map(|entry| (entry, self.presence(entry, now)))
            .filter(|(entry, presence)| entry.told != *presence)
            .map(|(entry, presence)| (entry.enrolled.name.clone(), presence))
            .collect();
        for (host, presence) in silent {
            if let Some(entry) = self.hosts.get_mut(&host) {
                entry.told = presence;
                self.news.push(News::Host { host, change: HostNews::Presence { presence } });
            }
        }
    }

    /// What happened since this was last asked.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// The hosts that became down since the last look.
    pub fn newly_down(&mut self, now: Instant) -> Vec<HostName> {
        let down: Vec<HostName> = self
            .hosts
            .values()
            .filter(|entry| !entry.reported_down && self.presence(entry, now) == Presence::Down)
            .map(|entry| entry.enrolled.name.clone())
            .collect();
        for name in &down {
            if let Some(entry) = self.hosts.get_mut(name) {
                entry.reported_down = true;
            }
        }
        down
    }

    /// All hosts by name.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &HostEntry> {
        self.hosts.values()
    }

    /// One host.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<&HostEntry> {
        self.hosts.get(name)
    }

    /// Whether some domain anywhere has this address.
    #[must_use]
    pub fn mac_in_use(&self, mac: MacAddr) -> bool {
        self.hosts
            .values()
            .filter_map(|entry| entry.inventory.as_ref())
            .flat_map(|inventory| &inventory.domains)
            .flat_map(|domain| &domain.nics)
            .any(|nic| nic.mac == mac)
    }
}

impl HostEntry {
    /// Whether this is not older than what is known; then it is the newest.
    fn is_next(&mut self, said: Order) -> bool {
        let next = said >= self.said;
        self.said = self.said.max(said);
        next
    }

    /// A domain of this host.
    #[must_use]
    pub fn domain(&self, name: &DomainName) -> Option<&Domain> {
        let domains = &self.inventory.as_ref()?.domains;
        domains.binary_search_by(|domain| domain.name.cmp(name)).ok().map(|at| &domains[at])
    }

    /// Its running domains.
    #[must_use]
    pub fn active(&self) -> u32 {
        let count = self
            .inventory
            .as_ref()
            .map_or(0, |inventory| inventory.domains.iter().filter(|domain| domain.state.is_active()).count());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How old its inventory is, in milliseconds.
    #[must_use]
    pub fn age_ms(&self, now: Instant) -> u64 {
        let age = self.confirmed.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
