//! What the agent inside a guest answers. The guest may be anybody's.
//!
//! Input: a byte, then the JSON: of the name if the byte is even, of the interfaces if it is odd.

use maglica_host_worker::hypervisor::agent::{ADDRESSES_MAX, HOST_NAME_MAX, read};
use maglica_proto::job::GuestAnswer;

use crate::input::{Input, text};

/// Reads it together with an honest other half.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let odd = input.byte() % 2 == 1;
    let text = text(input.0);
    let answer = if odd {
        read(r#"{"return":{"host-name":"vm0.example.jp"}}"#, &text)
    } else {
        read(&text, r#"{"return":[{"name":"lo"}]}"#)
    };
    let Ok(answer) = answer else { return };
    let GuestAnswer::Up { hostname, addresses } = answer else { panic!("an answer is taken for silence") };
    assert!(hostname.len() <= HOST_NAME_MAX && !hostname.chars().any(char::is_control), "{hostname:?}");
    assert!(addresses.len() <= ADDRESSES_MAX && addresses.iter().all(|address| !address.is_loopback()));
}
