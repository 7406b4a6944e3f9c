//! Frames (RFC 9114, section 7): which bytes of a stream are a head, a body, or to be passed over.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::code::Code;
use crate::varint;

/// Part of a body.
pub const DATA: u64 = 0x0;
/// A field section.
pub const HEADERS: u64 = 0x1;
/// An end of a push, which we never begin.
pub const CANCEL_PUSH: u64 = 0x3;
/// What an end can do.
pub const SETTINGS: u64 = 0x4;
/// A promise, which only servers make.
pub const PUSH_PROMISE: u64 = 0x5;
/// No more requests are taken.
pub const GOAWAY: u64 = 0x7;
/// How many pushes there may be.
pub const MAX_PUSH_ID: u64 = 0xd;

/// Types that HTTP/2 had and HTTP/3 reserves (section 7.2.8).
const RESERVED: [u64; 4] = [0x2, 0x6, 0x8, 0x9];
/// Types that only a control stream has.
const CONTROL_ONLY: [u64; 4] = [CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID];
/// Bytes of a frame on a control stream. Settings and priorities need 100.
const CONTROL_FRAME_MAX: u64 = 16 * 1024;

/// What a stream holds next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole field section, still encoded.
    Headers(Bytes),
    /// Bytes of a body.
    Data(Bytes),
    /// Nothing until more is read.
    NeedMore,
}

/// Cuts a request stream into pieces. Frames that mean nothing to us are passed over without being kept.
#[derive(Debug)]
pub struct FrameReader {
    state: State,
    /// Bytes of an encoded field section.
    headers_max: u64,
    /// Frames that count as parts of the message: a head, then a body, then trailers.
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Headers(u64),
    Data(u64),
    Skip(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Nothing,
    Head,
    Trailers,
}

impl FrameReader {
    /// At the start of a request stream.
    #[must_use]
    pub fn new(headers_max: usize) -> Self {
        Self { state: State::Header, headers_max: headers_max as u64, seen: Seen::Nothing }
    }

    /// Takes the next piece out of the buffer.
    ///
    /// # Errors
    /// The code to close the connection with.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Piece, Code> {
        loop {
            match &mut self.state {
                State::Header => {
                    let Some((kind, length)) = header(buffer) else { return Ok(Piece::NeedMore) };
                    self.state = self.begin(kind, length)?;
                }
                State::Headers(length) => {
                    let length = usize::try_from(*length).map_err(|_| Code::EXCESSIVE_LOAD)?;
                    if buffer.len() < length {
                        return Ok(Piece::NeedMore);
                    }
                    self.state = State::Header;
                    return Ok(Piece::Headers(buffer.split_to(length).freeze()));
                }
                State::Data(0) | State::Skip(0) => self.state = State::Header,
                State::Data(_) | State::Skip(_) if buffer.is_empty() => return Ok(Piece::NeedMore),
                State::Data(left) => {
                    let part = take_part(buffer, left);
                    return Ok(Piece::Data(part.freeze()));
                }
                State::Skip(left) => drop(take_part(buffer, left)),
            }
        }
    }

    /// Whether the stream may end here: not inside of a frame.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        matches!(self.state, State::Header | State::Data(0) | State::Skip(0))
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<State, Code> {
        match kind {
            HEADERS if length > self.headers_max => Err(Code::EXCESSIVE_LOAD),
            HEADERS if self.seen < Seen::Trailers => {
                self.seen = if self.seen == Seen::Nothing { Seen::Head } else { Seen::Trailers };
                Ok(State::Headers(length))
            }
            DATA if self.seen == Seen::Head => Ok(State::Data(length)),
            DATA | HEADERS | PUSH_PROMISE => Err(Code::FRAME_UNEXPECTED),
            _ if RESERVED.contains(&kind) || CONTROL_ONLY.contains(&kind) => Err(Code::FRAME_UNEXPECTED),
            _ => Ok(State::Skip(length)),
        }
    }
}

/// Takes what is there of a frame's rest.
fn take_part(buffer: &mut BytesMut, left: &mut u64) -> BytesMut {
    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= take as u64;
    buffer.split_to(take)
}

