//! `cargo fuzz run credentials`; scripts/fuzz uses `all.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maglica_fuzz::CREDENTIALS.run(data));
