//! Fixed values of what messages are made of: each variant of each enum at least once, each optional field once there
//! and once not. A variant without a fixture does not pass, a new variant does not compile (`covers!`).

use std::net::IpAddr;

use maglica_proto::{
    fault::{Code, Fault},
    id::JobId,
    job::{
        CloneSpec, CloneTask, Customization, GuestAnswer, HostEvent, HostEventKind, JobEvent, JobEventKind, JobRow,
        JobSpec, JobState, JobView, Network, Outcome, Step, Task, VmRef, VmTask,
    },
    key::{KeyPair, Secret, Token},
    name::InvalidName,
    request::{Absence, Listing, Presence},
    units::{ByteSize, Timestamp},
};
use uuid::Uuid;

use super::{change, image};

/// Says of each variant that it has a fixture. Without a wildcard, so that a new variant asks for one.
macro_rules! covers {
    ($values:expr, $($name:literal => $pattern:pat),+ $(,)?) => {
        for (name, pattern) in [$(($name, stringify!($pattern))),+] {
            let found = $values.iter().any(|value| name == match value { $($pattern => $name),+ });
            assert!(found, "no golden bytes for {pattern}; add a fixture");
        }
    };
}
pub(crate) use covers;

/// A name from a text that is one.
pub(crate) fn name<T: TryFrom<String, Error = InvalidName>>(text: &str) -> T {
    T::try_from(text.to_owned()).unwrap()
}

pub(crate) fn uuid() -> Uuid {
    Uuid::from_u128(0x6f1d_2c3b_4a59_4788_9697_a5b4_c3d2_e1f0)
}

pub(crate) fn job() -> JobId {
    "0193e0a5-7f3e-7c1a-9d3b-2f6c1a0b4d5e".parse().unwrap()
}

pub(crate) fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_735_689_600_000 + second * 1000)
}

