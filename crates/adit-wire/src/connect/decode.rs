//! Reading heads. Every offset is checked, every size is bounded, and overlapping pointers cannot multiply the work.

use std::ops::Range;

use bytes::Bytes;

use super::{ConnectRequest, ConnectResponse, DecodeError, StreamKind};
use crate::fields::Fields;
use crate::limits::{ENTRIES_MAX, MESSAGE_BYTES_MAX, SEGMENTS_MAX, TEXT_BYTES_MAX};
use crate::names;
use crate::preamble::DATA_PREAMBLE;

/// Bytes of one word.
const WORD: usize = 8;

/// Reads preamble and ConnectRequest at the start of a stream: the head and how many bytes it took, or `None` when more
/// bytes are needed.
///
/// # Errors
/// [`DecodeError`] when the bytes can never become a head.
pub fn decode_request_stream(input: &Bytes) -> Result<Option<(ConnectRequest, usize)>, DecodeError> {
    let Some((message, used)) = open(input)? else { return Ok(None) };
    let root = message.root()?;
    let kind = match message.data_u16(&root)? {
        0 => StreamKind::Http,
        1 => StreamKind::WebSocket,
        2 => StreamKind::Tcp,
        _ => return Err(DecodeError::Malformed("unknown stream kind")),
    };
    let mut budget = TEXT_BYTES_MAX;
    let dest = input.slice(message.text_of(&root, 0, &mut budget)?);
    let list = message.list_of(&root, 1)?;
    let mut head = ConnectRequest {
        kind,
        dest,
        method: Bytes::new(),
        host: Bytes::new(),
        fields: Fields::with_capacity(input.clone(), list.count),
        framed: false,
    };
    for index in 0..list.count {
        let (key, value) = message.entry(&list, index, &mut budget)?;
        request_entry(&mut head, input, key, value)?;
    }
    Ok(Some((head, used)))
}

fn request_entry(
    head: &mut ConnectRequest,
    input: &Bytes,
    key: Range<usize>,
    value: Range<usize>,
) -> Result<(), DecodeError> {
    let name = input.get(key.clone()).unwrap_or_default();
    if let Some(header) = header_name(name, &key)? {
        return push(&mut head.fields, header, value);
    }
    if name == names::META_METHOD.as_bytes() {
        head.method = input.slice(value);
    } else if name == names::META_HOST.as_bytes() {
        head.host = input.slice(value);
    } else if name == names::META_FRAMING.as_bytes() {
        head.framed = true;
    }
    Ok(())
}

/// Reads preamble and ConnectResponse; like [`decode_request_stream`].
///
/// # Errors
/// [`DecodeError`] when the bytes can never become a head.
pub fn decode_response_stream(input: &Bytes) -> Result<Option<(ConnectResponse, usize)>, DecodeError> {
    let Some((message, used)) = open(input)? else { return Ok(None) };
    let root = message.root()?;
    let mut budget = TEXT_BYTES_MAX;
    let error = message.text_of(&root, 0, &mut budget)?;
    let list = message.list_of(&root, 1)?;
    let mut head = ConnectResponse {
        error: (!error.is_empty()).then(|| input.slice(error)),
        status: None,
        fields: Fields::with_capacity(input.clone(), list.count),
        flow_rate_limited: false,
        framed: false,
    };
    for index in 0..list.count {
        let (key, value) = message.entry(&list, index, &mut budget)?;
        response_entry(&mut head, input, key, value)?;
    }
    Ok(Some((head, used)))
}

fn response_entry(
    head: &mut ConnectResponse,
    input: &Bytes,
    key: Range<usize>,
    value: Range<usize>,
) -> Result<(), DecodeError> {
    let name = input.get(key.clone()).unwrap_or_default();
    if let Some(header) = header_name(name, &key)? {
        return push(&mut head.fields, header, value);
    }
    let value = input.get(value).unwrap_or_default();
    if name == names::META_STATUS.as_bytes() {
        head.status = Some(status(value)?);
    } else if name == names::META_FLOW_LIMIT.as_bytes() {
        head.flow_rate_limited = value == b"true";
    } else if name == names::META_FRAMING.as_bytes() {
        head.framed = true;
    }
    Ok(())
}

fn status(value: &[u8]) -> Result<u16, DecodeError> {
    let text = std::str::from_utf8(value).ok();
    let status = text.and_then(|text| text.parse::<u16>().ok());
    status.filter(|status| (100..1000).contains(status)).ok_or(DecodeError::Malformed("status out of range"))
}

