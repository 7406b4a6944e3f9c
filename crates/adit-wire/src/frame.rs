//! Framed bodies: our extension that carries trailers over QUIC, where cloudflared's protocol has none.
//!
//! A frame is a type byte (0 data, 1 trailers), a length in four bytes, big-endian, and that many bytes. The trailers
//! frame is always there, may be empty, and is the last: a stream that ends without it was cut. A trailer section is a
//! sequence of fields, each with two lengths in four bytes, name and value.

use std::ops::Range;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::fields::Fields;
use crate::limits::{FRAME_BYTES_MAX, TRAILER_BYTES_MAX, TRAILERS_MAX};

/// Bytes before a frame's content.
pub const HEADER_LEN: usize = 5;

const DATA: u8 = 0;
const TRAILERS: u8 = 1;

/// What a decoder found.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// Bytes of the body.
    Data(Bytes),
    /// The trailer section; nothing follows.
    Trailers(Fields),
    /// Nothing until more bytes are pushed.
    NeedMore,
}

/// Bytes that are no framed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A length passes its limit.
    #[error("a frame passes its limit")]
    TooLarge,
    /// An unknown type, a broken trailer section, or bytes after the end.
    #[error("malformed frame")]
    Malformed,
}

/// The header of a data frame.
#[must_use]
pub fn encode_data_header(length: usize) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [DATA, a, b, c, d]
}

/// Appends the last frame with its fields. Fields beyond the limit are left out: trailers are advisory.
pub fn encode_trailers<'a>(out: &mut BytesMut, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let start = out.len();
    out.put_slice(&[TRAILERS, 0, 0, 0, 0]);
    for (name, value) in fields.take(TRAILERS_MAX) {
        if out.len() - start + 8 + name.len() + value.len() > TRAILER_BYTES_MAX {
            break;
        }
        out.put_u32(name.len() as u32);
        out.put_u32(value.len() as u32);
        out.put_slice(name);
        out.put_slice(value);
    }
    let length = ((out.len() - start - HEADER_LEN) as u32).to_be_bytes();
    if let Some(room) = out.get_mut(start + 1..start + HEADER_LEN) {
        room.copy_from_slice(&length);
    }
}

/// Takes a framed body apart as it comes, without copying data.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// Bytes that were pushed and not looked at.
    input: Bytes,
    /// A header or trailer section that came in pieces.
    partial: BytesMut,
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Header,
    Data(usize),
    Trailers(usize),
    Complete,
}

impl FrameDecoder {
    /// Gives more bytes. The ones before must have been consumed: [`next_item`](Self::next_item) said so.
    pub fn push(&mut self, bytes: Bytes) {
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            self.input = [&self.input[..], &bytes].concat().into();
        }
    }

    /// The next part of the body.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes make no sense; the stream is to be reset then.
    pub fn next_item(&mut self) -> Result<Item, FrameError> {
        loop {
            match self.state {
                State::Header => match self.gather(HEADER_LEN) {
                    Some(header) => self.state = Self::parse_header(&header)?,
                    None => return Ok(Item::NeedMore),
                },
                State::Data(0) => self.state = State::Header,
                State::Data(left) if !self.input.is_empty() => return Ok(self.data(left)),
                State::Trailers(length) => match self.gather(length) {
                    Some(section) => return self.trailers(section.freeze()),
                    None => return Ok(Item::NeedMore),
                },
                State::Complete if !self.input.is_empty() => return Err(FrameError::Malformed),
                State::Data(_) | State::Complete => return Ok(Item::NeedMore),
            }
        }
    }

    /// Whether the last frame was seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    fn parse_header(header: &[u8]) -> Result<State, FrameError> {
        let [kind, a, b, c, d] = header else { return Err(FrameError::Malformed) };
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        match *kind {
            DATA if length <= FRAME_BYTES_MAX => Ok(State::Data(length)),
            TRAILERS if length <= TRAILER_BYTES_MAX => Ok(State::Trailers(length)),
            DATA | TRAILERS => Err(FrameError::TooLarge),
            _ => Err(FrameError::Malformed),
        }
    }

    fn data(&mut self, left: usize) -> Item {
        let data = self.input.split_to(left.min(self.input.len()));
        self.state = State::Data(left - data.len());
        Item::Data(data)
    }

    fn trailers(&mut self, section: Bytes) -> Result<Item, FrameError> {
        self.state = State::Complete;
        Ok(Item::Trailers(parse_trailers(section)?))
    }

    /// `length` bytes in one piece, once they are all here.
    fn gather(&mut self, length: usize) -> Option<BytesMut> {
        let missing = length - self.partial.len();
        let take = missing.min(self.input.len());
        self.partial.put_slice(&self.input.split_to(take));
        (self.partial.len() == length).then(|| std::mem::take(&mut self.partial))
    }
}

