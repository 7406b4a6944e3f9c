//! Bytes inside a WebSocket: binary messages as one byte stream, as cloudflared carries TCP (`stream/stream.go`,
//! `websocket/websocket.go`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, split};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::relay::copy;

/// A message that a peer may send. cloudflared sends 32 KiB at most; other clients send what they have.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// The library reads this much at once. Its own 128 KiB would be most of an idle stream's memory.
const READ_BUFFER: usize = 4 * 1024;
/// Our messages carry at most this: cloudflared's connector reads a message into a buffer of this size and loses the rest
/// (`websocket/connection.go`, `cfio/copy.go`).
const WRITE_MAX: usize = 16 * 1024;
/// Pause between pings: nine tenths of the minute after which proxies cut idle connections (cloudflared's value).
const PING_INTERVAL: Duration = Duration::from_secs(54);

/// The value of `Sec-WebSocket-Accept` for a key (RFC 6455, section 4.2.2).
#[must_use]
pub fn accept_key(key: &[u8]) -> String {
    derive_accept_key(key)
}

/// A WebSocket as a byte stream. Text counts as bytes; a close is the end; shutting down closes.
#[derive(Debug)]
pub struct ByteStream<S> {
    socket: WebSocketStream<S>,
    pending: Bytes,
    ping: Interval,
    ended: bool,
}

/// Limits for a WebSocket that carries bytes.
#[must_use]
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream<S> {
    /// The server's end of a connection whose handshake is done.
    pub async fn server(io: S) -> Self {
        Self::new(WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await)
    }

    /// Either end, once its handshake is done.
    #[must_use]
    pub fn new(socket: WebSocketStream<S>) -> Self {
        let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { socket, pending: Bytes::new(), ping, ended: false }
    }

    /// Queues a ping when it is time. A full socket needs none.
    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        if self.ping.poll_tick(cx).is_pending() {
            return Ok(());
        }
        // The timer is asked again, so that it wakes this task for the next one.
        let _armed = self.ping.poll_tick(cx);
        if Pin::new(&mut self.socket).poll_ready(cx)?.is_ready() {
            Pin::new(&mut self.socket).start_send(Message::Ping(Bytes::new()))?;
            // What is not written now is written with the next message.
            let _flushed = Pin::new(&mut self.socket).poll_flush(cx)?;
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pending.is_empty() && !self.ended {
            self.poll_ping(cx).map_err(io_error)?;
            match ready!(Pin::new(&mut self.socket).poll_next(cx)).transpose() {
                Ok(Some(Message::Binary(data))) => self.pending = data,
                Ok(Some(Message::Text(text))) => self.pending = text.into(),
                Ok(Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Ok(Some(Message::Close(_)) | None) | Err(Error::ConnectionClosed) => self.ended = true,
                Err(error) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let take = self.pending.len().min(out.remaining());
        out.put_slice(&self.pending.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io_error)?;
        let part = data.get(..WRITE_MAX).unwrap_or(data);
        let message = Message::Binary(Bytes::copy_from_slice(part));
        Pin::new(&mut self.socket).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
            // The stream below has an end of its own.
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                Pin::new(self.socket.get_mut()).poll_shutdown(cx)
            }
            Err(error) => Poll::Ready(Err(io_error(error))),
        }
    }
}

/// Carries bytes between a near stream and a WebSocket. The WebSocket's end ends both. After the near end, the other side
/// gets `patience` to finish: a WebSocket has no half-close, so to close it is to hear nothing more.
///
/// # Errors
/// When either side breaks.
pub async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    mut near_read: impl AsyncRead + Unpin,
    mut near_write: impl AsyncWrite + Unpin,
    far: ByteStream<S>,
    patience: Duration,
) -> io::Result<()> {
    let (mut far_read, mut far_write) = split(far);
    {
        let mut down = std::pin::pin!(copy(&mut far_read, &mut near_write));
        tokio::select! {
            ended = copy(&mut near_read, &mut far_write) => {
                ended?;
                if let Ok(ended) = timeout(patience, down).await {
                    ended?;
                }
            }
            ended = &mut down => drop(ended?),
        }
    }
    far_write.shutdown().await?;
    near_write.shutdown().await
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    async fn pair() -> (ByteStream<tokio::io::DuplexStream>, ByteStream<tokio::io::DuplexStream>) {
        let (near, far) = duplex(64 * 1024);
        let client = WebSocketStream::from_raw_socket(near, Role::Client, Some(config())).await;
        (ByteStream::new(client), ByteStream::server(far).await)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_a_close_is_the_end() {
        let (mut client, mut server) = pair().await;
        let sent: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let echo = async {
            let mut heard = vec![0; 300_000];
            server.read_exact(&mut heard).await.unwrap();
            server.write_all(&heard).await.unwrap();
            server.flush().await.unwrap();
            assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0, "the client's close is the end");
        };
        let ask = async {
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            let mut heard = vec![0; 300_000];
            client.read_exact(&mut heard).await.unwrap();
            assert!(heard == sent);
            client.shutdown().await.unwrap();
        };
        tokio::join!(echo, ask);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_stream_is_pinged() {
        let (near, far) = duplex(1024);
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, Some(config())).await;
        let mut server = ByteStream::server(far).await;
        tokio::spawn(async move { server.read(&mut [0; 8]).await });
        for _ in 0..2 {
            let message = futures_util::StreamExt::next(&mut client).await.unwrap().unwrap();
            assert!(message.is_ping(), "{message:?}");
        }
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
