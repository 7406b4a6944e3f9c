//! libFuzzer's entrance to `adit_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::token(data));
