//! Who gives up its place when there is none left. Pure; the accept loop owns the one table of its gate.
//!
//! ```text
//! unproven ──vouched for──▶ proven (at most so many of one owner)
//!     └── a newcomer needs the place: the oldest unproven of its address, or of all ──▶ displaced
//! ```

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::task::Id;

use super::Owner;

/// How many connections of one owner are kept whatever comes: a host needs one, a person a few. More of them are taken like
/// those of strangers, so that no enrolled key can keep all others out.
const PROVEN_OF_OWNER: usize = 64;

/// The order in which connections came, and which of them are proven.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_site: HashMap<IpAddr, VecDeque<Id>>,
    all: VecDeque<Id>,
    unproven: HashMap<Id, IpAddr>,
    proven: HashMap<Id, Owner>,
    owners: HashMap<Owner, usize>,
}

impl Places {
    /// One came from this site.
    pub(super) fn enter(&mut self, id: Id, site: IpAddr) {
        self.by_site.entry(site).or_default().push_back(id);
        self.all.push_back(id);
        self.unproven.insert(id, site);
        // What has left or was proven meanwhile is dropped from the order now and then.
        if self.all.len() > 64 + 2 * self.unproven.len() {
            let unproven = &self.unproven;
            self.all.retain(|id| unproven.contains_key(id));
            self.by_site.retain(|_, ids| {
                ids.retain(|id| unproven.contains_key(id));
                !ids.is_empty()
            });
        }
    }

    /// It has proven who it is.
    pub(super) fn vouch(&mut self, id: Id, owner: Owner) {
        let count = self.owners.get(&owner).copied().unwrap_or(0);
        if count < PROVEN_OF_OWNER && self.unproven.remove(&id).is_some() {
            self.owners.insert(owner, count + 1);
            self.proven.insert(id, owner);
        }
    }

    /// It has left.
    pub(super) fn leave(&mut self, id: Id) {
        self.unproven.remove(&id);
        if let Some(owner) = self.proven.remove(&id)
            && let Some(count) = self.owners.get_mut(&owner)
        {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&owner);
            }
        }
    }

    /// The one that has been there longest without proving anything, of this site or of all. It counts as having left.
    pub(super) fn displace(&mut self, site: Option<IpAddr>) -> Option<Id> {
        let order = match site {
            Some(site) => self.by_site.get_mut(&site)?,
            None => &mut self.all,
        };
        while let Some(id) = order.pop_front() {
            if self.unproven.remove(&id).is_some() {
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    /// Ids can only be had of tasks.
    async fn ids(count: usize) -> Vec<Id> {
        let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        tasks.iter().inspect(|task| task.abort()).map(tokio::task::JoinHandle::id).collect()
    }

    #[tokio::test]
    async fn the_oldest_that_proved_nothing_goes_first_and_the_proven_stay() {
        let (mut places, ids) = (Places::default(), ids(5).await);
        for (at, id) in ids.iter().enumerate() {
            places.enter(*id, if at < 3 { HERE } else { THERE });
        }
        places.vouch(ids[0], [1; 32]);
        places.leave(ids[1]);
        assert_eq!(places.displace(Some(HERE)), Some(ids[2]));
        assert_eq!(places.displace(Some(HERE)), None);
        assert_eq!(places.displace(None), Some(ids[3]));
        assert_eq!(places.displace(None), Some(ids[4]));
        assert_eq!(places.displace(None), None);
    }

    #[tokio::test]
    async fn one_owner_cannot_have_all_places() {
        let (mut places, ids) = (Places::default(), ids(PROVEN_OF_OWNER + 1).await);
        for id in &ids {
            places.enter(*id, HERE);
            places.vouch(*id, [1; 32]);
        }
        assert_eq!(places.displace(Some(HERE)), ids.last().copied());
        for id in &ids {
            places.leave(*id);
        }
        assert!(places.owners.is_empty() && places.proven.is_empty() && places.unproven.is_empty());
    }

    #[tokio::test]
    async fn the_order_does_not_grow_with_those_who_come_and_go() {
        let mut places = Places::default();
        for id in ids(1000).await {
            places.enter(id, HERE);
            places.leave(id);
        }
        assert!(places.all.len() < 100 && places.by_site[&HERE].len() < 100);
    }
}
