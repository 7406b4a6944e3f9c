//! Writing to and reading from streams of either transport; shared by both ends.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use adit_wire::fields::Fields;
use adit_wire::frame::{self, FrameDecoder, Item};
use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::StreamError;
use crate::limits::BODY_READ;
use crate::window::Outflow;

/// Sends all of `data`, as fast as the peer grants room.
pub(crate) async fn send_h2(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), StreamError> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|cx| poll_room(stream, cx)).await?;
        let part = data.split_to(room.min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}

/// Room for at least one byte.
pub(crate) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, StreamError>> {
    loop {
        let room = stream.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error.into())),
            None => return Poll::Ready(Err(StreamError::Stopped)),
        }
    }
}

/// The next DATA frame; its room is given back at once, because the reader has taken it.
pub(crate) fn poll_data_h2(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, StreamError>>> {
    Poll::Ready(match ready!(stream.poll_data(cx)) {
        None => None,
        Some(Err(error)) => Some(Err(error.into())),
        Some(Ok(data)) => {
            // Fails only for a stream that is gone already.
            drop(stream.flow_control().release_capacity(data.len()));
            Some(Ok(data))
        }
    })
}

/// The sending half of a QUIC stream that is reset, not finished, when it is dropped before its end: a message that
/// broke off must never look complete. (The library finishes on drop.)
#[derive(Debug)]
pub(crate) struct QuicWriter {
    send: quinn::SendStream,
    ended: bool,
}

impl QuicWriter {
    pub(crate) fn new(send: quinn::SendStream) -> Self {
        Self { send, ended: false }
    }

    /// Returns the stream's id, which is the same at both ends.
    pub(crate) fn stream(&self) -> u64 {
        self.send.id().into()
    }

    pub(crate) async fn write(&mut self, data: &[u8]) -> Result<(), StreamError> {
        Ok(self.send.write_all(data).await?)
    }

    pub(crate) async fn chunk(&mut self, data: Bytes) -> Result<(), StreamError> {
        Ok(self.send.write_chunk(data).await?)
    }

    pub(crate) async fn chunks(&mut self, data: &mut [Bytes]) -> Result<(), StreamError> {
        Ok(self.send.write_all_chunks(data).await?)
    }

    /// Ends the stream well. A peer that stopped it first has what it wants.
    pub(crate) fn finish(&mut self) {
        self.ended = true;
        drop(self.send.finish());
    }

    /// Resolves when the peer stops reading before our end of the stream.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + 'static {
        let stopped = self.send.stopped();
        async move {
            // Our end arrived first: nobody will stop anything.
            if let Ok(None) = stopped.await {
                std::future::pending().await
            }
        }
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, data).map_err(io::Error::other)
    }
}

impl Drop for QuicWriter {
    fn drop(&mut self) {
        if !self.ended {
            // Fails only when the stream is gone already.
            drop(self.send.reset(quinn::VarInt::from_u32(0)));
        }
    }
}

/// Reads DATA frames as a byte stream.
#[derive(Debug)]
pub(crate) struct H2Reader {
    recv: RecvStream,
    pending: Bytes,
}

impl H2Reader {
    pub(crate) fn new(recv: RecvStream) -> Self {
        Self { recv, pending: Bytes::new() }
    }
}

impl AsyncRead for H2Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pending.is_empty() {
            match ready!(poll_data_h2(&mut self.recv, cx)) {
                None => return Poll::Ready(Ok(())),
                Some(data) => self.pending = data.map_err(io::Error::other)?,
            }
        }
        pour(&mut self.pending, out);
        Poll::Ready(Ok(()))
    }
}

/// The sending half of an HTTP/2 stream that is reset when it is dropped before its end, for the same reason. (The
/// library resets only when the receiving half is gone too.) As a byte stream, shutting down is the end.
#[derive(Debug)]
pub(crate) struct H2Writer {
    send: SendStream<Bytes>,
    ended: bool,
}

impl H2Writer {
    /// `ended` says that the head was the end.
    pub(crate) fn new(send: SendStream<Bytes>, ended: bool) -> Self {
        Self { send, ended }
    }

    /// Returns the stream's id, which is the same at both ends.
    pub(crate) fn stream(&self) -> u64 {
        u32::from(self.send.stream_id()).into()
    }

    pub(crate) async fn data(&mut self, data: Bytes) -> Result<(), StreamError> {
        send_h2(&mut self.send, data).await
    }

    /// Ends the stream well. It may be gone already: then nobody waits for the end.
    pub(crate) fn finish(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            drop(self.send.send_data(Bytes::new(), true));
        }
    }

    pub(crate) fn trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
        self.ended = true;
        Ok(self.send.send_trailers(trailers)?)
    }

    /// Says that the message broke off at its source.
    pub(crate) fn abort(&mut self) {
        self.ended = true;
        self.send.send_reset(h2::Reason::INTERNAL_ERROR);
    }

    /// Resolves when the peer resets the stream.
    pub(crate) async fn stopped(&mut self) {
        poll_fn(|cx| self.poll_stopped(cx)).await;
    }

    pub(crate) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.send.poll_reset(cx).map(drop)
    }
}

