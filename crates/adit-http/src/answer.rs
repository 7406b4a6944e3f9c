//! Answers of an origin on HTTP/1.1, read out of a buffer: the head with its framing, then the [`body`].
//!
//! The bytes come from a program that may be broken or hostile: whatever is ambiguous is refused (RFC 9112, section 6).

pub mod body;

use adit_wire::fields::Fields;
use bytes::BytesMut;
use httparse::{EMPTY_HEADER, Status};

/// Bytes of an answer's head.
pub const HEAD_MAX: usize = 64 * 1024;
/// Fields of an answer's head.
const FIELDS_MAX: usize = 128;

/// The bytes are no answer, or could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

/// How the body of an answer ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// An answer's head.
#[derive(Debug)]
pub struct ResponseHead {
    /// Its status.
    pub status: u16,
    /// End-to-end fields, as slices of the head.
    pub fields: Fields,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection may be used again.
    pub keep_alive: bool,
}

/// Takes a head off the front of the buffer; `None` when it is not complete.
///
/// # Errors
/// When it is too long or makes no sense.
pub fn take(buffer: &mut BytesMut, method: &[u8]) -> Result<Option<ResponseHead>, Malformed> {
    let mut slots = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut slots);
    let length = match response.parse(buffer) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if buffer.len() < HEAD_MAX => return Ok(None),
        Ok(Status::Partial) => return Err(Malformed("the head is too long")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Malformed("the head has too many fields"));
        }
        Err(_) => return Err(Malformed("not an HTTP/1.1 head")),
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
        fields.push_range(name, value).map_err(|_| Malformed("a field lies outside of the head"))?;
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
    fn of(headers: &[httparse::Header<'_>], buffer: &[u8]) -> Result<Self, Malformed> {
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
    fn is_own(&mut self, header: &httparse::Header<'_>) -> Result<bool, Malformed> {
        let is = |known: &str| header.name.eq_ignore_ascii_case(known);
        match header.name.len() {
            10 if is("connection") => self.connection(header.value),
            10 if is("keep-alive") => {}
            14 if is("content-length") => {
                let length = parse_length(header.value).ok_or(Malformed("bad Content-Length"))?;
                if self.length.is_some_and(|known| known != length) {
                    return Err(Malformed("two different lengths"));
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

    fn framing(&self, status: u16, method: &[u8]) -> Result<Framing, Malformed> {
        if method == b"HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(Framing::Length(0));
        }
        match (self.coded, self.chunked, self.length) {
            (true, _, Some(_)) => Err(Malformed("both a length and a transfer coding")),
            (true, true, None) => Ok(Framing::Chunked),
            (true, false, None) => Err(Malformed("an unknown transfer coding")),
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
