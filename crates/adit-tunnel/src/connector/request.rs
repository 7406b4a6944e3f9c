//! The request of a stream: its head and its body.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use adit_wire::connect::StreamKind;
use adit_wire::fields::Fields;
use bytes::Bytes;

use crate::StreamError;
use crate::framing::{Piece, QuicBody, fields_of, poll_data_h2};
use crate::window::{Inflow, Windows};

/// What the edge asks for.
#[derive(Debug)]
pub struct StreamRequest {
    /// Plain HTTP, a WebSocket, or raw TCP.
    pub kind: StreamKind,
    /// The request method.
    pub method: Bytes,
    /// The host that rules match, as the visitor's request had it.
    pub host: Bytes,
    /// Path and query, starting with `/`; `ip:port` for TCP.
    pub target: Bytes,
    /// The header fields.
    pub fields: Fields,
    /// Whether a body follows.
    pub has_body: bool,
}

impl StreamRequest {
    /// A body follows if its length is above zero or unknown (cloudflared: `quic_connection.go`).
    pub(super) fn announces_body(fields: &Fields) -> bool {
        announced_length(fields).is_some_and(|length| length > 0) || is_chunked(fields)
    }
}

/// The value of Content-Length, if it is a number.
pub(super) fn announced_length(fields: &Fields) -> Option<u64> {
    std::str::from_utf8(fields.get("content-length")?).ok()?.trim().parse().ok()
}

fn is_chunked(fields: &Fields) -> bool {
    let coding = fields.get("transfer-encoding").unwrap_or_default();
    coding.windows(7).any(|word| word.eq_ignore_ascii_case(b"chunked"))
}

/// A piece of a request body.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes, never empty.
    Data(Bytes),
    /// The trailer section; the end follows.
    Trailers(Fields),
}

/// The request's body, read as it is asked for.
#[derive(Debug)]
pub struct RequestBody {
    source: Source,
    remaining: Option<u64>,
    inflow: Inflow,
}

#[derive(Debug)]
pub(super) enum Source {
    Empty,
    Quic(QuicBody),
    H2(h2::RecvStream),
}

impl Source {
    /// Returns the stream's id, which is the same at both ends.
    fn stream(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Quic(body) => body.stream(),
            Self::H2(recv) => u32::from(recv.stream_id()).into(),
        }
    }
}

impl RequestBody {
    pub(super) fn new(source: Source, remaining: Option<u64>, windows: Option<&Windows>) -> Self {
        let inflow = Inflow::new(windows, source.stream());
        Self { source, remaining, inflow }
    }

    fn empty() -> Self {
        Self::new(Source::Empty, None, None)
    }

    /// The body itself; what is left here is empty.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::empty())
    }

    /// The next piece; `None` at the well-formed end. Cancel-safe. Not asking is back-pressure.
    pub async fn next(&mut self) -> Option<Result<Chunk, StreamError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for hand-written futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        let piece = match &mut self.source {
            Source::Empty => None,
            Source::Quic(body) => ready!(body.poll_piece(self.remaining, cx)),
            Source::H2(recv) => ready!(poll_h2(recv, cx)),
        };
        Poll::Ready(match piece {
            Some(Ok(piece)) => Some(self.account(piece)),
            Some(Err(error)) => Some(Err(error)),
            None => self.end(),
        })
    }

    fn account(&mut self, piece: Piece) -> Result<Chunk, StreamError> {
        match piece {
            Piece::Trailers(fields) => Ok(Chunk::Trailers(fields)),
            Piece::Data(data) => {
                if let Some(remaining) = &mut self.remaining {
                    *remaining = remaining.checked_sub(data.len() as u64).ok_or_else(too_long)?;
                }
                self.inflow.consumed(data.len(), self.remaining);
                Ok(Chunk::Data(data))
            }
        }
    }

    fn end(&mut self) -> Option<Result<Chunk, StreamError>> {
        self.source = Source::Empty;
        match self.remaining.take() {
            Some(left) if left > 0 => Some(Err(StreamError::Truncated)),
            _ => None,
        }
    }
}

fn too_long() -> StreamError {
    StreamError::Malformed("the body is longer than announced".to_owned())
}

fn poll_h2(recv: &mut h2::RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, StreamError>>> {
    while let Some(data) = ready!(poll_data_h2(recv, cx)) {
        match data {
            Ok(data) if data.is_empty() => {}
            other => return Poll::Ready(Some(other.map(Piece::Data))),
        }
    }
    Poll::Ready(match ready!(recv.poll_trailers(cx)) {
        Ok(Some(map)) => Some(Ok(Piece::Trailers(fields_of(&map)))),
        Ok(None) => None,
        Err(error) => Some(Err(error.into())),
    })
}
