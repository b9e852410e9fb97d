//! Port 5555 against peers without any key.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

mod peer;

use std::time::Duration;

use maglica_client_worker::bus::port::PubPort;
use maglica_client_worker::gate::{GateLimits, Refusal};
use maglica_proto::transport::{DialLimits, Subscriber, TransportError};
use peer::{LIMIT, RawPeer, Served};

const SHORT: Duration = Duration::from_millis(300);

/// Publishes until the subscriber has one: a subscription takes its time to arrive.
async fn until_received<F: Future>(port: &mut PubPort, topic: &[u8], received: F) -> F::Output {
    let publish = async {
        loop {
            port.publish(topic, "hello".into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        output = received => output,
        () = publish => unreachable!("never ends"),
        () = tokio::time::sleep(LIMIT) => panic!("nothing received"),
    }
}

async fn still_publishes(served: &Served, port: &mut PubPort) {
    let addr = served.addr.to_string();
    let mut subscriber = Subscriber::connect(&addr, &[b"host1/".to_vec()], None, DialLimits::default()).await.unwrap();
    let got = until_received(port, b"host1/job", subscriber.next()).await;
    assert_eq!(got.unwrap(), (b"host1/job".to_vec(), b"hello".to_vec()));
}

#[tokio::test]
async fn topics_reach_those_who_subscribed_by_message_or_by_command_and_nobody_else() {
    let (served, mut port) = Served::publisher(GateLimits::default()).await;
    let mut by_message = RawPeer::shaken(served.addr, "SUB").await;
    by_message.send_frames(&[b"\x01host1/"]).await;
    let mut by_command = RawPeer::shaken(served.addr, "SUB").await;
    by_command.send(b"\x04\x10\x09SUBSCRIBEhost2/").await;
    let first = until_received(&mut port, b"host1/a", by_message.message()).await;
    assert_eq!(first.unwrap().frame(1), Some(&b"hello"[..]));
    let second = until_received(&mut port, b"host2/b", by_command.message()).await;
    assert_eq!(second.unwrap().frame(0), Some(&b"host2/b"[..]));
    // Everything the first one has now is of its own topic: a last message marks the end.
    port.publish(b"host1/end", "end".into()).await.unwrap();
    loop {
        let message = by_message.message().await.unwrap();
        assert!(message.frame(0).unwrap().starts_with(b"host1/"));
        if message.frame(0) == Some(b"host1/end") {
            break;
        }
    }
    still_publishes(&served, &mut port).await;
}

#[tokio::test]
async fn t9_empty_long_or_many_subscriptions_end_the_connection() {
    let (served, mut port) = Served::publisher(GateLimits::default()).await;
    let mut everything = RawPeer::shaken(served.addr, "SUB").await;
    everything.send_frames(&[b"\x01"]).await;
    everything.is_closed().await;
    let mut long = RawPeer::shaken(served.addr, "SUB").await;
    long.send_frames(&[&[1; 66]]).await;
    long.is_closed().await;
    let mut many = RawPeer::shaken(served.addr, "SUB").await;
    for n in 0..9 {
        many.send_frames(&[format!("\x01topic{n}/").as_bytes()]).await;
    }
    many.is_closed().await;
    served.refuses(Refusal::Subscription, 3).await;
    let mut speaking = RawPeer::shaken(served.addr, "SUB").await;
    speaking.send_frames(&[b"topic", b"forged"]).await;
    speaking.is_closed().await;
    served.refuses(Refusal::Envelope, 1).await;
    still_publishes(&served, &mut port).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t11_a_subscriber_that_stops_reading_is_closed_and_the_others_go_on() {
    let mut limits = GateLimits::default();
    limits.forward.max_backlog = 1 << 20;
    limits.forward.stall = Duration::from_secs(2);
    let (served, mut port) = Served::publisher(limits).await;
    let mut stopped = RawPeer::shaken(served.addr, "SUB").await;
    stopped.send_frames(&[b"\x01host1/"]).await;
    until_received(&mut port, b"host1/a", stopped.message()).await;
    let flood = async {
        while served.counters.snapshot().open > 0 {
            port.publish(b"host1/a", vec![0; 64 * 1024].into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, flood).await.expect("closed");
    served.refuses_one_of(&[Refusal::Backlog, Refusal::Stalled]).await;
    still_publishes(&served, &mut port).await;
}

#[tokio::test]
async fn a_peer_that_never_subscribes_is_closed_and_one_that_did_is_kept() {
    let mut limits = GateLimits::default();
    limits.forward.idle = Some(SHORT);
    let (served, mut port) = Served::publisher(limits).await;
    let mut listening = RawPeer::shaken(served.addr, "SUB").await;
    listening.send_frames(&[b"\x01host1/"]).await;
    let mut idle = RawPeer::shaken(served.addr, "SUB").await;
    idle.is_closed().await;
    served.refuses(Refusal::Idle, 1).await;
    let got = until_received(&mut port, b"host1/a", listening.message()).await;
    assert!(got.is_some());
}

#[tokio::test]
async fn a_closed_connection_is_an_error_of_the_subscriber_at_once() {
    let (served, _port) = Served::publisher(GateLimits::default()).await;
    let addr = served.addr.to_string();
    let mut subscriber = Subscriber::connect(&addr, &[b"host1/".to_vec()], None, DialLimits::default()).await.unwrap();
    served.stop().await;
    for _ in 0..2 {
        let end = tokio::time::timeout(LIMIT, subscriber.next()).await;
        let error = end.expect("does not hang").unwrap_err();
        assert!(matches!(&error, TransportError::Closed { addr: a } if *a == addr), "{error}");
    }
}

#[tokio::test]
async fn topics_that_cannot_be_subscribed_to_are_refused_before_dialling() {
    for topic in [&b""[..], b"\xff\xfe", "häst".as_bytes(), &[b'x'; 65]] {
        let error =
            Subscriber::connect("127.0.0.1:1", &[topic.to_vec()], None, DialLimits::default()).await.unwrap_err();
        assert!(matches!(error, TransportError::Topic { .. }), "{error}");
    }
}
