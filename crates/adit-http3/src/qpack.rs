//! Field sections (RFC 9204) with the static table alone: nobody needs to wait for a table, and no table takes memory.

mod table;

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use httlib_huffman::DecoderSpeed;

use table::TABLE;

/// What a field costs beyond its text (RFC 9114, section 4.2.2).
const FIELD_OVERHEAD: usize = 32;
/// Huffman codes have at least five bits.
const HUFFMAN_BITS_MIN: usize = 5;

/// Why a field section cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes make no sense; the connection is lost.
    #[error("malformed field section")]
    Malformed,
    /// It is too large; the request is lost.
    #[error("the field section is too large")]
    TooLarge,
}

/// A field as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// Reads a field section of at most `bytes` (names, values and an overhead for each field) and `fields`.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(mut section: Bytes, bytes: usize, fields: usize) -> Result<Vec<Field>, DecodeError> {
    // Required Insert Count is 0, as nothing was ever inserted; the base does not matter then (section 4.5.1).
    if integer(&mut section, 8)?.1 != 0 {
        return Err(DecodeError::Malformed);
    }
    integer(&mut section, 7)?;
    let mut list = Vec::new();
    let mut left = bytes;
    while section.has_remaining() {
        let field = line(&mut section, left)?;
        let size = field.name.len() + field.value.len() + FIELD_OVERHEAD;
        left = left.checked_sub(size).ok_or(DecodeError::TooLarge)?;
        list.push(field);
        if list.len() > fields {
            return Err(DecodeError::TooLarge);
        }
    }
    Ok(list)
}

/// One field line (section 4.5.2 to 4.5.6). Lines that name the dynamic table are malformed: it is empty.
fn line(section: &mut Bytes, left: usize) -> Result<Field, DecodeError> {
    let first = *section.first().ok_or(DecodeError::Malformed)?;
    match first >> 4 {
        0b1100..=0b1111 => {
            let (name, value) = entry(integer(section, 6)?.1)?;
            Ok(Field { name: Bytes::from_static(name), value: Bytes::from_static(value) })
        }
        0b0101 | 0b0111 => {
            let (name, _) = entry(integer(section, 4)?.1)?;
            Ok(Field { name: Bytes::from_static(name), value: string(section, 7, left)? })
        }
        0b0010 | 0b0011 => Ok(Field { name: string(section, 3, left)?, value: string(section, 7, left)? }),
        _ => Err(DecodeError::Malformed),
    }
}

fn entry(index: u64) -> Result<(&'static [u8], &'static [u8]), DecodeError> {
    let entry = usize::try_from(index).ok().and_then(|index| TABLE.get(index));
    entry.map(|(name, value)| (name.as_bytes(), value.as_bytes())).ok_or(DecodeError::Malformed)
}

/// An integer with a prefix of so many bits (RFC 7541, section 5.1), and the bits before it.
fn integer(bytes: &mut Bytes, prefix: u32) -> Result<(u8, u64), DecodeError> {
    let mask = (1_u16 << prefix).wrapping_sub(1) as u8;
    let first = bytes.try_get_u8().map_err(|_| DecodeError::Malformed)?;
    let mut value = u64::from(first & mask);
    if first & mask != mask {
        return Ok((first & !mask, value));
    }
    // Five more bytes hold every length that could be meant.
    for shift in (0..35).step_by(7) {
        let byte = bytes.try_get_u8().map_err(|_| DecodeError::Malformed)?;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((first & !mask, value));
        }
    }
    Err(DecodeError::Malformed)
}

/// A string whose length has a prefix of so many bits; the bit above says whether it is Huffman-coded.
fn string(bytes: &mut Bytes, prefix: u32, left: usize) -> Result<Bytes, DecodeError> {
    let (above, length) = integer(bytes, prefix)?;
    let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
    if length > bytes.len() {
        return Err(DecodeError::Malformed);
    }
    let text = bytes.split_to(length);
    if above & (1 << prefix) == 0 {
        return Ok(text);
    }
    if text.len() * 8 / HUFFMAN_BITS_MIN > left.saturating_add(FIELD_OVERHEAD) * 2 {
        return Err(DecodeError::TooLarge);
    }
    let mut out = Vec::with_capacity(text.len() * 8 / HUFFMAN_BITS_MIN);
    httlib_huffman::decode(&text, &mut out, DecoderSpeed::FourBits).map_err(|_| DecodeError::Malformed)?;
    Ok(Bytes::from(out))
}

/// The first entry of each name.
static NAMES: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
    let mut names = HashMap::new();
    for (index, (name, _)) in TABLE.iter().enumerate() {
        names.entry(*name).or_insert(index);
    }
    names
});