/// Any key with `HttpHeader` in it is a field and must have one colon (cloudflared: `quic_connection.go`).
fn header_name(key: &[u8], range: &Range<usize>) -> Result<Option<Range<usize>>, DecodeError> {
    let prefix = names::META_HEADER.as_bytes();
    if !key.starts_with(prefix) && !key.windows(prefix.len()).any(|at| at == prefix) {
        return Ok(None);
    }
    let mut colons = key.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    match (colons.next(), colons.next()) {
        (Some(colon), None) => Ok(Some(range.start + colon + 1..range.end)),
        _ => Err(DecodeError::Malformed("a header key needs one colon")),
    }
}

fn push(fields: &mut Fields, name: Range<usize>, value: Range<usize>) -> Result<(), DecodeError> {
    fields.push_range(name, value).map_err(|_| DecodeError::Malformed("a field lies outside of the message"))
}

/// Checks the preamble and finds the segments. `None`: more bytes are needed.
fn open(input: &Bytes) -> Result<Option<(Message<'_>, usize)>, DecodeError> {
    let known = input.len().min(6);
    if input.get(..known) != DATA_PREAMBLE.get(..known) {
        return Err(DecodeError::Malformed("unknown stream signature"));
    }
    Message::open(input, DATA_PREAMBLE.len())
}

/// The segments of a message inside of the input.
struct Message<'a> {
    bytes: &'a [u8],
    /// First byte and words of each segment.
    segments: [(usize, usize); SEGMENTS_MAX],
    count: usize,
}

/// Where something is: segment and word.
#[derive(Clone, Copy)]
struct At {
    segment: usize,
    word: usize,
}

/// A struct's place and size in words.
struct Struct {
    at: At,
    data: usize,
    pointers: usize,
}

/// A list of structs.
struct List {
    at: At,
    count: usize,
    data: usize,
    pointers: usize,
}

