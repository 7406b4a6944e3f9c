//! HTTP/3 by hand (RFC 9114), with a field coding (RFC 9204) that needs no table: any bytes can be sent as a field.

use std::io;
use std::time::Duration;

use adit_http3::frame::{DATA, FrameReader, HEADERS, Piece, SETTINGS, put_header};
use adit_http3::qpack;
use adit_testkit::visitor3::Visitor3;
use bytes::BytesMut;
use quinn::{RecvStream, VarInt};
use tokio::time::timeout;

use super::Reply;
use crate::case::Step;
use crate::read::Field;
use crate::scene::ARRIVES;

/// H3_REQUEST_CANCELLED (section 8.1).
const CANCELLED: u32 = 0x10c;
/// Bytes and fields of an answer's head.
const HEAD_MAX: (usize, usize) = (65_536, 100);

/// Sends the parts of a request on the first stream of a connection.
pub(super) async fn send(
    visitor: &Visitor3,
    name: &str,
    steps: &[Step],
    patience: Duration,
) -> io::Result<Reply> {
    let quic = visitor.quic(name).await.map_err(io::Error::other)?;
    let mut control = quic.open_uni().await?;
    control.write_all(&[0, SETTINGS as u8, 0]).await?;
    let (mut stream, answer) = quic.open_bi().await?;
    for step in steps {
        let mut out = BytesMut::new();
        match step {
            Step::Fields(fields) => frame(HEADERS, &section(fields), &mut out),
            Step::Data(data) => frame(DATA, data, &mut out),
            Step::End => {}
            Step::Pause => tokio::time::sleep(ARRIVES).await,
            Step::Reset => {
                // A stream that the edge has stopped needs no reset.
                drop(stream.reset(VarInt::from_u32(CANCELLED)));
                return receive(answer, ARRIVES).await;
            }
            Step::Leave => {
                tokio::time::sleep(ARRIVES).await;
                quic.close(VarInt::from_u32(CANCELLED), b"");
                visitor.endpoint.wait_idle().await;
                return Ok(Reply { ended: "left".to_owned(), ..Reply::default() });
            }
        }
        // A stream that the edge has stopped has its answer in the other direction.
        if stream.write_all(&out).await.is_err() {
            break;
        }
    }
    drop(stream.finish());
    let reply = receive(answer, patience).await;
    quic.close(VarInt::from_u32(0x100), b"");
    reply
}

fn frame(kind: u64, payload: &[u8], out: &mut BytesMut) {
    put_header(kind, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Literal fields with literal names (section 4.5.6 of RFC 9204), without Huffman coding.
fn section(fields: &[Field]) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in fields {
        integer(0x20, 3, name.len(), &mut out);
        out.extend_from_slice(name);
        integer(0, 7, value.len(), &mut out);
        out.extend_from_slice(value);
    }
    out
}

/// An integer with a prefix of so many bits, below these.
fn integer(above: u8, prefix: u32, number: usize, out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    if number < most {
        return out.push(above | number as u8);
    }
    out.push(above | most as u8);
    let mut left = number - most;
    while left >= 128 {
        out.push((left % 128) as u8 | 128);
        left /= 128;
    }
    out.push(left as u8);
}

async fn receive(mut stream: RecvStream, patience: Duration) -> io::Result<Reply> {
    let (mut reader, mut buffer) = (FrameReader::new(HEAD_MAX.0), BytesMut::new());
    let mut reply = Reply::default();
    loop {
        match reader.take(&mut buffer) {
            Ok(Piece::Headers(section)) => {
                let fields = qpack::decode(section, HEAD_MAX.0, HEAD_MAX.1).unwrap_or_default();
                let status = fields.iter().find(|field| &field.name[..] == b":status");
                let number = status.and_then(|field| std::str::from_utf8(&field.value).ok()?.parse().ok());
                reply.status = number.or(reply.status);
                // The reader knows requests, which have one head: after an interim response it begins anew.
                if number.is_some_and(|number: u16| (100..200).contains(&number)) {
                    reader = FrameReader::new(HEAD_MAX.0);
                }
            }
            Ok(Piece::Data(data)) => reply.body.extend_from_slice(&data),
            Ok(Piece::NeedMore) => match timeout(patience, stream.read_chunk(65_536, true)).await {
                Ok(Ok(Some(chunk))) => buffer.extend_from_slice(&chunk.bytes),
                Ok(Ok(None)) => return Ok(Reply { ended: "answered".to_owned(), ..reply }),
                Ok(Err(error)) => return Ok(Reply { ended: error.to_string(), ..reply }),
                Err(_) => return Ok(Reply { ended: "silence".to_owned(), ..reply }),
            },
            Err(code) => return Ok(Reply { ended: format!("{code:?}"), ..reply }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_read_back_as_fields() {
        let fields = vec![(b"X-Upper".to_vec(), b"a\r\n\0".to_vec()), (b"long".to_vec(), vec![b'v'; 300])];
        let decoded = qpack::decode(section(&fields).into(), 65_536, 10).unwrap();
        let decoded: Vec<Field> =
            decoded.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
        assert_eq!(decoded, fields);
    }
}