fn parse_trailers(section: Bytes) -> Result<Fields, FrameError> {
    let mut fields = Fields::new(section.clone());
    let mut at = 0;
    while at < section.len() {
        let (name, value) = trailer(&section, at)?;
        at = value.end;
        fields.push_range(name, value).map_err(|_| FrameError::Malformed)?;
        if fields.len() > TRAILERS_MAX {
            return Err(FrameError::TooLarge);
        }
    }
    Ok(fields)
}

fn trailer(section: &Bytes, at: usize) -> Result<(Range<usize>, Range<usize>), FrameError> {
    let mut lengths = section.get(at..at + 8).ok_or(FrameError::Malformed)?;
    let name = lengths.get_u32() as usize;
    let value = lengths.get_u32() as usize;
    let middle = at + 8 + name;
    Ok((at + 8..middle, middle..middle + value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(parts: &[&[u8]], trailers: &[(&[u8], &[u8])]) -> BytesMut {
        let mut out = BytesMut::new();
        for part in parts {
            out.put_slice(&encode_data_header(part.len()));
            out.put_slice(part);
        }
        encode_trailers(&mut out, trailers.iter().copied());
        out
    }

    fn collect(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Option<Fields>, bool), FrameError> {
        let (mut decoder, mut data, mut trailers) = (FrameDecoder::default(), Vec::new(), None);
        for chunk in bytes.chunks(step) {
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next_item()? {
                    Item::Data(bytes) => data.extend_from_slice(&bytes),
                    Item::Trailers(fields) => trailers = Some(fields),
                    Item::NeedMore => break,
                }
            }
        }
        Ok((data, trailers, decoder.is_complete()))
    }

    #[test]
    fn a_body_survives_any_cutting() {
        let bytes = framed(&[b"hello ", b"", b"world"], &[(b"grpc-status", b"0"), (b"x", b"")]);
        for step in 1..=bytes.len() {
            let (data, trailers, complete) = collect(&bytes, step).unwrap();
            assert_eq!((&data[..], complete), (&b"hello world"[..], true), "step {step}");
            assert_eq!(trailers.unwrap().get("grpc-status"), Some(&b"0"[..]));
        }
    }

    #[test]
    fn a_cut_body_is_not_complete() {
        let bytes = framed(&[b"hello"], &[(b"a", b"b")]);
        for cut in 0..bytes.len() {
            assert!(!collect(&bytes[..cut], 7).unwrap().2, "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(collect(&[2, 0, 0, 0, 0], 9), Err(FrameError::Malformed));
        assert_eq!(collect(&[0, 0xFF, 0, 0, 0], 9), Err(FrameError::TooLarge));
        assert_eq!(collect(&[1, 0xFF, 0, 0, 0], 9), Err(FrameError::TooLarge));
        assert_eq!(collect(&[1, 0, 0, 0, 0, 9], 9), Err(FrameError::Malformed), "bytes after the end");
        assert_eq!(collect(&[1, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0], 99), Err(FrameError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..40) {
            let _outcome = collect(&bytes, step);
        }
    }
}
