//! Durations in Go's spelling: `30s`, `1m30s`, `500ms`.

use std::time::Duration;

/// A text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration such as `30s`, `1m30s` or `500ms`")]
pub struct DurationError;

/// The units, longest spelling first where one is the beginning of another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Reads a duration. A negative one is refused: none of ours can be.
///
/// # Errors
/// [`DurationError`] for everything else.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError);
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (part, after) = first_part(rest).ok_or(DurationError)?;
        sum = sum.checked_add(part).ok_or(DurationError)?;
        rest = after;
    }
    Ok(sum)
}

fn first_part(text: &str) -> Option<(Duration, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at_checked(unit_at)?;
    let number: f64 = number.parse().ok()?;
    let (unit, after) = UNITS.iter().find_map(|(name, seconds)| Some((seconds, rest.strip_prefix(name)?)))?;
    Some((Duration::try_from_secs_f64(number * unit).ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("0", 0),
            ("0s", 0),
            ("1h2m3s4ms", 3_723_004),
            (".5s", 500),
            ("+1s", 1000),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse_duration("7µs"), Ok(Duration::from_micros(7)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "30", "s", "-1s", "1 s", "1d", "..s", "1s2", "99999999999999999999h", "+", "1e3s"] {
            assert_eq!(parse_duration(text), Err(DurationError), "{text}");
        }
    }
}
