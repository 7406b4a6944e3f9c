//! A stream whose first bytes can be looked at before it is known whose they are.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::gone::{Gone, Leaves};

/// A stream with bytes to be read before its own, and a copy of what was read while somebody keeps one.
#[derive(Debug)]
pub(crate) struct Rewind<IO> {
    io: IO,
    before: Bytes,
    kept: Option<BytesMut>,
}

impl<IO> Rewind<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self { io, before: Bytes::new(), kept: None }
    }

    /// Begins to keep what is read.
    pub(crate) fn keep(&mut self) {
        self.kept = Some(BytesMut::new());
    }

    /// What was kept so far.
    pub(crate) fn kept(&self) -> &[u8] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// Keeps no more.
    pub(crate) fn forget(&mut self) {
        self.kept = None;
    }

    /// Puts everything that was kept back, as if it had not been read.
    pub(crate) fn rewind(&mut self) {
        let mut kept = self.kept.take().unwrap_or_default();
        kept.extend_from_slice(&self.before);
        self.before = kept.freeze();
    }
}

impl<IO: Leaves> Leaves for Rewind<IO> {
    fn gone(&self) -> Arc<Gone> {
        self.io.gone()
    }
}

impl<IO: AsyncRead + Unpin> Rewind<IO> {
    /// Reads until `parse` has seen enough, and puts back what it did not take. `Err` from `parse` ends it.
    pub(crate) async fn parse<T, E: From<io::Error>>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<T, E> {
        let mut buffer = BytesMut::with_capacity(256);
        loop {
            if let Some((parsed, used)) = parse(&buffer)? {
                buffer.advance(used);
                buffer.extend_from_slice(&self.before);
                self.before = buffer.freeze();
                return Ok(parsed);
            }
            if self.io.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewind<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = out.filled().len();
        if self.before.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        } else {
            let take = self.before.len().min(out.remaining());
            out.put_slice(&self.before.split_to(take));
        }
        if let (Some(kept), Some(read)) = (&mut self.kept, out.filled().get(start..)) {
            kept.extend_from_slice(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewind<IO> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn what_was_read_comes_again() {
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(b"PREhello world").await.unwrap();
        drop(far);
        let mut stream = Rewind::new(near);
        let parsed: io::Result<bool> =
            stream.parse(|bytes| Ok((bytes.len() >= 3).then_some((true, 3)))).await;
        assert!(parsed.unwrap());
        stream.keep();
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(stream.kept(), b"hello");
        stream.rewind();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "hello world");
    }
}
