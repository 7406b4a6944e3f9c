//! libFuzzer's entrance to `adit_fuzz::cache_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::cache_key(data));
