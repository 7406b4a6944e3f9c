//! libFuzzer's entrance to `adit_fuzz::answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::answer(data));
