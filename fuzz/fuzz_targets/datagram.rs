//! libFuzzer's entrance to `adit_fuzz::datagram`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::datagram(data));
