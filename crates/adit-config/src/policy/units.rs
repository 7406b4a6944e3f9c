//! Sizes and rates as nginx writes them.

use std::time::Duration;

use adit_policy::policy::limit::Rate;

use super::Decoder;
use crate::yaml::{self, Node};

const KIB: u64 = 1024;
const UNITS: [(&str, u64); 13] = [
    ("kib", KIB),
    ("mib", KIB * KIB),
    ("gib", KIB * KIB * KIB),
    ("tib", KIB * KIB * KIB * KIB),
    ("kb", KIB),
    ("mb", KIB * KIB),
    ("gb", KIB * KIB * KIB),
    ("tb", KIB * KIB * KIB * KIB),
    ("k", KIB),
    ("m", KIB * KIB),
    ("g", KIB * KIB * KIB),
    ("t", KIB * KIB * KIB * KIB),
    ("b", 1),
];

/// Reads a size: `512`, `64k`, `200m`, `2g`, `512 MB`. A thousand is 1024, as in nginx.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((&text, 1));
    number.trim_end().parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads a rate: `10/s`, `30/min`, `1000/h`, also `10r/s`.
#[must_use]
pub fn parse_rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.trim().split_once('/')?;
    let count = count.trim().trim_end_matches('r').trim_end().parse().ok().filter(|count| *count > 0)?;
    let seconds = match unit.trim() {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3600,
        "d" | "day" => 24 * 3600,
        _ => return None,
    };
    Some(Rate { count, per: Duration::from_secs(seconds) })
}

impl Decoder<'_> {
    /// A size in bytes.
    pub(crate) fn size(&mut self, node: &Node) -> Option<u64> {
        let text = yaml::text(node, self.findings)?;
        let size = parse_size(text);
        if size.is_none() {
            self.findings
                .error(node.span, format!("`{text}` is not a size"))
                .help("a size is written like `512k`, `200m` or `2g`");
        }
        size
    }

    pub(super) fn rate(&mut self, node: &Node) -> Option<Rate> {
        let text = yaml::text(node, self.findings)?;
        let rate = parse_rate(text);
        if rate.is_none() {
            self.findings
                .error(node.span, format!("`{text}` is not a rate"))
                .help("a rate is written like `10/s`, `30/min` or `1000/h`");
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_nginx_writes_them() {
        for (text, bytes) in [
            ("512", Some(512)),
            ("64k", Some(64 << 10)),
            ("200m", Some(200 << 20)),
            ("512 MB", Some(512 << 20)),
            ("2G", Some(2 << 30)),
            ("1GiB", Some(1 << 30)),
            ("7b", Some(7)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1.5g", None),
            ("99999999999t", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn rates_are_read_as_nginx_writes_them() {
        let read = |text| parse_rate(text).map(|rate| (rate.count, rate.per.as_secs()));
        assert_eq!(read("10/s"), Some((10, 1)));
        assert_eq!(read("30/min"), Some((30, 60)));
        assert_eq!(read("30r/m"), Some((30, 60)));
        assert_eq!(read("1000 / h"), Some((1000, 3600)));
        for nonsense in ["", "10", "/s", "0/s", "10/x", "-1/s", "1.5/s"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
