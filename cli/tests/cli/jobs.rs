//! Submitting a job and staying with it.

use std::{
    io::Read,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use maglica_proto::{
    fault::{Code, Fault},
    id::JobId,
    inventory::{Domain, DomainState},
    job::{HostEventKind, JobEvent, JobEventKind, JobRow, JobSpec, JobState, JobView, Outcome, Step},
    name::DomainName,
    request::{Answer, Presence, Request, VmView},
    units::{ByteSize, Timestamp},
};

use crate::{
    place::{Place, free_port},
    terminal,
    worker::{Door, Reply, serve},
};

/// A client worker with one job, whose events come one a poll.
struct Script {
    job: Option<(JobId, JobSpec)>,
    events: Vec<JobEventKind>,
    end: JobState,
    submitted: usize,
    hang: Vec<usize>,
    /// How long each poll takes.
    pause: Duration,
}

impl Script {
    fn new(events: Vec<JobEventKind>, end: JobState) -> Self {
        Self { job: None, events, end, submitted: 0, hang: Vec::new(), pause: Duration::ZERO }
    }

    fn row(&self, state: JobState) -> JobRow {
        let (id, spec) = self.job.clone().expect("submitted before");
        let (verb, vm) = (spec.verb().to_owned(), spec.vm());
        let host = "host0.example.jp".parse().unwrap();
        JobRow {
            id,
            verb,
            vm,
            host,
            state,
            by: "root".into(),
            submitted: Timestamp::default(),
            updated: Timestamp::default(),
        }
    }

    fn event(&self, at: usize) -> Option<JobEvent> {
        let what = self.events.get(at)?.clone();
        Some(JobEvent { seq: u32::try_from(at).unwrap(), at: Timestamp::default(), what })
    }

    fn view(&self, state: JobState, events: Vec<JobEvent>) -> Answer {
        let spec = self.job.clone().unwrap().1;
        Answer::Job(Box::new(JobView { row: self.row(state), spec, events, progress: None }))
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Submit { id, spec } => {
                self.submitted += 1;
                let (first, _) = self.job.get_or_insert((id, spec));
                assert_eq!(*first, id, "a repeated submission is the same job");
                if self.hang.contains(&self.submitted) {
                    return Reply::Hang;
                }
                self.view(JobState::Queued, Vec::new()).into()
            }
            Request::JobWatch { after, .. } => {
                std::thread::sleep(self.pause);
                let event = self.event(usize::try_from(after).unwrap());
                let state = if event.is_some() { JobState::Running } else { self.end.clone() };
                if event.is_none() && !state.is_final() {
                    // A long poll in which nothing happens.
                    std::thread::sleep(Duration::from_millis(100));
                }
                Answer::Watch { row: Box::new(self.row(state)), events: event.into_iter().collect(), progress: None }
                    .into()
            }
            Request::JobShow { .. } => {
                let events = (0..self.events.len()).filter_map(|at| self.event(at)).collect();
                self.view(self.end.clone(), events).into()
            }
            Request::VmShow { name, host: None } => Answer::Vm(Box::new(machine(&name))).into(),
            Request::VmShow { .. }
            | Request::ImageList
            | Request::ImageShow { .. }
            | Request::VmList { .. }
            | Request::HostList
            | Request::HostPing { .. }
            | Request::Status
            | Request::SubmitMany { .. }
            | Request::JobList { .. }
            | Request::JobCancel { .. }
            | Request::Place { .. }
            | Request::Watch { .. }
            | Request::ConsoleOpen { .. }
            | Request::ConsoleView { .. }
            | Request::ConsoleRead { .. }
            | Request::ConsoleWrite { .. }
            | Request::ConsoleClose { .. }
            | Request::VmLog { .. }
            | Request::HostInvite { .. }
            | Request::HostAccept { .. }
            | Request::HostRevoke { .. }
            | Request::HostRekey { .. }
            | Request::KeyShow
            | Request::KeyRotate { .. }
            | Request::KeyRetire { .. }
            | Request::OperatorAdd { .. }
            | Request::OperatorRevoke { .. }
            | Request::OperatorList
            | Request::Audit { .. } => panic!("{request:?} is not expected"),
        }
    }
}

fn machine(name: &DomainName) -> VmView {
    let domain = Domain {
        name: name.clone(),
        uuid: JobId::generate().uuid(),
        state: DomainState::Off,
        vcpus: 1,
        memory: ByteSize::mib(512),
        autostart: false,
        marked_image: false,
        disks: Vec::new(),
        nics: Vec::new(),
        made: None,
        addresses: Vec::new(),
        console: None,
        screens: Vec::new(),
        snapshots: Vec::new(),
        schedule: None,
    };
    VmView { host: "host0.example.jp".parse().unwrap(), presence: Presence::Up, age_ms: 0, domain }
}

