//! What happened in a simulated fleet: counted by all its hosts, with the moment of the last of each kind.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A host began to be there: it listens in its session, and the client worker has heard it and has its inventory.
    Ready,
    /// A host took its first look at a job.
    Offered,
    /// A host may act.
    Granted,
    /// What a job changed is shown, and its report is stored.
    Stored,
}

impl Mark {
    /// All of them, in the order of a job's way.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Offered, Self::Granted, Self::Stored];
}

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    /// Microseconds after the tally's begin.
    last: AtomicU64,
}

/// The counts.
#[derive(Debug)]
pub struct Tally {
    began: Instant,
    counters: [Counter; Mark::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self { began: Instant::now(), counters: Default::default() }
    }
}

impl Tally {
    /// It happened now.
    pub fn note(&self, mark: Mark) {
        let at = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let counter = &self.counters[mark as usize];
        counter.last.fetch_max(at, Ordering::Relaxed);
        counter.count.fetch_add(1, Ordering::Release);
    }

    /// How often so far.
    #[must_use]
    pub fn count(&self, mark: Mark) -> u64 {
        self.counters[mark as usize].count.load(Ordering::Acquire)
    }

    /// When it happened last.
    #[must_use]
    pub fn last(&self, mark: Mark) -> Instant {
        self.began + Duration::from_micros(self.counters[mark as usize].last.load(Ordering::Relaxed))
    }
}
