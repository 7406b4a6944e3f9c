//! The answer to a stream: head, body, trailers, end. Whatever is dropped before its end is reset, so that a broken
//! answer never looks complete.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use adit_wire::connect::{Entry, StreamKind, encode_response};
use adit_wire::features::Extensions;
use adit_wire::fields::Fields;
use adit_wire::{frame, names, packed};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Agreed;
use super::request::{Chunk, RequestBody};
use crate::StreamError;
use crate::framing::{BodyWriter, H2Writer, QuicWriter, header_map, pour};
use crate::limits::{HEAD_READ, INLINE_BODY_MAX};
use crate::window::{Outflow, Windows};

/// Our own field on HTTP/2: why the origin could not be reached. cloudflared says nothing there.
pub(crate) const CAUSE: &str = "adit-cause";

/// The head of the answer, still to be given. Dropping it resets the stream.
#[derive(Debug)]
pub struct Reply {
    inner: Inner,
    /// Whether a token was checked for it.
    is_gated: bool,
}

#[derive(Debug)]
enum Inner {
    Quic { send: QuicWriter, carries_trailers: bool, interim: bool, windows: Option<Windows> },
    H2 { send: SendResponse<Bytes>, interim: bool, windows: Option<Windows> },
}

impl Reply {
    /// Of plain HTTP a body of unknown length is framed, so that it can end in trailers, whether the client asked for any or not:
    /// over HTTP/2 they pass too.
    pub(super) fn quic(send: QuicWriter, kind: StreamKind, agreed: &Agreed) -> Self {
        let carries_trailers = agreed.extensions.contains(Extensions::TRAILERS) && kind == StreamKind::Http;
        let interim = agreed.extensions.contains(Extensions::INTERIM);
        let inner = Inner::Quic { send, carries_trailers, interim, windows: agreed.windows().cloned() };
        Self { inner, is_gated: false }
    }

    pub(super) fn h2(send: SendResponse<Bytes>, agreed: &Agreed) -> Self {
        let interim = agreed.extensions.contains(Extensions::INTERIM);
        let inner = Inner::H2 { send, interim, windows: agreed.windows().cloned() };
        Self { inner, is_gated: false }
    }

    /// Marks the answer as one that a gate decides on: the edge keeps it for nobody else.
    pub fn mark_gated(&mut self) {
        self.is_gated = true;
    }

    /// Sends a 1xx head. It is dropped silently when the edge cannot take it.
    ///
    /// # Errors
    /// When the stream is gone.
    pub async fn interim(&mut self, status: u16, fields: &Fields) -> Result<(), StreamError> {
        match &mut self.inner {
            Inner::Quic { send, interim: true, .. } => {
                let mut out = BytesMut::new();
                encode_head(&mut out, status, fields, false);
                send.write(&out).await
            }
            Inner::H2 { send, interim: true, .. } => {
                let mut response = Response::new(());
                *response.status_mut() = status_code(status)?;
                *response.headers_mut() = header_map(fields)?;
                Ok(send.send_informational(response)?)
            }
            Inner::Quic { .. } | Inner::H2 { .. } => Ok(()),
        }
    }

    /// Sends the head and, in the same write, the first bytes of the body. `end` says that they are the whole body.
    ///
    /// # Errors
    /// When the stream is gone, or a field cannot be sent.
    pub async fn head(
        self,
        status: u16,
        fields: &Fields,
        first: Bytes,
        end: bool,
    ) -> Result<ReplyBody, StreamError> {
        let mark = self.is_gated.then(|| {
            let mark = [(names::GATED.as_bytes(), &b"1"[..])];
            Fields::from_pairs(fields.iter().chain(mark))
        });
        let fields = mark.as_ref().unwrap_or(fields);
        match self.inner {
            Inner::Quic { send, carries_trailers, windows, .. } => {
                let framed = carries_trailers && !end && fields.get("content-length").is_none();
                let outflow = Outflow::new(windows.as_ref(), send.stream()).with_head(first.len());
                let send = head_quic(send, status, fields, framed, first, end).await?;
                Ok(ReplyBody(BodyWriter::quic(send, framed, outflow)))
            }
            Inner::H2 { send, windows, .. } => {
                let stream = u32::from(send.stream_id()).into();
                let outflow = Outflow::new(windows.as_ref(), stream).with_head(first.len());
                let send = head_h2(send, status, fields, first, end).await?;
                Ok(ReplyBody(BodyWriter::h2(send, outflow)))
            }
        }
    }

