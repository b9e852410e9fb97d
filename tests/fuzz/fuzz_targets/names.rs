//! `cargo fuzz run names`; scripts/fuzz uses `all.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maglica_fuzz::NAMES.run(data));
