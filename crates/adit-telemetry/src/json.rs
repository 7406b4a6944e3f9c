//! Writing JSON strings fast: the common bytes in one copy, the rest escaped.

/// Appends `"text"`, at most `limit` bytes of it; bytes that are no UTF-8 become U+FFFD.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &[u8], limit: usize) {
    out.push(b'"');
    let cut = text.get(..limit).unwrap_or(text);
    if cut.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(cut);
    } else {
        put_escaped(out, cut);
    }
    if text.len() > limit {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7F).contains(&byte) && byte != b'"' && byte != b'\\'
}

fn put_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if (c as u32) < 0x20 || c == '\u{7F}' => {
                out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends a whole number.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends seconds with three decimals.
pub(crate) fn put_seconds(out: &mut Vec<u8>, duration: std::time::Duration) {
    put_number(out, duration.as_secs());
    let millis = duration.subsec_millis();
    out.push(b'.');
    for divisor in [100, 10, 1] {
        out.push(b'0' + (millis / divisor % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn any_text_comes_back(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            put_string(&mut out, &text, 1000);
            let read: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&text).into_owned());
        }

        #[test]
        fn any_number_comes_back(number in any::<u64>()) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn seconds_have_three_decimals_and_long_text_is_cut() {
        let mut out = Vec::new();
        put_seconds(&mut out, Duration::from_micros(12_034_567));
        assert_eq!(out, b"12.034");
        out.clear();
        put_string(&mut out, b"abcdef", 3);
        assert_eq!(out, "\"abc…\"".as_bytes());
    }
}
