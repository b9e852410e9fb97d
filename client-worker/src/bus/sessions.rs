//! Whose session is which, and how long it lives.
//!
//! A session counts from its first request: a first handshake message can be replayed, and must neither push out the
//! session that a host is using nor cost memory for long.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use maglica_proto::{
    key::{Fingerprint, PublicKey, TokenId},
    name::HostName,
    seal::{PeerKind, Session, header::SessionId},
};

use super::port::Peer;

/// How many sessions may wait for their first request; the oldest goes first.
const UNCONFIRMED_MAX: usize = 4096;
/// The same of one key. A peer asks as soon as it has its session, so few ever wait; who shakes hands and says nothing
/// pushes out its own.
const UNCONFIRMED_OF_KEY: usize = 256;
/// How many sessions an operator's key may have: each command makes one. The oldest goes first, and is made anew when needed.
const SESSIONS_OF_OPERATOR: usize = 1024;
/// How many a host may have: the present one, and old ones with answers under way.
const SESSIONS_OF_HOST: usize = 16;
/// How long one may wait for it.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(15);
/// How long a session lives without a request. Peers make a new one every hour anyway.
const IDLE_FOR: Duration = Duration::from_secs(2 * 3600);
/// How long a host's old session lives once it uses a new one: for answers under way.
const SUPERSEDED_FOR: Duration = Duration::from_secs(60);

/// A session and whose it is.
pub struct Entry {
    /// The session.
    pub session: Arc<Session>,
    /// The key at the other end.
    pub key: PublicKey,
    /// The client worker's key that it was made for.
    pub server: PublicKey,
    /// The client worker's newest key, as the peer was told.
    pub told: PublicKey,
    /// Whether the next message in it is refused, so that the peer makes a new one. Broadcasts are still sealed in it.
    pub ended: bool,
    /// As what it shook hands.
    pub peer: PeerKind,
    /// The token that it joins by.
    pub token: Option<TokenId>,
    /// Where a host listens.
    pub topic: Option<String>,
    /// The host that it was confirmed as.
    pub host: Option<HostName>,
    /// Whether a request came in it.
    pub confirmed: bool,
    /// When one came last.
    pub last: Instant,
    /// On which connection.
    pub connection: Option<Peer>,
    /// The how-manieth session it is.
    pub nth: u64,
    /// Of the key, for the log.
    pub fingerprint: Fingerprint,
}

/// The sessions of one key, oldest first.
#[derive(Debug, Default)]
struct OfKey {
    unconfirmed: VecDeque<SessionId>,
    confirmed: VecDeque<SessionId>,
}

/// All sessions.
#[derive(Default)]
pub struct Sessions {
    entries: HashMap<SessionId, Entry>,
    unconfirmed: usize,
    keys: HashMap<PublicKey, OfKey>,
    current: HashMap<HostName, SessionId>,
    made: u64,
}

impl Sessions {
    /// A handshake ended in this.
    pub fn add(&mut self, mut entry: Entry, now: Instant) {
        self.made += 1;
        entry.nth = self.made;
        if self.unconfirmed >= UNCONFIRMED_MAX {
            self.sweep(now);
            if self.unconfirmed >= UNCONFIRMED_MAX {
                let oldest = self
                    .entries
                    .iter()
                    .filter(|(_, entry)| !entry.confirmed)
                    .min_by_key(|(_, entry)| entry.last)
                    .map(|(id, _)| *id);
                oldest.into_iter().for_each(|id| self.remove(id));
            }
        }
        let of_key = self.keys.entry(entry.key).or_default();
        of_key.unconfirmed.push_back(entry.session.id());
        let surplus = (of_key.unconfirmed.len() > UNCONFIRMED_OF_KEY).then(|| of_key.unconfirmed[0]);
        self.unconfirmed += 1;
        self.entries.insert(entry.session.id(), entry);
        surplus.into_iter().for_each(|id| self.remove(id));
    }

