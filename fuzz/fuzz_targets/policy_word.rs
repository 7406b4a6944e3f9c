//! libFuzzer's entrance to `adit_fuzz::policy_word`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::policy_word(data));