impl Drop for H2Writer {
    fn drop(&mut self) {
        if !self.ended {
            self.send.send_reset(h2::Reason::CANCEL);
        }
    }
}

impl AsyncWrite for H2Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(data.len().min(BODY_READ));
        let room = ready!(poll_room(&mut self.send, cx)).map_err(io::Error::other)?;
        let part = data.get(..room).unwrap_or(data);
        self.send.send_data(Bytes::copy_from_slice(part), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

/// The sending half of a body, whatever carries it. It is never further ahead of the peer's reader than the window of its
/// stream allows.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    sink: Sink,
    outflow: Outflow,
}

#[derive(Debug)]
enum Sink {
    /// Raw bytes on QUIC, or framed ones when both ends can carry trailers.
    Quic { send: QuicWriter, framed: bool },
    /// DATA and HEADERS frames.
    H2(H2Writer),
}

impl BodyWriter {
    pub(crate) fn quic(send: QuicWriter, framed: bool, outflow: Outflow) -> Self {
        Self { sink: Sink::Quic { send, framed }, outflow }
    }

    pub(crate) fn h2(send: H2Writer, outflow: Outflow) -> Self {
        Self { sink: Sink::H2(send), outflow }
    }

    pub(crate) async fn data(&mut self, mut data: Bytes) -> Result<(), StreamError> {
        while !data.is_empty() {
            let room = poll_fn(|cx| self.outflow.poll_room(data.len(), cx));
            let room = tokio::select! {
                biased;
                room = room => room,
                () = self.sink.stopped() => return Err(StreamError::Stopped),
            };
            let part = data.split_to(room);
            self.outflow.sent(part.len());
            self.sink.data(part).await?;
        }
        Ok(())
    }

    /// Ends the body with a trailer section, where the peer can take one: cloudflared's QUIC has none.
    pub(crate) async fn trailers(&mut self, fields: &Fields) -> Result<(), StreamError> {
        self.sink.trailers(fields).await
    }

    /// Ends the body well, unless it has ended. A framed one says itself that it is complete.
    pub(crate) async fn finish(&mut self) -> Result<(), StreamError> {
        match &mut self.sink {
            Sink::Quic { send, .. } if send.ended => Ok(()),
            Sink::Quic { .. } => self.sink.trailers(&Fields::default()).await,
            Sink::H2(send) => {
                send.finish();
                Ok(())
            }
        }
    }

    /// Says that the message broke off at its source.
    pub(crate) fn abort(self) {
        // A QUIC stream is reset when it is dropped.
        if let Sink::H2(mut send) = self.sink {
            send.abort();
        }
    }

    /// Resolves when the peer wants no more.
    pub(crate) async fn stopped(&mut self) {
        self.sink.stopped().await;
    }

    /// Ready when the peer wants no more. HTTP/2 is always asked: the library keeps the waker of who asked last, and with
    /// it that task's memory. QUIC is asked by what is kept in `waiting`, and only if `ask_quic`.
    pub(crate) fn poll_stopped(
        &mut self,
        waiting: &mut Option<Pin<Box<dyn Future<Output = ()>>>>,
        ask_quic: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match &mut self.sink {
            Sink::H2(send) => send.poll_stopped(cx),
            Sink::Quic { send, .. } if ask_quic => {
                waiting.get_or_insert_with(|| Box::pin(send.stopped())).as_mut().poll(cx)
            }
            Sink::Quic { .. } => Poll::Pending,
        }
    }
}

impl Sink {
    async fn data(&mut self, data: Bytes) -> Result<(), StreamError> {
        match self {
            Self::Quic { send, framed } => {
                if *framed {
                    let header = Bytes::copy_from_slice(&frame::encode_data_header(data.len()));
                    return send.chunks(&mut [header, data]).await;
                }
                send.chunk(data).await
            }
            Self::H2(send) => send.data(data).await,
        }
    }

    async fn stopped(&mut self) {
        match self {
            Self::Quic { send, .. } => send.stopped().await,
            Self::H2(send) => send.stopped().await,
        }
    }

    async fn trailers(&mut self, fields: &Fields) -> Result<(), StreamError> {
        match self {
            Self::Quic { send, framed } => {
                if *framed {
                    let mut out = BytesMut::new();
                    frame::encode_trailers(&mut out, fields.iter());
                    send.write(&out).await?;
                }
                send.finish();
                Ok(())
            }
            Self::H2(send) => send.trailers(header_map(fields)?),
        }
    }
}

