//! `cargo fuzz run domain_xml`; scripts/fuzz uses `all.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maglica_fuzz::DOMAIN_XML.run(data));
