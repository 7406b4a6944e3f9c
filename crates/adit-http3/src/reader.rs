//! Pieces of a request stream, read from QUIC no sooner than they are wanted.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio_util::io::poll_read_buf;

use crate::code::Code;
use crate::frame::{FrameReader, Piece};

/// The receiving half of a request stream.
pub(crate) struct Reader {
    recv: quinn::RecvStream,
    connection: quinn::Connection,
    buffer: BytesMut,
    frames: FrameReader,
    read: usize,
    ended: bool,
    /// What was found behind a body that was gathered.
    next: Option<Result<Piece, Code>>,
}

/// Pieces of a body below this are gathered.
const GATHER: usize = 16 * 1024;

/// Why no piece comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailed {
    /// The visitor broke off, or the connection did.
    #[error("{0}")]
    Broken(std::io::Error),
    /// The stream ended inside of a frame.
    #[error("the stream ended inside of a frame")]
    Cut,
    /// The visitor broke the protocol; the connection is closed.
    #[error("the visitor broke the protocol: {0:?}")]
    Protocol(Code),
}

impl Reader {
    pub(crate) fn new(
        recv: quinn::RecvStream,
        connection: quinn::Connection,
        headers_max: usize,
        read: usize,
    ) -> Self {
        let frames = FrameReader::new(headers_max);
        Self { recv, connection, buffer: BytesMut::new(), frames, read, ended: false, next: None }
    }

    /// The next piece; `None` at the end of the stream. Never [`Piece::NeedMore`].
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, ReadFailed>> {
        loop {
            let taken = self.next.take().unwrap_or_else(|| self.frames.take(&mut self.buffer));
            match taken {
                Ok(Piece::NeedMore) => {}
                Ok(piece) => return Poll::Ready(Ok(Some(piece))),
                Err(code) => return Poll::Ready(Err(self.close(code))),
            }
            if self.ended {
                let whole = self.frames.at_boundary() && self.buffer.is_empty();
                return Poll::Ready(if whole { Ok(None) } else { Err(ReadFailed::Cut) });
            }
            self.buffer.reserve(self.read);
            match ready!(poll_read_buf(Pin::new(&mut self.recv), cx, &mut self.buffer)) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(ReadFailed::Broken(error))),
            }
        }
    }

    /// More of the body that was read already. Frames of a few bytes travel on together: each one costs whoever keeps it
    /// far more than its bytes.
    pub(crate) fn gather(&mut self, first: Bytes) -> Bytes {
        if first.len() >= GATHER || self.buffer.is_empty() {
            return first;
        }
        let mut gathered = BytesMut::from(first);
        while gathered.len() < GATHER {
            match self.frames.take(&mut self.buffer) {
                Ok(Piece::Data(data)) => gathered.extend_from_slice(&data),
                Ok(Piece::NeedMore) => break,
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        gathered.freeze()
    }

    /// The same as [`Reader::poll_piece`], as a future.
    pub(crate) async fn piece(&mut self) -> Result<Option<Piece>, ReadFailed> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// Closes the connection.
    pub(crate) fn close(&self, code: Code) -> ReadFailed {
        self.connection.close(code.value(), b"");
        ReadFailed::Protocol(code)
    }

    /// Whether the stream has ended, as far as can be told without waiting: a request without a body has, mostly, when its
    /// head is read.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.ended && self.buffer.is_empty() {
            self.buffer.reserve(self.read);
            if let Poll::Ready(Ok(0)) = poll_read_buf(Pin::new(&mut self.recv), cx, &mut self.buffer) {
                self.ended = true;
            }
        }
        self.ended && self.next.is_none() && self.buffer.is_empty() && self.frames.at_boundary()
    }

    /// Wants no more.
    pub(crate) fn stop(&mut self, code: Code) {
        if !self.ended {
            // A stream that has ended by itself needs no word.
            drop(self.recv.stop(code.value()));
            self.ended = true;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop(Code::NO_ERROR);
    }
}
