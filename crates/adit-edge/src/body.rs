//! Bodies in both directions, counted for the record.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use adit_tunnel::StreamError;
use adit_tunnel::edge::ResponseBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::record::Record;

/// The body of an answer to a visitor. The record goes with it and is written when it is dropped.
pub(crate) struct AnswerBody {
    source: Source,
    record: Option<Record>,
}

enum Source {
    Empty,
    Page(Bytes),
    Tunnel(ResponseBody),
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

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Page(page) => {
                let page = std::mem::take(page);
                self.source = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(page))))
            }
            Source::Tunnel(body) => Pin::new(body).poll_frame(cx),
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
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Page(page) => SizeHint::with_exact(page.len() as u64),
            Source::Tunnel(body) => body.size_hint(),
        }
    }
}

/// A visitor's body, counted as it is read.
pub(crate) struct Upload {
    body: Incoming,
    count: Rc<Cell<u64>>,
}

impl Upload {
    pub(crate) fn new(body: Incoming, count: Rc<Cell<u64>>) -> Self {
        Self { body, count }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
