//! libFuzzer's entrance to `adit_fuzz::reading::path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::reading::path(data));
