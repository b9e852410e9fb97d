//! Verbs of others, jobs of others, and keys and tokens that are no longer good.

use std::{thread, time::Duration};

use maglica_proto::{
    fault::{Code, Fault},
    host::{Denial, Heartbeat, Held, HostAnswer, HostRequest, Report},
    id::JobId,
    job::{HostEvent, HostEventKind, JobSpec, Outcome, Step, VmRef},
    join::{Invitation, JoinAnswer},
    key::Token,
    request::{Answer, Invite, Request, Role},
    seal::PeerKind,
    units::ByteSize,
};
use maglica_tests::{cloud::host_name, node::Node, peer::PeerError};
use uuid::Uuid;

use crate::target::{Target, VM, builder, new_keys};

fn start(name: &str) -> JobSpec {
    JobSpec::Start(VmRef { name: name.parse().unwrap(), host: None })
}

fn invite() -> Invite {
    let token = Token::generate().unwrap();
    Invite { token: token.id(), psk: token.psk(), valid_s: 60 }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, PeerError>, word: &str) {
    let error = result.expect_err("a refusal");
    assert!(error.refusal().contains(word), "{word:?} expected: {error:?}");
}

#[test]
fn nobody_does_more_than_its_key_allows() {
    let mut target = Target::of("roles", builder().hosts(2).node(Node::new().off("other")));
    let (host, revoked) = (host_name(0).parse().unwrap(), "carol".parse().unwrap());
    let admins = || {
        [
            Request::HostInvite { name: "evil".parse().unwrap(), invite: invite() },
            Request::HostAccept { name: "evil".parse().unwrap(), fingerprint: new_keys().public().fingerprint() },
            Request::HostRevoke { name: host_name(0).parse().unwrap() },
            Request::OperatorAdd { name: "eve".parse().unwrap(), role: Role::Admin, invite: invite() },
            Request::OperatorRevoke { name: "root".parse().unwrap() },
            Request::OperatorList,
        ]
    };
    let id = target.cloud.submit(&["vm", "start", "other"]);
    let id: JobId = target.cloud.wait_job(&id, "succeeded")["id"].as_str().unwrap().parse().unwrap();
    let mut viewer = target.operator("vera", "viewer");
    let mut operator = target.operator("otto", "operator");
    let facts = target.cloud.facts();
    target.case("viewer and operator ask what only others may", &[("bus", "forbidden", 15)], |_| {
        let mut asked: Vec<Request> = admins().into();
        asked.push(Request::Submit { id: JobId::generate(), spec: start(VM) });
        asked.push(Request::JobCancel { id });
        let answers = asked
            .iter()
            .map(|request| viewer.ask(request))
            .chain(admins().iter().map(|request| operator.ask(request)).collect::<Vec<_>>())
            .collect::<Vec<_>>();
        for answer in answers {
            let answer = answer.unwrap();
            assert!(matches!(&answer, Answer::Fault { fault } if fault.code == Code::Forbidden), "{answer:?}");
        }
        for _ in 0..5 {
            let _ = viewer.ask(&Request::OperatorList).unwrap();
        }
    });

    let mut as_host = target.peer(PeerKind::Host, target.host_keys(1));
    target.case("a host asks as an operator, an operator speaks as a host", &[("bus", "unreadable", 16)], |_| {
        for request in
            admins().iter().chain(&[Request::HostList, Request::Submit { id: JobId::generate(), spec: start(VM) }])
        {
            let body = maglica_proto::codec::encode(request).unwrap();
            let answer: HostAnswer = as_host.say_body(&body).unwrap();
            assert!(matches!(&answer, HostAnswer::Fault { fault } if fault.code == Code::Version), "{answer:?}");
        }
        let lies = [
            HostRequest::Accept { job: id, attempt: 1 },
            HostRequest::Heartbeat(Heartbeat { boot: Uuid::new_v4(), held: Vec::new(), inventory: 1 }),
        ];
        for lie in lies.iter().cycle().take(8) {
            let answer: Answer = operator.say_body(&maglica_proto::codec::encode(lie).unwrap()).unwrap();
            assert!(matches!(&answer, Answer::Fault { fault } if fault.code == Code::Version), "{answer:?}");
        }
    });
    // A host's key is none of an operator, and the other way round.
    let keys = target.host_keys(1);
    refused(target.peer(PeerKind::Operator, keys).shake_hands("root", None), "unknown");
    refused(
        target.peer(PeerKind::Host, target.operator_keys("olga", "admin")).shake_hands(&host_name(1), None),
        "unknown",
    );
    assert_eq!(target.cloud.facts()["hosts"], facts["hosts"]);

    // The first host is away, and its job waits; the other one knows the job's id from somewhere.
    target.cloud.hosts[0].stop();
    let waiting = target.cloud.submit(&["vm", "start", VM, "--on", host_name(0).as_str()]);
    let job: JobId = waiting.parse().unwrap();
    let before = target.cloud.job(&waiting);
    let event = |what| HostEvent { seq: 0, at: maglica_proto::units::Timestamp::from_millis(0), what };
    let progress = HostEventKind::StepProgress { step: Step::Volumes, done: ByteSize::bytes(u64::MAX), total: None };
    let lies = [
        HostRequest::Accept { job, attempt: 1 },
        HostRequest::Refuse { job, fault: Fault::new(Code::Internal, "a lie") },
        HostRequest::Progress {
            job,
            events: vec![event(HostEventKind::StepStarted { step: Step::Start }), event(progress)],
        },
        HostRequest::Report(Box::new(Report {
            job,
            result: Ok(Outcome::Started { already: false }),
            events: Vec::new(),
        })),
        HostRequest::Report(Box::new(Report {
            job: id,
            result: Err(Fault::new(Code::Internal, "a lie")),
            events: Vec::new(),
        })),
    ];
    let mut other = target.peer(PeerKind::Host, target.host_keys(1));
    for lie in &lies[..4] {
        let answer = other.say(lie).unwrap();
        assert!(matches!(answer, HostAnswer::Denied { why: Denial::NotYours }), "{lie:?}: {answer:?}");
    }
    // Nor is a job that has ended ended again by its own host.
    let _ = other.say(&lies[4]).unwrap();
    assert_eq!(target.cloud.job(&id.to_string())["state"], "succeeded");
    // Said to be held by another: it is told to forget it, and the job is as before.
    let held = vec![Held { job, progress: None }];
    let beat = HostRequest::Heartbeat(Heartbeat { boot: Uuid::new_v4(), held, inventory: 0 });
    let HostAnswer::Beat(answer) = other.say(&beat).unwrap() else { panic!("a heartbeat is answered") };
    assert_eq!(answer.settled, [job]);
    let after = target.cloud.job(&waiting);
    assert_eq!((&after["state"], &after["events"]), (&before["state"], &before["events"]));
    target.cloud.hosts[0].start();
    target.cloud.wait_up(0);
    target.cloud.wait_job(&waiting, "succeeded");
    target.cloud.cli(&["vm", "destroy", VM]).ok();
    target.case(
        "a host accepts, refuses, reports and sends progress of another's job",
        &[("bus", "denied", 4)],
        |_| {
            for lie in &lies[..4] {
                let answer = other.say(lie).unwrap();
                assert!(matches!(answer, HostAnswer::Denied { why: Denial::NotYours }), "{lie:?}: {answer:?}");
            }
        },
    );

    let mut carol = target.operator("carol", "admin");
    carol.ask(&Request::HostList).unwrap();
    let carols = target.operator_keys("carla", "operator");
    target.case("a revoked key, in its session and after", &[("bus", "revoked", 20)], |cloud| {
        cloud.cli(&["operator", "revoke", "carol"]).ok();
        refused(carol.ask(&Request::HostRevoke { name: host }), "revoked");
        refused(carol.ask(&Request::OperatorRevoke { name: revoked }), "session");
        for _ in 0..20 {
            refused(carol.shake_hands("carol", None), "revoked");
        }
    });
    drop(carols);
    assert_eq!(target.cloud.host(0)["presence"], "up");
}

