//! Integers of variable length (RFC 9000, section 16).

use bytes::{BufMut as _, BytesMut};

/// The largest number that can be written.
pub const MAX: u64 = (1 << 62) - 1;

/// Reads a number from the front; the second value is how many bytes it takes. `None` when it is not complete.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1_usize << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

/// Writes a number, which is at most [`MAX`], in the fewest bytes.
pub fn encode(value: u64, out: &mut BytesMut) {
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(value as u16 | 0x4000),
        0x4000..0x4000_0000 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value & MAX | 0xc000_0000_0000_0000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            let mut out = BytesMut::new();
            encode(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(decode(bytes.split_last().unwrap().1), None);
        }
        assert_eq!(decode(&[0x40, 0x25]), Some((37, 2)));
    }
}
