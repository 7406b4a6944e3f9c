//! The stream of an HTTP/1 connection, with a checker in front of the server's parser, and interim responses between its answers.
//!
//! Bytes that can be read in two ways are replaced by NUL from there on: the parser refuses that in a head (400), in a chunk size and in a
//! trailer section (the body breaks off), and nothing of them is forwarded.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use adit_http::strict::RequestChecker;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Edge;
use crate::interim::{Interim, InterimHead};

/// A stream whose bytes are checked as they are read.
pub(crate) struct Gate<IO> {
    io: IO,
    checker: RequestChecker,
    exchange: Exchange,
    edge: Arc<Edge>,
    /// An interim response that is being written.
    pending: Bytes,
    /// Bytes of the server's may be on their way.
    dirty: bool,
}

/// What stream and server tell each other about a request that may change the protocol.
#[derive(Clone)]
pub(crate) struct Exchange {
    state: Arc<AtomicU8>,
    interim: Interim,
}

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
    /// Begins with another request; where its interim responses go.
    pub(crate) fn begin(&self) -> Interim {
        self.interim.begin();
        self.interim.clone()
    }

    /// Notes the answer to a request that may change the protocol. Where it does not, and bytes went by unchecked meanwhile, the
    /// connection ends with the answer.
    pub(crate) fn answered<B>(&self, response: &mut Response<B>) {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !switches && self.state.load(Ordering::Relaxed) == UNCHECKED {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.state.store(if switches { SWITCHED } else { REFUSED }, Ordering::Relaxed);
    }
}

impl<IO> Gate<IO> {
    /// The stream, and the server's side of it.
    pub(crate) fn new(io: IO, edge: Arc<Edge>) -> (Self, Exchange) {
        let exchange = Exchange { state: Arc::default(), interim: Interim::default() };
        let gate = Self {
            io,
            checker: RequestChecker::default(),
            exchange: exchange.clone(),
            edge,
            pending: Bytes::new(),
            dirty: false,
        };
        (gate, exchange)
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
            self.exchange.state.store(state, Ordering::Relaxed);
        }
    }

    /// Learns what came of a request that may change the protocol.
    fn take_answer(&mut self) {
        let state = self.exchange.state.load(Ordering::Relaxed);
        if state == SWITCHED || state == REFUSED {
            self.exchange.state.store(IDLE, Ordering::Relaxed);
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
        // The parser has seen where the message became ambiguous. If it still waits for an end, this is it.
        if self.checker.is_refused() {
            return Poll::Ready(Ok(()));
        }
        let start = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        if let Some(read) = out.filled_mut().get_mut(start..) {
            self.check(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> Gate<IO> {
    /// Writes what interim responses there are, between the server's own bytes. `between` says whether all of the response before has
    /// been handed over; if not, they are left out, as they may be.
    fn poll_interim(&mut self, between: bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.is_empty() {
            let heads = self.exchange.interim.take();
            if between && !heads.is_empty() {
                self.pending = encode(&heads);
            }
        }
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

fn encode(heads: &[InterimHead]) -> Bytes {
    let mut out = BytesMut::new();
    for (status, headers) in heads {
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(status.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.put_slice(b"\r\n");
        for (name, value) in headers {
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            out.put_slice(value.as_bytes());
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"\r\n");
    }
    out.freeze()
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gate<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let between = !self.dirty;
        ready!(self.poll_interim(between, cx))?;
        self.dirty = true;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let between = !self.dirty;
        ready!(self.poll_interim(between, cx))?;
        self.dirty = true;
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// The server asks for it when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(true, cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.dirty = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
