//! The stream of an HTTP/1 connection, with a checker in front of the server's parser.
//!
//! Bytes that can be read in two ways are replaced by NUL from there on: the parser refuses that in a head (400), in a chunk size and in a
//! trailer section (the body breaks off), and nothing of them is forwarded.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use adit_http::strict::RequestChecker;
use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Edge;

/// A stream whose bytes are checked as they are read.
pub(crate) struct Gate<IO> {
    io: IO,
    checker: RequestChecker,
    exchange: Exchange,
    edge: Arc<Edge>,
}

/// What stream and server tell each other about a request that may change the protocol.
#[derive(Clone)]
pub(crate) struct Exchange(Arc<AtomicU8>);

/// Nothing to tell.
const IDLE: u8 = 0;
/// A request waits for its answer.
const WAITING: u8 = 1;
/// The same, and bytes came after it that could not be checked.
const UNCHECKED: u8 = 2;
/// The protocol was changed.
const SWITCHED: u8 = 3;
/// It was not.
const REFUSED: u8 = 4;

impl Exchange {
    /// Notes the answer to a request that may change the protocol. Where it does not, and bytes went by unchecked meanwhile, the
    /// connection ends with the answer.
    pub(crate) fn answered<B>(&self, response: &mut Response<B>) {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !switches && self.0.load(Ordering::Relaxed) == UNCHECKED {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.0.store(if switches { SWITCHED } else { REFUSED }, Ordering::Relaxed);
    }
}

impl<IO> Gate<IO> {
    /// The stream, and the server's side of it.
    pub(crate) fn new(io: IO, edge: Arc<Edge>) -> (Self, Exchange) {
        let exchange = Exchange(Arc::default());
        (Self { io, checker: RequestChecker::default(), exchange: exchange.clone(), edge }, exchange)
    }

    fn check(&mut self, bytes: &mut [u8]) {
        if self.checker.is_switching() {
            self.take_answer();
        }
        if let Err(at) = self.checker.check(bytes) {
            self.edge.metrics.ambiguous.inc();
            bytes.iter_mut().skip(at).for_each(|byte| *byte = 0);
        }
        if self.checker.is_switching() {
            let state = if self.checker.has_unchecked() { UNCHECKED } else { WAITING };
            self.exchange.0.store(state, Ordering::Relaxed);
        }
    }

    /// Learns what came of a request that may change the protocol.
    fn take_answer(&mut self) {
        let state = self.exchange.0.load(Ordering::Relaxed);
        if state == SWITCHED || state == REFUSED {
            self.exchange.0.store(IDLE, Ordering::Relaxed);
            self.checker.answered(state == SWITCHED);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gate<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        if let Some(read) = out.filled_mut().get_mut(start..) {
            self.check(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gate<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
