//! The body of an answer, whatever carries it, and the two-way stream that a WebSocket becomes.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use adit_wire::connect::StreamKind;
use adit_wire::names;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use quinn::RecvStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use super::{InFlight, stalled};
use crate::framing::{BodyWriter, Piece, QuicBody, header_map, pour};
use crate::limits::{DISCARD_TIME, FIN_WAIT};
use crate::window::Inflow;
use crate::{SendError, StreamError};

/// The body of a response, read from the tunnel as the visitor takes it. Dropping it cancels the request.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// Bytes still to come, when the head announced them.
    remaining: Option<u64>,
    upload: Upload,
    inflow: Inflow,
    guard: Option<InFlight>,
}

#[derive(Debug)]
pub(super) enum Source {
    Ended,
    Quic(QuicBody),
    H2(h2::RecvStream),
    /// One of the two, which may be cut while its reader is stalled.
    Watched(Arc<stalled::Response>),
}

impl Source {
    fn is_quic(&self) -> bool {
        match self {
            Self::Quic(_) => true,
            Self::Watched(response) => response.is_quic,
            Self::Ended | Self::H2(_) => false,
        }
    }

    /// The next piece; of raw bytes on QUIC at most `remaining`, where that is known.
    pub(super) fn poll_data(
        &mut self,
        remaining: Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match self {
            Self::Ended => Poll::Ready(None),
            Self::Quic(body) => body.poll_piece(remaining, cx).map(|piece| piece.map(into_frame)),
            Self::H2(recv) => poll_h2(recv, cx),
            Self::Watched(response) => response.poll_data(remaining, Instant::now(), cx),
        }
    }
}

/// The request's own body while the answer is read.
#[derive(Debug)]
pub(super) enum Upload {
    Done,
    /// Goes on in a task of its own, so that a visitor who reads nothing before the upload ends is not stuck.
    Running(AbortOnDrop),
    /// A WebSocket: the sending half waits for the visitor's bytes.
    Kept(BodyWriter),
}

impl Upload {
    pub(super) fn spawn(pump: Pin<Box<impl Future<Output = Result<(), SendError>> + 'static>>) -> Self {
        Self::Running(AbortOnDrop(Some(tokio::task::spawn_local(pump))))
    }
}

