//! HTTP/2 by hand (RFC 9113): any bytes can be sent as a field.

use std::io;
use std::time::Duration;

use adit_testkit::Visitor;
use adit_testkit::frames::{
    self, ACK, DATA, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, take,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Reply;
use crate::case::Step;
use crate::scene::ARRIVES;

/// Sends the parts of a request on the first stream of a connection.
pub(super) async fn send(
    visitor: &Visitor,
    name: &str,
    steps: &[Step],
    patience: Duration,
) -> io::Result<Reply> {
    let mut stream = visitor.raw(name).await?;
    let mut out = PREFACE.to_vec();
    frame(SETTINGS, 0, 0, &[], &mut out);
    for (index, step) in steps.iter().enumerate() {
        let end = if index + 1 == steps.len() { END_STREAM } else { 0 };
        match step {
            Step::Fields(fields) => {
                let fields = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                frames::head(1, fields, end, &mut out);
            }
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

async fn receive(mut stream: TlsStream<TcpStream>, patience: Duration) -> io::Result<Reply> {
    let (mut reply, mut buffer) = (Reply::default(), Vec::new());
    loop {
        while let Some(frames::Frame { kind, flags, stream: id, payload }) = take(&mut buffer) {
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
}