    /// Says that the origin could not be asked: the edge answers 502 and logs the cause.
    pub async fn refuse(self, cause: &str) {
        match self.inner {
            Inner::Quic { mut send, .. } => {
                let mut out = BytesMut::new();
                encode_response(&mut out, Some(cause), std::iter::empty);
                // A stream that is gone needs no refusal.
                if send.write(&out).await.is_ok() {
                    send.finish();
                }
            }
            Inner::H2 { mut send, .. } => drop(send.send_response(refusal(cause), true)),
        }
    }

    /// Resolves when the edge no longer wants the answer.
    pub async fn cancelled(&mut self) {
        match &mut self.inner {
            Inner::Quic { send, .. } => send.stopped().await,
            Inner::H2 { send, .. } => drop(poll_fn(|cx| send.poll_reset(cx)).await),
        }
    }
}

fn encode_head(out: &mut BytesMut, status: u16, fields: &Fields, framed: bool) {
    let mut digits = [b'0'; 3];
    digits[0] += u8::try_from(status / 100 % 10).unwrap_or(0);
    digits[1] += u8::try_from(status / 10 % 10).unwrap_or(0);
    digits[2] += u8::try_from(status % 10).unwrap_or(0);
    let framing = framed.then_some(Entry::Meta(names::META_FRAMING, b"1"));
    let entries = || {
        let fields = fields.iter().map(|(name, value)| Entry::Header(name, value));
        [Entry::Meta(names::META_STATUS, &digits)].into_iter().chain(fields).chain(framing)
    };
    encode_response(out, None, entries);
}

async fn head_quic(
    mut send: QuicWriter,
    status: u16,
    fields: &Fields,
    framed: bool,
    first: Bytes,
    end: bool,
) -> Result<QuicWriter, StreamError> {
    let mut out = BytesMut::with_capacity(HEAD_READ);
    encode_head(&mut out, status, fields, framed);
    if framed && !first.is_empty() {
        out.extend_from_slice(&frame::encode_data_header(first.len()));
    }
    if first.len() <= INLINE_BODY_MAX {
        out.extend_from_slice(&first);
        send.chunk(out.freeze()).await?;
    } else {
        send.chunk(out.freeze()).await?;
        send.chunk(first).await?;
    }
    if end {
        send.finish();
    }
    Ok(send)
}

async fn head_h2(
    mut send: SendResponse<Bytes>,
    status: u16,
    fields: &Fields,
    first: Bytes,
    end: bool,
) -> Result<H2Writer, StreamError> {
    let mut response = Response::new(());
    // cloudflared answers an accepted WebSocket with 200: HTTP/2 has no 101.
    *response.status_mut() = if status == 101 { StatusCode::OK } else { status_code(status)? };
    *response.headers_mut() = outer(fields)?;
    let ended = end && first.is_empty();
    let mut body = H2Writer::new(send.send_response(response, ended)?, ended);
    body.data(first).await?;
    if end {
        body.finish();
    }
    Ok(body)
}

