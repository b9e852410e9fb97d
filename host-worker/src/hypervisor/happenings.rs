//! What the hypervisor told of by itself since it was last asked: which domains changed, and whether pools, networks or possibly
//! everything did. It says only where to look; what is so is asked.
//!
//! It is a set and no queue: however much happens while nobody looks, it grows no larger than the host has domains.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use maglica_proto::name::DomainName;
use tokio::sync::Notify;
use uuid::Uuid;

/// Where something changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Happened {
    /// These domains changed, came or went.
    pub domains: HashSet<Uuid>,
    /// The domains of these names did.
    pub names: HashSet<DomainName>,
    /// Storage pools did.
    pub pools: bool,
    /// Networks did.
    pub networks: bool,
    /// Nobody listened for a while: anything may have changed.
    pub everything: bool,
}

/// The one place where it is collected. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub struct Happenings {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    happened: Mutex<Happened>,
    some: Notify,
    told: AtomicBool,
}

impl Happenings {
    /// Nothing so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until there is something.
    pub async fn some(&self) {
        self.shared.some.notified().await;
    }

    /// What has happened; from here on it counts as seen.
    #[must_use]
    pub fn take(&self) -> Happened {
        mem::take(&mut *self.happened())
    }

    /// Whether the hypervisor tells what happens to domains. If not, they have to be looked at now and then.
    #[must_use]
    pub fn are_told(&self) -> bool {
        self.shared.told.load(Ordering::Relaxed)
    }

    /// The hypervisor tells, or does not.
    pub fn set_told(&self, told: bool) {
        self.shared.told.store(told, Ordering::Relaxed);
    }

    /// Something happened; never waits.
    pub fn add(&self, change: impl FnOnce(&mut Happened)) {
        change(&mut self.happened());
        // Kept until somebody waits, if nobody does now.
        self.shared.some.notify_one();
    }

    fn happened(&self) -> MutexGuard<'_, Happened> {
        // A set of places is right even if somebody panicked while adding one.
        self.shared.happened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happens_before_anybody_waits_is_kept_and_happens_once() {
        let happenings = Happenings::new();
        let domain = Uuid::from_u128(7);
        for _ in 0..10_000 {
            happenings.add(|happened| {
                happened.domains.insert(domain);
            });
        }
        happenings.add(|happened| happened.pools = true);
        happenings.some().await;
        let expected = Happened { domains: HashSet::from([domain]), pools: true, ..Happened::default() };
        assert_eq!(happenings.take(), expected);
        assert_eq!(happenings.take(), Happened::default());
    }
}
