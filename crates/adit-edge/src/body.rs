//! Bodies in both directions, counted for the record.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use adit_http::relay;
use adit_http3::RecvBody;
use adit_tunnel::StreamError;
use adit_tunnel::edge::{Duplex, ResponseBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::task::{AbortHandle, spawn_local};

use crate::record::Record;

/// The body of a visitor's request, on whatever protocol it comes.
pub(crate) enum RequestBody {
    Http(Incoming),
    Http3(Box<RecvBody>),
    None,
}

/// Why a visitor's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Http3(#[from] adit_http3::BodyError),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match &mut *self {
            Self::Http(body) => Pin::new(body).poll_frame(cx).map_err(RequestBodyError::Http),
            Self::Http3(body) => Pin::new(body).poll_frame(cx).map_err(RequestBodyError::Http3),
            Self::None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http(body) => body.is_end_stream(),
            Self::Http3(body) => body.is_end_stream(),
            Self::None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            Self::Http3(body) => body.size_hint(),
            Self::None => SizeHint::with_exact(0),
        }
    }
}

/// The body of an answer to a visitor. The record goes with it and is written when it is dropped.
pub(crate) struct AnswerBody {
    source: Source,
    record: Option<Record>,
}

enum Source {
    Empty,
    Page(Bytes),
    Tunnel(ResponseBody),
    Stream(Downstream),
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
    pub(crate) fn empty(record: Option<Record>) -> Self {
        Self { source: Source::Empty, record }
    }

    pub(crate) fn page(page: Bytes, record: Option<Record>) -> Self {
        Self { source: Source::Page(page), record }
    }

    pub(crate) fn tunnel(body: ResponseBody, record: Record) -> Self {
        Self { source: Source::Tunnel(body), record: Some(record) }
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
        Self { source: Source::Stream(stream), record: Some(record) }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Page(page) => {
                let page = std::mem::take(page);
                self.source = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(page))))
            }
            Source::Tunnel(body) => Pin::new(body).poll_frame(cx),
            Source::Stream(stream) => match ready!(relay::poll_read_some(&mut stream.read, cx)) {
                Ok(data) if data.is_empty() => Poll::Ready(None),
                Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(_) => Poll::Ready(Some(Err(StreamError::ConnectionLost))),
            },
        }
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

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let frame = ready!(self.poll_source(cx));
        self.note(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Page(page) => page.is_empty(),
            Source::Tunnel(body) => body.is_end_stream(),
            Source::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Page(page) => SizeHint::with_exact(page.len() as u64),
            Source::Tunnel(body) => body.size_hint(),
            Source::Stream(_) => SizeHint::default(),
        }
    }
}

/// A visitor's body, counted as it is read.
pub(crate) struct Upload {
    body: RequestBody,
    count: Rc<Cell<u64>>,
}

impl Upload {
    pub(crate) fn new(body: RequestBody, count: Rc<Cell<u64>>) -> Self {
        Self { body, count }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            self.count.set(self.count.get() + data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