pub(crate) fn gib(count: u64) -> ByteSize {
    ByteSize::bytes(count << 30)
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The scalar of the first iteration in RFC 7748, section 5.2, so that its public half is known from elsewhere.
pub(crate) fn key() -> KeyPair {
    KeyPair::from_line("CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap()
}

pub(crate) fn token() -> Token {
    "mg-AAECAwQFBgcICQoLDA0ODw".parse().unwrap()
}

pub(crate) fn fault() -> Fault {
    Fault {
        code: Code::NotFound,
        message: "there is no image debian12".to_owned(),
        object: Some("debian12".to_owned()),
        similar: vec!["debian12-x86_64.original".to_owned()],
        left: vec!["volume vm0.qcow2 in pool default".to_owned()],
    }
}

pub(crate) fn spec() -> CloneSpec {
    CloneSpec {
        image: name("debian12-x86_64.original"),
        name: name("vm0.example.jp"),
        on: Some(name("host0.example.jp")),
        anti_affinity: None,
        pool: Some(name("default")),
        customize: Some(Customization {
            network: Network::Static {
                address: "192.168.0.10/24".parse().unwrap(),
                gateway: Some(address("192.168.0.1")),
                dns: vec![address("192.168.0.1"), address("2001:db8::53")],
            },
            ssh_keys: vec!["ssh-ed25519 AAAA admin".to_owned()],
            root_password_hash: Some(Secret::new("$6$salt$hash".to_owned())),
        }),
        start: true,
        wait_s: Some(120),
    }
}

pub(crate) fn bare_spec() -> CloneSpec {
    CloneSpec {
        image: name("debian12-x86_64.original"),
        name: name("vm1.example.jp"),
        on: None,
        anti_affinity: None,
        pool: None,
        customize: None,
        start: false,
        wait_s: None,
    }
}

pub(crate) fn vm_ref() -> VmRef {
    VmRef { name: name("vm0.example.jp"), host: Some(name("host0.example.jp")) }
}

pub(crate) fn vm_task() -> VmTask {
    VmTask { name: name("vm0.example.jp"), uuid: uuid() }
}

pub(crate) fn clone_task(spec: CloneSpec) -> CloneTask {
    let macs = vec!["52:54:00:12:34:56".parse().unwrap(), "52:54:00:ab:cd:ef".parse().unwrap()];
    CloneTask { spec, uuid: uuid(), macs, memory: gib(2), disk: None, by: "root".to_owned() }
}

pub(crate) fn job_specs() -> Vec<(&'static str, JobSpec)> {
    let dhcp = CloneSpec { customize: Some(Customization::default()), ..bare_spec() };
    let specs = vec![
        ("clone", JobSpec::Clone(spec())),
        ("clone-bare", JobSpec::Clone(bare_spec())),
        ("clone-dhcp", JobSpec::Clone(dhcp)),
        ("start", JobSpec::Start(vm_ref())),
        ("stop", JobSpec::Stop { vm: VmRef { host: None, ..vm_ref() }, timeout_s: 60 }),
        ("destroy", JobSpec::Destroy(vm_ref())),
        ("remove", JobSpec::Remove(vm_ref())),
    ];
    // Apart, for other messages have these inside, and golden bytes of their own.
    let images = image::specs();
    let changes = change::specs();
    let values: Vec<_> = specs.iter().chain(&images).chain(&changes).map(|(_, spec)| spec).collect();
    covers!(values, "clone" => JobSpec::Clone(_), "start" => JobSpec::Start(_), "stop" => JobSpec::Stop { .. },
        "destroy" => JobSpec::Destroy(_), "remove" => JobSpec::Remove(_), "image" => JobSpec::Image(_),
        "change" => JobSpec::Change { .. }, "snapshot" => JobSpec::Snapshot { .. });
    let networks: Vec<_> = values
        .iter()
        .filter_map(|spec| match spec {
            JobSpec::Clone(spec) => spec.customize.as_ref().map(|customize| &customize.network),
            JobSpec::Start(_)
            | JobSpec::Stop { .. }
            | JobSpec::Destroy(_)
            | JobSpec::Remove(_)
            | JobSpec::Change { .. }
            | JobSpec::Snapshot { .. }
            | JobSpec::Image(_) => None,
        })
        .collect();
    covers!(networks, "dhcp" => Network::Dhcp, "static" => Network::Static { .. });
    specs
}

pub(crate) fn tasks() -> Vec<(&'static str, Task)> {
    let tasks = vec![
        ("clone", Task::Clone(clone_task(spec()))),
        ("clone-bare", Task::Clone(clone_task(bare_spec()))),
        ("start", Task::Start(vm_task())),
        ("stop", Task::Stop { vm: vm_task(), timeout_s: 60 }),
        ("destroy", Task::Destroy(vm_task())),
        ("remove", Task::Remove(vm_task())),
    ];
    let images = image::tasks();
    let changes = change::tasks();
    let values: Vec<_> = tasks.iter().chain(&images).chain(&changes).map(|(_, task)| task).collect();
    covers!(values, "clone" => Task::Clone(_), "start" => Task::Start(_), "stop" => Task::Stop { .. },
        "destroy" => Task::Destroy(_), "remove" => Task::Remove(_), "change" => Task::Change { .. },
        "snapshot" => Task::Snapshot { .. }, "image" => Task::Image(_));
    tasks
}

pub(crate) fn steps() -> Vec<(&'static str, Step)> {
    let all = [
        Step::Check,
        Step::Volumes,
        Step::Customize,
        Step::Define,
        Step::Start,
        Step::Guest,
        Step::Stop,
        Step::Remove,
        Step::Mark,
        Step::Power,
        Step::Change,
        Step::Snapshot,
        Step::Transfer,
        Step::Other,
    ];
    covers!(all, "check" => Step::Check, "volumes" => Step::Volumes, "customize" => Step::Customize, "define" => Step::Define,
        "start" => Step::Start, "guest" => Step::Guest, "stop" => Step::Stop, "remove" => Step::Remove, "mark" => Step::Mark,
        "power" => Step::Power, "transfer" => Step::Transfer,
        "change" => Step::Change, "snapshot" => Step::Snapshot, "other" => Step::Other);
    all.into_iter().map(|step| (step.as_str(), step)).collect()
}

pub(crate) fn host_event_kinds() -> Vec<(&'static str, HostEventKind)> {
    let step = Step::Volumes;
    let kinds = vec![
        ("step-started", HostEventKind::StepStarted { step }),
        ("step-progress", HostEventKind::StepProgress { step, done: gib(1), total: Some(gib(4)) }),
        ("step-progress-of-unknown", HostEventKind::StepProgress { step, done: gib(1), total: None }),
        ("step-done", HostEventKind::StepDone { step, took_ms: 1400, note: "hostname, machine-id".to_owned() }),
        ("step-failed", HostEventKind::StepFailed { step, fault: fault() }),
        ("undone", HostEventKind::Undone { what: "volume vm0.qcow2 in pool default".to_owned(), error: None }),
        (
            "undone-not",
            HostEventKind::Undone { what: "domain vm0".to_owned(), error: Some("libvirt is away".to_owned()) },
        ),
        ("resumed", HostEventKind::Resumed { decision: "take everything back".to_owned() }),
        ("other", HostEventKind::Other),
    ];
    let values: Vec<_> = kinds.iter().map(|(_, kind)| kind).collect();
    covers!(values, "step-started" => HostEventKind::StepStarted { .. }, "step-progress" => HostEventKind::StepProgress { .. },
        "step-done" => HostEventKind::StepDone { .. }, "step-failed" => HostEventKind::StepFailed { .. },
        "undone" => HostEventKind::Undone { .. }, "resumed" => HostEventKind::Resumed { .. }, "other" => HostEventKind::Other);
    kinds
}

pub(crate) fn host_events() -> Vec<HostEvent> {
    let kinds = host_event_kinds().into_iter().map(|(_, what)| what);
    (0..).zip(kinds).map(|(seq, what)| HostEvent { seq, at: at(seq.into()), what }).collect()
}

pub(crate) fn outcomes() -> Vec<(&'static str, Outcome)> {
    let up = GuestAnswer::Up { hostname: "vm0.example.jp".to_owned(), addresses: vec![address("192.168.0.10")] };
    let guests = [up, GuestAnswer::Silent { waited_s: 120 }];
    covers!(guests, "up" => GuestAnswer::Up { .. }, "silent" => GuestAnswer::Silent { .. });
    let [up, silent] = guests;
    let cloned = |started, guest| Outcome::Cloned { uuid: uuid(), started, guest };
    let outcomes = vec![
        ("cloned", cloned(true, Some(up))),
        ("cloned-silent", cloned(true, Some(silent))),
        ("cloned-off", cloned(false, None)),
        ("started", Outcome::Started { already: false }),
        ("stopped", Outcome::Stopped { already: true }),
        (
            "removed",
            Outcome::Removed {
                volumes: vec!["default/vm0.qcow2".to_owned()],
                kept: vec!["/mnt/data.raw: in no pool".to_owned()],
            },
        ),
    ];
    let images = image::outcomes();
    let changes = change::outcomes();
    let values: Vec<_> = outcomes.iter().chain(&images).chain(&changes).map(|(_, outcome)| outcome).collect();
    covers!(values, "cloned" => Outcome::Cloned { .. }, "started" => Outcome::Started { .. },
        "stopped" => Outcome::Stopped { .. }, "removed" => Outcome::Removed { .. }, "image" => Outcome::Image(_),
        "changed" => Outcome::Changed { .. });
    outcomes
}

pub(crate) fn job_states() -> Vec<(&'static str, JobState)> {
    let states = vec![
        JobState::Queued,
        JobState::Offered,
        JobState::Running,
        JobState::Cancelling,
        JobState::Succeeded { outcome: Outcome::Started { already: false } },
        JobState::Failed { fault: fault() },
        JobState::Cancelled { fault: Fault::new(Code::Cancelled, "cancelled by root") },
        JobState::Lost,
    ];
    covers!(states, "queued" => JobState::Queued, "offered" => JobState::Offered, "running" => JobState::Running,
        "cancelling" => JobState::Cancelling, "succeeded" => JobState::Succeeded { .. }, "failed" => JobState::Failed { .. },
        "cancelled" => JobState::Cancelled { .. }, "lost" => JobState::Lost);
    states.into_iter().map(|state| (state.as_str(), state)).collect()
}

pub(crate) fn job_event_kinds() -> Vec<(&'static str, JobEventKind)> {
    let by = || "root".to_owned();
    let mut kinds = vec![
        ("submitted", JobEventKind::Submitted { by: by() }),
        (
            "placed",
            JobEventKind::Placed { host: name("host0.example.jp"), why: vec!["host0: has the image".to_owned()] },
        ),
        ("offered", JobEventKind::Offered { attempt: 1 }),
        ("granted", JobEventKind::Granted),
        ("host", JobEventKind::Host { what: HostEventKind::StepStarted { step: Step::Check } }),
        ("cancel-asked", JobEventKind::CancelAsked { by: by() }),
        ("lost", JobEventKind::Lost),
        ("found", JobEventKind::Found),
        ("other", JobEventKind::Other),
    ];
    kinds.extend(job_states().into_iter().filter(|(_, state)| state.is_final()).map(|(_, state)| match state {
        JobState::Succeeded { .. } => ("ended-succeeded", JobEventKind::Ended { state }),
        JobState::Failed { .. } => ("ended-failed", JobEventKind::Ended { state }),
        JobState::Cancelled { .. } => ("ended-cancelled", JobEventKind::Ended { state }),
        JobState::Queued | JobState::Offered | JobState::Running | JobState::Cancelling | JobState::Lost => {
            unreachable!("not final")
        }
    }));
    let values: Vec<_> = kinds.iter().map(|(_, kind)| kind).collect();
    covers!(values, "submitted" => JobEventKind::Submitted { .. }, "placed" => JobEventKind::Placed { .. },
        "offered" => JobEventKind::Offered { .. }, "granted" => JobEventKind::Granted, "host" => JobEventKind::Host { .. },
        "cancel-asked" => JobEventKind::CancelAsked { .. }, "lost" => JobEventKind::Lost, "found" => JobEventKind::Found,
        "ended" => JobEventKind::Ended { .. }, "other" => JobEventKind::Other);
    kinds
}

pub(crate) fn job_row(state: JobState) -> JobRow {
    JobRow {
        id: job(),
        verb: "clone".to_owned(),
        vm: name("vm0.example.jp"),
        host: name("host0.example.jp"),
        state,
        by: "root".to_owned(),
        submitted: at(0),
        updated: at(20),
    }
}

pub(crate) fn job_view(state: JobState, progress: Option<HostEventKind>) -> JobView {
    let kinds = job_event_kinds().into_iter().map(|(_, what)| what);
    let events = (0..).zip(kinds).map(|(seq, what)| JobEvent { seq, at: at(seq.into()), what }).collect();
    JobView { row: job_row(state), spec: JobSpec::Clone(bare_spec()), events, progress }
}

pub(crate) fn presences() -> Vec<(&'static str, Presence)> {
    let all = [Presence::Up, Presence::Suspect, Presence::Down, Presence::Pending];
    covers!(all, "up" => Presence::Up, "suspect" => Presence::Suspect, "down" => Presence::Down, "pending" => Presence::Pending);
    all.into_iter().map(|presence| (presence.as_str(), presence)).collect()
}

pub(crate) fn listing<T>(rows: Vec<T>) -> Listing<T> {
    let absence = |heard| Absence { host: name("host9.example.jp"), presence: Presence::Down, heard };
    Listing { rows, absent: vec![absence(Some(at(3))), absence(None)] }
}