/// As a byte stream: of an upgrade, which is never framed.
impl AsyncWrite for BodyWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.outflow.poll_room(data.len(), cx));
        let data = data.get(..room).unwrap_or(data);
        let written = ready!(match &mut self.sink {
            Sink::Quic { send, .. } => send.poll_write(cx, data),
            Sink::H2(send) => Pin::new(send).poll_write(cx, data),
        })?;
        self.outflow.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.sink {
            Sink::Quic { send, .. } => send.finish(),
            Sink::H2(send) => send.finish(),
        }
        Poll::Ready(Ok(()))
    }
}

/// Pairs of a header map, as the wire wants them.
pub(crate) fn pairs(map: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// A header map as the fields of the wire.
pub(crate) fn fields_of(map: &HeaderMap) -> Fields {
    Fields::from_pairs(pairs(map))
}

/// Moves what is pending to a reader, as far as there is room.
pub(crate) fn pour(pending: &mut Bytes, out: &mut ReadBuf<'_>) {
    let take = pending.len().min(out.remaining());
    out.put_slice(&pending.split_to(take));
}

/// Reads up to `room` bytes of a QUIC stream; `None` is its end.
pub(crate) fn poll_read_quic(
    recv: &mut quinn::RecvStream,
    room: usize,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, StreamError>>> {
    let mut buffer = BytesMut::with_capacity(room);
    Poll::Ready(match ready!(tokio_util::io::poll_read_buf(Pin::new(recv), cx, &mut buffer)) {
        Ok(0) => None,
        // Whoever does not take it for long shall hold no more than what it is.
        Ok(read) if read < room / 2 => Some(Ok(Bytes::copy_from_slice(&buffer))),
        Ok(_) => Some(Ok(buffer.freeze())),
        Err(error) => Some(Err(read_error(&error))),
    })
}

/// What the library's `io::Error` of a stream read means.
pub(crate) fn read_error(error: &io::Error) -> StreamError {
    match error.kind() {
        io::ErrorKind::ConnectionReset => StreamError::Reset,
        _ => StreamError::ConnectionLost,
    }
}

/// One piece of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(Fields),
}

/// The receiving half of a QUIC stream as a body: first what was read with the head, then the rest; raw or framed.
#[derive(Debug)]
pub(crate) struct QuicBody {
    recv: quinn::RecvStream,
    buffered: Bytes,
    decoder: Option<Box<FrameDecoder>>,
}

impl QuicBody {
    pub(crate) fn new(recv: quinn::RecvStream, buffered: Bytes, framed: bool) -> Self {
        Self { recv, buffered, decoder: framed.then(Box::default) }
    }

    /// Returns the stream's id, which is the same at both ends.
    pub(crate) fn stream(&self) -> u64 {
        self.recv.id().into()
    }

    /// The stream itself, once its body is complete.
    pub(crate) fn into_recv(self) -> quinn::RecvStream {
        self.recv
    }

    /// The next piece. `remaining` is what the head announced, so that small bodies get small buffers.
    pub(crate) fn poll_piece(
        &mut self,
        remaining: Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, StreamError>>> {
        if self.decoder.is_none() {
            let room = remaining.map_or(BODY_READ, |left| left.clamp(1, BODY_READ as u64) as usize);
            return self.poll_bytes(room, cx).map_ok(Piece::Data);
        }
        loop {
            match self.decoded()? {
                // The mark of a complete body without trailers; the end of the stream follows.
                Some(Piece::Trailers(none)) if none.is_empty() => {}
                Some(piece) => return Poll::Ready(Some(Ok(piece))),
                None => {}
            }
            match ready!(self.poll_bytes(BODY_READ, cx)) {
                Some(Ok(bytes)) => self.feed(bytes),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(self.end_of_frames()),
            }
        }
    }

    fn poll_bytes(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        if self.buffered.is_empty() {
            return poll_read_quic(&mut self.recv, room, cx);
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.buffered))))
    }

    fn feed(&mut self, bytes: Bytes) {
        if let Some(decoder) = &mut self.decoder {
            decoder.push(bytes);
        }
    }

    fn decoded(&mut self) -> Result<Option<Piece>, StreamError> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        match decoder.next_item().map_err(|error| StreamError::Malformed(error.to_string()))? {
            Item::Data(data) => Ok(Some(Piece::Data(data))),
            Item::Trailers(fields) => Ok(Some(Piece::Trailers(fields))),
            Item::NeedMore => Ok(None),
        }
    }

    fn end_of_frames(&self) -> Option<Result<Piece, StreamError>> {
        let complete = self.decoder.as_ref().is_none_or(|decoder| decoder.is_complete());
        (!complete).then_some(Err(StreamError::Truncated))
    }
}

/// Trailers of the wire as a header map.
pub(crate) fn header_map(fields: &Fields) -> Result<HeaderMap, StreamError> {
    let malformed =
        |name: &[u8]| StreamError::Malformed(format!("bad field {:?}", String::from_utf8_lossy(name)));
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.iter_shared() {
        let key = HeaderName::from_bytes(name).map_err(|_| malformed(name))?;
        map.append(key, HeaderValue::from_maybe_shared(value).map_err(|_| malformed(name))?);
    }
    Ok(map)
}
