//! How much one key may have under way at a time, so that nobody's zeal, or malice, is another's wait.
//!
//! What is under way is bounded by number and by size; what is worked on at this moment by number only, and the rest of the same
//! key waits for its turn. A question that is held back on purpose (a long poll) is under way, but takes no turn.

use std::{collections::HashMap, sync::Arc};

use maglica_proto::key::PublicKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Asker;

/// What one key may have under way, in units: a small question of an operator is one.
const UNITS: usize = 512;
/// A unit for each so many bytes of a question: of the largest, one or two are under way.
const UNIT_BYTES: usize = 4096;
/// What a question of a host costs at least: a host worker asks one at a time, so sixteen are plenty.
const HOST_UNITS: usize = 32;
/// How many questions of one operator are worked on at once. Each is answered from memory, so more would only queue for the
/// processor, in front of everybody else's.
const OPERATOR_TURNS: usize = 4;
/// How many of one host, or of somebody who joins. A host worker asks one at a time; a host that floods with its largest
/// inventories occupies one of the daemon's two threads at the most.
const HOST_TURNS: usize = 1;

#[derive(Clone)]
struct Share {
    under_way: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

/// The shares of all keys that have something under way. The bus owns it.
#[derive(Default)]
pub struct Turns {
    shares: HashMap<PublicKey, Share>,
}

/// One question's part of its key's share; given back on drop.
pub struct Turn {
    working: Arc<Semaphore>,
    _under_way: OwnedSemaphorePermit,
}

impl Turns {
    /// A question of this many bytes has come. None: its key has too much under way.
    pub fn enter(&mut self, key: &PublicKey, asker: &Asker, bytes: usize) -> Option<Turn> {
        let (least, turns) = match asker {
            Asker::Operator(..) => (1, OPERATOR_TURNS),
            Asker::Host(..) | Asker::Joiner(..) => (HOST_UNITS, HOST_TURNS),
        };
        let share = self.shares.entry(*key).or_insert_with(|| Share {
            under_way: Arc::new(Semaphore::new(UNITS)),
            working: Arc::new(Semaphore::new(turns)),
        });
        let units = u32::try_from(least + bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        let under_way = share.under_way.clone().try_acquire_many_owned(units).ok()?;
        Some(Turn { working: share.working.clone(), _under_way: under_way })
    }

    /// Forgets the keys that have nothing under way.
    pub fn sweep(&mut self) {
        self.shares.retain(|_, share| share.under_way.available_permits() < UNITS);
    }
}

impl Turn {
    /// Waits for a turn to work; it ends when what this gives is dropped.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed, so there is always one in the end.
        self.working.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{key::KeyPair, request::Role};

    use super::*;

    fn operator() -> (PublicKey, Asker) {
        let key = KeyPair::generate().unwrap().public();
        (key, Asker::Operator("vera".parse().unwrap(), Role::Viewer, key))
    }

    #[test]
    fn a_key_that_has_too_much_under_way_is_refused_and_no_other() {
        let mut turns = Turns::default();
        let ((vera, asker), (other, _)) = (operator(), operator());
        let held: Vec<Turn> = (0..UNITS).map(|_| turns.enter(&vera, &asker, 100).unwrap()).collect();
        assert!(turns.enter(&vera, &asker, 100).is_none());
        assert!(turns.enter(&other, &asker, 100).is_some());
        turns.sweep();
        assert_eq!(turns.shares.len(), 1);
        drop(held);
        assert!(turns.enter(&vera, &asker, 100).is_some());
        turns.sweep();
        assert!(turns.shares.is_empty());
    }

    #[test]
    fn the_largest_questions_are_under_way_one_or_two_at_a_time() {
        let mut turns = Turns::default();
        let (vera, asker) = operator();
        let held: Vec<Turn> = (0..10).filter_map(|_| turns.enter(&vera, &asker, 1 << 20)).collect();
        assert_eq!(held.len(), 1);
        let (key, _) = operator();
        let host = Asker::Host("h1".parse().unwrap(), crate::order::Order::default());
        assert_eq!((0..100).filter_map(|_| turns.enter(&key, &host, 100)).collect::<Vec<_>>().len(), 16);
    }

    #[tokio::test]
    async fn what_waits_for_its_turn_gets_it_when_another_ends() {
        let mut turns = Turns::default();
        let key = operator().0;
        let host = Asker::Host("h1".parse().unwrap(), crate::order::Order::default());
        let turn = turns.enter(&key, &host, 10).unwrap();
        let working = turn.take().await;
        let mut next = Box::pin(turn.take());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), &mut next).await.is_err());
        drop(working);
        assert!(next.await.is_some());
    }
}
