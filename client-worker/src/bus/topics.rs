//! Who subscribed to what, at the publishing port. Pure.
//!
//! `zeromq`'s PUB compares each message with every subscription of every peer; of a thousand hosts, that is most of the work of
//! telling one of them something. Here a message's listeners are looked up.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::port::Peer;

/// A peer takes back a subscription, or subscribes: what the first byte of its word says.
const CANCEL: u8 = 0;
const SUBSCRIBE: u8 = 1;

/// The subscriptions. The gate says each of a peer's once, and takes all of them back when it leaves.
#[derive(Debug, Default)]
pub(super) struct Topics(HashMap<Bytes, HashSet<Peer>>);

impl Topics {
    /// A peer says `01 ‖ topic` or `00 ‖ topic`; anything else changes nothing.
    pub(super) fn take(&mut self, peer: &Peer, word: &Bytes) {
        let Some(kind) = word.first() else { return };
        let topic = word.slice(1..);
        match *kind {
            SUBSCRIBE => drop(self.0.entry(topic).or_default().insert(peer.clone())),
            CANCEL => self.cancel(peer, &topic),
            _ => {}
        }
    }

    /// A peer does not listen to this any more.
    fn cancel(&mut self, peer: &Peer, topic: &[u8]) {
        if let Some(peers) = self.0.get_mut(topic) {
            peers.remove(peer);
            if peers.is_empty() {
                self.0.remove(topic);
            }
        }
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, peer: &Peer) {
        self.0.retain(|_, peers| {
            peers.remove(peer);
            !peers.is_empty()
        });
    }

    /// Those who subscribed to a prefix of a topic, each once.
    pub(super) fn listeners(&self, topic: &[u8]) -> Vec<Peer> {
        let mut found = (1..=topic.len()).filter_map(|length| self.0.get(&topic[..length]));
        let Some(first) = found.next() else { return Vec::new() };
        match found.next() {
            None => first.iter().cloned().collect(),
            Some(second) => {
                let all: HashSet<&Peer> = first.iter().chain(second).chain(found.flatten()).collect();
                all.into_iter().cloned().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_once_to_each_who_subscribed_to_a_prefix_of_its_topic() {
        let mut topics = Topics::default();
        let mut say = |peer: &'static str, word: &'static [u8]| {
            topics.take(&Peer::of(peer), &Bytes::from_static(word));
        };
        for (peer, word) in
            [("a", b"\x01s/1/" as &[u8]), ("a", b"\x01s"), ("b", b"\x01s/10/"), ("c", b"\x01s/1/"), ("c", b"\x00s/1/")]
        {
            say(peer, word);
        }
        for nothing in [b"" as &[u8], b"\x00never", b"\x02s"] {
            say("d", nothing);
        }
        let listeners = |topics: &Topics, topic: &[u8]| {
            let mut peers: Vec<Vec<u8>> = topics.listeners(topic).iter().map(|peer| peer.identity().to_vec()).collect();
            peers.sort();
            peers
        };
        assert_eq!(listeners(&topics, b"s/1/"), [b"a"]);
        assert_eq!(listeners(&topics, b"s/10/"), [b"a", b"b"]);
        assert!(topics.listeners(b"beat/").is_empty());
        assert_eq!(topics.0.len(), 3, "what nobody listens to any more is forgotten");
        topics.forget(&Peer::of("a"));
        assert_eq!((listeners(&topics, b"s/10/"), topics.0.len()), (vec![b"b".to_vec()], 1));
    }
}
