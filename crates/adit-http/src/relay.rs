//! Bytes from one stream to another without a buffer of their own: ten thousand idle connections cost no buffers, because
//! all of a thread's reads share one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// Bytes of one read.
const READ: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// The next bytes; none at the end. What waits holds no memory.
///
/// # Errors
/// The stream's.
async fn read_some(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    poll_fn(|cx| poll_read_some(read, cx)).await
}

/// The next bytes; none at the end. What waits holds no memory.
///
/// # Errors
/// The stream's.
pub fn poll_read_some(read: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut room = ReadBuf::new(scratch);
        ready!(Pin::new(&mut *read).poll_read(cx, &mut room))?;
        Ok(Bytes::copy_from_slice(room.filled())).into()
    })
}

/// Copies until the end, each piece at once; how many bytes there were.
///
/// # Errors
/// Either stream's.
pub async fn copy(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        let data = read_some(read).await?;
        if data.is_empty() {
            return Ok(copied);
        }
        write.write_all(&data).await?;
        write.flush().await?;
        copied += data.len() as u64;
    }
}

/// Copies both ways until both have ended, each end passed on; the bytes from near to far, and from far to near.
///
/// # Errors
/// Either stream's.
pub async fn both(
    near: impl AsyncRead + AsyncWrite + Unpin,
    far: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<(u64, u64)> {
    both_unless(near, far, |_, _| Poll::Pending).await
}

/// The same, cut off when the far side is gone without a word.
///
/// # Errors
/// Either stream's, and what the far side says when it is gone.
pub async fn both_unless<N, F>(
    near: N,
    far: F,
    is_gone: impl FnMut(&mut F, &mut Context<'_>) -> Poll<io::Error>,
) -> io::Result<(u64, u64)>
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    let mut relay = Relay { near, far, is_gone, up: Way::default(), down: Way::default() };
    poll_fn(|cx| relay.poll(cx)).await
}

/// Both streams, in as little memory as will do: ten thousand of these may wait for days.
struct Relay<N, F, G> {
    near: N,
    far: F,
    is_gone: G,
    up: Way,
    down: Way,
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Bytes that were read and not written yet.
    pending: Bytes,
    copied: u64,
    step: Step,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Reading,
    /// All is written that was read; it may still be in a buffer.
    Flushing,
    /// The source has ended.
    Closing,
    Done,
}

impl<N, F, G> Relay<N, F, G>
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
    G: FnMut(&mut F, &mut Context<'_>) -> Poll<io::Error>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(u64, u64)>> {
        let up = self.up.poll(&mut self.near, &mut self.far, cx)?;
        let down = self.down.poll(&mut self.far, &mut self.near, cx)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok((self.up.copied, self.down.copied)));
        }
        (self.is_gone)(&mut self.far, cx).map(Err)
    }
}

impl Way {
    fn poll<R, W>(&mut self, read: &mut R, write: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.pending.is_empty() {
                let written = ready!(Pin::new(&mut *write).poll_write(cx, &self.pending))?;
                self.wrote(written)?;
                self.pending.advance(written);
            }
            match self.step {
                Step::Done => return Poll::Ready(Ok(())),
                Step::Reading => ready!(self.poll_read(read, write, cx))?,
                Step::Flushing => {
                    ready!(Pin::new(&mut *write).poll_flush(cx))?;
                    self.step = Step::Reading;
                }
                Step::Closing => {
                    ready!(Pin::new(&mut *write).poll_shutdown(cx))?;
                    self.step = Step::Done;
                }
            }
        }
    }

    /// Reads into the thread's buffer, and writes from it what can be written at once. Only the rest is copied.
    fn poll_read<R, W>(&mut self, read: &mut R, write: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut room = ReadBuf::new(scratch);
            ready!(Pin::new(read).poll_read(cx, &mut room))?;
            let data = room.filled();
            if data.is_empty() {
                self.step = Step::Closing;
                return Poll::Ready(Ok(()));
            }
            self.step = Step::Flushing;
            let mut written = 0;
            if let Poll::Ready(taken) = Pin::new(write).poll_write(cx, data) {
                written = taken?;
                self.wrote(written)?;
            }
            self.pending = Bytes::copy_from_slice(data.get(written..).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }

    fn wrote(&mut self, written: usize) -> io::Result<()> {
        self.copied += written as u64;
        if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn each_end_is_passed_on() {
        let ((mut visitor, near), (mut origin, far)) = (duplex(100), duplex(100));
        let relaying = tokio::spawn(async move { both(near, far).await.unwrap() });
        let asked: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let asking = async {
            visitor.write_all(&asked).await.unwrap();
            visitor.shutdown().await.unwrap();
            let mut heard = Vec::new();
            visitor.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let answering = async {
            let mut heard = Vec::new();
            origin.read_to_end(&mut heard).await.unwrap();
            origin.write_all(b"all of it").await.unwrap();
            origin.shutdown().await.unwrap();
            heard
        };
        let (answer, heard) = tokio::join!(asking, answering);
        assert!(heard == asked && answer == b"all of it");
        assert_eq!(relaying.await.unwrap(), (200_000, 9));
    }

    #[tokio::test]
    async fn a_far_side_that_is_gone_is_not_waited_for() {
        let ((_visitor, near), (origin, far)) = (duplex(100), duplex(100));
        drop(origin);
        let relayed = both_unless(near, far, |_, _| Poll::Ready(io::ErrorKind::ConnectionReset.into())).await;
        assert_eq!(relayed.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