fn with(script: Script) -> (Place, Arc<Mutex<Script>>) {
    let place = Place::new(free_port());
    let script = Arc::new(Mutex::new(script));
    let shared = Arc::clone(&script);
    place.configure(serve(place.server.clone(), Door::Operator(place.operator.public()), move |request| {
        shared.lock().unwrap().answer(request)
    }));
    (place, script)
}

fn host(what: HostEventKind) -> JobEventKind {
    JobEventKind::Host { what }
}

fn step(step: Step, took_ms: u64, note: &str) -> JobEventKind {
    host(HostEventKind::StepDone { step, took_ms, note: note.into() })
}

fn cloned() -> Script {
    let events = vec![
        JobEventKind::Submitted { by: "root".into() },
        JobEventKind::Granted,
        step(Step::Check, 300, ""),
        step(Step::Volumes, 1_432, ""),
        step(Step::Customize, 17_912, "hostname, hosts, network (dhcp), machine-id, ssh host keys"),
        step(Step::Define, 20, ""),
        step(Step::Start, 50, ""),
    ];
    let outcome = Outcome::Cloned { uuid: JobId::generate().uuid(), started: true, guest: None };
    Script::new(events, JobState::Succeeded { outcome })
}

const CLONE: [&str; 4] = ["vm", "clone", "--image=debian12-x86_64.original", "--hostname=vm0.example.jp"];

#[test]
fn a_clone_shows_its_steps_and_ends_with_where_the_machine_runs() {
    let (place, script) = with(cloned());
    let ran = place.run(&CLONE).exits(0);
    let id = script.lock().unwrap().job.as_ref().unwrap().0;
    assert_eq!(
        ran.stderr,
        format!(
            "job {id}  clone debian12-x86_64.original → vm0.example.jp on host0.example.jp\n\
             \x20 ✔ volume copied        1.4 s\n\
             \x20 ✔ guest customized    17.9 s   hostname, hosts, network (dhcp), machine-id, ssh host keys\n\
             \x20 ✔ domain defined\n\
             \x20 ✔ started\n"
        )
    );
    assert_eq!(ran.stdout, "vm0.example.jp is running on host0.example.jp\n");
}

#[test]
fn with_json_the_finished_job_is_on_stdout_and_the_steps_are_not() {
    let (place, _) = with(cloned());
    let ran = place.run(&[&CLONE[..], &["-o", "json"]].concat()).exits(0).says("✔ started");
    let view: JobView = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(view.row.vm.as_str(), "vm0.example.jp");
    assert!(view.row.state.is_final());
}

#[test]
fn with_name_the_new_machine_is_all_of_stdout() {
    let (place, _) = with(cloned());
    assert_eq!(place.run(&[&CLONE[..], &["-o", "name"]].concat()).exits(0).stdout, "vm0.example.jp\n");
}

#[test]
fn what_is_sent_is_what_was_asked_and_no_password_in_clear() {
    let (place, script) = with(cloned());
    let password = place.file("password", "hunter2\n");
    place
        .run(&[&CLONE[..], &["--root-password-file", &password, "--wait=60", "--ip=10.0.0.2/24", "--detach"]].concat())
        .exits(0);
    let JobSpec::Clone(spec) = script.lock().unwrap().job.clone().unwrap().1 else { panic!("not a clone") };
    let sent = spec.customize.unwrap().root_password_hash.unwrap();
    assert!(sent.expose().starts_with("$6$") && !sent.expose().contains("hunter2"));
    assert_eq!((spec.wait_s, spec.start), (Some(60), true));
}

#[test]
fn a_submission_whose_answer_is_lost_is_repeated_as_the_same_job() {
    let mut script = cloned();
    script.hang = vec![1, 2];
    let (place, script) = with(script);
    place.run(&CLONE).exits(0);
    assert_eq!(script.lock().unwrap().submitted, 3);
}

#[test]
fn a_failed_clone_says_why_what_was_taken_back_and_what_is_left() {
    let mut fault = Fault::new(Code::NoRoom, "pool default has 1.0 GiB free, the clone needs 2.0 GiB").about("default");
    fault.left = vec!["volume x.tmp in pool default".into()];
    let events = vec![
        host(HostEventKind::StepFailed { step: Step::Volumes, fault: fault.clone() }),
        host(HostEventKind::Undone { what: "volume y.tmp in pool default".into(), error: None }),
    ];
    let (place, script) = with(Script::new(events, JobState::Failed { fault }));
    let ran = place
        .run(&CLONE)
        .exits(7)
        .says("  ✘ volumes failed\n  ↶ taken back: volume y.tmp in pool default\n")
        .says("failed: pool default has 1.0 GiB free, the clone needs 2.0 GiB\n  left behind: volume x.tmp in pool default\nhint: ");
    let id = script.lock().unwrap().job.as_ref().unwrap().0;
    assert!(ran.stdout.is_empty() && ran.stderr.contains(&format!("maglica job show {id}")), "{ran:?}");
}