/// Takes a frame's type and length off the front, once both are there.
fn header(buffer: &mut BytesMut) -> Option<(u64, u64)> {
    let (kind, first) = varint::decode(buffer)?;
    let (length, second) = varint::decode(buffer.get(first..)?)?;
    buffer.advance(first + second);
    Some((kind, length))
}

/// Takes a whole frame of a control stream off the front; `None` when it is not complete.
///
/// # Errors
/// The code to close the connection with.
pub fn take_control(buffer: &mut BytesMut) -> Result<Option<(u64, Bytes)>, Code> {
    let Some((kind, first)) = varint::decode(buffer) else { return Ok(None) };
    let Some((length, second)) = varint::decode(buffer.get(first..).unwrap_or_default()) else {
        return Ok(None);
    };
    if matches!(kind, DATA | HEADERS | PUSH_PROMISE) || RESERVED.contains(&kind) {
        return Err(Code::FRAME_UNEXPECTED);
    }
    if length > CONTROL_FRAME_MAX {
        return Err(Code::EXCESSIVE_LOAD);
    }
    let (head, length) = (first + second, usize::try_from(length).map_err(|_| Code::EXCESSIVE_LOAD)?);
    if buffer.len() < head + length {
        return Ok(None);
    }
    buffer.advance(head);
    Ok(Some((kind, buffer.split_to(length).freeze())))
}

/// Writes a frame's type and length.
pub fn put_header(kind: u64, length: usize, out: &mut BytesMut) {
    varint::encode(kind, out);
    varint::encode(length as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_header(kind, payload.len(), &mut out);
        out.extend_from_slice(payload);
        out.to_vec()
    }

    /// Heads, body, and whether the end is one.
    type Message = (Vec<Vec<u8>>, Vec<u8>, bool);

    fn read(bytes: &[u8], step: usize) -> Result<Message, Code> {
        let (mut reader, mut buffer) = (FrameReader::new(100), BytesMut::new());
        let (mut heads, mut body) = (Vec::new(), Vec::new());
        for part in bytes.chunks(step) {
            buffer.extend_from_slice(part);
            loop {
                match reader.take(&mut buffer)? {
                    Piece::Headers(section) => heads.push(section.to_vec()),
                    Piece::Data(data) => body.extend_from_slice(&data),
                    Piece::NeedMore => break,
                }
            }
        }
        Ok((heads, body, reader.at_boundary() && buffer.is_empty()))
    }

    #[test]
    fn a_message_is_a_head_a_body_and_trailers() {
        let unknown = frame(0x21, &[7; 300]);
        let parts = [
            unknown.clone(),
            frame(HEADERS, b"head"),
            frame(DATA, b"hello "),
            unknown.clone(),
            frame(DATA, b""),
            frame(DATA, b"world"),
            frame(HEADERS, b"end"),
            unknown,
        ];
        for step in [1, 2, 3, 7, 64, 1000] {
            let (heads, body, whole) = read(&parts.concat(), step).unwrap();
            assert_eq!(heads, [b"head".to_vec(), b"end".to_vec()]);
            assert_eq!(body, b"hello world");
            assert!(whole);
        }
        let cut = frame(HEADERS, b"head");
        assert!(!read(cut.split_last().unwrap().1, 64).unwrap().2, "the end is missing");
    }

    #[test]
    fn frames_in_the_wrong_place_are_errors() {
        let head = frame(HEADERS, b"h");
        let after = |kind| read(&[head.clone(), frame(kind, b"x")].concat(), 64).unwrap_err();
        assert_eq!(read(&frame(DATA, b"x"), 64), Err(Code::FRAME_UNEXPECTED));
        for kind in [0x2, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, 0x6, GOAWAY, 0x8, 0x9, MAX_PUSH_ID] {
            assert_eq!(after(kind), Code::FRAME_UNEXPECTED, "{kind}");
        }
        let three = [head.clone(), head.clone(), head.clone()].concat();
        assert_eq!(read(&three, 64), Err(Code::FRAME_UNEXPECTED));
        assert_eq!(read(&[head.clone(), head, frame(DATA, b"x")].concat(), 64), Err(Code::FRAME_UNEXPECTED));
        assert_eq!(read(&frame(HEADERS, &[0; 101]), 64), Err(Code::EXCESSIVE_LOAD));
    }
}
