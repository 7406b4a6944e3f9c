//! HTTP/2 by hand (RFC 9113), with a field coding (RFC 7541) that needs no table: any bytes can be sent as a field.

use std::io;
use std::time::Duration;

use adit_testkit::Visitor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Reply;
use crate::case::Step;
use crate::read::Field;
use crate::scene::ARRIVES;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Payload of a frame (section 4.2).
const FRAME_MAX: usize = 16_384;
const CONTINUATION: u8 = 9;

/// Sends the parts of a request on the first stream of a connection.
pub(super) async fn send(
    visitor: &Visitor,
    name: &str,
    steps: &[Step],
    patience: Duration,
) -> io::Result<Reply> {
    let mut stream = visitor.raw(name).await?;
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(SETTINGS, 0, 0, &[], &mut out);
    for (index, step) in steps.iter().enumerate() {
        let end = if index + 1 == steps.len() { END_STREAM } else { 0 };
        match step {
            Step::Fields(fields) => head(fields, end, &mut out),
            Step::Data(data) => frame(DATA, end, 1, data, &mut out),
            Step::End => frame(DATA, END_STREAM, 1, &[], &mut out),
            Step::Reset => frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes(), &mut out),
            Step::Pause => {
                stream.write_all(&out).await?;
                stream.flush().await?;
                out.clear();
                tokio::time::sleep(ARRIVES).await;
            }
            Step::Leave => {
                stream.write_all(&out).await?;
                stream.flush().await?;
                return Ok(Reply { ended: "left".to_owned(), ..Reply::default() });
            }
        }
    }
    stream.write_all(&out).await?;
    stream.flush().await?;
    let was_reset = matches!(steps.last(), Some(Step::Reset));
    receive(stream, if was_reset { ARRIVES } else { patience }).await
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A field section in as many frames as it needs.
fn head(fields: &[Field], end: u8, out: &mut Vec<u8>) {
    let section = section(fields);
    let parts: Vec<&[u8]> = if section.is_empty() { vec![&[]] } else { section.chunks(FRAME_MAX).collect() };
    for (index, part) in parts.iter().enumerate() {
        let last = if index + 1 == parts.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if index == 0 { (HEADERS, end | last) } else { (CONTINUATION, last) };
        frame(kind, flags, 1, part, out);
    }
}

/// Literal fields that are not indexed (section 6.2.2 of RFC 7541), without Huffman coding.
fn section(fields: &[Field]) -> Vec<u8> {
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

async fn receive(mut stream: TlsStream<TcpStream>, patience: Duration) -> io::Result<Reply> {
    let (mut reply, mut buffer) = (Reply::default(), Vec::new());
    loop {
        while let Some((kind, flags, id, payload)) = take(&mut buffer) {
            match (kind, id) {
                (SETTINGS, _) if flags & ACK == 0 => {
                    let mut ack = Vec::new();
                    frame(SETTINGS, ACK, 0, &[], &mut ack);
                    stream.write_all(&ack).await?;
                    stream.flush().await?;
                }
                (GOAWAY, _) => reply.ended = format!("GOAWAY {:?}", payload.get(4..8)),
                (RST_STREAM, 1) => {
                    reply.ended = format!("reset {payload:?}");
                    return Ok(reply);
                }
                // Interim answers come before the final one.
                (HEADERS, 1) => reply.status = status(&payload).or(reply.status),
                (DATA, 1) => reply.body.extend_from_slice(&payload),
                _ => {}
            }
            if id == 1 && flags & END_STREAM != 0 && matches!(kind, HEADERS | DATA) {
                reply.ended = "answered".to_owned();
                return Ok(reply);
            }
        }
        match timeout(patience, stream.read_buf(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Ok(Reply { ended: format!("closed {}", reply.ended), ..reply }),
            Err(_) => return Ok(Reply { ended: "silence".to_owned(), ..reply }),
        }
    }
}

fn take(buffer: &mut Vec<u8>) -> Option<(u8, u8, u32, Vec<u8>)> {
    let header: [u8; 9] = buffer.get(..9)?.try_into().ok()?;
    let [a, b, c, kind, flags, d, e, f, g] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let payload = buffer.get(9..9 + length)?.to_vec();
    buffer.drain(..9 + length);
    Some((kind, flags, u32::from_be_bytes([d, e, f, g]), payload))
}

/// The status at the start of a field section: an entry of the static table, or digits.
fn status(section: &[u8]) -> Option<u16> {
    match section {
        // Sizes of the table come first where they change: five bits, and more bytes if all of them are set.
        [0x3f, rest @ ..] => {
            let last = rest.iter().position(|byte| byte & 0x80 == 0)?;
            status(rest.get(last + 1..)?)
        }
        [size, rest @ ..] if size >> 5 == 1 => status(rest),
        [indexed @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500].get(usize::from(indexed - 0x88)).copied()
        }
        [0x48 | 0x08 | 0x18, length, text @ ..] if length & 0x80 == 0 => {
            std::str::from_utf8(text.get(..usize::from(*length))?).ok()?.parse().ok()
        }
        [0x48 | 0x08 | 0x18, length, text @ ..] => huffman_digits(text.get(..usize::from(length & 0x7f))?),
        _ => None,
    }
}

/// Digits in the code of appendix B: 0, 1 and 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let (mut left, mut number) = (bytes.len() * 8, 0);
    for _ in 0..3 {
        let five = bits >> left.checked_sub(5)? & 0x1f;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            left = left.checked_sub(6)?;
            (bits >> left & 0x3f).checked_sub(0x19)? + 3
        };
        number = number * 10 + u16::try_from(digit).ok()?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_every_form() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x3f, 0x8c]), None, "one byte of a size alone is not a status");
        assert_eq!(status(&[0x20, 0x8c]), Some(400));
        assert_eq!(status(b"\x48\x03421"), Some(421));
        // RFC 7541, section C.6.1: 302.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        // Section C.6.2: 307.
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
    }

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
}
