//! How often something that strangers can cause is said in the log: a few times at once, then a count. Pure.

use std::time::{Duration, Instant};

/// How long a few sayings are enough for.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How many of one kind are said within that time.
const SAID: u32 = 3;

/// The meter of one kind of thing.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    since: Instant,
    said: u32,
    left_out: u64,
}

impl Meter {
    /// Nothing was said yet.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { since: now, said: 0, left_out: 0 }
    }

    /// It happened. If it is to be said: how many before it were not.
    pub fn note(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= WINDOW {
            (self.since, self.said) = (now, 0);
        }
        if self.said < SAID {
            self.said += 1;
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }

    /// If time is up: how many were not said, so that a flood that has ended is counted as well.
    pub fn rest(&mut self, now: Instant) -> Option<u64> {
        let due = self.left_out > 0 && now.saturating_duration_since(self.since) >= WINDOW;
        due.then(|| {
            (self.since, self.said) = (now, 0);
            std::mem::take(&mut self.left_out)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_in_a_few_lines_and_every_one_of_it_is_counted() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let (mut lines, mut counted) = (0, 0);
        for millis in 0..25_000 {
            if let Some(left_out) = meter.note(start + Duration::from_millis(millis)) {
                lines += 1;
                counted += 1 + left_out;
            }
        }
        assert_eq!(lines, 9);
        assert_eq!(meter.rest(start + Duration::from_secs(25)), None, "not yet");
        let rest = meter.rest(start + Duration::from_secs(31)).unwrap();
        assert_eq!(counted + rest, 25_000);
        assert_eq!(meter.rest(start + Duration::from_secs(60)), None, "said already");
    }
}
