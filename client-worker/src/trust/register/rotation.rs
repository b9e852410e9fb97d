//! The change of the client worker's own key: since when there are which keys, and who has used the next one.
//!
//! ```text
//! one key ──begin──▶ two: the next one is announced, each peer that uses it is noted ──end──▶ one key
//! ```
//! The keys themselves are in files of their own ([`crate::trust::server`]), and what those files say is so;
//! [`Register::follow_server`] brings this up to it at each start.

use std::collections::BTreeSet;

use maglica_proto::{
    key::{Fingerprint, PublicKey},
    name::{HostName, OperatorName},
    units::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::Register;

/// What is known of the client worker's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBook {
    /// Since when there is the present one.
    since: Option<Timestamp>,
    /// The one before it.
    retired: Option<Fingerprint>,
    rotation: Option<Rotation>,
}

/// A change that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rotation {
    old: Fingerprint,
    next: PublicKey,
    since: Timestamp,
    hosts: BTreeSet<HostName>,
    operators: BTreeSet<OperatorName>,
}

/// Somebody who has used the next key, and so has pinned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taker {
    /// A host.
    Host(HostName),
    /// An operator; one with several machines may have others that have not.
    Operator(OperatorName),
}

impl Register {
    /// These are the client worker's keys. `since` counts for a present one of which nothing is known.
    pub fn follow_server(&mut self, present: PublicKey, next: Option<PublicKey>, since: Timestamp, now: Timestamp) {
        let book = &mut self.server;
        let before = book.rotation.take();
        match next {
            Some(next) => {
                book.rotation = before.filter(|rotation| rotation.next == next).or_else(|| {
                    let (hosts, operators) = Default::default();
                    Some(Rotation { old: present.fingerprint(), next, since: now, hosts, operators })
                });
            }
            None => {
                if let Some(over) = before.filter(|rotation| rotation.next == present) {
                    (book.since, book.retired) = (Some(over.since), Some(over.old));
                }
            }
        }
        book.since.get_or_insert(since);
    }

    /// Since when there are the present key and the next one.
    #[must_use]
    pub fn server_since(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.server.since, self.server.rotation.as_ref().map(|rotation| rotation.since))
    }

    /// Whether this was the client worker's key before the present one.
    #[must_use]
    pub fn was_server(&self, fingerprint: &Fingerprint) -> bool {
        self.server.retired.as_ref() == Some(fingerprint)
    }

    /// Whether a change to this key is under way, and this one is not known to have taken it.
    #[must_use]
    pub fn lacks(&self, key: &PublicKey, taker: &Taker) -> bool {
        self.server.rotation.as_ref().is_some_and(|rotation| {
            rotation.next == *key
                && match taker {
                    Taker::Host(name) => !rotation.hosts.contains(name),
                    Taker::Operator(name) => !rotation.operators.contains(name),
                }
        })
    }

    /// These have used the next key.
    pub fn took(&mut self, key: &PublicKey, takers: Vec<Taker>) {
        if let Some(rotation) = self.server.rotation.as_mut().filter(|rotation| rotation.next == *key) {
            for taker in takers {
                match taker {
                    Taker::Host(name) => rotation.hosts.insert(name),
                    Taker::Operator(name) => rotation.operators.insert(name),
                };
            }
        }
    }

    /// The enrolled hosts and operators that have not used the next key yet; none if there is none.
    #[must_use]
    pub fn not_taken(&self) -> (Vec<HostName>, Vec<OperatorName>) {
        let Some(rotation) = &self.server.rotation else { return (Vec::new(), Vec::new()) };
        (
            self.hosts.keys().filter(|name| !rotation.hosts.contains(*name)).cloned().collect(),
            self.operators.keys().filter(|name| !rotation.operators.contains(*name)).cloned().collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::key::KeyPair;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn what_is_known_follows_the_keys_that_there_are_wherever_it_was_interrupted() {
        let key = || KeyPair::generate().unwrap().public();
        let (old, next, root) = (key(), key(), OperatorName::new("root").unwrap());
        let mut register = Register::default();
        register.enrol_local_operator(root.clone(), key(), at(0));
        for _ in 0..2 {
            register.follow_server(old, None, at(1), at(5));
            assert_eq!(register.server_since(), (Some(at(1)), None));
        }
        // The next key was made; the client worker died before it came to note it.
        let taker = Taker::Operator(root.clone());
        register.follow_server(old, Some(next), at(1), at(10));
        assert_eq!((register.server_since().1, register.not_taken().1), (Some(at(10)), vec![root]));
        assert!(register.lacks(&next, &taker) && !register.lacks(&old, &taker));
        register.took(&old, vec![taker.clone()]);
        assert!(register.lacks(&next, &taker), "that was another key");
        register.took(&next, vec![taker.clone()]);
        register.follow_server(old, Some(next), at(1), at(11));
        assert_eq!((register.server_since().1, register.not_taken().1), (Some(at(10)), vec![]));
        // The next one has taken its place.
        for _ in 0..2 {
            register.follow_server(next, None, at(1), at(20));
            assert_eq!(register.server_since(), (Some(at(10)), None));
            assert!(register.was_server(&old.fingerprint()) && !register.lacks(&next, &taker));
        }
        // A next key that was removed by hand leaves no trace.
        register.follow_server(next, Some(old), at(1), at(30));
        register.follow_server(next, None, at(1), at(31));
        assert_eq!(register.server_since(), (Some(at(10)), None));
    }
}
