//! libFuzzer's entrance to `adit_fuzz::http3_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::http3_head(data));
