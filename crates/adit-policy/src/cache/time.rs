//! Dates and ages of messages (RFC 9110, section 5.6.7; RFC 9111, section 5.1).

use std::time::{Duration, SystemTime};

use http::header::{AGE, HeaderMap, HeaderName, HeaderValue};

/// The largest age that is counted with (RFC 9111, section 1.2.2).
const AGE_MAX: u64 = 1 << 31;

/// The date of a field that stands there once and is well-formed.
#[must_use]
pub fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| parse(value)).flatten()
}

/// Reads a date. The library is more generous than the RFC, so the fixed form is checked first.
fn parse(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?;
    let fixed = text.len() == 29 && text.ends_with(" GMT") && text.get(3..5) == Some(", ");
    let rfc850 = text.ends_with(" GMT") && text.split_once(", ").is_some_and(|(day, _)| day.len() > 3);
    let asctime = text.len() == 24 && !text.contains(',');
    if !(fixed || rfc850 || asctime) {
        return None;
    }
    httpdate::parse_http_date(text).ok()
}

/// The `Age` of a response: of several, the first one's word. One that is no number counts for nothing.
#[must_use]
pub fn age_field(headers: &HeaderMap) -> Duration {
    let first = headers.get(AGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = first.split([',', ';']).next().unwrap_or_default().trim();
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(first.parse().unwrap_or(AGE_MAX).min(AGE_MAX))
}

/// From `earlier` to `later`; nothing if it is the other way round.
#[must_use]
pub fn since(later: SystemTime, earlier: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}
