//! libFuzzer's entrance to `adit_fuzz::connect_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::connect_request(data));
