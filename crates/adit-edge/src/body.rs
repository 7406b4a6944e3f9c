//! Bodies in both directions, counted for the record.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_cache::{Broken, Reader};
use adit_http::relay;
use adit_http3::RecvBody;
use adit_policy::field;
use adit_policy::limits::{PIECE_MAX, SLOW_PIECE};
use adit_policy::policy::pace::Slow;
use adit_tunnel::StreamError;
use adit_tunnel::edge::{Duplex, ResponseBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, Sleep, sleep};

use crate::cache::{Joined, KeptBody};
use crate::compress::Compression;
use crate::interim::{Expectation, Interim};
use crate::pace::{Intake, Watch};
use crate::record::Record;
use crate::running::Running;

/// The body of a visitor's request, on whatever protocol it comes.
pub(crate) enum RequestBody {
    /// HTTP/1, where interim responses can be written before the answer.
    Http1(Incoming, Interim),
    Http2(Incoming),
    Http3(Box<RecvBody>, Interim),
    /// One whose visitor must not be too slow.
    Paced(Box<(Self, Intake)>),
    None,
}

impl RequestBody {
    /// The same, which breaks off when the visitor is slower than is allowed.
    pub(crate) fn paced(self, intake: Option<Intake>) -> Self {
        match intake {
            Some(intake) => Self::Paced(Box::new((self, intake))),
            None => self,
        }
    }

    /// Where interim responses to the request go, if its protocol takes them.
    pub(crate) fn interim(&self) -> Option<Interim> {
        match self {
            Self::Http1(_, interim) | Self::Http3(_, interim) => Some(interim.clone()),
            Self::Paced(paced) => paced.0.interim(),
            Self::Http2(_) | Self::None => None,
        }
    }
}

/// Why a visitor's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Http3(#[from] adit_http3::BodyError),
    #[error("it is larger than is let through")]
    TooLarge,
    #[error("{0}")]
    Slow(Slow),
}

fn poll_paced(
    (body, intake): &mut (RequestBody, Intake),
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
    let polled = Pin::new(body).poll_frame(cx);
    if let Poll::Ready(frame) = &polled {
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        intake.came(data.map_or(0, |data| data.len() as u64));
        return polled;
    }
    intake.poll_slow(cx).map(|slow| Some(Err(RequestBodyError::Slow(slow))))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match &mut *self {
            Self::Http1(body, _) | Self::Http2(body) => {
                Pin::new(body).poll_frame(cx).map_err(RequestBodyError::Http)
            }
            Self::Http3(body, _) => Pin::new(body).poll_frame(cx).map_err(RequestBodyError::Http3),
            Self::Paced(paced) => poll_paced(paced, cx),
            Self::None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body, _) | Self::Http2(body) => body.is_end_stream(),
            Self::Http3(body, _) => body.is_end_stream(),
            Self::Paced(paced) => paced.0.is_end_stream(),
            Self::None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body, _) | Self::Http2(body) => body.size_hint(),
            Self::Http3(body, _) => body.size_hint(),
            Self::Paced(paced) => paced.0.size_hint(),
            Self::None => SizeHint::with_exact(0),
        }
    }
}

/// The body of an answer to a visitor. The record goes with it and is written when it is dropped.
pub(crate) struct AnswerBody {
    source: Source,
    record: Option<Record>,
    idle: Option<Idle>,
    /// Looks after the visitor who takes it.
    watch: Option<Rc<Watch>>,
    /// Bytes that the visitor was given last.
    given: u64,
    /// What is handed on later.
    rest: Option<Bytes>,
    /// Counts the request until the body is dropped.
    running: Option<Running>,
    /// Its end was given to the visitor.
    is_over: bool,
}

enum Source {
    Empty,
    Page(Bytes),
    Tunnel(ResponseBody),
    Stream(Downstream),
    Encoded(Box<Encoded>),
    Kept(Reader, Option<u64>),
    Slices(Joined, u64),
}

/// A body that is compressed on its way.
struct Encoded {
    source: Source,
    /// `None` once the end is out.
    encoder: Option<Compression>,
    /// Whether the encoder has something that nobody has seen.
    holds: bool,
}

impl Encoded {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        loop {
            let Some(encoder) = &mut self.encoder else { return Poll::Ready(None) };
            let packed = match self.source.poll(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are about the bytes before compression.
                    let Ok(data) = frame.into_data() else { continue };
                    self.holds = true;
                    encoder.write(&data)
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => self.encoder.take().map_or(Ok(Bytes::new()), Compression::finish),
                Poll::Pending if self.holds => {
                    self.holds = false;
                    encoder.flush()
                }
                Poll::Pending => return Poll::Pending,
            };
            match packed {
                Ok(packed) if packed.is_empty() => {}
                Ok(packed) => return Poll::Ready(Some(Ok(Frame::data(packed)))),
                Err(error) => return Poll::Ready(Some(Err(StreamError::Malformed(error.to_string())))),
            }
        }
    }
}

