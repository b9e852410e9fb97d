//! The requester: through a gate, and against what a false or absent client worker can do.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

mod peer;

use std::time::Duration;

use maglica_client_worker::gate::GateLimits;
use maglica_proto::transport::zmtp::{encode_ready, greeting};
use maglica_proto::transport::{DialLimits, Requester, TransportError};
use peer::{LIMIT, Served};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn requester(addr: impl ToString) -> Requester {
    Requester::new(addr.to_string(), None, DialLimits::default())
}

/// What a request ends with at a server that says `bytes` after the handshake's first bytes came, then waits.
async fn against(bytes: Vec<u8>) -> (String, TransportError) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut bin = [0; 1024];
        while matches!(stream.read(&mut bin).await, Ok(n) if n > 0) {}
    });
    let error = requester(&addr).request(b"x".to_vec(), Duration::from_millis(500)).await.unwrap_err();
    server.await.unwrap();
    (addr, error)
}

#[tokio::test]
async fn an_absent_server_an_unknown_name_and_silence_are_told_apart_by_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let error = requester(&addr).request(b"x".to_vec(), Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, TransportError::NoAnswer { .. }), "{error}");
    assert!(error.to_string().contains(&addr));
    drop(listener);
    let error = requester(&addr).request(b"x".to_vec(), LIMIT).await.unwrap_err();
    assert!(matches!(error, TransportError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(&addr));
    for wrong in ["no-such-host.invalid:5556", "no port", "127.0.0.1:"] {
        let error = requester(wrong).request(b"x".to_vec(), LIMIT).await.unwrap_err();
        assert!(matches!(error, TransportError::Unresolvable { .. }), "{wrong}: {error:?}");
        assert!(error.to_string().contains(wrong));
    }
}

#[tokio::test]
async fn a_false_server_cannot_harm_the_one_who_dials() {
    let hello = |kind| [&greeting()[..], &encode_ready(kind, None)].concat();
    let huge = [&hello("REP")[..], &[2], &(1u64 << 40).to_be_bytes()].concat();
    let unasked = [&hello("ROUTER")[..], &b"\x01\x00\x00\x01x".repeat(3)].concat();
    for bytes in [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), hello("PUB"), huge, unasked] {
        let (addr, error) = against(bytes.clone()).await;
        assert!(matches!(error, TransportError::Protocol { .. }), "{bytes:?}: {error:?}");
        assert!(error.to_string().contains(&addr));
    }
    let (_, error) = against(hello("REP")).await;
    assert!(matches!(error, TransportError::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn after_a_time_out_and_after_a_restart_the_next_request_is_answered() {
    let served = Served::rep(GateLimits::default()).await;
    let addr = served.addr;
    let mut requester = requester(addr);
    assert_eq!(requester.request(b"a".to_vec(), LIMIT).await.unwrap(), b"re:a");
    let error = requester.request(b"silence".to_vec(), Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, TransportError::NoAnswer { .. }), "{error}");
    assert_eq!(requester.request(b"b".to_vec(), LIMIT).await.unwrap(), b"re:b");
    served.stop().await;
    let error = requester.request(b"c".to_vec(), LIMIT).await.unwrap_err();
    assert!(matches!(error, TransportError::Refused { .. } | TransportError::Closed { .. }), "{error:?}");
    let again = Served::rep_at(addr, GateLimits::default()).await;
    assert_eq!(requester.request(b"d".to_vec(), LIMIT).await.unwrap(), b"re:d");
    // The server restarts while nobody asks.
    again.stop().await;
    let _third = Served::rep_at(addr, GateLimits::default()).await;
    let mut answer = requester.request(b"e".to_vec(), LIMIT).await;
    if matches!(answer, Err(TransportError::Closed { .. })) {
        // The end of the old connection may be noticed only by using it.
        answer = requester.request(b"e".to_vec(), LIMIT).await;
    }
    assert_eq!(answer.unwrap(), b"re:e");
}

#[tokio::test]
async fn a_dropped_request_leaves_a_requester_that_works() {
    let served = Served::rep(GateLimits::default()).await;
    let mut requester = requester(served.addr);
    let dropped = requester.request(b"silence".to_vec(), LIMIT);
    assert!(tokio::time::timeout(Duration::from_millis(50), dropped).await.is_err());
    assert_eq!(requester.request(b"x".to_vec(), LIMIT).await.unwrap(), b"re:x");
}

#[tokio::test]
async fn nothing_is_left_in_the_run_folder_and_too_much_is_not_sent() {
    let served = Served::rep(GateLimits::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let run_dir = Some(dir.path().to_owned());
    let mut requester = Requester::new(served.addr.to_string(), run_dir, DialLimits::default());
    assert_eq!(requester.request(b"x".to_vec(), LIMIT).await.unwrap(), b"re:x");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let error = requester.request(vec![0; 2 << 20], LIMIT).await.unwrap_err();
    assert!(matches!(error, TransportError::TooLarge { .. }), "{error}");
    assert_eq!(requester.request(vec![0; 1 << 20], LIMIT).await.unwrap().len(), (1 << 20) + 3);
}