/// The outer head: the length in plain, everything in the packed field (cloudflared: `connection/header.go`).
fn outer(fields: &Fields) -> Result<HeaderMap, StreamError> {
    let malformed = |_| StreamError::Malformed("bad header field".to_owned());
    let mut headers = HeaderMap::with_capacity(3);
    let mut blob = BytesMut::with_capacity(HEAD_READ / 4);
    packed::encode(&mut blob, fields.iter());
    let blob = HeaderValue::from_maybe_shared(blob.freeze()).map_err(malformed)?;
    headers.insert(names::RESPONSE_HEADERS, blob);
    headers.insert(names::RESPONSE_META, HeaderValue::from_static(packed::meta::ORIGIN));
    if let Some(length) = fields.get("content-length") {
        let length = HeaderValue::from_bytes(length).map_err(malformed)?;
        headers.insert(header::CONTENT_LENGTH, length);
    }
    Ok(headers)
}

fn refusal(cause: &str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let headers = response.headers_mut();
    headers.insert(names::RESPONSE_META, HeaderValue::from_static(packed::meta::CONNECTOR));
    if let Ok(cause) = HeaderValue::from_str(cause) {
        headers.insert(CAUSE, cause);
    }
    response
}

fn status_code(status: u16) -> Result<StatusCode, StreamError> {
    StatusCode::from_u16(status).map_err(|_| StreamError::Malformed(format!("status {status}")))
}

/// The body of the answer. Dropping it before its end resets the stream.
#[derive(Debug)]
pub struct ReplyBody(BodyWriter);

impl ReplyBody {
    /// Sends bytes; waits while the edge takes none.
    ///
    /// # Errors
    /// When the stream is gone.
    pub async fn data(&mut self, data: Bytes) -> Result<(), StreamError> {
        if data.is_empty() {
            return Ok(());
        }
        self.0.data(data).await
    }

    /// Ends the body with a trailer section, where the edge can take one.
    ///
    /// # Errors
    /// When the stream is gone, or a field cannot be sent.
    pub async fn trailers(mut self, fields: &Fields) -> Result<(), StreamError> {
        self.0.trailers(fields).await
    }

    /// Ends the body well.
    ///
    /// # Errors
    /// When the stream is gone.
    pub async fn finish(mut self) -> Result<(), StreamError> {
        self.0.finish().await
    }

    /// Breaks the body off: the edge aborts the visitor's response.
    pub fn abort(self) {
        self.0.abort();
    }

    /// Resolves when the edge no longer wants the answer.
    pub async fn cancelled(&mut self) {
        self.0.stopped().await;
    }
}

/// The request's and the answer's bodies as one two-way byte stream. Shutting it down ends our half only. Its errors are
/// [`StreamError`]s.
#[derive(Debug)]
pub struct Duplex {
    read: RequestBody,
    write: BodyWriter,
    pending: Bytes,
    /// The edge has ended its half.
    ended: bool,
    gone: Gone,
}

/// Waits for the edge to want no more; made when it is first asked for.
#[derive(Default)]
struct Gone(Option<Pin<Box<dyn Future<Output = ()>>>>);

impl std::fmt::Debug for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gone")
    }
}

impl Duplex {
    /// The stream of an upgrade that was accepted with 101.
    #[must_use]
    pub fn new(read: RequestBody, write: ReplyBody) -> Self {
        Self { read, write: write.0, pending: Bytes::new(), ended: false, gone: Gone::default() }
    }

    /// Ready, with what a write would say, when the edge no longer wants what we send. While the edge's own half is open,
    /// a read says so too.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let gone = self.write.poll_stopped(&mut self.gone.0, self.ended, cx);
        gone.map(|()| io::Error::other(StreamError::Stopped))
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pending.is_empty() {
            match ready!(self.read.poll_next(cx)).transpose().map_err(io::Error::other)? {
                Some(Chunk::Data(data)) => self.pending = data,
                Some(Chunk::Trailers(_)) => {}
                None => {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        pour(&mut self.pending, out);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, data).map_err(stopped)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx).map_err(stopped)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx).map_err(stopped)
    }
}

/// A write fails only when the edge is gone, or wants no more.
fn stopped(_: io::Error) -> io::Error {
    io::Error::other(StreamError::Stopped)
}
