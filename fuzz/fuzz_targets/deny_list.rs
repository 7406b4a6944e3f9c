//! libFuzzer's entrance to `adit_fuzz::deny_list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::deny_list(data));