#[test]
fn tokens_that_are_no_longer_good_let_nobody_in() {
    let mut target = Target::start("roles");
    let invitation = |arguments: &[&str]| -> Invitation { target.cloud.cli(arguments).ok().stdout.parse().unwrap() };
    let expired = invitation(&["host", "invite", "h1.example.jp", "--valid", "1s"]).token;
    let used = invitation(&["operator", "add", "ursula"]).token;
    let joined = target.peer(PeerKind::Operator, new_keys()).join("ursula", &used);
    assert!(matches!(joined, Ok(JoinAnswer::Joined(_))), "{joined:?}");
    // Expiry is a matter of the clock, so this waits for the clock.
    thread::sleep(Duration::from_millis(1100));
    let facts = target.cloud.facts();
    let mut peers: Vec<_> = (0..3)
        .map(|_| (target.peer(PeerKind::Host, new_keys()), target.peer(PeerKind::Operator, new_keys())))
        .collect();
    target.case("an expired, a used and 50 wrong tokens", &[("bus", "bad-token", 56)], |_| {
        for (host, operator) in &mut peers {
            refused(host.join("h1.example.jp", &expired), "verif");
            refused(operator.join("ursula", &used), "verif");
        }
        for _ in 0..50 {
            refused(peers[0].0.join("h1.example.jp", &Token::generate().unwrap()), "verif");
        }
    });
    let hosts = |facts: &serde_json::Value| facts["hosts"].as_array().map(Vec::len);
    assert_eq!(hosts(&target.cloud.facts()), hosts(&facts));
}
