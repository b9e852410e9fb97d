//! Too many connections, too many questions: honest work goes on meanwhile.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use maglica_proto::{
    codec,
    id::JobId,
    key::{KeyPair, PublicKey},
    request::{Answer, Request},
    seal::{Header, Hello, Initiator, Kind, PeerKind, Session},
};
use maglica_tests::{
    cloud::Cloud,
    node::Node,
    wait::{wait_until, when},
};

use crate::{
    raw::{Raw, hello, message},
    target::{GROWTH, Target, builder, listed, many_files, print},
};

/// How long an honest command may take while a flood goes on, start of the process included.
const MEANWHILE: Duration = Duration::from_secs(4);

/// A session on a raw connection, so that questions can be asked without waiting for answers.
struct Pipeline {
    raw: Raw,
    session: Session,
}

impl Pipeline {
    fn open(addr: SocketAddr, keys: &KeyPair, server: PublicKey) -> Option<Self> {
        let (initiator, first) =
            Initiator::start(keys, server, PeerKind::Operator, Hello::new("test", "vera"), None).unwrap();
        let mut raw = Raw::try_connect(addr).ok()?;
        raw.send(&hello("REQ", None));
        if !raw.hear_hello() {
            return None;
        }
        let (_, session) = initiator.finish(&raw.answer_to(&first)?).ok()?;
        Some(Self { raw, session })
    }

    fn ask(&mut self, request: &Request) -> bool {
        let body = codec::encode(request).unwrap();
        let (sealed, _) = self.session.seal(Kind::Request, &body).unwrap();
        self.raw.send(&message(&[b"", &sealed]))
    }

    /// Whether an answer came and was no refusal; none if the connection ended.
    fn heard(&mut self) -> Option<bool> {
        let answer = self.raw.payload()?;
        Some(Header::split(&answer).is_ok_and(|(header, _)| header.kind == Kind::Answer))
    }
}

/// Ends a flood, also when what goes on beside it fails.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Commands one after another while `go_on`; how many, and the slowest.
fn honest(cloud: &Cloud, go_on: impl Fn() -> bool) -> (u32, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while count < 3 || go_on() {
        let began = Instant::now();
        cloud.cli(&["host", "list"]).ok();
        slowest = slowest.max(began.elapsed());
        count += 1;
    }
    (count, slowest)
}

#[test]
fn two_thousand_connections_of_one_address_shut_nobody_out() {
    many_files();
    let mut target = Target::start("floods");
    target.case("2,000 silent connections of the command's own address", &[("ask", "displaced", 1)], |cloud| {
        let mut held: Vec<Raw> = (0..1_000).filter_map(|_| Raw::try_connect(cloud.rep_addr()).ok()).collect();
        listed(cloud);
        held.extend((0..1_000).filter_map(|_| Raw::try_connect(cloud.rep_addr()).ok()));
        let (count, slowest) = honest(cloud, || false);
        print(&format!("floods: {count} commands beside 2,000 connections, the slowest {slowest:?}"));
        assert!(slowest < MEANWHILE, "{slowest:?}");
        drop(held);
    });
    target.case("a thousand new connections a second for two seconds", &[], |cloud| {
        let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut held = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(mut peer) = Raw::try_connect(cloud.rep_addr()) {
                        peer.send(&hello("REQ", None));
                        held.push(peer);
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    thread::sleep(Duration::from_micros(900));
                }
            });
            let (stopping, began) = (Stop(&stop), Instant::now());
            let (count, slowest) = honest(cloud, || began.elapsed() < Duration::from_secs(2));
            drop(stopping);
            let made = made.load(Ordering::Relaxed);
            print(&format!("floods: {count} commands beside {made} new connections, the slowest {slowest:?}"));
            assert!(slowest < MEANWHILE, "{slowest:?}");
        });
    });
    target.case_within(
        "2,000 connections to the publishing port",
        &[("publish", "address-limit", 900)],
        GROWTH,
        |cloud| {
            let held: Vec<Raw> = (0..2_000).filter_map(|_| Raw::try_connect(cloud.pub_addr()).ok()).collect();
            let (_, slowest) = honest(cloud, || false);
            assert!(slowest < MEANWHILE, "{slowest:?}");
            drop(held);
        },
    );
}

