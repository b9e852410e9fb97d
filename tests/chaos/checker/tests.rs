//! A judge that never finds anything is worth nothing: each of these histories is doctored in one place, and must be found out.

use maglica_proto::{
    fault::{Code, Fault},
    id::JobId,
    job::{HostEventKind, JobEvent, JobEventKind, JobRow, JobSpec, JobState, JobView, Outcome, Step, VmRef},
    units::Timestamp,
};
use uuid::Uuid;

use super::{Rule, check};
use crate::history::{Deed, Entry, Evidence, Read, Remains, Seen, Vm, What};

const HOST: &str = "host0.example.jp";

fn id(number: u128) -> JobId {
    Uuid::from_u128(number).into()
}

fn reference(name: &str) -> VmRef {
    VmRef { name: name.parse().unwrap(), host: None }
}

fn spec(verb: &str, vm: &str) -> JobSpec {
    match verb {
        "start" => JobSpec::Start(reference(vm)),
        "stop" => JobSpec::Stop { vm: reference(vm), timeout_s: 5 },
        "destroy" => JobSpec::Destroy(reference(vm)),
        _ => JobSpec::Remove(reference(vm)),
    }
}

fn host(what: HostEventKind) -> JobEventKind {
    JobEventKind::Host { what }
}

fn done(step: Step) -> [JobEventKind; 2] {
    let done = HostEventKind::StepDone { step, took_ms: 1, note: String::new() };
    [host(HostEventKind::StepStarted { step }), host(done)]
}

/// A job with these host's events that ended so.
fn job(number: u128, verb: &str, vm: &str, course: &[JobEventKind], state: JobState) -> JobView {
    let by = "root".to_owned();
    let mut events = vec![
        JobEventKind::Submitted { by: by.clone() },
        JobEventKind::Placed { host: HOST.parse().unwrap(), why: Vec::new() },
        JobEventKind::Offered { attempt: 1 },
        JobEventKind::Granted,
    ];
    events.extend_from_slice(course);
    events.push(JobEventKind::Ended { state: state.clone() });
    let at = Timestamp::from_millis(1);
    JobView {
        row: JobRow {
            id: id(number),
            verb: verb.to_owned(),
            vm: vm.parse().unwrap(),
            host: HOST.parse().unwrap(),
            state,
            by,
            submitted: at,
            updated: at,
        },
        spec: spec(verb, vm),
        events: numbered(events, at),
        progress: None,
    }
}

fn numbered(events: Vec<JobEventKind>, at: Timestamp) -> Vec<JobEvent> {
    (0..).zip(events).map(|(seq, what)| JobEvent { seq, at, what }).collect()
}

fn steps(all: &[Step]) -> Vec<JobEventKind> {
    all.iter().flat_map(|step| done(*step)).collect()
}

fn started(already: bool) -> JobState {
    JobState::Succeeded { outcome: Outcome::Started { already } }
}

fn stopped(already: bool) -> JobState {
    JobState::Succeeded { outcome: Outcome::Stopped { already } }
}

fn failed(code: Code) -> JobState {
    JobState::Failed { fault: Fault::new(code, "so it is") }
}

/// vm0 is started, found running, and switched off; vm1 is removed.
fn good() -> Evidence {
    let mut evidence = Evidence::default();
    let off = |number| Vm { uuid: Uuid::from_u128(number), running: false };
    let vms = [("vm0".to_owned(), off(1)), ("vm1".to_owned(), off(2))];
    evidence.before.insert(HOST.to_owned(), vms.into());
    evidence.after.insert(HOST.to_owned(), [("vm0".to_owned(), off(1))].into());
    evidence.listed.insert((HOST.to_owned(), "vm0".to_owned(), false));
    evidence.jobs = vec![
        job(1, "start", "vm0", &steps(&[Step::Check, Step::Start]), started(false)),
        job(2, "start", "vm0", &steps(&[Step::Check]), started(true)),
        job(3, "destroy", "vm0", &steps(&[Step::Check, Step::Stop]), stopped(false)),
        job(4, "remove", "vm1", &steps(&[Step::Check, Step::Remove]), removed()),
    ];
    let seen = |vm: &str, deed| Seen { vm: vm.to_owned(), deed };
    evidence.witness.insert(
        HOST.to_owned(),
        vec![seen("vm0", Deed::Started), seen("vm1", Deed::Undefined), seen("vm0", Deed::Stopped)],
    );
    for view in evidence.jobs.clone() {
        let mut first = view.clone();
        first.events.truncate(2);
        first.row.state = JobState::Queued;
        for what in [
            What::Submits { id: view.row.id, spec: view.spec.clone() },
            What::Saw { promise: true, view: Box::new(first) },
            What::Listed { row: view.row.clone() },
            What::Saw { promise: false, view: Box::new(view) },
        ] {
            evidence.history.push(Entry { at: 7, client: 0, what });
        }
    }
    evidence.reads.push(Read { at: 1, took_ms: 3, failed: None, fair: true });
    evidence.remains.push(Remains {
        daemon: "client-worker".to_owned(),
        integrity: "ok".to_owned(),
        worrying: Vec::new(),
        disk_trouble: false,
        deaths: Vec::new(),
        peak_kib: 30_000,
    });
    evidence
}

