//! `cargo fuzz run guest_agent`; scripts/fuzz uses `all.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maglica_fuzz::GUEST_AGENT.run(data));
