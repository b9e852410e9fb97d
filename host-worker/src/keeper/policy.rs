//! Which snapshots of a machine are to be taken and deleted now. Pure: the moment is given.

use std::time::Duration;

use maglica_proto::{
    inventory::{Domain, Snapshot},
    name::SnapshotName,
    units::Timestamp,
};

/// What is to be done about one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Those to delete: their time is over, or there are more than the schedule keeps.
    pub delete: Vec<SnapshotName>,
    /// Whether the schedule wants one now; with the memory?
    pub take: Option<bool>,
    /// Those to delete once it is taken.
    pub then_delete: Vec<SnapshotName>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.take.is_none()
    }
}

/// What is to be done about this machine at this moment.
#[must_use]
pub fn plan(domain: &Domain, now: Timestamp) -> Plan {
    let expired = |snapshot: &Snapshot| snapshot.expires.is_some_and(|at| at <= now);
    let mut plan = Plan {
        delete: domain.snapshots.iter().filter(|at| expired(at)).map(|at| at.name.clone()).collect(),
        ..Plan::default()
    };
    let Some(schedule) = domain.schedule.filter(|_| !domain.is_image()) else { return plan };
    let mut scheduled: Vec<&Snapshot> = domain.snapshots.iter().filter(|at| at.scheduled && !expired(at)).collect();
    scheduled.sort_by_key(|snapshot| snapshot.created);
    let every = Duration::from_secs(schedule.every_s.into());
    let due = scheduled.last().is_none_or(|last| {
        // One of the future was taken before the clock was set back: it counts for as long as it is a plausible one.
        if last.created > now { last.created.since(now) > every } else { now.since(last.created) >= every }
    });
    let keep = schedule.keep as usize;
    let surplus = scheduled.len().saturating_sub(keep);
    plan.delete.extend(scheduled.iter().take(surplus).map(|at| at.name.clone()));
    if due {
        plan.take = Some(schedule.memory && domain.state.is_active());
        let kept = scheduled.len() - surplus;
        let more = (kept + 1).saturating_sub(keep);
        plan.then_delete = scheduled.iter().skip(surplus).take(more).map(|at| at.name.clone()).collect();
    }
    plan
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        inventory::{DomainState, Schedule},
        units::ByteSize,
    };
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const HOUR: u32 = 3600;

    fn hours(count: u64) -> Timestamp {
        Timestamp::from_millis(count * 3_600_000)
    }

    fn snapshot(name: &str, created: u64, scheduled: bool, expires: Option<u64>) -> Snapshot {
        Snapshot {
            name: SnapshotName::new(name).unwrap(),
            created: hours(created),
            memory: false,
            current: false,
            parent: None,
            description: String::new(),
            by: None,
            expires: expires.map(hours),
            scheduled,
        }
    }

    fn domain(keep: Option<u32>, snapshots: Vec<Snapshot>) -> Domain {
        Domain {
            name: "vm0".parse().unwrap(),
            uuid: Uuid::nil(),
            state: DomainState::Off,
            vcpus: 1,
            memory: ByteSize::ZERO,
            autostart: false,
            marked_image: false,
            disks: Vec::new(),
            nics: Vec::new(),
            made: None,
            addresses: Vec::new(),
            console: None,
            screens: Vec::new(),
            snapshots,
            schedule: keep.map(|keep| Schedule { every_s: HOUR, keep, memory: true }),
        }
    }

    fn names(names: &[SnapshotName]) -> Vec<&str> {
        names.iter().map(SnapshotName::as_str).collect()
    }

    #[test]
    fn one_is_due_at_once_and_then_each_time() {
        assert_eq!(plan(&domain(Some(2), vec![]), hours(9)).take, Some(false), "no memory of one that is off");
        let with = |created| domain(Some(2), vec![snapshot("a", created, true, None)]);
        assert_eq!(plan(&with(8), hours(9)).take, Some(false));
        assert!(plan(&with(9), hours(9)).is_empty());
        let mut running = with(8);
        running.state = DomainState::Running;
        assert_eq!(plan(&running, hours(9)).take, Some(true));
        assert!(plan(&domain(None, vec![]), hours(9)).is_empty(), "without a schedule there is nothing to do");
    }

    #[test]
    fn the_oldest_of_the_schedule_go_and_those_of_people_stay() {
        let snapshots = vec![
            snapshot("by-hand", 1, false, None),
            snapshot("a", 2, true, None),
            snapshot("b", 3, true, None),
            snapshot("c", 4, true, None),
        ];
        let now = plan(&domain(Some(2), snapshots), hours(5));
        assert_eq!((names(&now.delete), now.take, names(&now.then_delete)), (vec!["a"], Some(false), vec!["b"]));
    }

    #[test]
    fn what_expired_goes_with_or_without_a_schedule() {
        let snapshots = vec![snapshot("old", 1, false, Some(5)), snapshot("young", 1, false, Some(6))];
        for keep in [None, Some(3)] {
            assert_eq!(names(&plan(&domain(keep, snapshots.clone()), hours(5)).delete), ["old"]);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_delays_one_snapshot_and_not_all() {
        let with = |created| plan(&domain(Some(2), vec![snapshot("a", created, true, None)]), hours(100)).take;
        assert_eq!(with(101), None, "within one time to come it is waited for");
        assert_eq!(with(900), Some(false));
    }

    proptest! {
        #[test]
        fn no_more_are_kept_than_are_to_be_and_none_of_a_person_goes(
            taken in prop::collection::vec((0_u64..50, prop::bool::ANY), 0..12), keep in 1_u32..6, now in 0_u64..60,
        ) {
            let snapshots: Vec<Snapshot> = taken
                .iter()
                .enumerate()
                .map(|(number, (at, scheduled))| snapshot(&format!("s{number}"), *at, *scheduled, None))
                .collect();
            let now = plan(&domain(Some(keep), snapshots.clone()), hours(now));
            let gone: Vec<&SnapshotName> = now.delete.iter().chain(&now.then_delete).collect();
            prop_assert!(snapshots.iter().filter(|at| !at.scheduled).all(|at| !gone.contains(&&at.name)));
            let left = snapshots.iter().filter(|at| at.scheduled && !gone.contains(&&at.name)).count();
            prop_assert!(left + usize::from(now.take.is_some()) <= keep as usize);
        }
    }
}
