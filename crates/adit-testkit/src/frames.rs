//! Frames of HTTP/2 by hand (RFC 9113), with a field coding (RFC 7541) that needs no table: for visitors who say what no library
//! would say.

/// What a client says first (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame with a part of a body (section 6.1).
pub const DATA: u8 = 0;
/// A frame with a field section (section 6.2).
pub const HEADERS: u8 = 1;
/// A frame that ends a stream at once (section 6.4).
pub const RST_STREAM: u8 = 3;
/// A frame with settings of the connection (section 6.5).
pub const SETTINGS: u8 = 4;
/// A frame that asks for an answer (section 6.7).
pub const PING: u8 = 6;
/// A frame that ends the connection (section 6.8).
pub const GOAWAY: u8 = 7;
/// A frame that lets the peer send more (section 6.9).
pub const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// The flag of a stream's last frame.
pub const END_STREAM: u8 = 1;
/// The flag of an answer to SETTINGS or PING.
pub const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// The setting that says how many bytes of a stream may be under way (section 6.5.2).
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// Payload of a frame (section 4.2).
const FRAME_MAX: usize = 16_384;

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

/// Writes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Writes one setting.
pub fn setting(name: u16, value: u32, out: &mut Vec<u8>) {
    let mut payload = name.to_be_bytes().to_vec();
    payload.extend_from_slice(&value.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload, out);
}

/// Writes a field section in as many frames as it needs.
pub fn head<'a>(
    stream: u32,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    end: u8,
    out: &mut Vec<u8>,
) {
    let section = section(fields);
    let parts: Vec<&[u8]> = if section.is_empty() { vec![&[]] } else { section.chunks(FRAME_MAX).collect() };
    for (index, part) in parts.iter().enumerate() {
        let last = if index + 1 == parts.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if index == 0 { (HEADERS, end | last) } else { (CONTINUATION, last) };
        frame(kind, flags, stream, part, out);
    }
}

/// Takes the first frame of what has come, once it is whole.
pub fn take(buffer: &mut Vec<u8>) -> Option<Frame> {
    let header: [u8; 9] = buffer.get(..9)?.try_into().ok()?;
    let [a, b, c, kind, flags, d, e, f, g] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let payload = buffer.get(9..9 + length)?.to_vec();
    buffer.drain(..9 + length);
    Some(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]), payload })
}

/// Literal fields that are not indexed (section 6.2.2 of RFC 7541), without Huffman coding.
fn section<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            length(text.len(), &mut out);
            out.extend_from_slice(text);
        }
    }
    out
}

/// An integer with a prefix of seven bits (section 5.1).
fn length(length: usize, out: &mut Vec<u8>) {
    if length < 127 {
        return out.push(length as u8);
    }
    out.push(127);
    let mut left = length - 127;
    while left >= 128 {
        out.push((left % 128) as u8 | 128);
        left /= 128;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_a_prefix_of_seven_bits() {
        let written = |number| {
            let mut out = Vec::new();
            length(number, &mut out);
            out
        };
        assert_eq!(written(126), [126]);
        assert_eq!(written(127), [127, 0]);
        assert_eq!(written(1337), [127, 0xba, 0x09]);
    }

    #[test]
    fn what_is_written_is_taken() {
        let mut buffer = Vec::new();
        head(3, [(&b":path"[..], &b"/"[..])], END_STREAM, &mut buffer);
        let Frame { kind, flags, stream, payload } = take(&mut buffer).unwrap();
        assert_eq!((kind, flags, stream, payload.len()), (HEADERS, END_STREAM | END_HEADERS, 3, 9));
        assert!(take(&mut buffer).is_none());
    }
}
