//! The life of a job against a small model: whatever is said in whatever order, the rules hold.

use maglica_proto::{
    job::{Outcome, Step, VmRef, VmTask},
    name::DomainName,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn job() -> JobRecord {
    let name = DomainName::new("vm0").unwrap();
    let new = NewJob {
        id: JobId::generate(),
        spec: JobSpec::Start(VmRef { name: name.clone(), host: None }),
        task: Task::Start(VmTask { name, uuid: Uuid::nil() }),
        host: host("h1"),
        why: vec![],
        by: "root".into(),
        reachable: false,
    };
    JobRecord::new(new, Timestamp::from_millis(0))
}

fn report(job: &JobRecord, result: Result<Outcome, Fault>) -> Report {
    let done = |seq, step| HostEvent { seq, at: Timestamp::default(), what: HostEventKind::StepStarted { step } };
    Report { job: job.id, result, events: vec![done(0, Step::Check), done(1, Step::Start)] }
}

const OK: Result<Outcome, Fault> = Ok(Outcome::Started { already: false });

#[test]
fn a_job_that_goes_well_tells_its_whole_story_once() {
    let mut job = job();
    let now = Timestamp::from_millis(1);
    job.offer(now);
    job.accept(&host("h1"), now).unwrap();
    let all = report(&job, OK);
    job.progress(&host("h1"), all.events[..1].to_vec(), now).unwrap();
    job.progress(&host("h1"), all.events[..1].to_vec(), now).unwrap();
    job.report(&host("h1"), all.clone(), now).unwrap();
    job.report(&host("h1"), all, now).unwrap();
    assert_eq!(job.state(), JobState::Succeeded { outcome: Outcome::Started { already: false } });
    let names: Vec<_> =
        job.events.iter().map(|event| serde_json::to_value(&event.what).unwrap()["event"].clone()).collect();
    assert_eq!(names, ["submitted", "placed", "offered", "granted", "host", "host", "ended"]);
}

#[test]
fn a_cancelled_job_is_not_granted_any_more() {
    let mut job = job();
    job.cancel("root", Timestamp::default()).unwrap();
    assert_eq!(job.accept(&host("h1"), Timestamp::default()), Err(Denial::Cancelled));
    assert_eq!(job.cancel("root", Timestamp::default()).unwrap_err().code, Code::WrongState);
}

#[test]
fn a_job_that_its_host_forgot_ends_as_unknown_and_not_as_done() {
    let mut job = job();
    job.accept(&host("h1"), Timestamp::default()).unwrap();
    job.forgotten(Timestamp::default());
    assert!(matches!(job.state(), JobState::Failed { fault } if fault.code == Code::OutcomeUnknown));
}

#[derive(Debug, Clone)]
enum Said {
    Offer,
    Accept(bool),
    Refuse,
    Progress,
    Report(bool),
    Cancel,
    Silent,
    Heard,
    Forgotten,
    Revoked,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        Just(Said::Offer),
        any::<bool>().prop_map(Said::Accept),
        Just(Said::Refuse),
        Just(Said::Progress),
        any::<bool>().prop_map(Said::Report),
        Just(Said::Cancel),
        Just(Said::Silent),
        Just(Said::Heard),
        Just(Said::Forgotten),
        Just(Said::Revoked),
    ]
}

proptest! {
    #[test]
    fn whatever_is_said_in_whatever_order_the_rules_hold(story in proptest::collection::vec(said(), 0..40)) {
        let mut job = job();
        let mut granted = false;
        for (millis, word) in (1..).zip(story) {
            let (before, now) = (job.clone(), Timestamp::from_millis(millis));
            match word {
                Said::Offer => job.offer(now),
                Said::Accept(ours) => {
                    let asker = host(if ours { "h1" } else { "h10" });
                    let answer = job.accept(&asker, now);
                    prop_assert_eq!(answer.is_ok(), ours && !before.is_over());
                    granted |= answer.is_ok();
                }
                Said::Refuse => { let _ = job.refuse(&host("h1"), Fault::new(Code::Unsupported, "no"), now); }
                Said::Progress => { let _ = job.progress(&host("h1"), report(&before, OK).events, now); }
                Said::Report(ours) => { let _ = job.report(&host(if ours { "h1" } else { "h10" }), report(&before, OK), now); }
                Said::Cancel => { let _ = job.cancel("root", now); }
                Said::Silent => job.host_silent(now),
                Said::Heard => job.heard(now),
                Said::Forgotten => job.forgotten(now),
                Said::Revoked => {
                    job.host_revoked(now);
                    prop_assert!(job.is_over());
                }
            }
            if before.is_over() {
                prop_assert_eq!(&job, &before, "a final state never changes");
            }
            prop_assert!(job.events.starts_with(&before.events), "no event is changed or lost");
            for (index, event) in job.events.iter().enumerate() {
                prop_assert_eq!(event.seq as usize, index, "events are numbered without gaps");
            }
            let ends = job.events.iter().filter(|event| matches!(event.what, JobEventKind::Ended { .. })).count();
            prop_assert_eq!(ends, usize::from(job.is_over()));
            if matches!(job.phase, Phase::Running { .. } | Phase::Lost { .. }) {
                prop_assert!(granted, "nothing runs without a grant");
            }
        }
    }
}

#[test]
fn a_clock_that_is_set_back_does_not_make_a_job_older_than_it_is() {
    let (mut job, year) = (job(), Duration::from_secs(365 * 24 * 3600));
    let began = Timestamp::from_millis(1_800_000_000_000);
    job.updated = began;
    job.offer(began.before(year));
    job.accept(&host("h1"), began.before(year)).unwrap();
    job.report(&host("h1"), report(&job, OK), began.before(year)).unwrap();
    assert_eq!((job.is_over(), job.updated), (true, began));
    assert!(job.events.iter().skip(2).all(|event| event.at == began));
}

#[test]
fn jobs_about_an_image_exclude_one_another_on_its_host_only() {
    use maglica_proto::job::{ImageSpec, ImageTask};

    let name = DomainName::new("vm0").unwrap();
    let about_image = |on: &str| NewJob {
        id: JobId::generate(),
        spec: JobSpec::Image(ImageSpec::Mark(VmRef { name: name.clone(), host: None })),
        task: Task::Image(ImageTask::Mark(VmTask { name: name.clone(), uuid: Uuid::nil() })),
        host: host(on),
        why: vec![],
        by: "root".into(),
        reachable: false,
    };
    let live = JobRecord::new(about_image("h1"), Timestamp::from_millis(0));
    assert!(live.excludes(&about_image("h1")));
    assert!(!live.excludes(&about_image("h2")));
    assert!(job().excludes(&about_image("h2")), "a virtual machine of the name is one and the same");
}