/// Ends a body that is silent for too long.
struct Idle {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: Box::pin(sleep(limit)) }
    }

    /// Whether it is over, after what was just seen.
    fn is_over(&mut self, silent: bool, cx: &mut Context<'_>) -> bool {
        if !silent {
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        silent && self.timer.as_mut().poll(cx).is_ready()
    }
}

/// The way down of a stream whose way up is a request's body: a WebSocket over HTTP/3.
struct Downstream {
    read: ReadHalf<Duplex>,
    upload: AbortHandle,
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.upload.abort();
    }
}

/// Carries a request's body into a tunnel until it ends.
async fn upload(
    mut body: RequestBody,
    mut tunnel: WriteHalf<Duplex>,
    count: Rc<Cell<u64>>,
) -> io::Result<()> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
        tunnel.write_all(&data).await?;
        tunnel.flush().await?;
        count.set(count.get() + data.len() as u64);
    }
    tunnel.shutdown().await
}

impl AnswerBody {
    fn of(source: Source, record: Option<Record>) -> Self {
        let (watch, given, rest, running) = (Watch::current(), 0, None, None);
        Self { source, record, idle: None, watch, given, rest, running, is_over: false }
    }

    /// The same, which counts its request until it is dropped.
    pub(crate) fn running(mut self, running: Running) -> Self {
        self.running = Some(running);
        self
    }

    /// The same, which breaks off after so much silence.
    pub(crate) fn with_idle(mut self, limit: Option<Duration>) -> Self {
        self.idle = limit.map(Idle::new);
        self
    }

    /// The same, compressed on its way.
    pub(crate) fn encoded(mut self, encoder: Compression) -> Self {
        let source = std::mem::replace(&mut self.source, Source::Empty);
        self.source = Source::Encoded(Box::new(Encoded { source, encoder: Some(encoder), holds: false }));
        self
    }

    pub(crate) fn empty(record: Option<Record>) -> Self {
        Self::of(Source::Empty, record)
    }

    pub(crate) fn page(page: Bytes, record: Option<Record>) -> Self {
        Self::of(Source::Page(page), record)
    }

    /// What is kept; `length` is what is left of it, where that is known.
    pub(crate) fn kept(body: KeptBody, record: Record) -> Self {
        let source = match body {
            KeptBody::Empty => Source::Empty,
            KeptBody::Bytes(bytes) => Source::Page(bytes),
            KeptBody::Reader(reader, length) => Source::Kept(reader, length),
            KeptBody::Slices(joined, length) => Source::Slices(joined, length),
        };
        Self::of(source, Some(record))
    }

    pub(crate) fn tunnel(body: ResponseBody, record: Record) -> Self {
        Self::of(Source::Tunnel(body), Some(record))
    }

    /// Both ways of an upgraded stream: `body` goes up, what is returned comes down.
    pub(crate) fn stream(body: RequestBody, tunnel: Duplex, record: Record) -> Self {
        let (read, write) = tokio::io::split(tunnel);
        let count = record.uploaded();
        let task = spawn_local(async move {
            // Either side may just go away; that is how most WebSockets end.
            if let Err(error) = upload(body, write, count).await {
                tracing::debug!(%error, "upgraded stream ended");
            }
        });
        let stream = Downstream { read, upload: task.abort_handle() };
        Self::of(Source::Stream(stream), Some(record))
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let polled = self.source.poll(cx);
        if let Some(idle) = &mut self.idle
            && idle.is_over(polled.is_pending(), cx)
        {
            return Poll::Ready(Some(Err(StreamError::Truncated)));
        }
        polled
    }

