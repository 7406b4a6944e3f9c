//! libFuzzer's entrance to `adit_fuzz::request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::request_head(data));
