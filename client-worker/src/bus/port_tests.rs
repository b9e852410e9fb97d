//! The two ports alone, without a gate before them.

use std::time::Duration;

use maglica_proto::transport::{DialLimits, Requester};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::gate::{Gate, GateLimits, PortKind};

fn folder(mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    dir
}

#[tokio::test]
async fn a_path_that_does_not_fit_and_an_open_folder_are_refused_by_name() {
    let dir = folder(0o700);
    let long = dir.path().join("x".repeat(100));
    let error = RepPort::bind(&long).await.err().unwrap();
    assert!(matches!(error, PortError::PathTooLong { .. }), "{error}");
    assert!(error.to_string().contains(long.to_str().unwrap()));
    let open = folder(0o755);
    let error = PubPort::bind(&open.path().join("pub")).await.err().unwrap();
    assert!(matches!(error, PortError::FolderOpen { mode: 0o755, .. }), "{error}");
}

#[tokio::test]
async fn a_stale_file_is_replaced_and_the_end_of_the_old_socket_does_not_take_the_new_one() {
    let dir = folder(0o700);
    let path = dir.path().join("rep");
    std::fs::write(&path, b"stale").unwrap();
    let old = RepPort::bind(&path).await.unwrap();
    let new = RepPort::bind(&path).await.unwrap();
    drop(old);
    // Lets the old socket's accept task end, which removes what it believes to be its file.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    drop(new);
    assert!(!path.exists());
}

#[tokio::test]
async fn an_answer_for_a_peer_that_is_gone_is_dropped_and_counted() {
    let dir = folder(0o700);
    let port = RepPort::bind(&dir.path().join("rep")).await.unwrap();
    let replier = port.replier();
    assert!(replier.reply(&Peer::of("nobody"), Bytes::new()));
    let counted = async {
        while replier.dropped() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted).await.unwrap();
    assert_eq!(replier.dropped(), 1);
}

/// A connection each on a socket that was on the runtime's own two threads: one in twenty of these never ended.
#[test]
fn peers_that_come_and_go_while_others_are_answered_stop_nobody() {
    const PEERS: usize = 8;
    const TURNS: usize = 100;
    let dir = folder(0o700);
    let path = dir.path().join("rep");
    let (done, ended) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut port = RepPort::bind(&path).await.unwrap();
            let replier = port.replier();
            tokio::spawn(async move {
                while let Ok((peer, payload)) = port.recv().await {
                    let replier = replier.clone();
                    tokio::spawn(async move { replier.reply(&peer, payload) });
                }
            });
            let gate = Gate::bind("127.0.0.1:0".parse().unwrap(), PortKind::Rep, &path, GateLimits::default());
            let gate = gate.await.unwrap();
            let address = gate.local_addr().unwrap().to_string();
            tokio::spawn(gate.run(CancellationToken::new()));
            let peers: Vec<_> = (0..PEERS)
                .map(|peer| {
                    let address = address.clone();
                    tokio::spawn(async move {
                        for turn in 0..TURNS {
                            let mut requester = Requester::new(address.clone(), None, DialLimits::default());
                            // Every other one is gone before its answer comes.
                            let limit = if (turn + peer) % 2 == 0 { 10_000_000 } else { 500 };
                            let asked = requester.request(vec![1; 100], Duration::from_micros(limit)).await;
                            assert!(asked.is_ok() || limit == 500, "{asked:?}");
                        }
                    })
                })
                .collect();
            for peer in peers {
                peer.await.unwrap();
            }
        });
        done.send(()).unwrap();
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(()), "all peers come to their end");
}
