//! Gathers what an HTTP/2 connection writes in one turn into one write.
//!
//! The `h2` crate flushes its socket after every DATA frame of more than 256 bytes, so a turn that answers ten requests
//! made ten TLS records and ten system calls. Here a flush is a promise: the driver of the connection keeps it by
//! [`Flusher::flush`] once the connection has nothing more to say.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::GATHERED_WRITE_MAX;

/// The stream that the HTTP/2 connection writes to.
#[derive(Debug)]
pub struct Coalesced<IO>(Rc<RefCell<State<IO>>>);

/// The driver's handle, to flush at the end of its turn.
#[derive(Debug)]
pub struct Flusher<IO>(Rc<RefCell<State<IO>>>);

#[derive(Debug)]
struct State<IO> {
    io: IO,
    gathered: BytesMut,
    /// Whether `gathered` is a buffer that is to be given back.
    gathers: bool,
    /// A flush failed; the connection hears of it by its next read.
    failed: Option<io::Error>,
}

thread_local! {
    /// A buffer that no connection needs now. Ten thousand idle connections share it, so they cost none.
    static SPARE: RefCell<Option<BytesMut>> = const { RefCell::new(None) };
}

fn give_back(buffer: &mut BytesMut) {
    let mut spare = std::mem::take(buffer);
    // What was written is in front of what is left; this takes it back without a new allocation.
    spare.clear();
    spare.reserve(GATHERED_WRITE_MAX);
    SPARE.set(Some(spare));
}

/// Wraps `io`. Whoever polls the connection must poll the flusher after it.
pub fn coalesced<IO>(io: IO) -> (Coalesced<IO>, Flusher<IO>) {
    let state = Rc::new(RefCell::new(State { io, gathered: BytesMut::new(), gathers: false, failed: None }));
    (Coalesced(state.clone()), Flusher(state))
}

impl<IO: AsyncWrite + Unpin> Flusher<IO> {
    /// Writes what was gathered. A full socket wakes the task of `cx` once it has room.
    pub fn flush(&mut self, cx: &mut Context<'_>) {
        let mut state = self.0.borrow_mut();
        if let Poll::Ready(Err(error)) = state.poll_flush(cx) {
            state.failed = Some(error);
            cx.waker().wake_by_ref();
        }
    }
}

impl<IO: AsyncWrite + Unpin> State<IO> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        if std::mem::take(&mut self.gathers) {
            give_back(&mut self.gathered);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Takes small writes at once; a large one goes straight to the socket, behind what was gathered.
    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.gathered.len() + length > GATHERED_WRITE_MAX {
            ready!(self.poll_drain(cx))?;
        }
        if length > GATHERED_WRITE_MAX {
            return Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        }
        if !std::mem::replace(&mut self.gathers, true) {
            self.gathered = SPARE.take().unwrap_or_default();
        }
        for part in parts {
            self.gathered.extend_from_slice(part);
        }
        Poll::Ready(Ok(length))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Coalesced<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        match state.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut state.io).poll_read(cx, buffer),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Coalesced<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to the [`Flusher`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_flush(cx))?;
        Pin::new(&mut state.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn flush(flusher: &mut Flusher<tokio::io::DuplexStream>) {
        std::future::poll_fn(|cx| {
            flusher.flush(cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn small_writes_wait_for_the_flusher() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut writer, mut flusher) = coalesced(near);
        for word in ["one ", "two ", "three"] {
            writer.write_all(word.as_bytes()).await.unwrap();
            writer.flush().await.unwrap();
        }
        let mut heard = [0; 64];
        let early = std::future::poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut heard);
            Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut buffer).is_ready())
        });
        assert!(!early.await, "nothing is written before the flusher's turn");
        flush(&mut flusher).await;
        let length = far.read(&mut heard).await.unwrap();
        assert_eq!(&heard[..length], b"one two three");
    }

    #[tokio::test]
    async fn a_flush_that_failed_ends_the_next_read() {
        let (near, far) = tokio::io::duplex(16);
        let (mut stream, mut flusher) = coalesced(near);
        drop(far);
        stream.write_all(b"unheard").await.unwrap();
        flush(&mut flusher).await;
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_large_write_follows_what_was_gathered() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut writer, _flusher) = coalesced(near);
        let large = vec![b'L'; GATHERED_WRITE_MAX + 1];
        let reading = async {
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let writing = async {
            writer.write_all(b"small").await.unwrap();
            writer.write_all(&large).await.unwrap();
            writer.write_all(b"last").await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (heard, ()) = tokio::join!(reading, writing);
        assert!(heard.starts_with(b"smallL") && heard.ends_with(b"Llast"));
        assert_eq!(heard.len(), large.len() + 9);
    }
}