#[test]
fn a_cancelled_job_has_its_own_exit_code() {
    let fault = Fault::new(Code::Cancelled, "root stopped it");
    let (place, _) = with(Script::new(Vec::new(), JobState::Cancelled { fault }));
    place.run(&["vm", "start", "vm0"]).exits(12).says("cancelled: root stopped it");
}

#[test]
fn the_time_limit_ends_the_staying_and_not_the_job() {
    let (place, script) = with(Script::new(Vec::new(), JobState::Running));
    let ran = place.run(&["vm", "start", "vm0", "--timeout=1"]).exits(11);
    let id = script.lock().unwrap().job.as_ref().unwrap().0;
    assert!(
        ran.stderr.contains(&format!("job {id} has not ended within 1 s"))
            && ran.stderr.contains(&format!("maglica job cancel {id}")),
        "{ran:?}"
    );
}

#[test]
fn ctrl_c_leaves_the_job_running_and_says_how_to_find_it() {
    let (place, script) = with(Script::new(Vec::new(), JobState::Running));
    let mut child = place.command(&["vm", "start", "vm0"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // The headline is said once the job is followed, and from then on Ctrl-C is ours.
    let mut stderr = child.stderr.take().unwrap();
    let mut said = [0; 4];
    stderr.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"job ");
    let pid = rustix::process::Pid::from_child(&child);
    let code = loop {
        // Repeated, for the handler is set a moment after the headline is written.
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        if script.lock().unwrap().job.is_some() {
            std::thread::sleep(Duration::from_millis(200));
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
    };
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(code.code(), Some(130), "{rest}");
    let id = script.lock().unwrap().job.as_ref().unwrap().0;
    assert!(
        rest.contains(&format!("job {id} goes on")) && rest.contains(&format!("maglica job cancel {id}")),
        "{rest}"
    );
}

#[test]
fn a_story_tells_every_event_in_order() {
    let (place, script) = with(cloned());
    place.run(&[&CLONE[..], &["--detach", "-oname"]].concat()).exits(0);
    let id = script.lock().unwrap().job.as_ref().unwrap().0.to_string();
    let story = place.run(&["log", "status", "--id", &id]).exits(0).stdout;
    let at = |text: &str| story.find(text).unwrap_or_else(|| panic!("{text:?} is not in {story}"));
    assert!(at("State      succeeded: vm0.example.jp is running") < at("submitted by root"));
    assert!(
        at("submitted by root") < at("taken by its host") && at("taken by its host") < at("guest customized    17.9 s")
    );
}

#[test]
fn removing_without_a_terminal_and_without_a_yes_is_refused_and_with_a_yes_is_done() {
    let outcome = Outcome::Removed { volumes: vec!["default/vm0.qcow2".into()], kept: Vec::new() };
    let (place, script) = with(Script::new(Vec::new(), JobState::Succeeded { outcome }));
    place.run(&["vm", "remove", "vm0"]).exits(2).says("give --yes");
    assert_eq!(script.lock().unwrap().submitted, 0);
    let ran = place.run(&["vm", "remove", "vm0", "--yes"]).exits(0);
    assert_eq!(ran.stdout, "vm0 is removed from host0.example.jp, with its volume default/vm0.qcow2\n");
}

#[test]
fn on_a_terminal_removing_asks_and_only_yes_is_yes() {
    for (answer, code, submitted) in [("y\n", 0, 1), ("\n", 12, 0), ("no\n", 12, 0)] {
        let outcome = Outcome::Removed { volumes: Vec::new(), kept: Vec::new() };
        let (place, script) = with(Script::new(Vec::new(), JobState::Succeeded { outcome }));
        let (status, said) = terminal::run(place.command(&["vm", "remove", "vm0"]), answer);
        assert!(said.contains("Remove vm0 from host0.example.jp, it has no disks? [y/N]"), "{said:?}");
        assert_eq!((status.code(), script.lock().unwrap().submitted), (Some(code), submitted), "{answer:?}: {said:?}");
    }
}

#[test]
fn on_a_terminal_the_running_step_is_drawn_and_taken_away_again() {
    let mut script = cloned();
    script.events.insert(3, host(HostEventKind::StepStarted { step: Step::Volumes }));
    script.pause = Duration::from_millis(250);
    let (place, _) = with(script);
    let mut command = place.command(&CLONE);
    command.env("TERM", "xterm");
    let (status, said) = terminal::run(command, "");
    assert_eq!(status.code(), Some(0), "{said:?}");
    assert!(said.contains("copying volume") && said.contains("\r\x1b[2K"), "{said:?}");
    assert!(said.contains("\x1b[32m✔\x1b[0m volume copied        1.4 s"), "{said:?}");
    let screen = terminal::screen(&said);
    assert!(!screen.contains("copying volume") && screen.contains(" started"), "{screen}");
}
