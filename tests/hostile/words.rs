//! A host that was let in, and what it says in words: in lists, stories and logs there is nothing of it that steers a
//! terminal, forges a line, or has no end.

use std::fs;

use maglica_proto::{
    codec,
    fault::{Code, Fault},
    host::{Held, HostAnswer, HostRequest, Report},
    id::JobId,
    inventory::{Accel, DomainState, Nic, Pool, Provenance},
    job::{HostEvent, HostEventKind, Step},
    seal::PeerKind,
    units::{ByteSize, Timestamp},
};
use maglica_tests::{cloud::Cloud, node::Node};

use crate::{
    enrolled::{beat, stock, tell},
    target::{GROWTH, Target, VM, builder, print},
};

/// What clears a terminal, turns text round, rings, forges a line of a log and hides.
const EVIL: &str = "x\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{202e}dlrow\u{2066}\r\n2026-11-21T00:00:00Z  INFO forged: all is well\u{7f}\u{200b}";
/// A message's body at the largest, with room for what is around it.
const LARGE: usize = 1_000_000;

/// Everything that commands show, as text and as JSON.
fn shown(cloud: &Cloud, job: &str) -> String {
    let mut all = String::new();
    for command in [
        &["vm", "list"][..],
        &["vm", "show", "evil-vm"],
        &["image", "list"],
        &["host", "list"],
        &["job", "list"],
        &["job", "show", job],
        &["status", "-v"],
        &["vm", "start", "evil-wm"],
        &["job", "wait", job],
    ] {
        let formats = if command[1] == "wait" { &["table"][..] } else { &["table", "json", "yaml", "name"] };
        for format in formats {
            let output = cloud.cli(&[command, &["-o", format, "--timeout", "1s"]].concat());
            all.push_str(&output.stdout);
            all.push_str(&output.stderr);
        }
    }
    all
}

/// No character that steers a terminal, hides, or turns text round.
#[track_caller]
fn is_clean(what: &str, text: &str) {
    let bad = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
    };
    if let Some(at) = text.find(bad) {
        let before: String = text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
        let after: String = text[at..].chars().take(40).collect();
        panic!("{what} shows {after:?} after {before:?}");
    }
}

