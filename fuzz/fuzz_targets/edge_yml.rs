//! libFuzzer's entrance to `adit_fuzz::edge_yml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::edge_yml(data));
