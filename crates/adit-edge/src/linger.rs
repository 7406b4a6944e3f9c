//! The lingering close of a visitor's connection: the last response arrives although the visitor is still sending.
//!
//! A socket that is closed with unread bytes answers with a reset, and a reset deletes what the visitor has not read yet:
//! the response to an upload that was answered before it was read. So the sending side is closed first (RFC 9112,
//! section 9.6), and what still comes is read and discarded, bounded in bytes and time, before the socket is closed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use adit_policy::limits::{LINGER_BYTES_MAX, LINGER_IDLE, LINGER_TIME_MAX};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that are discarded in one read.
const DISCARD_READ: usize = 16 * 1024;

/// A stream whose shutdown lingers.
#[derive(Debug)]
pub(crate) struct Linger<IO> {
    io: IO,
    state: State,
    upgraded: Upgraded,
}

/// Says that a connection is no longer HTTP: whoever shuts it down still wants to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upgraded(Arc<AtomicBool>);

impl Upgraded {
    /// Ends lingering for the connection.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum State {
    Open,
    /// The sending side is closed.
    Discarding(Box<Discarding>),
    /// Nothing comes any more, or it is not waited for.
    Ended,
}

#[derive(Debug)]
struct Discarding {
    bytes_left: usize,
    end: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Discarding {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            bytes_left: LINGER_BYTES_MAX,
            end: now + LINGER_TIME_MAX,
            timer: Box::pin(sleep_until(now + LINGER_IDLE)),
        }
    }

    /// Reads until the peer has closed its side, or a bound is reached.
    fn poll<IO: AsyncRead + Unpin>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; DISCARD_READ];
        let mut has_read = false;
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *io).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    let length = read.filled().len();
                    has_read = true;
                    match self.bytes_left.checked_sub(length) {
                        Some(left) => self.bytes_left = left,
                        None => return Poll::Ready(()),
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if has_read {
            self.timer.as_mut().reset(self.end.min(Instant::now() + LINGER_IDLE));
        }
        self.timer.as_mut().poll(cx)
    }
}

impl<IO> Linger<IO> {
    /// Wraps a stream. The second value is told when the connection is upgraded.
    pub(crate) fn new(io: IO) -> (Self, Upgraded) {
        let upgraded = Upgraded::default();
        (Self { io, state: State::Open, upgraded: upgraded.clone() }, upgraded)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Linger<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, out));
        // After the peer's end, or an error, there is nothing to wait for.
        if read.is_err() || (out.filled().len() == before && out.remaining() > 0) {
            self.state = State::Ended;
        }
        Poll::Ready(read)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<IO> {
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Open => {
                    ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                    if this.upgraded.0.load(Ordering::Relaxed) {
                        return Poll::Ready(Ok(()));
                    }
                    this.state = State::Discarding(Box::new(Discarding::new()));
                }
                State::Discarding(discarding) => {
                    ready!(discarding.poll(&mut this.io, cx));
                    this.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::Ended => return Pin::new(&mut this.io).poll_shutdown(cx),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_is_read_until_its_end() {
        let (mut peer, near) = duplex(1024);
        let (mut near, _) = Linger::new(near);
        near.write_all(b"response").await.unwrap();
        let closing = tokio::spawn(async move { near.shutdown().await });
        // More than fits into the buffer: somebody has to read it.
        peer.write_all(&[b'x'; 100_000]).await.unwrap();
        let mut response = String::new();
        peer.read_to_string(&mut response).await.unwrap();
        assert_eq!(response, "response");
        assert!(!closing.is_finished(), "the peer has not closed yet");
        drop(peer);
        closing.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn lingering_is_bounded() {
        let cases: [(&str, usize, std::time::Duration, std::time::Duration); 3] = [
            ("silence", 0, LINGER_IDLE, LINGER_IDLE),
            ("a byte now and then", 1, LINGER_IDLE / 2, LINGER_TIME_MAX),
            ("a flood", DISCARD_READ, std::time::Duration::ZERO, LINGER_TIME_MAX / 2),
        ];
        for (what, length, pause, longest) in cases {
            let (mut peer, near) = duplex(DISCARD_READ);
            let (mut near, _) = Linger::new(near);
            let start = Instant::now();
            let sending = tokio::spawn(async move {
                while length > 0 && peer.write_all(&vec![0; length]).await.is_ok() {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
                std::future::pending::<()>().await;
            });
            near.shutdown().await.unwrap();
            assert!(start.elapsed() <= longest + LINGER_IDLE, "{what}: {:?}", start.elapsed());
            sending.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_closed_and_an_upgraded_one_are_not_waited_for() {
        let (peer, near) = duplex(64);
        let (mut near, _) = Linger::new(near);
        drop(peer);
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
        timeout(LINGER_IDLE / 2, near.shutdown()).await.unwrap().unwrap();

        let (mut peer, near) = duplex(64);
        let (mut near, upgraded) = Linger::new(near);
        upgraded.set();
        peer.write_all(b"still wanted").await.unwrap();
        timeout(LINGER_IDLE / 2, near.shutdown()).await.unwrap().unwrap();
        let mut wanted = [0; 12];
        near.read_exact(&mut wanted).await.unwrap();
        assert_eq!(&wanted, b"still wanted");
    }
}
