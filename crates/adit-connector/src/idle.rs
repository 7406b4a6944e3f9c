//! The silence that a rule bears (`idleTimeout`): both directions count, and every byte starts it anew.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// When a stream last moved. Costs nothing for rules without a limit.
#[derive(Clone, Default)]
pub(crate) struct Idle(Option<Rc<Watch>>);

struct Watch {
    limit: Duration,
    moved: Cell<Instant>,
}

impl Idle {
    /// Starts with the clock at zero. A limit of zero is none.
    pub(crate) fn new(limit: Duration) -> Self {
        let watch = || Rc::new(Watch { limit, moved: Cell::new(Instant::now()) });
        Self((!limit.is_zero()).then(watch))
    }

    /// Whether there is no limit.
    pub(crate) fn is_endless(&self) -> bool {
        self.0.is_none()
    }

    /// Notes that bytes went by.
    pub(crate) fn touch(&self) {
        if let Some(watch) = &self.0 {
            watch.moved.set(Instant::now());
        }
    }

    /// Resolves with the limit once nothing has moved for so long. Never without one.
    pub(crate) async fn expired(&self) -> Duration {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        loop {
            let deadline = watch.moved.get() + watch.limit;
            if Instant::now() >= deadline {
                return watch.limit;
            }
            sleep_until(deadline).await;
        }
    }

    /// The same stream, watched.
    pub(crate) fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, idle: self.clone() }
    }
}

/// A stream whose bytes count.
pub(crate) struct Watched<S> {
    stream: S,
    idle: Idle,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, out));
        self.idle.touch();
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data));
        self.idle.touch();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_stream_and_bytes_keep_it() {
        let idle = Idle::new(Duration::from_secs(10));
        let started = Instant::now();
        let talking = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(7)).await;
                idle.touch();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            limit = idle.expired() => assert_eq!(limit, Duration::from_secs(10)),
            () = talking => {}
        }
        assert_eq!(started.elapsed(), Duration::from_secs(45));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_silence_is_endless() {
        let idle = Idle::new(Duration::ZERO);
        let waited = tokio::time::timeout(Duration::from_secs(1_000_000), idle.expired()).await;
        assert!(waited.is_err());
    }
}
