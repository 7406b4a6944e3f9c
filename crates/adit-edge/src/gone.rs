//! Notices visitors that are gone while nobody reads from them: their upload waits for the tunnel, or they left more bytes
//! behind than anybody wants. The libraries look at a socket only when they want to read, so a sweep looks at all of them.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use adit_policy::limits::{
    UNSENT_MAX, VISITOR_KEEPALIVE, VISITOR_KEEPALIVE_INTERVAL, VISITOR_KEEPALIVE_RETRIES,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

/// A visitor's socket that a sweep can look at while its reader waits for something else.
#[derive(Debug)]
pub(crate) struct Watched(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Mutex<TcpStream>,
    /// The end of what the visitor sends was read: it is known to whoever reads, and may be half a close.
    is_read_out: AtomicBool,
    gone: Arc<Gone>,
}

/// The word that a visitor is gone.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    is: AtomicBool,
    told: Notify,
}

impl Gone {
    /// Resolves when the visitor is gone.
    pub(crate) async fn wait(&self) {
        loop {
            let told = self.told.notified();
            if self.is.load(Ordering::Acquire) {
                return;
            }
            told.await;
        }
    }

    fn tell(&self) {
        self.is.store(true, Ordering::Release);
        self.told.notify_waiters();
    }
}

/// A stream of a visitor who may be found gone.
pub(crate) trait Leaves {
    /// Returns the word about this stream's visitor.
    fn gone(&self) -> Arc<Gone>;
}

impl Leaves for Watched {
    fn gone(&self) -> Arc<Gone> {
        self.0.gone.clone()
    }
}

impl<IO: Leaves> Leaves for TlsStream<IO> {
    fn gone(&self) -> Arc<Gone> {
        self.get_ref().0.gone()
    }
}

/// The sockets of one worker.
#[derive(Debug, Default)]
pub(crate) struct Sockets(RefCell<Vec<Socket>>);

#[derive(Debug)]
struct Socket {
    stream: Weak<Shared>,
    /// The last sweep found it closed; whoever reads has until the next one to find out by itself.
    is_suspect: Cell<bool>,
}

impl Sockets {
    /// Begins to watch a socket until it is dropped.
    pub(crate) fn watch(&self, stream: TcpStream) -> Watched {
        let keepalive = TcpKeepalive::new()
            .with_time(VISITOR_KEEPALIVE)
            .with_interval(VISITOR_KEEPALIVE_INTERVAL)
            .with_retries(VISITOR_KEEPALIVE_RETRIES);
        let socket = SockRef::from(&stream);
        // Without it, who vanished without a word is noticed later.
        drop(socket.set_tcp_keepalive(&keepalive));
        // Without it, the kernel takes megabytes for a visitor who reads nothing, and that looks like a fast reader.
        drop(socket.set_tcp_notsent_lowat(UNSENT_MAX));
        let shared = Arc::new(Shared {
            stream: Mutex::new(stream),
            is_read_out: AtomicBool::new(false),
            gone: Arc::default(),
        });
        self.0.borrow_mut().push(Socket { stream: Arc::downgrade(&shared), is_suspect: Cell::new(false) });
        Watched(shared)
    }

    /// Looks at all sockets. Call it every [`GONE_INTERVAL`]: who is found closed twice is gone.
    ///
    /// [`GONE_INTERVAL`]: adit_policy::limits::GONE_INTERVAL
    pub(crate) fn sweep(&self) {
        self.0.borrow_mut().retain(Socket::is_to_be_watched);
    }
}

impl Socket {
    fn is_to_be_watched(&self) -> bool {
        let Some(stream) = self.stream.upgrade() else { return false };
        let is_closed = stream.is_closed();
        let is_gone = is_closed && self.is_suspect.replace(is_closed);
        self.is_suspect.set(is_closed);
        if is_gone {
            stream.gone.tell();
        }
        !is_gone
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, TcpStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the visitor has closed the connection, or its own direction and nobody has read so far.
    fn is_closed(&self) -> bool {
        let stream = self.lock();
        let ready = pin!(stream.ready(Interest::READABLE | Interest::WRITABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) => {
                ready.is_write_closed()
                    || (ready.is_read_closed() && !self.is_read_out.load(Ordering::Relaxed))
            }
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *self.0.lock()).poll_read(cx, buffer))?;
        if buffer.filled().len() == before && buffer.remaining() > 0 {
            self.0.is_read_out.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        (near.unwrap().0, far.unwrap())
    }

    /// Whether it is noticed within some sweeps.
    async fn is_noticed(sockets: &Sockets, gone: &Gone, sweeps: usize) -> bool {
        for _ in 0..sweeps {
            sockets.sweep();
            if timeout(Duration::from_millis(10), gone.wait()).await.is_ok() {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn a_visitor_that_leaves_unread_bytes_behind_is_noticed() {
        let sockets = Sockets::default();
        let (near, mut far) = pair().await;
        let watched = sockets.watch(near);
        far.write_all(b"nobody reads this").await.unwrap();
        assert!(!is_noticed(&sockets, &watched.gone(), 5).await, "it is there");
        drop(far);
        assert!(is_noticed(&sockets, &watched.gone(), 500).await);
    }

    #[tokio::test]
    async fn a_direction_that_ended_well_is_no_leaving() {
        let sockets = Sockets::default();
        let (near, mut far) = pair().await;
        let mut watched = sockets.watch(near);
        far.write_all(b"all").await.unwrap();
        far.shutdown().await.unwrap();
        let mut read = Vec::new();
        watched.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"all");
        assert!(!is_noticed(&sockets, &watched.gone(), 20).await, "it still reads");
        watched.write_all(b"answer").await.unwrap();
        drop(watched);
        sockets.sweep();
        assert!(sockets.0.borrow().is_empty(), "what is dropped is not watched");
    }
}
