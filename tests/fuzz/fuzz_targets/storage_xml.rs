//! `cargo fuzz run storage_xml`; scripts/fuzz uses `all.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maglica_fuzz::STORAGE_XML.run(data));