    /// Keeps back what is more than `most`: a slow visitor gets little at once, so that progress is seen.
    fn shortened(
        &mut self,
        frame: Option<Result<Frame<Bytes>, StreamError>>,
        most: usize,
    ) -> Option<Result<Frame<Bytes>, StreamError>> {
        let frame = frame?;
        if frame.as_ref().ok().and_then(Frame::data_ref).is_none_or(|data| data.len() <= most) {
            return Some(frame);
        }
        Some(frame.map(|frame| {
            frame.map_data(|mut data| {
                self.rest = Some(data.split_off(most));
                data
            })
        }))
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, StreamError>>) {
        let Some(record) = &mut self.record else { return };
        match frame {
            Some(Ok(frame)) => record.sent(frame.data_ref().map_or(0, |data| data.len() as u64)),
            Some(Err(error)) => record.broke(error.to_string()),
            None => {}
        }
    }
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Page(page) => {
                let page = std::mem::take(page);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(page))))
            }
            Self::Tunnel(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map(filtered)))
            }
            Self::Stream(stream) => match ready!(relay::poll_read_some(&mut stream.read, cx)) {
                Ok(data) if data.is_empty() => Poll::Ready(None),
                Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(_) => Poll::Ready(Some(Err(StreamError::ConnectionLost))),
            },
            Self::Encoded(encoded) => encoded.poll(cx),
            Self::Slices(_, 0) => Poll::Ready(None),
            Self::Slices(joined, left) => {
                // Whoever puts it together is gone.
                let part = ready!(joined.poll_recv(cx)).unwrap_or(Err(Broken));
                let data = part.map_err(|_| StreamError::Truncated)?;
                *left = left.saturating_sub(data.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Self::Kept(reader, left) => {
                let Some(part) = ready!(reader.poll_next(cx)) else { return Poll::Ready(None) };
                let data = part.map_err(|_| StreamError::Truncated)?;
                *left = left.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
        }
    }

    /// Whether an origin works for it.
    fn is_asked_for(&self) -> bool {
        match self {
            Self::Tunnel(_) => true,
            Self::Encoded(encoded) => encoded.source.is_asked_for(),
            _ => false,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Page(page) => page.is_empty(),
            Self::Tunnel(body) => body.is_end_stream(),
            Self::Stream(_) => false,
            Self::Encoded(encoded) => encoded.encoder.is_none(),
            Self::Kept(_, left) => *left == Some(0),
            Self::Slices(_, left) => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Page(page) => SizeHint::with_exact(page.len() as u64),
            Self::Tunnel(body) => body.size_hint(),
            Self::Kept(_, Some(left)) | Self::Slices(_, left) => SizeHint::with_exact(*left),
            Self::Stream(_) | Self::Encoded(_) | Self::Kept(_, None) => SizeHint::default(),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if let Some(watch) = &self.watch {
            ready!(watch.poll_room(cx));
        }
        let given = std::mem::take(&mut self.given);
        let was_slow = given > 0 && self.watch.as_ref().is_some_and(|watch| watch.taken(given));
        let mut frame = match self.rest.take() {
            Some(rest) => Some(Ok(Frame::data(rest))),
            None => {
                let frame = ready!(self.poll_source(cx));
                self.note(frame.as_ref());
                frame
            }
        };
        frame = self.shortened(frame, if was_slow { SLOW_PIECE } else { PIECE_MAX });
        // After trailers nobody asks again.
        self.is_over |= frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        self.given = data.map_or(0, |data| data.len() as u64);
        if let Some(watch) = self.watch.as_ref().filter(|_| self.given > 0) {
            watch.given();
            watch.queued(self.given as usize);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.source.size_hint();
        if let Some(rest) = &self.rest {
            let more = rest.len() as u64;
            hint = hint.exact().map_or_else(SizeHint::default, |exact| SizeHint::with_exact(exact + more));
        }
        hint
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // On HTTP/1 nobody asks again when all announced bytes are there; the end of the stream may come later.
        let is_whole = self.is_over || self.is_end_stream() || self.size_hint().exact() == Some(0);
        if let Some(running) = &mut self.running {
            running.ended(is_whole || !self.source.is_asked_for());
        }
        let slow = self.watch.as_ref().and_then(|watch| watch.slow()).filter(|_| !is_whole);
        if let (Some(record), Some(slow)) = (&mut self.record, slow) {
            record.broke(slow.to_string());
        }
    }
}

/// The frame, without what only a head may say.
fn filtered(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        field::strip_trailers(trailers);
    }
    frame
}

/// A visitor's body, counted as it is read.
pub(crate) struct Upload {
    body: RequestBody,
    count: Rc<Cell<u64>>,
    limit: Option<u64>,
    expectation: Option<Expectation>,
}

impl Upload {
    pub(crate) fn new(body: RequestBody, count: Rc<Cell<u64>>, limit: Option<u64>) -> Self {
        Self { body, count, limit, expectation: None }
    }

    /// The same, whose client sends nothing before it is told 100 (Continue).
    pub(crate) fn expecting(mut self, interim: Option<Interim>) -> Self {
        self.expectation = interim.map(Expectation::new);
        self
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if let Some(expectation) = &mut self.expectation {
            ready!(expectation.poll(cx));
            self.expectation = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            self.count.set(self.count.get() + data.len() as u64);
        }
        if self.limit.is_some_and(|most| self.count.get() > most) {
            return Poll::Ready(Some(Err(RequestBodyError::TooLarge)));
        }
        Poll::Ready(frame.map(|frame| frame.map(filtered)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