#[test]
fn what_a_host_makes_up_is_shown_clean_and_cut_to_size() {
    let mut target = Target::of("enrolled host", builder().hosts(2).node(Node::new().off("evil-vm")));
    let job = target.cloud.submit(&["vm", "start", VM]);
    target.cloud.wait_job(&job, "succeeded");
    target.cloud.cli(&["vm", "destroy", VM]).ok();
    target.cloud.hosts[1].stop();
    let mut host = target.peer(PeerKind::Host, target.host_keys(1));
    let job = target.cloud.submit(&["vm", "start", "evil-vm"]);
    let id: JobId = job.parse().unwrap();
    let huge = EVIL.repeat(LARGE / EVIL.len());
    let event = |seq, what| HostEvent { seq, at: Timestamp::from_millis(u64::MAX), what };

    target.case("names, paths and versions full of escapes and of a mebibyte", &[("bus", "excessive", 2)], |cloud| {
        for text in [EVIL, &huge] {
            let mut inventory = stock(3);
            inventory.facts.hypervisor = text.to_owned();
            inventory.facts.arch = EVIL.to_owned();
            inventory.facts.accel = Accel::Emulation { reason: EVIL.to_owned() };
            inventory.facts.memory = ByteSize::bytes(u64::MAX);
            inventory.facts.memory_free = ByteSize::bytes(u64::MAX);
            inventory.facts.cpus = u32::MAX;
            let domain = &mut inventory.domains[0];
            domain.name = "evil-vm".parse().unwrap();
            domain.state = DomainState::Off;
            domain.vcpus = u32::MAX;
            domain.memory = ByteSize::bytes(u64::MAX);
            domain.made = Some(Provenance {
                job: id,
                image: "x.original".parse().unwrap(),
                by: EVIL.to_owned(),
                anti_affinity: None,
            });
            let disk = &mut domain.disks[0];
            (disk.target, disk.format) = (EVIL.to_owned(), EVIL.to_owned());
            (disk.path, disk.backing, disk.trouble) = (Some(EVIL.into()), Some(EVIL.into()), Some(EVIL.into()));
            (disk.pool, disk.volume) = (None, None);
            disk.capacity = Some(ByteSize::bytes(u64::MAX));
            let disks = vec![disk.clone(); 3];
            domain.disks.extend(disks);
            domain.nics.push(Nic {
                kind: EVIL.into(),
                source: Some(EVIL.into()),
                model: Some(EVIL.into()),
                ..domain.nics[0].clone()
            });
            let mut image = domain.clone();
            image.name = "evil.original".parse().unwrap();
            inventory.domains.push(image);
            inventory.pools.push(Pool { kind: EVIL.into(), path: Some(EVIL.into()), ..inventory.pools[0].clone() });
            assert_eq!(tell(&mut host, inventory), [HostAnswer::Stored]);
            is_clean("a list or its like", &shown(cloud, &job));
        }
    });

    target.case("names that are none: in the body as they would be on the wire", &[("bus", "unreadable", 4)], |_| {
        for name in [EVIL, "../../etc/passwd", "a\u{202e}b", &"n".repeat(300)] {
            let mut inventory = stock(1);
            inventory.domains[0].name = "PLACEHOLDER".parse().unwrap();
            let request = HostRequest::Inventory { revision: 2, part: 0, parts: 1, inventory: Box::new(inventory) };
            let body = with_text(&codec::encode(&request).unwrap(), "PLACEHOLDER", name);
            let answer: HostAnswer = host.say_body(&body).unwrap();
            assert!(matches!(&answer, HostAnswer::Fault { fault } if fault.code == Code::Version), "{answer:?}");
        }
    });

    assert_eq!(host.say(&HostRequest::Accept { job: id, attempt: 1 }).unwrap(), HostAnswer::Granted);
    target.case_within("progress and a report of enormous events", &[("bus", "excessive", 3)], 2 * GROWTH, |cloud| {
        let fault = || Fault {
            similar: vec![EVIL.into(); 50],
            left: vec![EVIL.into(); 500],
            object: Some(huge.clone()),
            ..Fault::new(Code::ToolFailed, &huge[..400_000])
        };
        let mut small = fault();
        small.object = Some(EVIL.into());
        for seq in 0..50 {
            let what = match seq % 4 {
                0 => HostEventKind::StepDone { step: Step::Volumes, took_ms: u64::MAX, note: huge.clone() },
                1 => HostEventKind::StepFailed { step: Step::Start, fault: small.clone() },
                2 => HostEventKind::Undone { what: EVIL.into(), error: Some(huge.clone()) },
                _ => HostEventKind::Resumed { decision: huge.clone() },
            };
            let answer = host.say(&HostRequest::Progress { job: id, events: vec![event(seq, what)] }).unwrap();
            assert_eq!(answer, HostAnswer::Stored);
        }
        let fat = HostEventKind::Undone { what: huge.clone(), error: None };
        beat(&mut host, vec![Held { job: id, progress: Some(fat) }]);
        is_clean("a running job", &cloud.cli(&["job", "show", &job]).ok().stdout);
        let many: Vec<HostEvent> =
            (50..9_000).map(|seq| event(seq, HostEventKind::Undone { what: EVIL.into(), error: None })).collect();
        for events in many.chunks(2_000) {
            let _ = host.say(&HostRequest::Progress { job: id, events: events.to_vec() }).unwrap();
        }
        let report = Report { job: id, result: Err(small.clone()), events: Vec::new() };
        assert_eq!(host.say(&HostRequest::Report(Box::new(report))).unwrap(), HostAnswer::Stored);
        let all = shown(cloud, &job);
        is_clean("a job's story", &all);
        assert!(all.len() < 12 << 20, "{} bytes", all.len());
    });
    let story = target.cloud.cli(&["job", "show", &job]).ok().stdout;
    assert!(story.contains("failed") && story.len() < 1 << 20, "{} bytes", story.len());
    let size = |name: &str| {
        fs::metadata(target.cloud.state_dir(0).join("client-worker").join(name)).map_or(0, |file| file.len())
    };
    let store = size("jobs.db") + size("jobs.db-wal");
    print(&format!("enrolled host: the store has {store} bytes"));
    assert!(store < 8 << 20, "the store has {store} bytes");

    // Refusing a job in words that would be a line of the log.

    let other = target.cloud.submit(&["vm", "start", "evil-vm"]);
    target.case("refuses a job in words that forge a line of the log", &[("bus", "excessive", 1)], |cloud| {
        let refuse = HostRequest::Refuse { job: other.parse().unwrap(), fault: Fault::new(Code::Hypervisor, EVIL) };
        assert_eq!(host.say(&refuse).unwrap(), HostAnswer::Stored);
        is_clean("a refused job", &shown(cloud, &other));
    });
    let log = target.cloud.client_worker.log();
    is_clean("the log", &log);
    assert!(!log.lines().any(|line| line.starts_with("2026-11-21T00:00:00Z")), "a line of the log is forged");
}

/// The body with a text in it replaced by another, lengths and all.
fn with_text(body: &[u8], old: &str, new: &str) -> Vec<u8> {
    let header = u8::try_from(old.len()).unwrap() | 0xa0;
    let wanted = [&[header][..], old.as_bytes()].concat();
    let at = body.windows(wanted.len()).position(|window| window == wanted).unwrap();
    let length = u16::try_from(new.len()).unwrap().to_be_bytes();
    [&body[..at], &[0xda], &length, new.as_bytes(), &body[at + wanted.len()..]].concat()
}
