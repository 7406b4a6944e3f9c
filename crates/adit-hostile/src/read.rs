//! One careful reading of HTTP/1.1 bytes (RFC 9112): what the origin of these tests understands. Whatever could be read in
//! another way is an error here, because an origin exists somewhere that reads it that way.

/// A field as it was written.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// A whole or partial request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Field>,
}

/// How far the bytes of a connection reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The head is not complete.
    Nothing,
    /// The head is complete; the body is not.
    Head(Message),
    /// A whole request, and how many bytes it took.
    Whole(Message, usize),
}

impl Message {
    /// All values of a field, whose name is compared without case.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        values(&self.fields, name)
    }
}

/// All values of a field in a list.
pub(crate) fn values<'f>(fields: &'f [Field], name: &str) -> Vec<&'f [u8]> {
    let same = fields.iter().filter(|(written, _)| written.eq_ignore_ascii_case(name.as_bytes()));
    same.map(|(_, value)| &value[..]).collect()
}

/// Reads a request at the start of the bytes.
///
/// # Errors
/// Why a careful reader refuses them.
pub(crate) fn message(bytes: &[u8]) -> Result<Progress, &'static str> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.windows(2).any(|pair| pair == b"\n\n") {
            Err("a bare LF")
        } else {
            Ok(Progress::Nothing)
        };
    };
    let mut message = head(&bytes[..end])?;
    let start = end + 4;
    let rest = &bytes[start..];
    let used = match framing(&message)? {
        Framing::Length(length) if rest.len() < length => {
            message.body = rest.to_vec();
            return Ok(Progress::Head(message));
        }
        Framing::Length(length) => {
            message.body = rest[..length].to_vec();
            length
        }
        Framing::Chunked => match chunks(rest, &mut message)? {
            Some(used) => used,
            None => return Ok(Progress::Head(message)),
        },
    };
    Ok(Progress::Whole(message, start + used))
}

enum Framing {
    Length(usize),
    Chunked,
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn head(bytes: &[u8]) -> Result<Message, &'static str> {
    let mut lines = lines(bytes)?.into_iter();
    let line = lines.next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(b"HTTP/1.1"), None) = (method, target, version, words.next())
    else {
        return Err("a request line that is not METHOD SP TARGET SP HTTP/1.1");
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err("a method that is no token");
    }
    if target.is_empty() || !target.iter().all(|byte| matches!(byte, 0x21..=0x7e | 0x80..)) {
        return Err("a target with control bytes");
    }
    let fields = lines.map(field).collect::<Result<_, _>>()?;
    Ok(Message { method: method.to_vec(), target: target.to_vec(), fields, ..Message::default() })
}

/// Lines that end with CR LF, and hold neither byte otherwise.
fn lines(bytes: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    if lines.iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n')) {
        return Err("a bare CR or LF");
    }
    Ok(lines)
}

fn field(line: &[u8]) -> Result<Field, &'static str> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a field line without a colon")?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err("a field name that is no token");
    }
    if !value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
        return Err("a field value with control bytes");
    }
    Ok((name.to_vec(), value.to_vec()))
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn framing(message: &Message) -> Result<Framing, &'static str> {
    let (lengths, codings) = (message.values("content-length"), message.values("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [b"chunked"]) => Ok(Framing::Chunked),
        ([length], []) => number(length).map(Framing::Length),
        ([], _) => Err("a Transfer-Encoding that is not exactly `chunked`"),
        (_, []) => Err("several Content-Length"),
        _ => Err("Content-Length beside Transfer-Encoding"),
    }
}

/// Decimal digits without a sign and without leading zeros.
fn number(digits: &[u8]) -> Result<usize, &'static str> {
    let text = std::str::from_utf8(digits).map_err(|_| "a Content-Length that is no number")?;
    let number: usize = text.parse().map_err(|_| "a Content-Length that is no number")?;
    if number.to_string() == text { Ok(number) } else { Err("a Content-Length that is not written plainly") }
}

/// Reads chunks and trailers; how many bytes they took, once they are complete.
fn chunks(bytes: &[u8], message: &mut Message) -> Result<Option<usize>, &'static str> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
        let size = chunk_size(&rest[..end])?;
        let data = end + 2;
        if size == 0 {
            return trailers(&rest[end..], message).map(|used| used.map(|used| at + end + used));
        }
        let Some(part) = rest.get(data..data + size) else {
            message.body.extend_from_slice(rest.get(data..).unwrap_or_default());
            return Ok(None);
        };
        message.body.extend_from_slice(part);
        match rest.get(data + size..data + size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += data + size + 2,
            Some(_) => return Err("a chunk that is longer than its size"),
        }
    }
}

/// A size in hexadecimal without extensions, which a proxy does not pass on.
fn chunk_size(line: &[u8]) -> Result<usize, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "a chunk size that is no number")?;
    if text.is_empty() || text.len() > 8 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err("a chunk size that is no plain hexadecimal number");
    }
    usize::from_str_radix(text, 16).map_err(|_| "a chunk size that is no number")
}

/// Trailers, from the line end after the last chunk's size on.
fn trailers(bytes: &[u8], message: &mut Message) -> Result<Option<usize>, &'static str> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let fields = lines(bytes.get(2..end).unwrap_or_default())?;
    let fields = fields.into_iter().filter(|line| !line.is_empty());
    message.trailers = fields.map(field).collect::<Result<_, _>>()?;
    Ok(Some(end + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Message {
        match message(bytes) {
            Ok(Progress::Whole(message, used)) if used == bytes.len() => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_read_with_their_bodies_and_trailers() {
        let plain = whole(b"GET /x?y HTTP/1.1\r\nHost: a\r\nX:  padded \r\n\r\n");
        assert_eq!((&plain.method[..], &plain.target[..]), (&b"GET"[..], &b"/x?y"[..]));
        assert_eq!(plain.values("x"), [b"padded"]);
        assert_eq!(whole(b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").body, b"abc");
        let chunked = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n";
        let bare = whole(&[&chunked[..], b"\r\n"].concat());
        assert_eq!((&bare.body[..], bare.trailers.len()), (&b"abcd"[..], 0));
        let trailed = whole(&[&chunked[..], b"T: 1\r\n\r\n"].concat());
        assert_eq!(values(&trailed.trailers, "t"), [b"1"]);
    }

    #[test]
    fn a_request_is_whole_at_its_last_byte_and_not_before() {
        let bytes = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n";
        for end in 0..bytes.len() {
            assert!(!matches!(message(&bytes[..end]), Ok(Progress::Whole(..)) | Err(_)), "{end}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\nHost: a\n\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            b"GET / HTTP/1.1\r\nX : a\r\n\r\n",
            b"GET / HTTP/1.1\r\n folded\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 05\r\n\r\nabcde",
            b"GET / HTTP/1.1\r\nContent-Length: +5\r\n\r\nabcde",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        ] {
            assert!(message(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
