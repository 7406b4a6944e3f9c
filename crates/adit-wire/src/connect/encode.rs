//! Writing heads: one segment, sizes first, then pointers, then texts.

use bytes::{BufMut as _, BytesMut};

use super::{Entry, StreamKind};
use crate::preamble::DATA_PREAMBLE;

/// Key prefix of a header field.
const HEADER_PREFIX: &[u8] = b"HttpHeader:";

/// Bytes of one word.
const WORD: usize = 8;

impl Entry<'_> {
    fn key_len(&self) -> usize {
        match self {
            Self::Meta(key, _) => key.len(),
            Self::Header(name, _) => HEADER_PREFIX.len() + name.len(),
        }
    }

    fn value(&self) -> &[u8] {
        match self {
            Self::Meta(_, value) | Self::Header(_, value) => value,
        }
    }

    fn put_key(&self, out: &mut BytesMut) {
        match self {
            Self::Meta(key, _) => put_text(out, &[key.as_bytes()]),
            Self::Header(name, _) => put_text(out, &[HEADER_PREFIX, name]),
        }
    }
}

/// Appends the preamble and a ConnectRequest. `dest` is given in parts, so that a URL needs no temporary. `entries` is
/// walked three times: for the sizes, the pointers and the texts.
pub fn encode_request<'a, I>(out: &mut BytesMut, kind: StreamKind, dest: &[&[u8]], entries: impl Fn() -> I)
where
    I: Iterator<Item = Entry<'a>>,
{
    let kind = match kind {
        StreamKind::Http => 0,
        StreamKind::WebSocket => 1,
        StreamKind::Tcp => 2,
    };
    encode(out, Some(kind), dest, entries);
}

/// Appends the preamble and a ConnectResponse.
pub fn encode_response<'a, I>(out: &mut BytesMut, error: Option<&str>, entries: impl Fn() -> I)
where
    I: Iterator<Item = Entry<'a>>,
{
    encode(out, None, &[error.unwrap_or_default().as_bytes()], entries);
}

/// Both messages are a struct of a text and a list of (key, value); a request has one word of data before them.
fn encode<'a, I>(out: &mut BytesMut, data: Option<u64>, text: &[&[u8]], entries: impl Fn() -> I)
where
    I: Iterator<Item = Entry<'a>>,
{
    let text_len: usize = text.iter().map(|part| part.len()).sum();
    let (count, entry_words) = measure(entries());
    let data_words = usize::from(data.is_some());
    // Root pointer, data, two pointers, list tag, two pointers an entry; then the texts.
    let pointers_at = 1 + data_words;
    let list_at = pointers_at + 2;
    let texts_at = list_at + 1 + 2 * count;
    let total = texts_at + text_words(text_len) + entry_words;

    out.reserve(DATA_PREAMBLE.len() + WORD + total * WORD);
    out.put_slice(&DATA_PREAMBLE);
    out.put_u32_le(0);
    out.put_u32_le(total as u32);
    put_struct_pointer(out, 0, data_words, 2);
    if let Some(data) = data {
        out.put_u64_le(data);
    }
    put_text_pointer(out, pointers_at, texts_at, text_len);
    put_list_pointer(out, count);
    put_struct_pointer(out, count, 0, 2);
    put_entry_pointers(out, list_at + 1, texts_at + text_words(text_len), entries());
    put_text(out, text);
    for entry in entries() {
        entry.put_key(out);
        put_text(out, &[entry.value()]);
    }
}

/// Number of entries, and words of their texts.
fn measure<'a>(entries: impl Iterator<Item = Entry<'a>>) -> (usize, usize) {
    entries.fold((0, 0), |(count, words), entry| {
        (count + 1, words + text_words(entry.key_len()) + text_words(entry.value().len()))
    })
}

/// Words of a text with its NUL; an empty one is a null pointer.
fn text_words(len: usize) -> usize {
    if len == 0 { 0 } else { len / WORD + 1 }
}

fn put_struct_pointer(out: &mut BytesMut, offset: usize, data: usize, pointers: usize) {
    out.put_u32_le((offset as u32) << 2);
    out.put_u16_le(data as u16);
    out.put_u16_le(pointers as u16);
}

/// The list follows its pointer directly.
fn put_list_pointer(out: &mut BytesMut, count: usize) {
    out.put_u32_le(1);
    out.put_u32_le(((2 * count) as u32) << 3 | 7);
}

fn put_text_pointer(out: &mut BytesMut, at: usize, text_at: usize, len: usize) {
    if len == 0 {
        return out.put_u64_le(0);
    }
    out.put_u32_le(((text_at - at - 1) as u32) << 2 | 1);
    out.put_u32_le(((len + 1) as u32) << 3 | 2);
}

fn put_entry_pointers<'a>(
    out: &mut BytesMut,
    mut at: usize,
    mut text_at: usize,
    entries: impl Iterator<Item = Entry<'a>>,
) {
    for entry in entries {
        for len in [entry.key_len(), entry.value().len()] {
            put_text_pointer(out, at, text_at, len);
            at += 1;
            text_at += text_words(len);
        }
    }
}

fn put_text(out: &mut BytesMut, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    for part in parts {
        out.put_slice(part);
    }
    out.put_bytes(0, text_words(len) * WORD - len);
}
