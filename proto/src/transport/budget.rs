//! Memory that all connections of one gate may hold together: thousands of peers that each send most of a large message.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a connection may hold without asking, so that small messages never touch the shared counter.
const FREE: usize = 16 * 1024;
/// Memory is asked for in steps, for the same reason.
const STEP: usize = 64 * 1024;

/// Bytes left to be held.
#[derive(Debug)]
pub struct Budget(AtomicUsize);

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    /// Bytes that can still be asked for.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One connection's part of the budget; given back on drop.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    /// A share of nothing yet.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: 0 }
    }

    /// Says how many bytes the connection holds now. False when the budget does not allow it.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        let want = bytes.saturating_sub(FREE).next_multiple_of(STEP);
        if want > self.held {
            let more = want - self.held;
            let taken = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
            if taken.is_err() {
                return false;
            }
        } else if want < self.held {
            self.budget.0.fetch_add(self.held - want, Ordering::Relaxed);
        }
        self.held = want;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cannot_exceed_the_budget_and_give_back_what_they_held() {
        let budget = Budget::new(2 * STEP);
        let mut one = Share::new(budget.clone());
        let mut two = Share::new(budget.clone());
        assert!(one.set(FREE) && budget.left() == 2 * STEP, "small is free");
        assert!(one.set(FREE + STEP + 1) && budget.left() == 0);
        assert!(!two.set(FREE + 1));
        assert!(one.set(FREE + 1) && two.set(FREE + STEP));
        drop(one);
        assert!(two.set(0));
        assert_eq!(budget.left(), 2 * STEP);
    }
}