#[test]
fn a_viewer_who_asks_without_end_delays_only_itself() {
    many_files();
    // The second host is played by the test: it has many machines, and never takes the job that is watched.
    let mut target = Target::of("floods", builder().hosts(2).node(Node::new().off("far")));
    let (server, vera) = (target.server_key(), target.operator_keys("vera", "viewer"));
    target.cloud.hosts[1].stop();
    let id: JobId = target.cloud.submit(&["vm", "start", "far"]).parse().unwrap();
    let mut host = target.peer(PeerKind::Host, target.host_keys(1));
    crate::enrolled::tell(&mut host, crate::enrolled::stock(5_000));
    let addr = target.cloud.rep_addr();
    let open =
        |count: usize| -> Vec<Pipeline> { (0..count).filter_map(|_| Pipeline::open(addr, &vera, server)).collect() };

    target.case("2,000 long polls of one viewer", &[("bus", "busy", 1_000)], |cloud| {
        let mut peers = open(250);
        assert!(peers.len() > 200, "{}", peers.len());
        for peer in &mut peers {
            for _ in 0..8 {
                peer.ask(&Request::JobWatch { id, after: 1_000, wait_ms: 4_000 });
            }
        }
        let (count, slowest) = honest(cloud, || false);
        print(&format!("floods: {count} commands beside 2,000 long polls, the slowest {slowest:?}"));
        assert!(slowest < MEANWHILE, "{slowest:?}");
        // Root's own watchers are not counted with the viewer's.
        cloud.cli(&["vm", "start", crate::target::VM]).ok();
        cloud.cli(&["vm", "destroy", crate::target::VM]).ok();
        // What was held back has an answer in the end, and each question exactly one.
        let (mut answered, mut refused) = (0, 0);
        for peer in &mut peers {
            for _ in 0..8 {
                match peer.heard() {
                    Some(true) => answered += 1,
                    Some(false) => refused += 1,
                    None => break,
                }
            }
        }
        print(&format!("floods: {answered} of the long polls were held, {refused} refused"));
        assert!(answered >= 500 && answered + refused == 8 * peers.len(), "{answered} + {refused}");
    });

    target.case_within("16 connections ask for 5,000 machines for two seconds", &[], 2 * GROWTH, |cloud| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let asking: Vec<_> = open(16)
                .into_iter()
                .map(|mut peer| {
                    let stop = &stop;
                    scope.spawn(move || {
                        let mut count = 0_u32;
                        for _ in 0..7 {
                            peer.ask(&Request::VmList { after: None });
                        }
                        while !stop.load(Ordering::Relaxed) && peer.ask(&Request::VmList { after: None }) {
                            if peer.heard().is_none() {
                                break;
                            }
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            let (stopping, began) = (Stop(&stop), Instant::now());
            let (count, slowest) = honest(cloud, || began.elapsed() < Duration::from_secs(2));
            drop(stopping);
            let lists: u32 = asking.into_iter().map(|asking| asking.join().unwrap()).sum();
            print(&format!("floods: {count} commands beside {lists} pages of 1,500 machines, the slowest {slowest:?}"));
            assert!(slowest < MEANWHILE, "{slowest:?}");
        });
    });

    target.case_within("T4 asks for large lists and never reads", &[], 2 * GROWTH, |cloud| {
        let mut peers = open(3);
        for _ in 0..3 {
            for peer in &mut peers {
                for _ in 0..8 {
                    peer.ask(&Request::VmList { after: None });
                }
            }
            // A peer may have eight questions unanswered; by then these are.
            thread::sleep(Duration::from_millis(1_500));
        }
        let (_, slowest) = honest(cloud, || false);
        assert!(slowest < MEANWHILE, "{slowest:?}");
        let begun = Instant::now();
        let given_up = wait_until("they are given up", Duration::from_secs(30), || {
            let status = cloud.cli(&["status", "-o", "json"]).ok().json();
            let rows = status["refusals"].as_array().unwrap();
            let slow = rows.iter().filter(|row| row["kind"] == "stalled" || row["kind"] == "backlog");
            let count: u64 = slow.map(|row| row["count"].as_u64().unwrap()).sum();
            when(count >= 3, rows).map(|()| count)
        });
        print(&format!("floods: {given_up} who never read are given up after {:?}", begun.elapsed()));
    });
    let mut viewer = target.peer(PeerKind::Operator, vera.clone());
    assert!(matches!(viewer.ask(&Request::HostList), Ok(Answer::Hosts { .. })));
}
