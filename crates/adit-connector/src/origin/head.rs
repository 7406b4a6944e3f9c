//! Heads on HTTP/1.1: the request's written straight from the wire's fields, the answer's read with its framing.

use adit_policy::ingress::OriginRequest;
use adit_tunnel::connector::StreamRequest;
use adit_wire::fields::Fields;
use bytes::{BufMut as _, BytesMut};
use httparse::{EMPTY_HEADER, Status};

use super::OriginError;

/// Bytes of an answer's head.
pub(super) const HEAD_MAX: usize = 64 * 1024;
/// Fields of an answer's head.
const FIELDS_MAX: usize = 128;

/// Appends a request head.
///
/// # Errors
/// When a part would break the message: the bytes come from another machine.
pub(super) fn write(
    out: &mut BytesMut,
    request: &StreamRequest,
    settings: &OriginRequest,
    websocket: bool,
) -> Result<(), OriginError> {
    let plain = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|byte| *byte > b' ' && *byte != 0x7F);
    if !plain(&request.method) || !plain(&request.target) || !plain(&request.host) {
        return Err(OriginError::Request("method, target or host has bytes that none has"));
    }
    out.put_slice(&request.method);
    out.put_u8(b' ');
    out.put_slice(&request.target);
    out.put_slice(b" HTTP/1.1\r\n");
    let host = settings.http_host_header.as_ref().map_or(&request.host[..], |host| host.as_bytes());
    put(out, b"Host", host);
    for (name, value) in request.fields.iter() {
        if is_dropped(name, request.has_body) {
            continue;
        }
        if !is_token(name) || !is_value(value) {
            return Err(OriginError::Request("a header field has bytes that none has"));
        }
        put(out, name, value);
    }
    if websocket {
        out.put_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        if request.fields.get("sec-websocket-version").is_none() {
            out.put_slice(b"Sec-WebSocket-Version: 13\r\n");
        }
    } else if request.has_body && request.fields.get("content-length").is_none() {
        out.put_slice(b"Transfer-Encoding: chunked\r\n");
    } else if !request.has_body && matches!(&request.method[..], b"POST" | b"PUT" | b"PATCH") {
        out.put_slice(b"Content-Length: 0\r\n");
    }
    out.put_slice(b"\r\n");
    Ok(())
}

fn put(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Fields that are this connection's own, whatever the edge sent. A length without a body would leave the origin
/// waiting; [`write`] says zero where the method wants a word.
fn is_dropped(name: &[u8], has_body: bool) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match name.len() {
        4 => is("host"),
        6 => is("expect"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("http2-settings") || (is("content-length") && !has_body),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

pub(super) fn is_token(name: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(token)
}

pub(super) fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7F) || *byte == b'\t')
}

/// How the body of an answer ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// An answer's head.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    /// End-to-end fields, as slices of the head.
    pub(super) fields: Fields,
    pub(super) framing: Framing,
    /// Whether the connection may be used again.
    pub(super) keep_alive: bool,
}

/// Takes a head off the front of the buffer; `None` when it is not complete.
///
/// # Errors
/// When it is too long or makes no sense.
pub(super) fn take(buffer: &mut BytesMut, method: &[u8]) -> Result<Option<ResponseHead>, OriginError> {
    let mut slots = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut slots);
    let length = match response.parse(buffer) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if buffer.len() < HEAD_MAX => return Ok(None),
        Ok(Status::Partial) => return Err(OriginError::Malformed("the head is too long")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(OriginError::Malformed("the head has too many fields"));
        }
        Err(_) => return Err(OriginError::Malformed("not an HTTP/1.1 head")),
    };
    let status = response.code.unwrap_or_default();
    let minor = response.version.unwrap_or_default();
    let scan = Scan::of(response.headers, buffer)?;
    let framing = scan.framing(status, method)?;
    let keep_alive = scan.keeps_alive(minor) && framing != Framing::UntilClose;
    let ranges = scan.ranges;
    let head = buffer.split_to(length).freeze();
    let mut fields = Fields::with_capacity(head, ranges.len());
    for (name, value) in ranges {
        fields
            .push_range(name, value)
            .map_err(|_| OriginError::Malformed("a field lies outside of the head"))?;
    }
    Ok(Some(ResponseHead { status, fields, framing, keep_alive }))
}

type Range = std::ops::Range<usize>;

/// What one pass over the fields finds.
struct Scan {
    ranges: Vec<(Range, Range)>,
    length: Option<u64>,
    chunked: bool,
    coded: bool,
    close: bool,
    keep: bool,
}

impl Scan {
    fn of(headers: &[httparse::Header<'_>], buffer: &[u8]) -> Result<Self, OriginError> {
        let ranges = Vec::with_capacity(headers.len());
        let mut scan = Self { ranges, length: None, chunked: false, coded: false, close: false, keep: false };
        let named = named_by_connection(headers);
        for header in headers {
            if scan.is_own(header)? || named.iter().any(|name| name.eq_ignore_ascii_case(header.name)) {
                continue;
            }
            scan.ranges.push((range_of(header.name.as_bytes(), buffer), range_of(header.value, buffer)));
        }
        Ok(scan)
    }

    /// Reads the fields that frame this connection; says whether the field ends here.
    fn is_own(&mut self, header: &httparse::Header<'_>) -> Result<bool, OriginError> {
        let is = |known: &str| header.name.eq_ignore_ascii_case(known);
        match header.name.len() {
            10 if is("connection") => self.connection(header.value),
            10 if is("keep-alive") => {}
            14 if is("content-length") => {
                let length =
                    parse_length(header.value).ok_or(OriginError::Malformed("bad Content-Length"))?;
                if self.length.is_some_and(|known| known != length) {
                    return Err(OriginError::Malformed("two different lengths"));
                }
                // The first one travels on; a repetition ends here.
                return Ok(self.length.replace(length).is_some());
            }
            16 if is("proxy-connection") => {}
            17 if is("transfer-encoding") => {
                self.coded = true;
                self.chunked = header.value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn framing(&self, status: u16, method: &[u8]) -> Result<Framing, OriginError> {
        if method == b"HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(Framing::Length(0));
        }
        match (self.coded, self.chunked, self.length) {
            (true, _, Some(_)) => Err(OriginError::Malformed("both a length and a transfer coding")),
            (true, true, None) => Ok(Framing::Chunked),
            (true, false, None) => Err(OriginError::Malformed("an unknown transfer coding")),
            (false, _, Some(length)) => Ok(Framing::Length(length)),
            (false, _, None) => Ok(Framing::UntilClose),
        }
    }

    fn keeps_alive(&self, minor: u8) -> bool {
        !self.close && (minor >= 1 || self.keep)
    }
}

/// Names that Connection lists: they end here too. Mostly there are none.
fn named_by_connection<'h>(headers: &[httparse::Header<'h>]) -> Vec<&'h str> {
    let usual = ["close", "keep-alive", "upgrade"];
    let lists = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
    let names =
        lists.filter_map(|header| std::str::from_utf8(header.value).ok()).flat_map(|list| list.split(','));
    names
        .map(str::trim)
        .filter(|name| !name.is_empty() && !usual.iter().any(|usual| usual.eq_ignore_ascii_case(name)))
        .collect()
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Where a slice of the buffer lies in it.
fn range_of(part: &[u8], buffer: &[u8]) -> Range {
    let start = (part.as_ptr() as usize).saturating_sub(buffer.as_ptr() as usize);
    start..start + part.len()
}
