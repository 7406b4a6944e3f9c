//! The connector's streams on QUIC.

use adit_wire::connect::{ConnectRequest, decode_request_stream};
use adit_wire::features::Extensions;
use adit_wire::preamble::{self, Preamble};
use bytes::{Bytes, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::io::AsyncReadExt as _;

use super::reply::Reply;
use super::request::{RequestBody, Source, StreamRequest, announced_length};
use super::{Agreed, Handlers, Stream};
use crate::framing::{QuicBody, QuicWriter, read_error};
use crate::limits::{HEAD_BYTES_MAX, HEAD_READ, STREAMS_GROWN_MAX};
use crate::window::Windows;
use crate::{LinkClosed, StreamError};

/// A connection with the endpoint that it has for itself.
pub(super) struct Transport {
    pub(super) connection: Connection,
    pub(super) endpoint: Endpoint,
    /// How many streams the edge may hold open.
    pub(super) room: u32,
}

impl Transport {
    pub(super) async fn accept(&self) -> Result<Opening, LinkClosed> {
        let (send, recv) = self.connection.accept_bi().await?;
        Ok(Opening { send, recv })
    }

    /// Doubles the room when half of it is taken.
    pub(super) fn make_room(&mut self, taken: usize) {
        if self.room < STREAMS_GROWN_MAX && taken >= self.room as usize / 2 {
            self.room *= 2;
            self.connection.set_max_concurrent_bi_streams(quinn::VarInt::from_u32(self.room));
        }
    }

    pub(super) fn close(&self, reason: &str) {
        self.connection.close(quinn::VarInt::from_u32(0), reason.as_bytes());
        self.endpoint.close(quinn::VarInt::from_u32(0), reason.as_bytes());
    }
}

/// A stream whose first bytes are not read yet.
pub(super) struct Opening {
    send: SendStream,
    recv: RecvStream,
}

/// What the first bytes of a stream are.
enum First {
    Request(ConnectRequest, Bytes),
    Rpc(Bytes),
    Windows(Bytes),
}

impl Opening {
    pub(super) async fn read(
        mut self,
        agreed: &Agreed,
        handlers: Handlers,
    ) -> Result<Option<Stream>, StreamError> {
        match self.read_first().await? {
            First::Request(request, rest) => Ok(Some(self.stream(request, rest, agreed))),
            First::Windows(rest) => {
                let windows = agreed.windows().cloned().ok_or(StreamError::Stopped)?;
                let recv = std::io::Cursor::new(rest).chain(self.recv);
                // Ends with the connection, and is none of its requests.
                drop(tokio::task::spawn_local(windows.run(recv, self.send)));
                Ok(None)
            }
            First::Rpc(rest) => {
                crate::control::push::answer(rest, self.recv, self.send, handlers).await;
                Ok(None)
            }
        }
    }

    async fn read_first(&mut self) -> Result<First, StreamError> {
        let mut buffer = BytesMut::with_capacity(HEAD_READ);
        loop {
            buffer.reserve(HEAD_READ);
            let read = self.recv.read_buf(&mut buffer).await.map_err(|error| read_error(&error))?;
            if read == 0 {
                return Err(StreamError::Truncated);
            }
            let bytes = buffer.freeze();
            if let Some(first) = parse(&bytes)? {
                return Ok(first);
            }
            buffer = BytesMut::from(bytes);
            if buffer.len() > HEAD_BYTES_MAX {
                return Err(StreamError::Malformed("the head is too long".to_owned()));
            }
        }
    }

    fn stream(self, request: ConnectRequest, rest: Bytes, agreed: &Agreed) -> Stream {
        let remaining = announced_length(&request.fields);
        let framed = request.framed && agreed.extensions.contains(Extensions::TRAILERS);
        let reply = Reply::quic(QuicWriter::new(self.send), request.kind, agreed);
        let request = head(request);
        let body = body(&request, QuicBody::new(self.recv, rest, framed), remaining, agreed.windows());
        Stream { request, body, reply }
    }
}

fn parse(bytes: &Bytes) -> Result<Option<First>, StreamError> {
    let malformed = |error: &dyn std::fmt::Display| StreamError::Malformed(error.to_string());
    match preamble::parse(bytes).map_err(|error| malformed(&error))? {
        preamble::Parsed::Incomplete => Ok(None),
        preamble::Parsed::Complete(Preamble::Rpc, used) => Ok(Some(First::Rpc(bytes.slice(used..)))),
        preamble::Parsed::Complete(Preamble::Windows, used) => Ok(Some(First::Windows(bytes.slice(used..)))),
        preamble::Parsed::Complete(Preamble::Data { .. }, _) => {
            let request = decode_request_stream(bytes).map_err(|error| malformed(&error))?;
            Ok(request.map(|(request, used)| First::Request(request, bytes.slice(used..))))
        }
    }
}

fn head(request: ConnectRequest) -> StreamRequest {
    let target = request.target();
    let has_body = StreamRequest::announces_body(&request.fields);
    StreamRequest {
        kind: request.kind,
        method: request.method,
        host: request.host,
        target,
        fields: request.fields,
        has_body,
    }
}

/// Without a body the stream's end is read now, so that dropping it says nothing to the peer.
fn body(
    request: &StreamRequest,
    mut body: QuicBody,
    remaining: Option<u64>,
    windows: Option<&Windows>,
) -> RequestBody {
    let upgraded = request.kind != adit_wire::connect::StreamKind::Http;
    if request.has_body || upgraded {
        let remaining = if upgraded { None } else { remaining };
        return RequestBody::new(Source::Quic(body), remaining, windows);
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    if body.poll_piece(Some(1), &mut cx).is_pending() {
        return RequestBody::new(Source::Quic(body), None, windows);
    }
    RequestBody::new(Source::Empty, None, None)
}
