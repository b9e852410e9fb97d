//! T7b where it hurts: no file descriptor is left. Alone in its process, because the limit is the process's.

mod peer;

use std::fs::File;
use std::time::{Duration, Instant};

use maglica_client_worker::gate::{GateLimits, Refusal, raise_file_limit};
use peer::{RawPeer, Served};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const FILES: u64 = 200;

#[tokio::test]
async fn without_descriptors_the_gate_waits_instead_of_turning_in_circles_and_recovers() {
    let served = Served::rep(GateLimits::default()).await;
    // Nobody was served before: descriptors of earlier peers would come free later than the peers are gone.
    let before = getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: Some(FILES), ..before };
    setrlimit(Resource::Nofile, lowered).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    // One for the stranger's own end; the gate finds none for its own.
    held.pop();
    let begun = Instant::now();
    let stranger = RawPeer::connect(served.addr).await;
    served.refuses_at_least(Refusal::AcceptFailed, 4).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(250), "three pauses: {took:?}");
    drop(held);
    drop(stranger);
    served.still_answers().await;
    // What a daemon does at its start.
    raise_file_limit(100).unwrap();
    let raised = getrlimit(Resource::Nofile);
    assert_eq!(raised.maximum, before.maximum);
    let wanted = before.maximum.map_or(360, |most| most.min(360));
    assert_eq!(raised.current, Some(wanted));
    raise_file_limit(1).unwrap();
    assert_eq!(getrlimit(Resource::Nofile), raised, "never lowered");
}