/// Writes the beginning of a field section.
pub fn start(out: &mut BytesMut) {
    out.put_slice(&[0, 0]);
}

/// Writes a field line. The name is lower-case.
pub fn put(name: &str, value: &[u8], out: &mut BytesMut) {
    let Some(&index) = NAMES.get(name) else {
        put_integer(0b0010_0000, 3, name.len(), out);
        out.put_slice(name.as_bytes());
        return put_value(value, out);
    };
    // The entries of a name are neighbours, but for the statuses.
    let mut same = TABLE.iter().enumerate().skip(index).filter(|(_, entry)| entry.0 == name);
    match same.find(|(_, entry)| entry.1.as_bytes() == value) {
        Some((exact, _)) => put_integer(0b1100_0000, 6, exact, out),
        None => {
            put_integer(0b0101_0000, 4, index, out);
            put_value(value, out);
        }
    }
}

/// Values are written as they are: to compress them would cost more than the bytes.
fn put_value(value: &[u8], out: &mut BytesMut) {
    put_integer(0, 7, value.len(), out);
    out.put_slice(value);
}

fn put_integer(above: u8, prefix: u32, value: usize, out: &mut BytesMut) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        return out.put_u8(above | value as u8);
    }
    out.put_u8(above | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(fields: &[(&str, &[u8])]) -> Bytes {
        let mut out = BytesMut::new();
        start(&mut out);
        fields.iter().for_each(|(name, value)| put(name, value, &mut out));
        out.freeze()
    }

    fn read(section: &[u8]) -> Result<Vec<(String, String)>, DecodeError> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let fields = decode(Bytes::copy_from_slice(section), 4096, 10)?;
        Ok(fields.iter().map(|field| (text(&field.name), text(&field.value))).collect())
    }

    #[test]
    fn the_example_of_the_rfc_is_read() {
        // RFC 9204, appendix B.1.
        let section = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(read(section).unwrap(), [(":path".to_owned(), "/index.html".to_owned())]);
    }

    #[test]
    fn huffman_codes_are_read() {
        // RFC 7541, appendix C.4.1: www.example.com.
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        let section = [&[0, 0, 0x50, 0x80 | 12][..], &coded].concat();
        assert_eq!(read(&section).unwrap()[0].1, "www.example.com");
        let mut bad = section;
        *bad.last_mut().unwrap() = 0xfe;
        assert_eq!(read(&bad), Err(DecodeError::Malformed), "the padding must be ones");
    }

    #[test]
    fn statuses_take_one_byte() {
        assert_eq!(&written(&[(":status", b"200")])[..], [0, 0, 0xc0 | 25]);
        assert_eq!(&written(&[(":status", b"500")])[..], [0, 0, 0xff, 8]);
    }

    #[test]
    fn the_dynamic_table_is_malformed() {
        for section in
            [&[1, 0][..], &[0, 0, 0x80], &[0, 0, 0x40, 0], &[0, 0, 0x10], &[0, 0, 0x00, 0], &[0], &[]]
        {
            assert_eq!(read(section), Err(DecodeError::Malformed), "{section:?}");
        }
        assert_eq!(read(&[0, 0, 0xff, 0x24]), Err(DecodeError::Malformed), "there is no entry 99");
        assert_eq!(read(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Err(DecodeError::Malformed));
    }

    #[test]
    fn limits_hold() {
        let long = vec![b'x'; 5000];
        assert_eq!(read(&written(&[("a", &long)])), Err(DecodeError::TooLarge));
        let many: Vec<(&str, &[u8])> = vec![("a", b"b"); 11];
        assert_eq!(read(&written(&many)), Err(DecodeError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fields in proptest::collection::vec(("[a-z-]{1,30}|accept|:path|cache-control", "[ -~]{0,300}"), 0..8)
        ) {
            let pairs: Vec<(&str, &[u8])> = fields.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
            prop_assert_eq!(read(&written(&pairs)).unwrap(), fields);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(Bytes::from(bytes), 1000, 10));
        }

        #[test]
        fn every_huffman_code_is_read(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut coded = Vec::new();
            httlib_huffman::encode(&text, &mut coded).unwrap();
            let mut section = BytesMut::new();
            start(&mut section);
            section.put_u8(0x50);
            put_integer(0x80, 7, coded.len(), &mut section);
            section.put_slice(&coded);
            let fields = decode(section.freeze(), 4096, 1).unwrap();
            prop_assert_eq!(&fields[0].value[..], &text[..]);
        }
    }
}
