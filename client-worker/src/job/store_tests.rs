//! What is stored comes back, and what is forgotten is remembered to have been.

use std::time::{Duration, Instant};

use maglica_proto::{
    fault::{Code, Fault},
    job::{JobSpec, JobState, JobView, Outcome, Task, VmRef, VmTask},
    name::{DomainName, HostName},
};
use uuid::{NoContext, Uuid};

use super::*;
use crate::job::{
    Desk,
    record::{NewJob, Phase, check_new},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// An id made at this moment.
fn id_of(at: Timestamp) -> JobId {
    let (seconds, millis) = (at.as_millis() / 1000, u32::try_from(at.as_millis() % 1000).unwrap());
    JobId::from(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, millis * 1_000_000)))
}

fn new_job(id: JobId, vm: &str) -> NewJob {
    let name = DomainName::new(vm).unwrap();
    NewJob {
        id,
        spec: JobSpec::Start(VmRef { name: name.clone(), host: None }),
        task: Task::Start(VmTask { name, uuid: Uuid::nil() }),
        host: HostName::new("h1").unwrap(),
        why: vec!["it is there".into()],
        by: "root".into(),
        reachable: false,
    }
}

/// A job that was made and ended at this moment.
fn over(at: Timestamp) -> JobRecord {
    let mut record = JobRecord::new(new_job(id_of(at), "vm0"), at);
    record.phase = Phase::Ended { end: JobState::Succeeded { outcome: Outcome::Started { already: false } } };
    record
}

fn store(records: &[JobRecord]) -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&folder.path().join("jobs.db")).unwrap();
    let changes: Vec<_> =
        records.iter().map(|record| Change { record, stored_events: 0, digest: Some([0; 32]) }).collect();
    store.commit(&changes).unwrap();
    (folder, store)
}

#[test]
fn old_jobs_are_forgotten_a_portion_at_a_time_the_oldest_first_and_never_one_that_is_not_over() {
    let days: Vec<Timestamp> = (1..=10).rev().map(|days| now().before(DAY * days)).collect();
    let mut records: Vec<JobRecord> = days.iter().map(|at| over(*at)).collect();
    records[0].phase = Phase::Queued;
    let (_folder, mut store) = store(&records);
    let before = now().before(DAY * 5 + DAY / 2);
    assert_eq!(store.expire(before, 2).unwrap(), 2);
    assert!(store.job(records[1].id).unwrap().is_none() && store.job(records[2].id).unwrap().is_none());
    assert!(store.job(records[3].id).unwrap().is_some());
    assert_eq!(store.expire(before, 100).unwrap(), 2);
    assert_eq!(store.expire(before, 100).unwrap(), 0);
    assert_eq!(store.live().unwrap().len(), 1, "the oldest of all goes on");
    assert_eq!(store.recent(100).unwrap().len(), 6);
    let events: u32 = store.connection.query_row("select count(*) from events", [], |row| row.get(0)).unwrap();
    assert_eq!(events, 12, "their events went with them");
}

#[test]
fn what_was_forgotten_is_known_after_a_restart_and_its_ids_are_refused() {
    let at = now().before(DAY * 3);
    let (folder, mut store) = store(&[over(at)]);
    assert_eq!(store.forgotten().unwrap(), Timestamp::default());
    store.expire(now().before(DAY), 10).unwrap();
    drop(store);
    let store = SqliteStore::open(&folder.path().join("jobs.db")).unwrap();
    let forgotten = store.forgotten().unwrap();
    assert_eq!(forgotten, at);
    let keep = DAY * 90;
    let refused = check_new(id_of(at), forgotten, keep, now()).unwrap_err();
    assert_eq!(refused.code, Code::InvalidInput);
    assert!(refused.message.contains("forgotten"), "{refused}");
    check_new(id_of(at.after(Duration::from_millis(1))), forgotten, keep, now()).unwrap();
}

#[test]
fn an_id_from_the_future_or_from_before_all_memory_or_without_a_time_makes_no_job() {
    let (now, keep, nothing) = (now(), DAY * 90, Timestamp::default());
    check_new(id_of(now), nothing, keep, now).unwrap();
    check_new(id_of(now.after(AHEAD_MAX)), nothing, keep, now).unwrap();
    check_new(id_of(now.before(keep)), nothing, keep, now).unwrap();
    for (id, word) in [
        (id_of(now.after(AHEAD_MAX + Duration::from_millis(1))), "future"),
        (id_of(now.before(keep + Duration::from_millis(1))), "forgotten"),
        (JobId::from(Uuid::new_v4()), "UUIDv7"),
    ] {
        let refused = check_new(id, nothing, keep, now).unwrap_err();
        assert!(refused.code == Code::InvalidInput && refused.message.contains(word), "{refused}");
    }
}

#[test]
fn an_id_from_far_ahead_that_an_older_version_took_does_not_make_all_others_look_old() {
    let mut record = over(now().before(DAY));
    record.id = id_of(now().after(DAY * 1000));
    let (_folder, mut store) = store(&[record]);
    assert_eq!(store.expire(now().before(DAY / 2), 10).unwrap(), 1);
    check_new(id_of(now()), store.forgotten().unwrap(), DAY, now()).unwrap();
}

async fn submit(desk: &Desk, new: NewJob) -> Result<JobView, Fault> {
    desk.submit(vec![new]).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_repeat_of_a_forgotten_job_does_not_run_again_and_the_desk_answers_meanwhile() {
    const OLD: usize = 2000;
    let start = now().before(DAY * 20);
    let records: Vec<JobRecord> =
        (0..OLD).map(|i| over(start.after(Duration::from_millis(u64::try_from(i).unwrap())))).collect();
    let (_folder, store) = store(&records);
    let (desk, thread) = Desk::start(Box::new(store), DAY * 90, |_| {}).unwrap();
    let (mut portions, mut slowest) = (1, Duration::ZERO);
    while desk.expire(now().before(DAY)).await.unwrap() {
        let asked = Instant::now();
        desk.list(10).await.unwrap();
        slowest = slowest.max(asked.elapsed());
        portions += 1;
    }
    assert!(portions >= 10, "{portions} portions");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let fault = submit(&desk, new_job(records[7].id, "vm0")).await.unwrap_err();
    assert_eq!(fault.code, Code::InvalidInput);
    submit(&desk, new_job(id_of(now()), "vm0")).await.unwrap();
    drop(desk);
    thread.join().unwrap();
}
