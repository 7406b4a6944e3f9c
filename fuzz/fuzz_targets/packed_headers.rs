//! libFuzzer's entrance to `adit_fuzz::packed_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::packed_headers(data));
