//! The audit, from a client worker that may not tell the truth.

use maglica_proto::{
    audit::{Asked, AuditEntry, AuditEvent, AuditHead, AuditPage, AuditPlace, Capacity, LineHash, Verdict},
    fault::Code,
    key::KeyPair,
    request::{Answer, Request},
    units::Timestamp,
};

use crate::{
    place::{Place, free_port},
    worker::{Door, serve},
};

/// What is kept of an audit by a client worker of the test's own.
#[derive(Clone)]
struct Record {
    lines: Vec<String>,
    head: AuditHead,
}

impl Record {
    /// A file's beginning; then alice's requests with their outcomes, bob's refused one, and one without an outcome.
    fn new() -> Self {
        let key = KeyPair::generate().unwrap().public().fingerprint();
        let asked = |who: &str, verb: &str, outcome| {
            AuditEvent::Asked(Asked {
                who: who.into(),
                role: Capacity::Operator,
                key: key.clone(),
                verb: verb.into(),
                object: Some("vm0".into()),
                detail: Some("start".into()),
                job: None,
                outcome,
                unlisted: 0,
            })
        };
        let mut last = LineHash::from_bytes([9; 32]);
        let events = [
            AuditEvent::Begun { prev: last, key: key.clone(), program: "0.1.0".into() },
            asked("alice", "submit", None),
            AuditEvent::Outcome { of: 1, outcome: Verdict::Ok },
            asked("bob", "submit", Some(Verdict::Fault(Code::Forbidden))),
            asked("alice", "submit", None),
        ];
        let mut lines = Vec::new();
        for (seq, what) in (0..).zip(events) {
            let entry = AuditEntry { seq, at: Timestamp::from_millis(1_700_000_000_000 + seq * 1000), what };
            let (line, hash) = entry.line(last).unwrap();
            lines.push(line);
            last = hash;
        }
        Self { lines, head: AuditHead { seq: 4, hash: last } }
    }

    /// A page of two lines; the place is a number of lines.
    fn page(&self, from: Option<AuditPlace>, back: bool) -> Answer {
        let len = u64::try_from(self.lines.len()).unwrap();
        let at = from.map_or(if back { len } else { 0 }, |place| place.offset);
        let (start, end) = if back { (at.saturating_sub(2), at) } else { (at, len.min(at + 2)) };
        let next = if back { start } else { end };
        let more = if back { start > 0 } else { end < len };
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        let lines = self.lines[range].to_vec();
        let next = more.then_some(AuditPlace { file: 0, offset: next });
        Answer::Audit(Box::new(AuditPage { lines, next, head: self.head, flaw: None }))
    }

    fn kept(self) -> Place {
        let place = Place::new(free_port());
        let handler = move |request| {
            let Request::Audit { from, back, .. } = request else { panic!("{request:?} is not expected") };
            self.page(from, back).into()
        };
        place.configure(serve(place.server.clone(), Door::Operator(place.operator.public()), handler));
        place
    }
}

#[test]
fn what_was_asked_is_shown_with_what_came_of_it() {
    let place = Record::new().kept();
    let table = place.run(&["audit"]).exits(0).stdout;
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), 3, "{table}");
    for (row, (who, outcome)) in rows.iter().zip([("alice", "ok"), ("bob", "forbidden"), ("alice", "unknown")]) {
        assert!(row.contains(who) && row.ends_with(outcome), "{table}");
    }
    let json = place.run(&["audit", "-o", "json", "--operator", "alice", "-n", "1"]).exits(0).stdout;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["entries"][0]["seq"], &value["entries"][0]["result"]), (&4.into(), &serde_json::Value::Null));
    assert_eq!(place.run(&["audit", "-oname", "--since=2023-11-14T22:13:23Z"]).exits(0).stdout, "3\n4\n");
    place.run(&["audit", "--since", "soon"]).exits(2).says("is no time");
}

#[test]
fn a_client_worker_that_leaves_out_or_changes_a_line_is_found_out() {
    let sound = Record::new();
    let head = sound.head.to_string();
    let place = sound.clone().kept();
    let told = place.run(&["audit", "--verify", "--head", &head]).exits(0).stdout;
    assert_eq!(told, format!("lines 0 to 4 hang together\nhead {head}\n"));

    let mut without = sound.clone();
    without.lines.remove(2);
    let place = without.kept();
    place.run(&["audit", "--verify"]).exits(1).says("line 2 is missing");
    place.run(&["audit"]).exits(1).says("line 2 is missing").says("maglica audit --verify");

    let mut changed = sound.clone();
    changed.lines[3] = changed.lines[3].replace("bob", "eve");
    changed.kept().run(&["audit", "--verify"]).exits(1).says("line 3 does not follow");

    let mut cut = sound;
    cut.lines.truncate(4);
    let place = cut.clone().kept();
    place.run(&["audit"]).exits(1).says("not the one that the client worker names");
    let last: AuditHead = {
        let line = &cut.lines[3];
        let hash = line.rsplit('"').nth(1).unwrap().parse().unwrap();
        AuditHead { seq: 3, hash }
    };
    cut.head = last;
    let place = cut.kept();
    place.run(&["audit", "--verify"]).exits(0);
    place.run(&["audit", "--verify", "--head", &head]).exits(1).says("its end was cut off");
}