    /// A session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&Entry> {
        self.entries.get(&id).filter(|entry| !entry.ended)
    }

    /// Has some of the peers that were not told of this newest key make new sessions, in which they are; gives how many.
    pub fn end_untold(&mut self, newest: &PublicKey, most: usize) -> usize {
        let untold = self.entries.values_mut().filter(|entry| !entry.ended && entry.told != *newest).take(most);
        untold.map(|entry| entry.ended = true).count()
    }

    /// Ends the sessions that were made for a key that is not good any more.
    pub fn end_made_for_others(&mut self, good: impl Fn(&PublicKey) -> bool) {
        self.entries.values_mut().filter(|entry| !good(&entry.server)).for_each(|entry| entry.ended = true);
    }

    /// A genuine request came in it. Tells whether a host changed to it.
    pub fn confirm(&mut self, id: SessionId, host: Option<HostName>, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        entry.last = now;
        if std::mem::replace(&mut entry.confirmed, true) {
            return false;
        }
        entry.host.clone_from(&host);
        self.unconfirmed -= 1;
        let of_key = self.keys.entry(entry.key).or_default();
        of_key.unconfirmed.retain(|other| *other != id);
        of_key.confirmed.push_back(id);
        let most = if host.is_some() { SESSIONS_OF_HOST } else { SESSIONS_OF_OPERATOR };
        let surplus = (of_key.confirmed.len() > most).then(|| of_key.confirmed[0]);
        surplus.into_iter().for_each(|id| self.remove(id));
        let Some(host) = host else { return false };
        self.current.insert(host, id);
        true
    }

    /// A genuine request came on this connection. Tells whether it is another than before.
    pub fn moved(&mut self, id: SessionId, connection: &Peer) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let moved = entry.connection.as_ref() != Some(connection);
        if moved {
            entry.connection = Some(connection.clone());
        }
        moved
    }

    /// It is over.
    pub fn remove(&mut self, id: SessionId) {
        if let Some(entry) = self.entries.remove(&id) {
            if !entry.confirmed {
                self.unconfirmed -= 1;
            }
            if let Some(of_key) = self.keys.get_mut(&entry.key) {
                of_key.unconfirmed.retain(|other| *other != id);
                of_key.confirmed.retain(|other| *other != id);
            }
            if let Some(host) = &entry.host
                && self.current.get(host) == Some(&id)
            {
                self.current.remove(host);
            }
        }
    }

    /// The session that a host uses.
    #[must_use]
    pub fn of_host(&self, host: &HostName) -> Option<&Entry> {
        self.current.get(host).and_then(|id| self.entries.get(id))
    }

    /// The hosts that have one.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<HostName> {
        self.current.keys().cloned().collect()
    }

    /// Forgets what is too old. Tells whether a host lost its session.
    pub fn sweep(&mut self, now: Instant) -> bool {
        let (before, current) = (self.current.len(), &self.current);
        self.entries.retain(|id, entry| {
            let age = now.saturating_duration_since(entry.last);
            let limit = match &entry.host {
                _ if !entry.confirmed => UNCONFIRMED_FOR,
                Some(host) if current.get(host) != Some(id) => SUPERSEDED_FOR,
                Some(_) | None => IDLE_FOR,
            };
            age < limit
        });
        self.unconfirmed = self.entries.values().filter(|entry| !entry.confirmed).count();
        let entries = &self.entries;
        self.current.retain(|_, id| entries.contains_key(id));
        self.keys.retain(|_, of_key| {
            of_key.unconfirmed.retain(|id| entries.contains_key(id));
            of_key.confirmed.retain(|id| entries.contains_key(id));
            !(of_key.unconfirmed.is_empty() && of_key.confirmed.is_empty())
        });
        before != self.current.len()
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        key::KeyPair,
        seal::{Hello, Initiator, Responder, Welcome},
    };

    use super::*;

    fn entry(now: Instant) -> Entry {
        let (server, host) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (_, first) = Initiator::start(&host, server.public(), PeerKind::Host, Hello::new("0", "h1"), None).unwrap();
        let welcome = Welcome { protocol: 1, program: "0".into(), name: "h1".into(), topic: None, server_key: None };
        let (_, session) = Responder::read(&server, &first).unwrap().accept(&welcome, None).unwrap();
        Entry {
            session: Arc::new(session),
            key: host.public(),
            server: server.public(),
            told: server.public(),
            ended: false,
            peer: PeerKind::Host,
            token: None,
            topic: Some("s/".into()),
            host: None,
            confirmed: false,
            last: now,
            connection: None,
            nth: 0,
            fingerprint: host.public().fingerprint(),
        }
    }

    #[test]
    fn a_replayed_handshake_does_not_push_out_the_session_in_use() {
        let (mut sessions, now, host) = (Sessions::default(), Instant::now(), HostName::new("h1").unwrap());
        let first = entry(now);
        let id = first.session.id();
        sessions.add(first, now);
        assert!(sessions.confirm(id, Some(host.clone()), now));
        for _ in 0..10 {
            sessions.add(entry(now), now);
        }
        assert_eq!(sessions.of_host(&host).unwrap().session.id(), id);
        sessions.sweep(now + UNCONFIRMED_FOR);
        assert_eq!((sessions.entries.len(), sessions.unconfirmed), (1, 0));
    }

    #[test]
    fn a_key_that_makes_sessions_without_end_loses_its_oldest_and_nobody_elses() {
        let (mut sessions, now, host) = (Sessions::default(), Instant::now(), HostName::new("h1").unwrap());
        let other = entry(now);
        let others = other.session.id();
        sessions.add(other, now);
        sessions.confirm(others, None, now);
        let key = KeyPair::generate().unwrap().public();
        let add = |sessions: &mut Sessions, host: Option<HostName>, confirm: bool| {
            let entry = Entry { key, ..entry(now) };
            let id = entry.session.id();
            sessions.add(entry, now);
            if confirm {
                sessions.confirm(id, host, now);
            }
            id
        };
        let first = add(&mut sessions, Some(host.clone()), true);
        let ids: Vec<_> = (0..SESSIONS_OF_HOST).map(|_| add(&mut sessions, Some(host.clone()), true)).collect();
        assert!(sessions.get(first).is_none() && sessions.get(ids[0]).is_some());
        assert_eq!(sessions.of_host(&host).map(|entry| entry.session.id()), ids.last().copied());
        for _ in 0..2 * UNCONFIRMED_OF_KEY {
            add(&mut sessions, None, false);
        }
        assert_eq!(sessions.unconfirmed, UNCONFIRMED_OF_KEY);
        assert_eq!(sessions.of_host(&host).map(|entry| entry.session.id()), ids.last().copied());
        assert_eq!(sessions.entries.len(), 1 + SESSIONS_OF_HOST + UNCONFIRMED_OF_KEY);
        sessions.sweep(now + IDLE_FOR);
        assert!(sessions.entries.is_empty() && sessions.keys.is_empty() && sessions.current.is_empty());
    }

    #[test]
    fn a_hosts_old_session_lives_a_minute_longer() {
        let (mut sessions, now, host) = (Sessions::default(), Instant::now(), HostName::new("h1").unwrap());
        let ids: Vec<_> = (0..2)
            .map(|_| {
                let entry = entry(now);
                let id = entry.session.id();
                sessions.add(entry, now);
                sessions.confirm(id, Some(host.clone()), now);
                id
            })
            .collect();
        sessions.sweep(now + Duration::from_secs(59));
        assert!(sessions.get(ids[0]).is_some());
        sessions.sweep(now + SUPERSEDED_FOR);
        assert!(sessions.get(ids[0]).is_none() && sessions.get(ids[1]).is_some());
    }

    #[test]
    fn peers_that_were_not_told_of_a_new_key_make_new_sessions_a_few_at_a_time_and_are_heard_of_meanwhile() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let ids: Vec<_> = (0..5)
            .map(|n| {
                let entry = entry(now);
                let id = entry.session.id();
                sessions.add(entry, now);
                sessions.confirm(id, Some(HostName::new(format!("h{n}")).unwrap()), now);
                id
            })
            .collect();
        let newest = KeyPair::generate().unwrap().public();
        sessions.entries.get_mut(&ids[0]).unwrap().told = newest;
        assert_eq!([3, 1, 0].map(|_| sessions.end_untold(&newest, 3)), [3, 1, 0]);
        assert!(sessions.get(ids[0]).is_some() && ids[1..].iter().all(|id| sessions.get(*id).is_none()));
        assert_eq!(sessions.hosts().len(), 5, "they can still be told of a job");
        sessions.end_made_for_others(|key| *key == newest);
        assert!(sessions.get(ids[0]).is_none());
    }
}
