//! The access record: one per request, written when it is dropped, so that none is forgotten.
//!
//! The first twelve fields have nginx's names, so that existing queries go on working.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Uri};

use crate::json::{put_number, put_seconds, put_string};

/// Bytes of a request target in a record.
const URI_MAX: usize = 4096;
/// Bytes of any other text of the visitor in a record.
const TEXT_MAX: usize = 1024;

/// What happened to one request.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When its head was complete.
    pub time: SystemTime,
    /// The other end of the connection.
    pub remote: SocketAddr,
    /// The visitor.
    pub client_ip: IpAddr,
    /// The method.
    pub method: Method,
    /// The target, as sent.
    pub uri: Uri,
    /// The status that was sent; 499: the visitor left first; 444: closed without an answer.
    pub status: u16,
    /// Bytes of the answer's body.
    pub body_bytes_sent: u64,
    /// From the head to the last byte.
    pub request_time: Duration,
    /// From the head to the origin's head.
    pub upstream_time: Option<Duration>,
    /// What the cache said.
    pub cache_status: Option<&'static str>,
    /// The host, as sent.
    pub host: Bytes,
    /// The browser.
    pub user_agent: Option<HeaderValue>,
    /// The id that the origin gets too.
    pub request_id: u128,
    /// `HTTP/1.1`, `HTTP/2.0`, …
    pub protocol: http::Version,
    /// `https` or `http`.
    pub scheme: &'static str,
    /// The tunnel's name.
    pub tunnel: Option<std::sync::Arc<str>>,
    /// The transport to the connector.
    pub transport: Option<&'static str>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// A stable word for what went wrong.
    pub error: Option<&'static str>,
    /// The cause, for the operator only.
    pub cause: Option<String>,
}

impl AccessRecord {
    /// Appends the record as one line of JSON.
    pub fn write_json(&self, out: &mut Vec<u8>, clock: &mut ClockText) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(clock.format(self.time));
        out.extend_from_slice(b"\",\"remote_addr\":\"");
        put_ip(out, self.remote.ip());
        out.extend_from_slice(b"\",\"client_ip\":\"");
        put_ip(out, self.client_ip);
        out.extend_from_slice(b"\",\"request_method\":");
        put_string(out, self.method.as_str().as_bytes(), TEXT_MAX);
        out.extend_from_slice(b",\"request_uri\":");
        let target = self.uri.path_and_query().map_or("", |target| target.as_str());
        put_string(out, target.as_bytes(), URI_MAX);
        out.extend_from_slice(b",\"status\":");
        put_number(out, u64::from(self.status));
        out.extend_from_slice(b",\"body_bytes_sent\":");
        put_number(out, self.body_bytes_sent);
        out.extend_from_slice(b",\"request_time\":");
        put_seconds(out, self.request_time);
        self.write_upstream(out);
        out.extend_from_slice(b",\"http_host\":");
        put_string(out, &self.host, TEXT_MAX);
        out.extend_from_slice(b",\"http_user_agent\":");
        put_string(out, self.user_agent.as_ref().map_or(b"", HeaderValue::as_bytes), TEXT_MAX);
        self.write_ours(out);
        out.extend_from_slice(b"}\n");
    }

    fn write_upstream(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"upstream_response_time\":");
        match self.upstream_time {
            Some(time) => put_seconds(out, time),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"upstream_cache_status\":");
        put_string(out, self.cache_status.unwrap_or_default().as_bytes(), TEXT_MAX);
    }

    fn write_ours(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"request_id\":\"");
        out.extend_from_slice(&hex(self.request_id));
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(protocol(self.protocol).as_bytes());
        out.extend_from_slice(b"\",\"scheme\":\"");
        out.extend_from_slice(self.scheme.as_bytes());
        out.extend_from_slice(b"\",\"request_bytes\":");
        put_number(out, self.request_bytes);
        put_optional(out, "tunnel", self.tunnel.as_deref());
        put_optional(out, "transport", self.transport);
        put_optional(out, "error", self.error);
        put_optional(out, "cause", self.cause.as_deref());
    }
}

fn put_optional(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        put_string(out, value.as_bytes(), TEXT_MAX);
    }
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    use std::io::Write as _;
    // Writing to memory does not fail.
    drop(match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            for (index, part) in [a, b, c, d].into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                put_number(out, u64::from(part));
            }
            Ok(())
        }
        IpAddr::V6(v6) => write!(out, "{v6}"),
    });
}

/// The protocol as nginx writes it.
#[must_use]
pub fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// 32 lower-case hexadecimal digits: the form of a request id.
#[must_use]
pub fn hex(id: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = (id >> (124 - 4 * index) & 0xF) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    digits
}

/// Formats times as RFC 3339 with milliseconds. The second is formatted once and kept.
#[derive(Debug, Default)]
pub struct ClockText {
    second: Option<u64>,
    text: Vec<u8>,
}

impl ClockText {
    fn format(&mut self, time: SystemTime) -> &[u8] {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text = whole_second(since.as_secs()).into_bytes();
        }
        let prefix = "2026-11-21T00:00:00".len();
        self.text.truncate(prefix);
        self.text.push(b'.');
        for divisor in [100, 10, 1] {
            self.text.push(b'0' + (since.subsec_millis() / divisor % 10) as u8);
        }
        self.text.push(b'Z');
        &self.text
    }
}

fn whole_second(unix: u64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(unix.cast_signed())
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AccessRecord {
        AccessRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_700_000_042),
            remote: "[::ffff:192.0.2.1]:5".parse().unwrap(),
            client_ip: "2001:db8::1".parse().unwrap(),
            method: Method::GET,
            uri: Uri::from_static("/a?b=c%22"),
            status: 200,
            body_bytes_sent: 1024,
            request_time: Duration::from_millis(1234),
            upstream_time: Some(Duration::from_millis(7)),
            cache_status: None,
            host: Bytes::from_static(b"a.example"),
            user_agent: Some(HeaderValue::from_bytes(b"x\xFFy").unwrap()),
            request_id: 0xABC,
            protocol: http::Version::HTTP_2,
            scheme: "https",
            tunnel: Some("home".into()),
            transport: Some("quic"),
            request_bytes: 0,
            error: None,
            cause: Some("a \"quoted\"\nline".to_owned()),
        }
    }

    #[test]
    fn a_record_is_one_line_of_json_with_nginx_s_names() {
        let mut out = Vec::new();
        record().write_json(&mut out, &mut ClockText::default());
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["time"], "2025-11-21T04:40:00.042Z");
        assert_eq!(read["remote_addr"], "192.0.2.1");
        assert_eq!(read["client_ip"], "2001:db8::1");
        assert_eq!(read["request_uri"], "/a?b=c%22");
        assert_eq!(read["request_time"], 1.234);
        assert_eq!(read["upstream_response_time"], 0.007);
        assert_eq!(read["http_user_agent"], "x\u{FFFD}y");
        assert_eq!(read["protocol"], "HTTP/2.0");
        assert_eq!(read["cause"], "a \"quoted\"\nline");
        assert_eq!(read["request_id"], format!("{:032x}", 0xABC));
        for name in ["request_method", "status", "body_bytes_sent", "upstream_cache_status", "http_host"] {
            assert!(read.get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_clock_s_text_follows_the_second() {
        let mut clock = ClockText::default();
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(clock.format(at(0)), b"1970-01-01T00:00:00.000Z");
        assert_eq!(clock.format(at(999)), b"1970-01-01T00:00:00.999Z");
        assert_eq!(clock.format(at(86_400_000)), b"1970-01-02T00:00:00.000Z");
    }
}
