//! Everything that is spoken inside a session: any bytes as each kind of message.
//!
//! Input: MessagePack.

use std::fmt::Debug;

use maglica_proto::{
    codec,
    fault::Fault,
    host::{Broadcast, HostAnswer, HostRequest},
    inventory::Inventory,
    job::{HostEvent, JobEvent, JobSpec, JobView, Outcome, Task},
    join::{JoinAnswer, JoinRequest},
    request::{Answer, Request},
    seal::{Hello, Welcome},
};
use serde::{Serialize, de::DeserializeOwned};

/// Tries them all.
pub fn check(data: &[u8]) {
    if let Some(request) = reads_back::<Request>(data) {
        assert!(!request.role().as_str().is_empty() && !request.verb().is_empty());
    }
    reads_back::<Answer>(data);
    reads_back::<HostRequest>(data);
    reads_back::<HostAnswer>(data);
    reads_back::<Broadcast>(data);
    reads_back::<JoinRequest>(data);
    reads_back::<JoinAnswer>(data);
    reads_back::<Hello>(data);
    reads_back::<Welcome>(data);
    // Parts of the above that have golden bytes of their own.
    reads_back::<JobSpec>(data);
    reads_back::<Task>(data);
    reads_back::<JobView>(data);
    reads_back::<JobEvent>(data);
    reads_back::<HostEvent>(data);
    reads_back::<Outcome>(data);
    reads_back::<Inventory>(data);
    reads_back::<Fault>(data);
}

/// What reads, writes and reads back the same, and is written in one way only.
fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let value: T = match codec::decode(data) {
        Ok(value) => value,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let written = codec::encode(&value).expect("what was read can be written");
    let again: T = codec::decode(&written).expect("what was written can be read");
    assert_eq!(again, value);
    assert_eq!(codec::encode(&again).expect("what was read can be written"), written);
    Some(value)
}