/// A task that ends with its handle.
#[derive(Debug)]
pub(super) struct AbortOnDrop(Option<JoinHandle<Result<(), SendError>>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl AbortOnDrop {
    /// Lets the upload go on for a moment: its answer is complete.
    fn outlive(mut self) {
        let Some(mut task) = self.0.take() else { return };
        drop(tokio::task::spawn_local(async move {
            if tokio::time::timeout(DISCARD_TIME, &mut task).await.is_err() {
                task.abort();
            }
        }));
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.remaining == Some(0) {
            self.retire();
        }
        if let (true, Upload::Running(task)) =
            (self.is_end_stream(), std::mem::replace(&mut self.upload, Upload::Done))
        {
            task.outlive();
        }
    }
}

impl ResponseBody {
    pub(super) fn quic(
        recv: RecvStream,
        buffered: Bytes,
        remaining: Option<u64>,
        framed: bool,
        upload: Upload,
        guard: InFlight,
    ) -> Self {
        let body = QuicBody::new(recv, buffered, framed);
        let inflow = Inflow::new(guard.windows(), body.stream());
        let source = stalled::Response::watched(Source::Quic(body), remaining, &guard);
        Self { source, remaining, upload, inflow, guard: Some(guard) }.retired_if_empty()
    }

    pub(super) fn h2(recv: h2::RecvStream, remaining: Option<u64>, upload: Upload, guard: InFlight) -> Self {
        let inflow = Inflow::new(guard.windows(), u32::from(recv.stream_id()).into());
        let source = stalled::Response::watched(Source::H2(recv), remaining, &guard);
        Self { source, remaining, upload, inflow, guard: Some(guard) }.retired_if_empty()
    }

    /// The two-way stream of a WebSocket that the origin accepted; `None` for any other answer.
    #[must_use]
    pub fn into_duplex(mut self) -> Option<Duplex> {
        let Upload::Kept(sink) = std::mem::replace(&mut self.upload, Upload::Done) else { return None };
        Some(Duplex { read: self, sink, pending: Bytes::new() })
    }

    fn retired_if_empty(mut self) -> Self {
        if self.remaining == Some(0) {
            self.retire();
        }
        self
    }

    /// All announced bytes are here. The peer's end of the stream may still be on its way: wait for it aside, because
    /// to drop the stream now would tell the peer to stop what it has finished.
    fn retire(&mut self) {
        let guard = self.guard.take();
        let source = match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Watched(response) => response.take().unwrap_or(Source::Ended),
            source => source,
        };
        match source {
            Source::Ended | Source::Watched(_) => {}
            Source::Quic(body) => retire_quic(body.into_recv(), guard),
            Source::H2(recv) if recv.is_end_stream() => {}
            Source::H2(recv) => drop(tokio::task::spawn_local(drain_h2(recv))),
        }
    }

    /// Counts the data against the announced length; more than announced is never passed on.
    fn account(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, StreamError> {
        let Some(length) = frame.data_ref().map(Bytes::len) else { return Ok(frame) };
        self.inflow.consumed(length, self.remaining.map(|left| left.saturating_sub(length as u64)));
        let (Some(remaining), length) = (self.remaining, length as u64) else { return Ok(frame) };
        let Some(left) = remaining.checked_sub(length) else {
            return Err(StreamError::Malformed("the body is longer than announced".to_owned()));
        };
        self.remaining = Some(left);
        if left == 0 && self.source.is_quic() {
            self.retire();
        }
        Ok(frame)
    }

    fn end(&mut self) -> Option<Result<Frame<Bytes>, StreamError>> {
        self.source = Source::Ended;
        match self.remaining {
            Some(left) if left > 0 => Some(Err(StreamError::Truncated)),
            _ => None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let remaining = self.remaining;
        Poll::Ready(match ready!(self.source.poll_data(remaining, cx)) {
            Some(Ok(frame)) => Some(self.account(frame)),
            Some(Err(error)) => Some(Err(error)),
            None => self.end(),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Ended) && !matches!(self.remaining, Some(1..))
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn into_frame(piece: Result<Piece, StreamError>) -> Result<Frame<Bytes>, StreamError> {
    match piece? {
        Piece::Data(data) => Ok(Frame::data(data)),
        Piece::Trailers(fields) => Ok(Frame::trailers(header_map(&fields)?)),
    }
}

fn poll_h2(
    recv: &mut h2::RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
    // An empty piece would become an empty frame, and a visitor's library may close its connection at the hundredth.
    while let Some(data) = ready!(crate::framing::poll_data_h2(recv, cx)) {
        if !data.as_ref().is_ok_and(Bytes::is_empty) {
            return Poll::Ready(Some(data.map(Frame::data)));
        }
    }
    match ready!(recv.poll_trailers(cx)) {
        Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
        Ok(None) => Poll::Ready(None),
        Err(error) => Poll::Ready(Some(Err(error.into()))),
    }
}

/// Usually the end came with the last bytes. If not, a small task waits for it.
fn retire_quic(mut recv: RecvStream, guard: Option<InFlight>) {
    let mut scratch = [0; 1];
    let mut cx = Context::from_waker(std::task::Waker::noop());
    if recv.poll_read(&mut cx, &mut scratch).is_pending() {
        drop(tokio::task::spawn_local(async move {
            drop(tokio::time::timeout(FIN_WAIT, recv.read(&mut [0; 1])).await);
            drop(guard);
        }));
    }
}

async fn drain_h2(mut recv: h2::RecvStream) {
    let end =
        async { while let Some(Ok(_)) = poll_fn(|cx| crate::framing::poll_data_h2(&mut recv, cx)).await {} };
    drop(tokio::time::timeout(FIN_WAIT, end).await);
}

/// The status that the visitor gets. 101 is an answer to a WebSocket only; raw bytes have none.
pub(super) fn final_status(kind: StreamKind, status: Option<u16>) -> Result<StatusCode, SendError> {
    let malformed = |text: &str| SendError::Malformed(text.to_owned());
    if kind == StreamKind::Tcp {
        return match status {
            None | Some(101 | 200) => Ok(StatusCode::SWITCHING_PROTOCOLS),
            Some(other) => Err(SendError::Origin(format!("the connector answers {other}"))),
        };
    }
    let status = status.ok_or_else(|| malformed("no status"))?;
    if status == 101 && kind != StreamKind::WebSocket {
        return Err(malformed("101 without an upgrade"));
    }
    StatusCode::from_u16(status).map_err(|_| malformed("status out of range"))
}

/// Adds a field of the answer, unless it is one of the tunnel's own.
pub(super) fn append(map: &mut HeaderMap, name: &[u8], value: Bytes) -> Result<(), SendError> {
    let is_for_edge =
        [names::OWN_ANSWER, names::GATED].iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    if names::is_internal_response_header(name) && !is_for_edge {
        return Ok(());
    }
    let malformed = || SendError::Malformed(format!("bad header field {:?}", String::from_utf8_lossy(name)));
    let name = HeaderName::from_bytes(name).map_err(|_| malformed())?;
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| malformed())?;
    map.append(name, value);
    Ok(())
}

/// The length that the body must have: RFC 9110 section 6.4.1 and 8.6.
pub(super) fn length(
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Option<u64>, SendError> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if method == Method::HEAD || bodiless || status.is_informational() || is_trailers_only(headers) {
        return Ok(Some(0));
    }
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let parsed = first.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    match parsed {
        Some(length) if values.all(|other| other == first) => Ok(Some(length)),
        _ => Err(SendError::Malformed("bad Content-Length".to_owned())),
    }
}

/// An answer of gRPC that says its status in the head has no body ("Trailers-Only" in gRPC over HTTP/2). Its clients
/// insist that the head ends the stream, so we must know it at the head.
fn is_trailers_only(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    headers.contains_key("grpc-status")
        && media
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A two-way byte stream through the tunnel. Shutting it down ends our half only.
#[derive(Debug)]
pub struct Duplex {
    read: ResponseBody,
    sink: BodyWriter,
    pending: Bytes,
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pending.is_empty() {
            match ready!(pin!(&mut self.read).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(frame)) => self.pending = frame.into_data().unwrap_or_default(),
            }
        }
        pour(&mut self.pending, out);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.sink).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_shutdown(cx)
    }
}
