//! The body of an origin's answer, taken out of the read buffer as it comes (RFC 9112, sections 6 and 7).

use adit_wire::fields::Fields;
use bytes::{Buf as _, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Status};

use super::{Framing, Malformed};

/// Characters of a chunk-size line with its extensions.
const SIZE_LINE_MAX: usize = 1024;
/// Bytes of a trailer section.
const TRAILERS_BYTES_MAX: usize = 16 * 1024;
/// Fields of a trailer section.
const TRAILERS_MAX: usize = 64;

/// What the buffer holds next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the body.
    Data(Bytes),
    /// The trailer section; the end follows.
    Trailers(Fields),
    /// The body is complete.
    End,
    /// Nothing until more is read.
    NeedMore,
}

/// Where in the body we are.
#[derive(Debug)]
pub struct BodyReader(State);

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunked {
    Size,
    Data(u64),
    /// The line end after a chunk.
    Gap,
    Trailers,
    End,
}

impl BodyReader {
    /// At the start of a body.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::Size),
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Takes the next piece out of the buffer.
    ///
    /// # Errors
    /// When chunks are malformed.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        match &mut self.0 {
            State::Length(0) => Ok(Piece::End),
            State::Length(left) => Ok(data(buffer, left)),
            State::UntilClose if buffer.is_empty() => Ok(Piece::NeedMore),
            State::UntilClose => Ok(Piece::Data(buffer.split().freeze())),
            State::Chunked(state) => state.take(buffer),
        }
    }

    /// Whether the end of the connection is the end of the body.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }

    /// How much to make room for.
    #[must_use]
    pub fn expects(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            State::Chunked(_) | State::UntilClose => None,
        }
    }
}

fn data(buffer: &mut BytesMut, left: &mut u64) -> Piece {
    if buffer.is_empty() {
        return Piece::NeedMore;
    }
    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= take as u64;
    Piece::Data(buffer.split_to(take).freeze())
}

impl Chunked {
    fn take(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self {
                Self::Size => match size_line(buffer)? {
                    None => return Ok(Piece::NeedMore),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::Data(size),
                },
                Self::Data(0) => *self = Self::Gap,
                Self::Data(left) => return Ok(data(buffer, left)),
                Self::Gap => match buffer.get(..2) {
                    None => return Ok(Piece::NeedMore),
                    Some(b"\r\n") => {
                        buffer.advance(2);
                        *self = Self::Size;
                    }
                    Some(_) => return Err(Malformed("a chunk is longer than it says")),
                },
                Self::Trailers => {
                    let Some(fields) = trailers(buffer)? else { return Ok(Piece::NeedMore) };
                    *self = Self::End;
                    if !fields.is_empty() {
                        return Ok(Piece::Trailers(fields));
                    }
                }
                Self::End => return Ok(Piece::End),
            }
        }
    }
}

/// The size of the next chunk, once its line is complete. Extensions are ignored.
fn size_line(buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    let malformed = || Malformed("bad chunk size");
    let Some(end) = buffer.iter().take(SIZE_LINE_MAX).position(|byte| *byte == b'\n') else {
        return if buffer.len() >= SIZE_LINE_MAX { Err(malformed()) } else { Ok(None) };
    };
    let line = buffer.split_to(end + 1);
    let line = line.strip_suffix(b"\r\n").ok_or_else(malformed)?;
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(malformed());
    }
    let text = std::str::from_utf8(digits).map_err(|_| malformed())?;
    u64::from_str_radix(text, 16).map(Some).map_err(|_| malformed())
}

fn trailers(buffer: &mut BytesMut) -> Result<Option<Fields>, Malformed> {
    let mut slots = [EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(buffer, &mut slots) {
        Ok(Status::Complete((used, headers))) => {
            let pairs = headers.iter().map(|header| (header.name.as_bytes(), header.value));
            let fields = Fields::from_pairs(pairs);
            buffer.advance(used);
            Ok(Some(fields))
        }
        Ok(Status::Partial) if buffer.len() < TRAILERS_BYTES_MAX => Ok(None),
        Ok(Status::Partial) | Err(_) => Err(Malformed("bad trailer section")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in steps and collects the body; `Err` for malformed bytes, `Ok(None)` when it does not end.
    fn read(
        framing: Framing,
        bytes: &[u8],
        step: usize,
    ) -> Result<Option<(Vec<u8>, usize, usize)>, Malformed> {
        let (mut reader, mut buffer) = (BodyReader::new(framing), BytesMut::new());
        let (mut body, mut trailers) = (Vec::new(), 0);
        for chunk in bytes.chunks(step) {
            buffer.extend_from_slice(chunk);
            loop {
                match reader.take(&mut buffer)? {
                    Piece::Data(data) => body.extend_from_slice(&data),
                    Piece::Trailers(fields) => trailers = fields.len(),
                    Piece::NeedMore => break,
                    Piece::End => return Ok(Some((body, trailers, buffer.len()))),
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn every_framing_ends_where_it_says() {
        for step in 1..12 {
            let length = read(Framing::Length(5), b"hello", step).unwrap();
            assert_eq!(length, Some((b"hello".to_vec(), 0, 0)));
            let chunked = b"5;x=y\r\nhello\r\n6 \r\n world\r\n0\r\nA: b\r\nC: d\r\n\r\n";
            let chunked = read(Framing::Chunked, chunked, step).unwrap();
            assert_eq!(chunked, Some((b"hello world".to_vec(), 2, 0)), "step {step}");
            assert_eq!(read(Framing::UntilClose, b"hello", step).unwrap(), None);
        }
        assert_eq!(
            read(Framing::Length(5), b"hello!", 9).unwrap().unwrap().2,
            1,
            "a byte too many is left over"
        );
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bad in [
            "x\r\n",
            "\r\n",
            "5\nhello",
            "-1\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\n",
            "5\r\nhelloX\r\n",
            "11111111111111111\r\n",
            "0\r\nbad\r\n\r\n",
        ] {
            assert!(read(Framing::Chunked, bad.as_bytes(), 64).is_err(), "{bad:?}");
        }
        assert!(read(Framing::Chunked, &[b'1'; SIZE_LINE_MAX + 1], 4096).is_err());
    }
}
