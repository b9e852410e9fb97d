//! Which counters were accepted: each once, in any order within a window, for PUB may drop and requests may overtake.

/// How far back a late message may lie. Ours come within a handful; 1,024 leaves room for a burst of broadcasts.
pub const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// The highest counter accepted and a bit for each of the 1,024 up to it.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    /// One above the highest accepted counter; 0 for none yet.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// Accepts a counter, unless it was accepted before or is too old to tell.
    pub fn accept(&mut self, counter: u64) -> bool {
        if counter == u64::MAX {
            return false;
        }
        if counter >= self.next {
            if counter - self.next >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.next..=counter {
                    self.clear(skipped);
                }
            }
            self.next = counter + 1;
        } else if self.next - counter > WINDOW || self.is_set(counter) {
            return false;
        }
        self.set(counter);
        true
    }

    fn place(counter: u64) -> (usize, u64) {
        let bit = counter % WINDOW;
        (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
    }

    fn is_set(&self, counter: u64) -> bool {
        let (word, mask) = Self::place(counter);
        self.seen[word] & mask != 0
    }

    fn set(&mut self, counter: u64) {
        let (word, mask) = Self::place(counter);
        self.seen[word] |= mask;
    }

    fn clear(&mut self, counter: u64) {
        let (word, mask) = Self::place(counter);
        self.seen[word] &= !mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn no_counter_is_accepted_twice_and_a_fresh_one_within_the_window_always_is(
            counters in proptest::collection::vec(0_u64..5000, 1..400)
        ) {
            let mut window = ReplayWindow::default();
            let mut model = BTreeSet::new();
            for counter in counters {
                let too_old = model.last().is_some_and(|&highest| counter + WINDOW <= highest);
                let fresh = !model.contains(&counter) && !too_old;
                prop_assert_eq!(window.accept(counter), fresh, "counter {}", counter);
                if fresh {
                    model.insert(counter);
                }
            }
        }
    }
}
