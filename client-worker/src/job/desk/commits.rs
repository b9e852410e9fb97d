//! How long the latest commits took. Pure; the desk's thread keeps it.

use std::{collections::VecDeque, time::Duration};

use maglica_proto::status::StoreStatus;

/// How many commits "the latest" are: about a minute of a busy cloud.
const LATEST: usize = 1024;

/// Counts and times of commits.
#[derive(Debug, Default)]
pub(super) struct Commits {
    latest: VecDeque<Duration>,
    done: u64,
    failed: u64,
}

impl Commits {
    /// One took so long.
    pub(super) fn took(&mut self, time: Duration, failed: bool) {
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(time);
        if failed {
            self.failed += 1;
        } else {
            self.done += 1;
        }
    }

    /// All but the size.
    pub(super) fn status(&self) -> StoreStatus {
        let mut sorted: Vec<Duration> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        };
        StoreStatus {
            commits: self.done,
            failed: self.failed,
            commit_p50_us: at(50),
            commit_p99_us: at(99),
            ..StoreStatus::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_latest() {
        let mut commits = Commits::default();
        assert_eq!(commits.status(), StoreStatus::default());
        for _ in 0..LATEST {
            commits.took(Duration::from_secs(9), false);
        }
        for micros in 1..=LATEST as u64 {
            commits.took(Duration::from_micros(micros), false);
        }
        commits.took(Duration::from_micros(5000), true);
        let status = commits.status();
        assert_eq!((status.commits, status.failed), (2048, 1));
        assert_eq!((status.commit_p50_us, status.commit_p99_us), (513, 1015));
    }
}
