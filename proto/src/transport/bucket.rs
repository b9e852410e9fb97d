//! A token bucket. Pure: the time is a parameter.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many messages are let through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Messages per second in the long run.
    pub per_second: f64,
    /// Messages at once after a pause.
    pub burst: f64,
}

/// Never wait longer than this before looking again, whatever the rate says.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Tokens of one connection or one address.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, at: now }
    }

    /// Counts one message that came, whatever is in the bucket.
    ///
    /// # Errors
    /// How long to pause before reading the next one.
    pub fn spend(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = passed.mul_add(self.rate.per_second, self.tokens).min(self.rate.burst) - 1.0;
        if self.tokens >= 0.0 {
            return Ok(());
        }
        let seconds = -self.tokens / self.rate.per_second;
        Err(Duration::try_from_secs_f64(seconds).map_or(LONGEST_WAIT, |d| d.min(LONGEST_WAIT)))
    }
}

/// A bucket that the connections of one address share.
#[derive(Debug)]
pub struct SharedBucket(Mutex<Bucket>);

impl SharedBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self(Mutex::new(Bucket::new(rate, now)))
    }

    /// As [`Bucket::spend`].
    ///
    /// # Errors
    /// How long to pause before reading the next one.
    pub fn spend(&self, now: Instant) -> Result<(), Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spend(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let start = Instant::now();
        let rate = Rate { per_second: 10.0, burst: 3.0 };
        let mut bucket = Bucket::new(rate, start);
        assert!((0..3).all(|_| bucket.spend(start).is_ok()));
        let wait = bucket.spend(start).unwrap_err();
        assert!(wait <= Duration::from_millis(101) && wait > Duration::from_millis(90));
        assert!(bucket.spend(start + wait).is_err(), "the debt is paid, no more");
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| bucket.spend(later).is_ok()).count(), 3);
    }
}
