//! Fixed messages of each type that travels, as cases.

use std::{collections::BTreeMap, fmt::Debug};

use maglica_proto::{
    audit::{AuditHead, AuditPage, AuditPlace, LineHash},
    change::Change,
    fault::{Code, Fault},
    host::{BeatAnswer, Broadcast, Denial, Heartbeat, Held, HostAnswer, HostRequest, Offer, Report},
    inventory::{Disk, DiskDevice, Domain, DomainState, Inventory},
    job::JobState,
    join::{JoinAnswer, JoinRequest, Joined},
    request::{
        Answer, HostRow, ImageRow, ImageState, Invite, KeysView, OperatorRow, Ping, Presence, Request, Role, ServerKey,
        Submission, VmCursor, VmRow, VmView,
    },
    seal::{Hello, Welcome},
    status::{AuditStatus, HostCounts, JobCount, PortStatus, Refused, Status, StoreStatus},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Case, change, console, fixtures::*, image, inventory::*, placement};

/// The values of one type, each with its name, as cases.
fn cases<T>(file: &'static str, values: Vec<(&'static str, T)>) -> Vec<Case>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    values.into_iter().map(|(name, value)| Case::of(file, name, &value)).collect()
}

/// Everything that has golden bytes and is MessagePack.
pub(crate) fn all() -> Vec<Case> {
    [
        cases("hello", hellos()),
        cases("welcome", welcomes()),
        cases("join-request", vec![("join", JoinRequest { program: "0.1.0".to_owned() })]),
        cases("join-answer", join_answers()),
        cases("request", requests()),
        cases("answer", answers()),
        cases("host-request", host_requests()),
        cases("host-answer", host_answers()),
        cases("broadcast", broadcasts()),
        cases("job-spec", job_specs()),
        cases("job-spec", placement::specs()),
        cases("job-spec", image::specs()),
        cases("job-spec", change::specs()),
        cases("task", tasks()),
        cases("task", placement::tasks()),
        cases("task", image::tasks()),
        cases("task", change::tasks()),
        cases("step", steps()),
        cases("host-event-kind", host_event_kinds()),
        cases("outcome", outcomes()),
        cases("outcome", image::outcomes()),
        cases("outcome", change::outcomes()),
        cases("job-state", job_states()),
        cases("job-event-kind", job_event_kinds()),
        cases("code", codes()),
        cases("accel", accels()),
        cases("disk-device", disk_devices()),
        cases("domain-state", domain_states()),
        cases("presence", presences()),
        cases("role", roles()),
        cases("image-state", image_states()),
        cases("denial", denials()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn hellos() -> Vec<(&'static str, Hello)> {
    let hello =
        Hello { protocol_min: 1, protocol_max: 1, program: "0.1.0".to_owned(), name: "host0".to_owned(), token: None };
    vec![("enrolled", hello.clone()), ("joining", Hello { token: Some(token().id()), ..hello })]
}

fn welcomes() -> Vec<(&'static str, Welcome)> {
    let welcome = |topic, server_key| Welcome {
        protocol: 1,
        program: "0.1.0".to_owned(),
        name: "host0.example.jp".to_owned(),
        topic,
        server_key,
    };
    vec![
        ("host", welcome(Some("s/000102030405060708090a0b0c0d0e0f/".to_owned()), None)),
        ("operator", welcome(None, None)),
        ("next-key", welcome(None, Some(key().public()))),
    ]
}

fn join_answers() -> Vec<(&'static str, JoinAnswer)> {
    let joined = |name: &str, role| JoinAnswer::Joined(Joined { name: name.to_owned(), role, pub_port: 5555 });
    let answers = vec![
        ("joined-host", joined("host0.example.jp", None)),
        ("joined-operator", joined("alice", Some(Role::Admin))),
        ("fault", JoinAnswer::Fault { fault: Fault::new(Code::Trust, "the token is unknown, used or expired") }),
    ];
    let values: Vec<_> = answers.iter().map(|(_, answer)| answer).collect();
    covers!(values, "joined" => JoinAnswer::Joined(_), "fault" => JoinAnswer::Fault { .. });
    answers
}

fn codes() -> Vec<(&'static str, Code)> {
    let codes = vec![
        ("invalid-input", Code::InvalidInput),
        ("not-found", Code::NotFound),
        ("conflict", Code::Conflict),
        ("wrong-state", Code::WrongState),
        ("no-room", Code::NoRoom),
        ("no-host", Code::NoHost),
        ("host-down", Code::HostDown),
        ("tool-missing", Code::ToolMissing),
        ("tool-failed", Code::ToolFailed),
        ("hypervisor", Code::Hypervisor),
        ("unsupported", Code::Unsupported),
        ("cancelled", Code::Cancelled),
        ("timeout", Code::Timeout),
        ("outcome-unknown", Code::OutcomeUnknown),
        ("forbidden", Code::Forbidden),
        ("trust", Code::Trust),
        ("version", Code::Version),
        ("unavailable", Code::Unavailable),
        ("internal", Code::Internal),
        ("unknown", Code::Unknown),
    ];
    let values: Vec<_> = codes.iter().map(|(_, code)| code).collect();
    covers!(values, "1" => Code::InvalidInput, "2" => Code::NotFound, "3" => Code::Conflict, "4" => Code::WrongState,
        "5" => Code::NoRoom, "6" => Code::NoHost, "7" => Code::HostDown, "8" => Code::ToolMissing, "9" => Code::ToolFailed,
        "10" => Code::Hypervisor, "11" => Code::Unsupported, "12" => Code::Cancelled, "13" => Code::Timeout,
        "14" => Code::OutcomeUnknown, "15" => Code::Forbidden, "16" => Code::Trust, "17" => Code::Version,
        "18" => Code::Unavailable, "19" => Code::Internal, "20" => Code::Unknown);
    codes
}

fn roles() -> Vec<(&'static str, Role)> {
    let all = [Role::Viewer, Role::Operator, Role::Admin];
    covers!(all, "viewer" => Role::Viewer, "operator" => Role::Operator, "admin" => Role::Admin);
    all.into_iter().map(|role| (role.as_str(), role)).collect()
}

fn image_states() -> Vec<(&'static str, ImageState)> {
    let all = [ImageState::Ready, ImageState::Running, ImageState::Broken];
    covers!(all, "ready" => ImageState::Ready, "running" => ImageState::Running, "broken" => ImageState::Broken);
    all.into_iter().map(|state| (state.as_str(), state)).collect()
}

fn denials() -> Vec<(&'static str, Denial)> {
    let denials = vec![
        ("cancelled", Denial::Cancelled),
        ("not-yours", Denial::NotYours),
        ("ended", Denial::Ended),
        ("no-such-job", Denial::NoSuchJob),
        ("other", Denial::Other),
    ];
    let values: Vec<_> = denials.iter().map(|(_, denial)| denial).collect();
    covers!(values, "cancelled" => Denial::Cancelled, "not-yours" => Denial::NotYours, "ended" => Denial::Ended,
        "no-such-job" => Denial::NoSuchJob, "other" => Denial::Other);
    denials
}

fn cursor() -> VmCursor {
    VmCursor { name: name("vm0.example.jp"), host: name("host0.example.jp") }
}

fn requests() -> Vec<(&'static str, Request)> {
    let invite = || Invite { token: token().id(), psk: token().psk(), valid_s: 3600 };
    let fingerprint = key().public().fingerprint();
    let requests = vec![
        ("image-list", Request::ImageList),
        ("image-show", Request::ImageShow { name: name("debian12-x86_64.original"), host: None }),
        ("vm-list", Request::VmList { after: None }),
        ("vm-list-next", Request::VmList { after: Some(cursor()) }),
        ("vm-show", Request::VmShow { name: name("vm0.example.jp"), host: None }),
        ("vm-show-on", Request::VmShow { name: name("vm0.example.jp"), host: Some(name("host0.example.jp")) }),
        ("host-list", Request::HostList),
        ("host-ping", Request::HostPing { hosts: vec![name("host0.example.jp")], wait_ms: 2000 }),
        ("host-ping-all", Request::HostPing { hosts: Vec::new(), wait_ms: 2000 }),
        ("status", Request::Status),
        ("job-list", Request::JobList { limit: 50 }),
        ("job-show", Request::JobShow { id: job() }),
        ("job-watch", Request::JobWatch { id: job(), after: 3, wait_ms: 25_000 }),
        ("submit-clone", Request::Submit { id: job(), spec: job_specs()[0].1.clone() }),
        ("submit-stop", Request::Submit { id: job(), spec: job_specs()[4].1.clone() }),
        (
            "submit-many",
            Request::SubmitMany {
                jobs: job_specs().into_iter().map(|(_, spec)| Submission { id: job(), spec }).collect(),
            },
        ),
        ("job-cancel", Request::JobCancel { id: job() }),
        ("host-invite", Request::HostInvite { name: name("host0.example.jp"), invite: invite() }),
        ("host-accept", Request::HostAccept { name: name("host0.example.jp"), fingerprint }),
        ("host-revoke", Request::HostRevoke { name: name("host0.example.jp") }),
        (
            "host-rekey",
            Request::HostRekey { name: name("host0.example.jp"), fingerprint: key().public().fingerprint() },
        ),
        ("operator-add", Request::OperatorAdd { name: name("alice"), role: Role::Operator, invite: invite() }),
        ("operator-revoke", Request::OperatorRevoke { name: name("alice") }),
        ("operator-list", Request::OperatorList),
        ("audit", Request::Audit { from: Some(AuditPlace { file: 7, offset: 1024 }), back: true, limit: 1000 }),
        ("audit-first", Request::Audit { from: None, back: false, limit: 1000 }),
        ("key-show", Request::KeyShow),
        ("key-rotate", Request::KeyRotate { fingerprint: key().public().fingerprint() }),
        ("key-retire", Request::KeyRetire { fingerprint: key().public().fingerprint(), force: true }),
    ];
    let requests: Vec<_> = requests.into_iter().chain(placement::requests()).chain(console::requests()).collect();
    let values: Vec<_> = requests.iter().map(|(_, request)| request).collect();
    covers!(values, "image-list" => Request::ImageList, "image-show" => Request::ImageShow { .. }, "vm-list" => Request::VmList { .. }, "vm-show" => Request::VmShow { .. },
        "host-list" => Request::HostList, "host-ping" => Request::HostPing { .. }, "status" => Request::Status,
        "submit-many" => Request::SubmitMany { .. }, "job-list" => Request::JobList { .. }, "job-show" => Request::JobShow { .. },
        "job-watch" => Request::JobWatch { .. }, "place" => Request::Place { .. }, "watch" => Request::Watch { .. },
        "console-open" => Request::ConsoleOpen { .. }, "console-view" => Request::ConsoleView { .. },
        "console-read" => Request::ConsoleRead { .. }, "console-write" => Request::ConsoleWrite { .. },
        "console-close" => Request::ConsoleClose { .. }, "vm-log" => Request::VmLog { .. }, "submit" => Request::Submit { .. }, "job-cancel" => Request::JobCancel { .. },
        "host-invite" => Request::HostInvite { .. }, "host-accept" => Request::HostAccept { .. },
        "host-revoke" => Request::HostRevoke { .. }, "host-rekey" => Request::HostRekey { .. }, "operator-add" => Request::OperatorAdd { .. },
        "operator-revoke" => Request::OperatorRevoke { .. }, "operator-list" => Request::OperatorList,
        "audit" => Request::Audit { .. },
        "key-show" => Request::KeyShow, "key-rotate" => Request::KeyRotate { .. }, "key-retire" => Request::KeyRetire { .. });
    requests
}

/// Each verb with the role that it takes.
pub(crate) fn verbs() -> BTreeMap<String, String> {
    requests().iter().map(|(_, request)| (request.verb().to_owned(), request.role().as_str().to_owned())).collect()
}

fn ping(presence: Presence, took_us: Option<u64>) -> Ping {
    Ping { host: name("host0.example.jp"), presence, took_us, heard: took_us.map(|_| at(5)) }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        fingerprint: key().public().fingerprint(),
        started: at(0),
        uptime_ms: 86_400_000,
        memory: gib(1),
        hosts: HostCounts { up: 3, suspect: 1, down: 1, pending: 1 },
        jobs: vec![JobCount { state: "running".to_owned(), count: 2 }],
        store: StoreStatus { size: gib(1), commits: 210, failed: 1, commit_p50_us: 240, commit_p99_us: 900 },
        ports: vec![PortStatus { port: "ask".to_owned(), open: 4, accepted: 90 }],
        refusals: vec![Refused { at: "session".to_owned(), kind: "unknown-key".to_owned(), count: 7 }],
        audit: None,
    }
}

fn keys_view(changing: bool) -> KeysView {
    let server_key = || ServerKey { key: key().public(), fingerprint: key().public().fingerprint(), since: at(0) };
    KeysView {
        present: server_key(),
        next: changing.then(server_key),
        hosts: changing.then(|| name("host0.example.jp")).into_iter().collect(),
        operators: changing.then(|| name("alice")).into_iter().collect(),
        rekeying: changing.then(|| name("host0.example.jp")).into_iter().collect(),
    }
}

fn answers() -> Vec<(&'static str, Answer)> {
    let fingerprint = || key().public().fingerprint();
    let row = |disk, state| ImageRow {
        name: name("debian12-x86_64.original"),
        host: name("host0.example.jp"),
        disk,
        format: "qcow2".to_owned(),
        state,
        age_ms: 1500,
    };
    let vm = |bare: bool| VmRow {
        name: name("vm0.example.jp"),
        host: name("host0.example.jp"),
        state: DomainState::Running,
        vcpus: 2,
        memory: gib(2),
        disk: (!bare).then(|| gib(10)),
        image: (!bare).then(|| name("debian12-x86_64.original")),
        addresses: if bare { Vec::new() } else { vec![address("192.168.0.10")] },
        age_ms: 1500,
    };
    let view = |domain| VmView { host: name("host0.example.jp"), presence: Presence::Up, age_ms: 1500, domain };
    let host = |facts, pools| HostRow {
        name: name("host0.example.jp"),
        presence: Presence::Up,
        heard: Some(at(5)),
        weight: 10,
        active: 3,
        domains: 7,
        fingerprint: fingerprint(),
        facts,
        pools,
    };
    let hosts =
        vec![host(Some(facts(accels()[0].1.clone())), pools()), HostRow { heard: None, ..host(None, Vec::new()) }];
    let operator = |fingerprint| OperatorRow { name: name("alice"), role: Role::Operator, fingerprint, since: at(0) };
    let progress = || host_event_kinds()[1].1.clone();
    let running = || job_row(JobState::Running);
    let succeeded = || JobState::Succeeded { outcome: outcomes()[0].1.clone() };
    let answers = vec![
        ("images", Answer::Images(listing(vec![row(Some(gib(1)), ImageState::Ready), row(None, ImageState::Broken)]))),
        ("image", Answer::Image { copies: image::copies() }),
        ("vms", Answer::Vms { listing: listing(vec![vm(false), vm(true)]), next: None }),
        ("vms-more", Answer::Vms { listing: listing(Vec::new()), next: Some(cursor()) }),
        ("vm", Answer::Vm(Box::new(view(domain())))),
        ("vm-whole", Answer::Vm(Box::new(view(change::whole_domain())))),
        ("vm-bare", Answer::Vm(Box::new(view(bare_domain())))),
        ("hosts", Answer::Hosts { hosts }),
        ("pings", Answer::Pings { pings: vec![ping(Presence::Up, Some(1480)), ping(Presence::Down, None)] }),
        ("status", Answer::Status(Box::new(status()))),
        ("status-audit", Answer::Status(Box::new(Status { audit: Some(audit_status()), ..status() }))),
        ("submitted", Answer::Submitted { results: vec![Ok(job_row(JobState::Queued)), Err(fault())] }),
        ("jobs", Answer::Jobs { jobs: job_states().into_iter().map(|(_, state)| job_row(state)).collect() }),
        ("job", Answer::Job(Box::new(job_view(succeeded(), None)))),
        ("job-running", Answer::Job(Box::new(job_view(JobState::Running, Some(progress()))))),
        (
            "watch",
            Answer::Watch {
                row: Box::new(running()),
                events: job_view(succeeded(), None).events,
                progress: Some(progress()),
            },
        ),
        ("watch-nothing", Answer::Watch { row: Box::new(running()), events: Vec::new(), progress: None }),
        ("operators", Answer::Operators { operators: vec![operator(Some(fingerprint())), operator(None)] }),
        ("audit", Answer::Audit(audit_page(Some(AuditPlace { file: 0, offset: 300 }), None).into())),
        ("audit-last", Answer::Audit(audit_page(None, Some("line 2 is missing".to_owned())).into())),
        ("keys", Answer::Keys(Box::new(keys_view(true)))),
        ("keys-one", Answer::Keys(Box::new(keys_view(false)))),
        ("done", Answer::Done),
        ("fault", Answer::Fault { fault: fault() }),
        ("fault-bare", Answer::Fault { fault: Fault::new(Code::Forbidden, "operator alice has the role viewer") }),
    ];
    let answers: Vec<_> = answers.into_iter().chain(placement::answers()).chain(console::answers()).collect();
    let values: Vec<_> = answers.iter().map(|(_, answer)| answer).collect();
    covers!(values, "images" => Answer::Images(_), "image" => Answer::Image { .. }, "vms" => Answer::Vms { .. }, "vm" => Answer::Vm(_),
        "hosts" => Answer::Hosts { .. }, "pings" => Answer::Pings { .. }, "status" => Answer::Status(_),
        "submitted" => Answer::Submitted { .. }, "jobs" => Answer::Jobs { .. }, "job" => Answer::Job(_), "watch" => Answer::Watch { .. },
        "placement" => Answer::Placement(_), "news" => Answer::News { .. }, "console" => Answer::Console(_),
        "console-output" => Answer::ConsoleOutput(_), "console-taken" => Answer::ConsoleTaken { .. }, "vm-log" => Answer::VmLog(_),
        "operators" => Answer::Operators { .. }, "audit" => Answer::Audit(_), "keys" => Answer::Keys(_),
        "done" => Answer::Done, "fault" => Answer::Fault { .. });
    answers
}

fn audit_status() -> AuditStatus {
    let head = AuditHead { seq: 4711, hash: LineHash::from_bytes([0x5e; 32]) };
    AuditStatus { head, flaw: Some("line 2 is missing".to_owned()), trouble: Some("no space left".to_owned()) }
}

fn audit_page(next: Option<AuditPlace>, flaw: Option<String>) -> AuditPage {
    let line = r#"{"seq":1,"at":1700000000000,"event":"outcome","of":0,"outcome":"ok","hash":"5e"}"#;
    let head = AuditHead { seq: 1, hash: LineHash::from_bytes([0x5e; 32]) };
    AuditPage { lines: vec![line.to_owned()], next, head, flaw }
}

fn host_requests() -> Vec<(&'static str, HostRequest)> {
    let held =
        vec![Held { job: job(), progress: Some(host_event_kinds()[1].1.clone()) }, Held { job: job(), progress: None }];
    // One domain a state and one disk a kind of device, besides the full and the bare one.
    let mut domains = vec![domain(), bare_domain()];
    domains.extend(domain_states().into_iter().map(|(_, state)| Domain { state, ..bare_domain() }));
    for (at, (_, device)) in disk_devices().into_iter().enumerate() {
        domains[2 + at].disks = vec![Disk { device, ..domain().disks[0].clone() }];
    }
    let inventory = |accel, domains| Box::new(Inventory { facts: facts(accel), pools: pools(), domains });
    let first = inventory(accels()[1].1.clone(), domains);
    let last = inventory(accels()[2].1.clone(), Vec::new());
    let changed = Change {
        facts: Some(facts(accels()[0].1.clone())),
        pools: Some(pools()),
        domains: vec![domain()],
        gone: vec![name("vm1.example.jp")],
    };
    let report = |result| HostRequest::Report(Box::new(Report { job: job(), result, events: host_events() }));
    let change = HostRequest::InventoryChange { from: 44, revision: 45, change: Box::default() };
    let several = HostRequest::Several { requests: vec![change, report(Err(fault()))] };
    let requests = vec![
        ("heartbeat", HostRequest::Heartbeat(Heartbeat { boot: uuid(), held, inventory: 42 })),
        ("heartbeat-first", HostRequest::Heartbeat(Heartbeat { boot: uuid(), held: Vec::new(), inventory: 0 })),
        ("inventory", HostRequest::Inventory { revision: 42, part: 0, parts: 2, inventory: first }),
        ("inventory-change", HostRequest::InventoryChange { from: 42, revision: 43, change: Box::new(changed) }),
        ("inventory-change-small", HostRequest::InventoryChange { from: 43, revision: 44, change: Box::default() }),
        ("inventory-last", HostRequest::Inventory { revision: 42, part: 1, parts: 2, inventory: last }),
        ("accept", HostRequest::Accept { job: job(), attempt: 2 }),
        ("refuse", HostRequest::Refuse { job: job(), fault: fault() }),
        ("progress", HostRequest::Progress { job: job(), events: host_events() }),
        ("report", report(Ok(outcomes()[0].1.clone()))),
        ("report-fault", report(Err(fault()))),
        ("pong", HostRequest::Pong { number: 7 }),
        ("rekey", HostRequest::Rekey { key: key().public() }),
        ("several", several),
    ];
    let requests: Vec<_> = requests.into_iter().chain(console::host_requests()).collect();
    let requests: Vec<_> = requests.into_iter().chain(image::host_requests()).collect();
    let values: Vec<_> = requests.iter().map(|(_, request)| request).collect();
    covers!(values, "line" => HostRequest::Line(_), "log" => HostRequest::Log { .. }, "heartbeat" => HostRequest::Heartbeat(_), "inventory" => HostRequest::Inventory { .. },
        "inventory-change" => HostRequest::InventoryChange { .. },
        "accept" => HostRequest::Accept { .. }, "refuse" => HostRequest::Refuse { .. }, "progress" => HostRequest::Progress { .. },
        "report" => HostRequest::Report(_), "pong" => HostRequest::Pong { .. }, "rekey" => HostRequest::Rekey { .. },
        "several" => HostRequest::Several { .. }, "source" => HostRequest::Source { .. }, "vouch" => HostRequest::Vouch { .. });
    let devices: Vec<DiskDevice> = disk_devices().into_iter().map(|(_, device)| device).collect();
    assert!(devices.len() + 2 <= 10, "each kind of device has a domain to be in");
    requests
}

fn offers() -> Vec<Offer> {
    (1..).zip(tasks()).map(|(attempt, (_, task))| Offer { job: job(), attempt, task }).collect()
}

fn host_answers() -> Vec<(&'static str, HostAnswer)> {
    let full = BeatAnswer {
        offers: offers(),
        cancels: vec![job()],
        settled: vec![job()],
        want_inventory: true,
        next_ms: 5000,
        missing: vec![],
        rekey: false,
        spread_ms: 0,
    };
    let empty = BeatAnswer {
        offers: vec![],
        cancels: vec![],
        settled: vec![],
        want_inventory: false,
        next_ms: 5000,
        missing: vec![],
        rekey: false,
        spread_ms: 0,
    };
    let asking = BeatAnswer { missing: vec![job()], rekey: true, ..empty.clone() };
    let spread = BeatAnswer { spread_ms: 4000, ..empty.clone() };
    let answers = vec![
        ("beat-spread", HostAnswer::Beat(Box::new(spread))),
        ("beat", HostAnswer::Beat(Box::new(full))),
        ("beat-empty", HostAnswer::Beat(Box::new(empty))),
        ("beat-asking", HostAnswer::Beat(Box::new(asking))),
        ("granted", HostAnswer::Granted),
        ("denied", HostAnswer::Denied { why: Denial::NotYours }),
        ("stored", HostAnswer::Stored),
        ("several", HostAnswer::Several { answers: vec![HostAnswer::Stored, HostAnswer::Fault { fault: fault() }] }),
        ("fault", HostAnswer::Fault { fault: fault() }),
    ];
    let answers: Vec<_> = answers.into_iter().chain(console::host_answers()).chain(image::host_answers()).collect();
    let values: Vec<_> = answers.iter().map(|(_, answer)| answer).collect();
    covers!(values, "line" => HostAnswer::Line { .. }, "beat" => HostAnswer::Beat(_), "granted" => HostAnswer::Granted, "denied" => HostAnswer::Denied { .. },
        "stored" => HostAnswer::Stored, "several" => HostAnswer::Several { .. }, "source" => HostAnswer::Source(_),
        "vouched" => HostAnswer::Vouched(_), "fault" => HostAnswer::Fault { .. });
    answers
}

fn broadcasts() -> Vec<(&'static str, Broadcast)> {
    let names = ["offer-clone", "offer-clone-bare", "offer-start", "offer-stop", "offer-destroy", "offer-remove"];
    let mut broadcasts: Vec<_> =
        names.into_iter().zip(offers()).map(|(name, offer)| (name, Broadcast::Offer(offer))).collect();
    broadcasts.push(("cancel", Broadcast::Cancel { job: job() }));
    broadcasts.push(("ping", Broadcast::Ping { number: 7 }));
    broadcasts.extend(console::broadcasts());
    let values: Vec<_> = broadcasts.iter().map(|(_, broadcast)| broadcast).collect();
    covers!(values, "console" => Broadcast::Console { .. }, "console-end" => Broadcast::ConsoleEnd { .. },
        "log-read" => Broadcast::LogRead { .. }, "offer" => Broadcast::Offer(_), "cancel" => Broadcast::Cancel { .. }, "ping" => Broadcast::Ping { .. });
    broadcasts
}