fn removed() -> JobState {
    JobState::Succeeded { outcome: Outcome::Removed { volumes: Vec::new(), kept: Vec::new() } }
}

/// The rules that are broken after this was done to a good history.
fn found(doctor: impl FnOnce(&mut Evidence)) -> Vec<Rule> {
    let mut evidence = good();
    doctor(&mut evidence);
    let mut rules: Vec<Rule> = check(&evidence).iter().map(|violation| violation.rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

/// Puts another course and end into the job at this place, and what was seen of its end is that.
fn retell(evidence: &mut Evidence, place: usize, course: &[JobEventKind], state: JobState) {
    let old = evidence.jobs[place].clone();
    let new = job(old.row.id.uuid().as_u128(), &old.row.verb, old.row.vm.as_str(), course, state);
    evidence.history.retain(|entry| match &entry.what {
        What::Saw { view, .. } => view.row.id != old.row.id,
        What::Listed { row } => row.id != old.row.id,
        What::Submits { .. } | What::Cancels { .. } | What::Refused { .. } | What::Silence { .. } => true,
    });
    evidence.jobs[place] = new;
}

fn witness(evidence: &mut Evidence) -> &mut Vec<Seen> {
    evidence.witness.get_mut(HOST).unwrap()
}

#[test]
fn a_good_history_has_nothing_wrong() {
    assert_eq!(check(&good()), []);
}

#[test]
fn a_job_that_was_promised_and_is_gone_is_found() {
    let rules = found(|evidence| {
        evidence.jobs.remove(1);
    });
    assert_eq!(rules, [Rule::LostJob]);
}

#[test]
fn a_job_that_nobody_asked_for_and_one_that_is_there_twice_are_found() {
    let rules = found(|evidence| {
        evidence.jobs.push(job(9, "start", "vm0", &steps(&[Step::Check, Step::Start]), started(false)))
    });
    assert_eq!(rules, [Rule::StrangeJob, Rule::Deeds]);
    let rules = found(|evidence| {
        let again = evidence.jobs[1].clone();
        evidence.jobs.insert(2, again);
    });
    assert_eq!(rules, [Rule::StrangeJob]);
}

#[test]
fn a_job_that_became_something_else_than_was_asked_is_found() {
    let rules = found(|evidence| evidence.jobs[0].spec = spec("destroy", "vm0"));
    assert_eq!(rules, [Rule::StrangeJob]);
}

#[test]
fn a_repeat_that_got_another_job_is_found() {
    let rules = found(|evidence| evidence.jobs[0].row.submitted = Timestamp::from_millis(99));
    assert_eq!(rules, [Rule::OtherAnswer]);
}

#[test]
fn a_final_state_that_changed_is_found() {
    let rules = found(|evidence| {
        let state = failed(Code::NotFound);
        let job = &mut evidence.jobs[0];
        job.row.state = state.clone();
        job.events.last_mut().unwrap().what = JobEventKind::Ended { state };
    });
    assert!(rules.contains(&Rule::FinalChanged) && rules.contains(&Rule::HistoryRewritten), "{rules:?}");
}

#[test]
fn a_job_that_stays_open_is_found() {
    let rules = found(|evidence| {
        let steps = steps(&[Step::Check, Step::Start]);
        retell(evidence, 0, &steps, JobState::Running);
        evidence.jobs[0].events.pop();
    });
    // Its domain was started, and it does not say so.
    assert_eq!(rules, [Rule::Open, Rule::WrongOutcome, Rule::Deeds]);
    assert_eq!(found(|evidence| evidence.unsettled = Some("a job".to_owned())), [Rule::Open]);
}

#[test]
fn a_job_that_ran_twice_is_found() {
    let rules = found(|evidence| witness(evidence).push(Seen { vm: "vm0".to_owned(), deed: Deed::Stopped }));
    assert_eq!(rules, [Rule::Deeds]);
    let rules = found(|evidence| witness(evidence).insert(0, Seen { vm: "vm0".to_owned(), deed: Deed::Started }));
    assert_eq!(rules, [Rule::Deeds]);
}

#[test]
fn a_job_that_did_not_do_what_it_says_is_found() {
    assert_eq!(found(|evidence| drop(witness(evidence).remove(2))), [Rule::Deeds]);
}

#[test]
fn deeds_in_another_order_than_the_jobs_are_found() {
    assert_eq!(found(|evidence| witness(evidence).swap(0, 2)), [Rule::Deeds]);
}

#[test]
fn a_deed_on_a_domain_without_a_job_is_found() {
    let rules = found(|evidence| witness(evidence).push(Seen { vm: "other".to_owned(), deed: Deed::Defined }));
    assert_eq!(rules, [Rule::Deeds]);
}

#[test]
fn a_failed_job_that_did_its_work_all_the_same_is_found() {
    let rules = found(|evidence| {
        let fault = Fault::new(Code::Internal, "the job's journal cannot be written");
        let course: Vec<_> = done(Step::Check)
            .into_iter()
            .chain([
                host(HostEventKind::StepStarted { step: Step::Remove }),
                host(HostEventKind::StepFailed { step: Step::Remove, fault: fault.clone() }),
            ])
            .collect();
        retell(evidence, 3, &course, JobState::Failed { fault });
    });
    assert_eq!(rules, [Rule::Deeds]);
}

#[test]
fn a_cancelled_job_that_did_its_work_all_the_same_is_found() {
    let rules = found(|evidence| {
        retell(evidence, 3, &[], JobState::Cancelled { fault: Fault::new(Code::Cancelled, "cancelled") });
    });
    assert_eq!(rules, [Rule::Deeds]);
}

#[test]
fn an_already_that_is_not_so_is_found() {
    let rules = found(|evidence| retell(evidence, 0, &steps(&[Step::Check]), started(true)));
    assert_eq!(rules, [Rule::WrongOutcome, Rule::Deeds]);
    let rules = found(|evidence| retell(evidence, 1, &steps(&[Step::Check, Step::Start]), started(false)));
    assert_eq!(rules, [Rule::WrongOutcome]);
}

#[test]
fn a_job_that_was_begun_again_may_find_its_own_work_done_but_not_twice() {
    let resumed = host(HostEventKind::Resumed { decision: "go on".to_owned() });
    let course: Vec<_> = done(Step::Check)
        .into_iter()
        .chain([host(HostEventKind::StepStarted { step: Step::Start }), resumed])
        .chain(done(Step::Check))
        .collect();
    assert_eq!(found(|evidence| retell(evidence, 0, &course, started(true))), []);
    let rules = found(|evidence| {
        retell(evidence, 0, &course, started(true));
        witness(evidence).insert(1, Seen { vm: "vm0".to_owned(), deed: Deed::Started });
    });
    assert_eq!(rules, [Rule::Deeds]);
}

#[test]
fn an_unknown_outcome_is_found_unless_the_host_lost_its_ledger() {
    let course = steps(&[Step::Check]);
    let rules = found(|evidence| retell(evidence, 3, &course, failed(Code::OutcomeUnknown)));
    assert_eq!(rules, [Rule::NeedlessUnknown, Rule::Deeds]);
    let rules = found(|evidence| {
        retell(evidence, 3, &course, failed(Code::OutcomeUnknown));
        evidence.forgetful.insert(HOST.to_owned());
    });
    assert_eq!(rules, []);
}

#[test]
fn a_failure_without_a_reason_is_found() {
    for code in [Code::NotFound, Code::WrongState, Code::Hypervisor, Code::Timeout, Code::Cancelled] {
        let rules = found(|evidence| {
            retell(evidence, 1, &[], failed(code));
        });
        assert_eq!(rules, [Rule::WrongFault], "{code:?}");
    }
}

#[test]
fn events_that_are_missing_doubled_or_out_of_place_are_found() {
    // Each event of the first job in turn is left out, with and without the numbers closing up, said twice, or moved to the end.
    let count = good().jobs[0].events.len();
    for place in 0..count {
        for (what, doctor) in [
            (
                "left out",
                (|events: &mut Vec<JobEvent>, place: usize| drop(events.remove(place))) as fn(&mut Vec<_>, usize),
            ),
            ("twice", |events, place| events.insert(place, events[place].clone())),
            ("later", |events, place| {
                let event = events.remove(place);
                events.insert((place + 1).min(events.len()), event);
            }),
        ] {
            if what == "later" && place + 1 == count {
                continue;
            }
            let rules = found(|evidence| {
                let mut view = evidence.jobs[0].clone();
                doctor(&mut view.events, place);
                let kinds = view.events.iter().map(|event| event.what.clone()).collect();
                view.events = numbered(kinds, Timestamp::from_millis(1));
                retell(evidence, 0, &[], started(false));
                evidence.jobs[0] = view;
            });
            assert!(rules.contains(&Rule::Story), "event {place} {what}: {rules:?}");
        }
        let rules = found(|evidence| {
            let mut view = evidence.jobs[0].clone();
            view.events[place].seq += 1;
            retell(evidence, 0, &[], started(false));
            evidence.jobs[0] = view;
        });
        assert_eq!(rules, [Rule::Story], "number of event {place}");
    }
}

#[test]
fn an_event_that_was_seen_and_is_gone_is_found() {
    let rules = found(|evidence| {
        let What::Saw { view, .. } = &mut evidence.history[3].what else { panic!("the end of job 1") };
        view.events.insert(4, JobEvent { seq: 4, at: Timestamp::from_millis(1), what: JobEventKind::Lost });
    });
    assert_eq!(rules, [Rule::HistoryRewritten]);
}

#[test]
fn a_world_that_is_not_as_the_jobs_say_is_found() {
    let rules = found(|evidence| {
        evidence.after.get_mut(HOST).unwrap().get_mut("vm0").unwrap().running = true;
    });
    assert_eq!(rules, [Rule::World, Rule::Inventory]);
    let rules = found(|evidence| {
        evidence.after.get_mut(HOST).unwrap().get_mut("vm0").unwrap().uuid = Uuid::nil();
    });
    assert_eq!(rules, [Rule::World]);
    let rules = found(|evidence| {
        let vm = Vm { uuid: Uuid::nil(), running: false };
        evidence.after.get_mut(HOST).unwrap().insert("vm9".to_owned(), vm);
        evidence.listed.insert((HOST.to_owned(), "vm9".to_owned(), false));
    });
    assert_eq!(rules, [Rule::World]);
}

#[test]
fn a_list_that_shows_something_else_is_found() {
    assert_eq!(found(|evidence| evidence.listed.clear()), [Rule::Inventory]);
    assert_eq!(found(|evidence| evidence.absent.push(HOST.to_owned())), [Rule::Inventory]);
}

#[test]
fn damaged_stores_worrying_logs_deaths_and_thirst_for_memory_are_found() {
    let of = |doctor: fn(&mut Remains)| found(|evidence| doctor(&mut evidence.remains[0]));
    assert_eq!(of(|remains| remains.integrity = "row 7 missing from index".to_owned()), [Rule::Store]);
    assert_eq!(of(|remains| remains.worrying.push("ERROR cannot store".to_owned())), [Rule::Log]);
    assert_eq!(of(|remains| remains.deaths.push("signal 6".to_owned())), [Rule::Death]);
    assert_eq!(of(|remains| remains.peak_kib = 1 << 20), [Rule::Memory]);
    let excused = |line: &'static str| {
        found(|evidence| {
            evidence.remains[0].disk_trouble = true;
            evidence.remains[0].worrying.push(line.to_owned());
        })
    };
    assert_eq!(excused("ERROR cannot store; nothing of this batch happened"), []);
    assert_eq!(excused("thread 'main' panicked: cannot store"), [Rule::Log]);
}

#[test]
fn a_read_that_was_not_answered_in_time_is_found_unless_nobody_could_answer() {
    let read = |fair, took_ms, failed: Option<&str>| {
        let failed = failed.map(str::to_owned);
        found(|evidence| evidence.reads.push(Read { at: 5, took_ms, failed, fair }))
    };
    assert_eq!(read(true, 60_000, None), [Rule::Slow]);
    assert_eq!(read(true, 10, Some("no answer")), [Rule::Slow]);
    assert_eq!(read(false, 10, Some("connection refused")), []);
}
