//! All targets in one program: `$MAGLICA_FUZZ_TARGET` says which.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maglica_fuzz::chosen().run(data));
