//! libFuzzer's entrance to `adit_fuzz::socks5`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::socks5(data));