impl<'a> Message<'a> {
    fn open(bytes: &'a [u8], start: usize) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some(count) = read_u32(bytes, start) else { return Ok(None) };
        let count = count as usize + 1;
        if count > SEGMENTS_MAX {
            return Err(DecodeError::TooLarge("the number of segments"));
        }
        let mut message = Self { bytes, segments: [(0, 0); SEGMENTS_MAX], count };
        // The table is padded to a whole word.
        let mut offset = start + (4 + 4 * count).next_multiple_of(WORD);
        for index in 0..count {
            let Some(words) = read_u32(bytes, start + 4 + 4 * index) else { return Ok(None) };
            let words = words as usize;
            if words > MESSAGE_BYTES_MAX / WORD || offset - start > MESSAGE_BYTES_MAX {
                return Err(DecodeError::TooLarge("the message"));
            }
            if let Some(segment) = message.segments.get_mut(index) {
                *segment = (offset, words);
            }
            offset += words * WORD;
        }
        if offset - start > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLarge("the message"));
        }
        Ok((bytes.len() >= offset).then_some((message, offset)))
    }

    fn segment(&self, index: usize) -> Result<(usize, usize), DecodeError> {
        let segments = self.segments.get(..self.count).unwrap_or_default();
        segments.get(index).copied().ok_or(DecodeError::Malformed("no such segment"))
    }

    /// The first byte of `words` words, all of them inside of their segment.
    fn offset(&self, at: At, words: usize) -> Result<usize, DecodeError> {
        let (start, length) = self.segment(at.segment)?;
        match at.word.checked_add(words) {
            Some(end) if end <= length => Ok(start + at.word * WORD),
            _ => Err(DecodeError::Malformed("a pointer leaves its segment")),
        }
    }

    fn word(&self, at: At) -> Result<u64, DecodeError> {
        let offset = self.offset(at, 1)?;
        let bytes = self.bytes.get(offset..offset + WORD).and_then(|word| word.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or(DecodeError::Malformed("the message is cut"))
    }

    /// Follows a pointer, through far ones: its word and where its content starts. `None` for null.
    fn follow(&self, at: At) -> Result<Option<(u64, At)>, DecodeError> {
        let pointer = self.word(at)?;
        if pointer == 0 {
            return Ok(None);
        }
        if pointer & 3 != 2 {
            return Ok(Some((pointer, near(at, pointer)?)));
        }
        let pad = far(pointer);
        if pointer & 4 == 0 {
            let landing = self.word(pad)?;
            return match landing & 3 {
                0 | 1 => Ok(Some((landing, near(pad, landing)?))),
                _ => Err(DecodeError::Malformed("a far pointer leads to another")),
            };
        }
        let content = self.word(pad)?;
        let tag = self.word(At { word: pad.word + 1, ..pad })?;
        if content & 7 != 2 {
            return Err(DecodeError::Malformed("a double-far pad without a far pointer"));
        }
        Ok(Some((tag, far(content))))
    }

    fn root(&self) -> Result<Struct, DecodeError> {
        let root = self.follow(At { segment: 0, word: 0 })?;
        let Some((pointer, at)) = root else {
            return Ok(Struct { at: At { segment: 0, word: 0 }, data: 0, pointers: 0 });
        };
        if pointer & 3 != 0 {
            return Err(DecodeError::Malformed("the root is no struct"));
        }
        let (data, pointers) = struct_size(pointer);
        self.offset(at, data + pointers)?;
        Ok(Struct { at, data, pointers })
    }

    fn data_u16(&self, of: &Struct) -> Result<u16, DecodeError> {
        if of.data == 0 {
            return Ok(0);
        }
        Ok((self.word(of.at)? & 0xFFFF) as u16)
    }

    /// The place of a struct's pointer, unless the struct is too small to have it.
    fn pointer_of(of: &Struct, index: usize) -> Option<At> {
        (index < of.pointers).then(|| At { word: of.at.word + of.data + index, ..of.at })
    }

    fn text_of(&self, of: &Struct, index: usize, budget: &mut usize) -> Result<Range<usize>, DecodeError> {
        match Self::pointer_of(of, index) {
            Some(at) => self.text(at, budget),
            None => Ok(0..0),
        }
    }

    fn text(&self, at: At, budget: &mut usize) -> Result<Range<usize>, DecodeError> {
        let Some((pointer, content)) = self.follow(at)? else { return Ok(0..0) };
        if pointer & 3 != 1 || (pointer >> 32) & 7 != 2 {
            return Err(DecodeError::Malformed("a text is no list of bytes"));
        }
        let length = (pointer >> 35) as usize;
        let start = self.offset(content, length.div_ceil(WORD))?;
        let Some(end) = length.checked_sub(1).map(|text| start + text) else {
            return Err(DecodeError::Malformed("a text without its NUL"));
        };
        if self.bytes.get(end) != Some(&0) {
            return Err(DecodeError::Malformed("a text without its NUL"));
        }
        *budget = budget.checked_sub(length).ok_or(DecodeError::TooLarge("the sum of texts"))?;
        Ok(start..end)
    }

    fn list_of(&self, of: &Struct, index: usize) -> Result<List, DecodeError> {
        let empty = List { at: of.at, count: 0, data: 0, pointers: 0 };
        let Some(at) = Self::pointer_of(of, index) else { return Ok(empty) };
        let Some((pointer, content)) = self.follow(at)? else { return Ok(empty) };
        if pointer & 3 != 1 || (pointer >> 32) & 7 != 7 {
            return Err(DecodeError::Malformed("the metadata is no list of structs"));
        }
        let words = (pointer >> 35) as usize;
        let tag = self.word(content)?;
        let count = ((tag & 0xFFFF_FFFF) >> 2) as usize;
        let (data, pointers) = struct_size(tag);
        if count > ENTRIES_MAX {
            return Err(DecodeError::TooLarge("the number of entries"));
        }
        let first = At { word: content.word + 1, ..content };
        if count * (data + pointers) > words {
            return Err(DecodeError::Malformed("a list is smaller than its elements"));
        }
        self.offset(first, words)?;
        Ok(List { at: first, count, data, pointers })
    }

    fn entry(
        &self,
        list: &List,
        index: usize,
        budget: &mut usize,
    ) -> Result<(Range<usize>, Range<usize>), DecodeError> {
        let word = list.at.word + index * (list.data + list.pointers);
        let element = Struct { at: At { word, ..list.at }, data: list.data, pointers: list.pointers };
        Ok((self.text_of(&element, 0, budget)?, self.text_of(&element, 1, budget)?))
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Data and pointer words of a struct pointer.
fn struct_size(pointer: u64) -> (usize, usize) {
    ((pointer >> 32 & 0xFFFF) as usize, (pointer >> 48) as usize)
}

/// The content of a near pointer: a signed offset from the word after it.
fn near(at: At, pointer: u64) -> Result<At, DecodeError> {
    let offset = (pointer as u32).cast_signed() >> 2;
    let word = at.word.checked_add(1).and_then(|word| word.checked_add_signed(offset as isize));
    word.map(|word| At { word, ..at }).ok_or(DecodeError::Malformed("a pointer leaves its segment"))
}

fn far(pointer: u64) -> At {
    At { segment: (pointer >> 32) as usize, word: ((pointer & 0xFFFF_FFFF) >> 3) as usize }
}
