//! The visitor's unidirectional streams: his settings, and his part of compression, which we do not take part in.

use std::cell::Cell;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::task::spawn_local;

use crate::code::Code;
use crate::frame::{self, CANCEL_PUSH, GOAWAY, MAX_PUSH_ID, SETTINGS};
use crate::varint;

/// Types of unidirectional streams (RFC 9114, section 6.2; RFC 9204, section 4.2).
pub(crate) const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;

/// Settings that HTTP/2 had and that must not be sent (section 7.2.4.1).
const RESERVED_SETTINGS: [u64; 4] = [0x2, 0x3, 0x4, 0x5];
/// Bytes of one read.
const READ: usize = 2048;
/// `Set Dynamic Table Capacity` with 0, the one instruction that needs no table.
const CAPACITY_ZERO: u8 = 0x20;

/// Which streams have come; each may come once.
#[derive(Default)]
struct Seen([Cell<bool>; 4]);

/// Reads the visitor's unidirectional streams for as long as the connection lives.
pub(crate) async fn watch(connection: quinn::Connection) {
    let seen = Rc::new(Seen::default());
    while let Ok(stream) = connection.accept_uni().await {
        let (connection, seen) = (connection.clone(), seen.clone());
        drop(spawn_local(async move {
            if let Err(code) = serve(stream, &seen).await {
                connection.close(code.value(), b"");
            }
        }));
    }
}

/// Serves one stream. An error closes the connection.
async fn serve(mut stream: quinn::RecvStream, seen: &Seen) -> Result<(), Code> {
    let mut buffer = BytesMut::new();
    let kind = loop {
        if let Some((kind, length)) = varint::decode(&buffer) {
            drop(buffer.split_to(length));
            break kind;
        }
        // A stream may end before it says what it is (section 6.2).
        if !fill(&mut stream, &mut buffer).await {
            return Ok(());
        }
    };
    if kind == PUSH {
        return Err(Code::STREAM_CREATION_ERROR);
    }
    let Some(slot) = usize::try_from(kind).ok().and_then(|kind| seen.0.get(kind)) else {
        // A kind that we do not know is none of our business.
        drop(stream.stop(Code::STREAM_CREATION_ERROR.value()));
        return Ok(());
    };
    if slot.replace(true) {
        return Err(Code::STREAM_CREATION_ERROR);
    }
    match kind {
        CONTROL => control(&mut stream, &mut buffer).await,
        ENCODER => encoder(&mut stream, &mut buffer).await,
        DECODER => decoder(&mut stream, &mut buffer).await,
        _ => Ok(()),
    }
}

/// Reads more; `false` at the end.
async fn fill(stream: &mut quinn::RecvStream, buffer: &mut BytesMut) -> bool {
    match stream.read_chunk(READ, true).await {
        Ok(Some(chunk)) => {
            buffer.extend_from_slice(&chunk.bytes);
            true
        }
        Ok(None) | Err(_) => false,
    }
}

async fn control(stream: &mut quinn::RecvStream, buffer: &mut BytesMut) -> Result<(), Code> {
    let mut has_settings = false;
    loop {
        while let Some((kind, payload)) = frame::take_control(buffer)? {
            match kind {
                SETTINGS if has_settings => return Err(Code::FRAME_UNEXPECTED),
                SETTINGS => check_settings(&payload)?,
                _ if !has_settings => return Err(Code::MISSING_SETTINGS),
                GOAWAY | MAX_PUSH_ID | CANCEL_PUSH => check_id(kind, &payload)?,
                _ => {}
            }
            has_settings = true;
        }
        if !fill(stream, buffer).await {
            return Err(Code::CLOSED_CRITICAL_STREAM);
        }
    }
}

/// Settings are pairs of numbers, each at most once. What a visitor can do does not matter to us: we use no table and no
/// datagrams.
fn check_settings(mut payload: &[u8]) -> Result<(), Code> {
    let mut known: Vec<u64> = Vec::new();
    while !payload.is_empty() {
        let (id, first) = varint::decode(payload).ok_or(Code::FRAME_ERROR)?;
        let rest = payload.get(first..).unwrap_or_default();
        let (_, second) = varint::decode(rest).ok_or(Code::FRAME_ERROR)?;
        if RESERVED_SETTINGS.contains(&id) || known.contains(&id) {
            return Err(Code::SETTINGS_ERROR);
        }
        // The reserved ones of section 7.2.4.1 come as many as the visitor likes; a frame is short.
        known.push(id);
        payload = rest.get(second..).unwrap_or_default();
    }
    Ok(())
}

/// Frames that are one number. We promise no pushes, so none can be cancelled (section 7.2.3).
fn check_id(kind: u64, payload: &[u8]) -> Result<(), Code> {
    match varint::decode(payload) {
        Some((_, length)) if length == payload.len() && kind == CANCEL_PUSH => Err(Code::ID_ERROR),
        Some((_, length)) if length == payload.len() => Ok(()),
        _ => Err(Code::FRAME_ERROR),
    }
}

/// We allow no dynamic table, so there is nothing to instruct.
async fn encoder(stream: &mut quinn::RecvStream, buffer: &mut BytesMut) -> Result<(), Code> {
    loop {
        if buffer.iter().any(|byte| *byte != CAPACITY_ZERO) {
            return Err(Code::ENCODER_STREAM_ERROR);
        }
        buffer.clear();
        if !fill(stream, buffer).await {
            return Err(Code::CLOSED_CRITICAL_STREAM);
        }
    }
}

/// Acknowledgements of a table that we do not use; a cancelled stream is the one thing that can be said.
async fn decoder(stream: &mut quinn::RecvStream, buffer: &mut BytesMut) -> Result<(), Code> {
    loop {
        buffer.clear();
        if !fill(stream, buffer).await {
            return Err(Code::CLOSED_CRITICAL_STREAM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_pairs_and_come_once() {
        assert_eq!(check_settings(&[0x6, 0x40, 0xff, 0x1, 0x0, 0x21, 0x5]), Ok(()));
        assert_eq!(check_settings(&[]), Ok(()));
        assert_eq!(check_settings(&[0x6]), Err(Code::FRAME_ERROR));
        assert_eq!(check_settings(&[0x6, 0x0, 0x6, 0x1]), Err(Code::SETTINGS_ERROR));
        assert_eq!(check_settings(&[0x2, 0x0]), Err(Code::SETTINGS_ERROR));
        assert_eq!(check_id(MAX_PUSH_ID, &[0x5]), Ok(()));
        assert_eq!(check_id(MAX_PUSH_ID, &[0x5, 0x5]), Err(Code::FRAME_ERROR));
        assert_eq!(check_id(CANCEL_PUSH, &[0x5]), Err(Code::ID_ERROR));
    }
}
