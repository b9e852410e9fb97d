//! Port 5556 against peers without any key. Each test ends with an honest peer that is answered. The T numbers are those of the
//! table in the gate's documentation.

mod peer;

use std::time::{Duration, Instant};

use maglica_client_worker::gate::{GateLimits, Refusal};
use maglica_proto::transport::bucket::Rate;
use maglica_proto::transport::zmtp::{encode_ready, greeting};
use peer::{BIG, LIMIT, RawPeer, Served};
use tokio::io::AsyncWriteExt;

/// Short times, so that waiting for a limit is no long wait.
const SHORT: Duration = Duration::from_millis(300);

fn limits() -> GateLimits {
    let mut limits = GateLimits::default();
    limits.forward.handshake = SHORT;
    limits.forward.message = SHORT;
    limits.forward.stall = SHORT;
    limits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_honest_peers_are_answered_each_its_own() {
    let served = Served::rep(GateLimits::default()).await;
    served.still_answers().await;
    let asking: Vec<_> = (0..16)
        .map(|who| {
            let addr = served.addr;
            tokio::spawn(async move {
                let mut peer = RawPeer::shaken(addr, "REQ").await;
                for n in 0..50 {
                    let question = format!("{who}/{n}");
                    assert_eq!(peer.ask(question.as_bytes()).await, format!("re:{question}").as_bytes());
                }
                assert_eq!(peer.ask(b"big").await.len(), BIG);
                assert_eq!(peer.ask(&vec![1; BIG]).await.len(), BIG + 3);
            })
        })
        .collect();
    for task in asking {
        task.await.unwrap();
    }
    served.has_open(0).await;
    let end = served.counters.snapshot();
    assert_eq!((end.accepted, end.closed), (18, 18));
    assert_eq!(end.refused.iter().sum::<u64>(), 0);
}

#[tokio::test]
async fn t1_a_claimed_terabyte_closes_its_connection_only() {
    let served = Served::rep(limits()).await;
    let mut peer = RawPeer::shaken(served.addr, "REQ").await;
    peer.send(&[0x02]).await;
    peer.send(&(1u64 << 40).to_be_bytes()).await;
    peer.is_closed().await;
    served.refuses(Refusal::TooLarge, 1).await;
    // The same before READY, which was enough to end the process.
    let mut early = RawPeer::connect(served.addr).await;
    early.send(&greeting()).await;
    early.send(&[0x06]).await;
    early.send(&(1u64 << 40).to_be_bytes()).await;
    early.is_closed().await;
    served.refuses(Refusal::TooLarge, 2).await;
    served.still_answers().await;
}

#[tokio::test]
async fn t3_a_flood_of_requests_that_is_never_read_is_closed_and_blocks_nobody() {
    let served = Served::rep(limits()).await;
    let mut flood = RawPeer::shaken(served.addr, "REQ").await;
    let _ = flood.stream.write_all(&b"\x01\x00\x00\x01x".repeat(2_000)).await;
    served.still_answers().await;
    served.refuses(Refusal::OutOfStep, 1).await;
    served.still_answers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t4_answers_that_are_never_read_end_their_connection_and_block_nobody() {
    let mut limits = limits();
    limits.forward.max_backlog = 3 * BIG;
    // What is tested is the backlog, not the count of requests.
    limits.forward.rules.max_outstanding = usize::MAX;
    let served = Served::rep(limits).await;
    let mut slow = RawPeer::shaken(served.addr, "REQ").await;
    let asking = async {
        while slow.stream.write_all(b"\x01\x00\x00\x03big").await.is_ok() {
            served.still_answers().await;
        }
    };
    tokio::time::timeout(LIMIT, asking).await.expect("closed at last");
    served.refuses_one_of(&[Refusal::Backlog, Refusal::Stalled]).await;
    served.still_answers().await;
}

#[tokio::test]
async fn t3b_a_truncated_message_is_never_forwarded() {
    let served = Served::rep(limits()).await;
    for cut in [&b"\x01\x00\x00\x05hel"[..], b"\x01\x00", b"\x01", b"\x00\xff12"] {
        let mut peer = RawPeer::shaken(served.addr, "REQ").await;
        peer.send(cut).await;
        drop(peer);
    }
    served.refuses(Refusal::Truncated, 4).await;
    served.still_answers().await;
}

#[tokio::test]
async fn t7_silent_connections_are_closed_in_time() {
    let served = Served::rep(limits()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(RawPeer::connect(served.addr).await);
    }
    served.still_answers().await;
    served.refuses(Refusal::HandshakeTimeout, 100).await;
    served.has_open(0).await;
    served.still_answers().await;
}

#[tokio::test]
async fn t7b_connections_above_the_caps_are_turned_away_until_there_is_room() {
    let mut limits = limits();
    limits.max_per_loopback = 8;
    limits.max_connections = 12;
    limits.forward.handshake = LIMIT;
    let served = Served::rep(limits).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(RawPeer::shaken(served.addr, "REQ").await);
    }
    for _ in 0..40 {
        RawPeer::connect(served.addr).await.is_closed().await;
    }
    assert_eq!(served.refused(Refusal::AddressLimit), 40);
    assert_eq!(held[3].ask(b"inside").await, b"re:inside");
    drop(held);
    served.has_open(0).await;
    served.still_answers().await;
}

#[tokio::test]
async fn t7b_the_cap_in_all_holds_too() {
    let mut limits = limits();
    limits.max_connections = 3;
    let served = Served::rep(limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(RawPeer::shaken(served.addr, "REQ").await);
    }
    RawPeer::connect(served.addr).await.is_closed().await;
    assert_eq!(served.refused(Refusal::TotalLimit), 1);
    drop(held);
    served.has_open(0).await;
    served.still_answers().await;
}

#[tokio::test]
async fn t8_an_announced_identity_is_replaced_and_nobody_is_evicted() {
    let served = Served::rep(limits()).await;
    let mut victim = RawPeer::shaken_as(served.addr, "REQ", Some(b"known")).await;
    let seen = victim.ask(b"who").await;
    let mut thief = RawPeer::shaken_as(served.addr, "REQ", Some(b"known")).await;
    let mut second = RawPeer::shaken_as(served.addr, "REQ", Some(&seen)).await;
    assert_eq!(victim.ask(b"who").await, seen, "still the same connection");
    for other in [&mut thief, &mut second] {
        let identity = other.ask(b"who").await;
        assert!(identity != seen && identity != b"known");
    }
    victim.send_frames(&[b"", b"mine"]).await;
    assert_eq!(thief.ask(b"theirs").await, b"re:theirs");
    let answer = victim.message().await.unwrap();
    assert_eq!(answer.frame(1), Some(&b"re:mine"[..]));
    served.still_answers().await;
}

#[tokio::test]
async fn t10_an_endless_message_is_cut_off_at_its_limit() {
    let served = Served::rep(limits()).await;
    let mut peer = RawPeer::shaken(served.addr, "REQ").await;
    let _ = peer.stream.write_all(&b"\x01\x00".repeat(10_000)).await;
    peer.is_closed().await;
    served.refuses(Refusal::TooLarge, 1).await;
    let mut long = RawPeer::shaken(served.addr, "REQ").await;
    long.send(b"\x01\x00\x02").await;
    long.send(&(2u64 << 20).to_be_bytes()).await;
    long.is_closed().await;
    served.refuses(Refusal::TooLarge, 2).await;
    served.still_answers().await;
}

#[tokio::test]
async fn slow_loris_in_the_handshake_and_in_a_message_is_closed_in_time() {
    let served = Served::rep(limits()).await;
    let begun = Instant::now();
    let hello = [&greeting()[..], &encode_ready("REQ", None)].concat();
    let mut early = RawPeer::connect(served.addr).await;
    for byte in hello {
        if early.stream.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    served.refuses(Refusal::HandshakeTimeout, 1).await;
    let mut late = RawPeer::shaken(served.addr, "REQ").await;
    late.send(b"\x01\x00\x00\xff").await;
    while late.stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    served.refuses(Refusal::MessageTimeout, 1).await;
    assert!(begun.elapsed() < LIMIT);
    served.still_answers().await;
}

#[tokio::test]
async fn whoever_does_not_speak_this_ports_protocol_is_refused() {
    let served = Served::rep(limits()).await;
    let mut http = RawPeer::connect(served.addr).await;
    http.send(b"GET / HTTP/1.1\r\n\r\n").await;
    http.is_closed().await;
    let mut plain = RawPeer::connect(served.addr).await;
    let mut hello = greeting();
    hello[12..17].copy_from_slice(b"PLAIN");
    plain.send(&hello).await;
    plain.is_closed().await;
    for wrong in ["SUB", "DEALER", "ROUTER", "REP", "req"] {
        let mut peer = RawPeer::connect(served.addr).await;
        peer.send(&greeting()).await;
        peer.send(&encode_ready(wrong, None)).await;
        peer.is_closed().await;
    }
    served.refuses(Refusal::Handshake, 7).await;
    for (kind, count, bytes) in [
        (Refusal::Envelope, 1, &b"\x00\x05hello"[..]),
        (Refusal::Envelope, 2, b"\x01\x01x\x00\x01y"),
        (Refusal::Envelope, 3, b"\x01\x00\x01\x01a\x00\x01b"),
        (Refusal::Framing, 1, b"\x80\x00"),
        (Refusal::Framing, 2, b"\x04\x06\x05ERROR"),
        (Refusal::Framing, 3, b"\x04\x0b\x09SUBSCRIBEa"),
    ] {
        let mut peer = RawPeer::shaken(served.addr, "REQ").await;
        peer.send(bytes).await;
        peer.is_closed().await;
        served.refuses(kind, count).await;
    }
    served.still_answers().await;
}

#[tokio::test]
async fn a_ping_is_answered_with_its_context_and_does_not_disturb() {
    let served = Served::rep(limits()).await;
    let mut peer = RawPeer::shaken(served.addr, "REQ").await;
    peer.send(b"\x04\x0a\x04PING\x00\x64abc").await;
    assert_eq!(&peer.command().await.unwrap()[..], b"\x04PONGabc");
    assert_eq!(peer.ask(b"after").await, b"re:after");
    served.still_answers().await;
}

#[tokio::test]
async fn a_peer_above_its_rate_is_slowed_down_and_not_closed() {
    let mut limits = limits();
    limits.forward.rate = Rate { per_second: 50.0, burst: 5.0 };
    let served = Served::rep(limits).await;
    let mut peer = RawPeer::shaken(served.addr, "REQ").await;
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(peer.ask(b"x").await, b"re:x");
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(250), "{took:?}");
    served.still_answers().await;
}

#[tokio::test]
async fn unfinished_messages_share_one_budget() {
    let mut limits = limits();
    limits.max_memory = 3 * 256 * 1024;
    limits.forward.message = LIMIT;
    let served = Served::rep(limits).await;
    let mut peers = Vec::new();
    for _ in 0..4 {
        let mut peer = RawPeer::shaken(served.addr, "REQ").await;
        peer.send(b"\x01\x00\x02").await;
        peer.send(&(1u64 << 20).to_be_bytes()).await;
        let _ = peer.stream.write_all(&vec![0; 300 * 1024]).await;
        peers.push(peer);
    }
    served.refuses(Refusal::Memory, 2).await;
    served.still_answers().await;
    drop(peers);
    served.has_open(0).await;
    let mut peer = RawPeer::shaken(served.addr, "REQ").await;
    assert_eq!(peer.ask(&vec![1; 300 * 1024]).await.len(), 300 * 1024 + 3, "given back");
}

#[tokio::test]
async fn a_silent_peer_goes_when_nothing_is_under_way_and_stays_while_it_waits() {
    let mut limits = limits();
    limits.forward.idle = Some(SHORT);
    let served = Served::rep(limits).await;
    let mut waiting = RawPeer::shaken(served.addr, "REQ").await;
    waiting.send_frames(&[b"", b"silence"]).await;
    let mut idle = RawPeer::shaken(served.addr, "REQ").await;
    idle.is_closed().await;
    served.refuses(Refusal::Idle, 1).await;
    assert_eq!(waiting.ask(b"still here").await, b"re:still here");
}

#[tokio::test]
async fn one_connection_can_be_dropped_by_the_identity_that_the_service_sees() {
    let served = Served::rep(limits()).await;
    let mut bad = RawPeer::shaken(served.addr, "REQ").await;
    let mut good = RawPeer::shaken(served.addr, "REQ").await;
    let identity = bad.ask(b"who").await.try_into().unwrap();
    served.handle.kick(identity).await;
    bad.is_closed().await;
    assert_eq!(good.ask(b"x").await, b"re:x");
    assert_eq!(served.refused(Refusal::Kicked), 1);
}

#[tokio::test]
async fn an_allow_list_turns_away_everybody_else() {
    let mut limits = limits();
    limits.allow = vec!["192.0.2.0/24".parse().unwrap()];
    let served = Served::rep(limits).await;
    RawPeer::connect(served.addr).await.is_closed().await;
    served.refuses(Refusal::NotAllowed, 1).await;
}

#[tokio::test]
async fn a_stopped_gate_has_closed_every_connection() {
    let served = Served::rep(limits()).await;
    let mut peer = RawPeer::shaken(served.addr, "REQ").await;
    assert_eq!(peer.ask(b"x").await, b"re:x");
    let counters = served.counters.clone();
    served.stop().await;
    peer.is_closed().await;
    assert_eq!(counters.snapshot().open, 0);
}
