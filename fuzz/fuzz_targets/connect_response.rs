//! libFuzzer's entrance to `adit_fuzz::connect_response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::connect_response(data));
