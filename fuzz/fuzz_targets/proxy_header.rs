//! libFuzzer's entrance to `adit_fuzz::proxy_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::proxy_header(data));
