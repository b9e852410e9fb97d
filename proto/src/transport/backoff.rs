//! Pauses between tries, with dice: those who lost the client worker at one moment must not come back at one moment.
//! Pure but for the dice.

use std::time::Duration;

/// Steps of the dice.
const SIDES: u32 = 1 << 16;

/// A random part of a time, from nothing to all of it.
#[must_use]
pub fn scatter(most: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without randomness everybody waits the same time, which is no worse than without dice.
    let _ = getrandom::fill(&mut bytes);
    most * u32::from(u16::from_be_bytes(bytes)) / SIDES
}

/// Pauses that double from the first to the longest, each shortened by up to a half.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Nothing has failed yet.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Something failed: how long to wait before it is tried again.
    #[must_use]
    pub fn pause(&mut self) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = (whole * 2).min(self.longest);
        whole / 2 + scatter(whole / 2)
    }

    /// It went well: the next pause is the first again.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        for whole in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            let pause = backoff.pause();
            let whole = Duration::from_millis(whole);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(250));
    }

    #[test]
    fn a_thousand_who_failed_at_one_moment_come_back_at_many() {
        let most = Duration::from_secs(1);
        let mut tenths = [0; 10];
        for _ in 0..1000 {
            let at = scatter(most);
            assert!(at < most);
            tenths[usize::try_from(at.as_millis()).unwrap() / 100] += 1;
        }
        // A hundred each on average; a fair dice stays within these bounds but once in many millions of runs.
        assert!(tenths.iter().all(|&count| (40..200).contains(&count)), "{tenths:?}");
    }
}
