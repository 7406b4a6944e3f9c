//! From an accepted transport to a [`Connection`] and its control stream.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::h2::client::ResponseFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::{Connection, Transport, h2};
use crate::LinkClosed;
use crate::control::server::{self, Registrar};
use crate::control::sessions;
use crate::framing::{H2Reader, H2Writer};
use crate::limits::{DRAIN_MAX, REGISTER_TIMEOUT};

/// A transport whose control stream is open; nothing is registered yet.
#[derive(Debug)]
pub struct Accepted {
    /// The connection that will carry requests once it is registered.
    pub connection: Connection,
    /// Its control stream, to be served.
    pub control: Control,
}

/// The control stream of a connection.
#[derive(Debug)]
pub struct Control {
    connection: Connection,
    io: ControlIo,
}

#[derive(Debug)]
enum ControlIo {
    Quic(quinn::SendStream, quinn::RecvStream),
    H2(ControlReader, H2Writer),
}

/// Waits for the control stream of a QUIC connection: the connector opens it first.
///
/// # Errors
/// When the connection ends first (cloudflared's pre-check does that) or no stream comes in time.
pub async fn accept_quic(connection: quinn::Connection) -> Result<Accepted, LinkClosed> {
    let Ok(stream) = timeout(REGISTER_TIMEOUT, connection.accept_bi()).await else {
        connection.close(quinn::VarInt::from_u32(1), b"no control stream");
        return Err(LinkClosed::TimedOut);
    };
    let (send, recv) = stream?;
    let connection = Connection::new(Transport::Quic(connection));
    let control = Control { connection: connection.clone(), io: ControlIo::Quic(send, recv) };
    Ok(Accepted { connection, control })
}

/// Starts HTTP/2 on an accepted TLS stream and opens the control stream on it.
///
/// # Errors
/// When the peer does not speak HTTP/2 in time.
pub async fn accept_h2<IO>(io: IO) -> Result<Accepted, LinkClosed>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let opening = async {
        let connection = h2::handshake(io).await?;
        let Transport::H2(sender) = &connection.0.transport else { return Err(LinkClosed::Local) };
        let (response, writer) = sender.open_control().await?;
        let io = ControlIo::H2(ControlReader::Waiting(response), writer);
        let control = Control { connection: connection.clone(), io };
        Ok(Accepted { connection, control })
    };
    timeout(REGISTER_TIMEOUT, opening).await.unwrap_or(Err(LinkClosed::TimedOut))
}

impl Control {
    /// Answers the connector's calls until the control stream ends. The registrar decides and is told.
    ///
    /// A connector that has unregistered may close its control stream while its requests are still answered. Then this
    /// resolves only after [`DRAIN_MAX`], and until then answers the connector's other streams.
    pub async fn serve(self, registrar: Rc<dyn Registrar>) {
        let mut streams = std::pin::pin!(answer_streams(&self.connection));
        let calls = async {
            match self.io {
                ControlIo::Quic(send, recv) => server::serve(recv, send, registrar).await,
                ControlIo::H2(reader, writer) => server::serve(reader, writer, registrar).await,
            }
        };
        tokio::select! {
            () = calls => {}
            () = &mut streams => return,
        }
        if self.connection.is_draining() {
            drop(timeout(DRAIN_MAX, streams).await);
        }
    }
}

/// The connector's other streams end UDP sessions. One after the other: each is short, and bounded in time. Over HTTP/2
/// a connector opens no streams.
async fn answer_streams(connection: &Connection) {
    let Transport::Quic(quic) = &connection.0.transport else { return std::future::pending().await };
    while let Ok((send, recv)) = quic.accept_bi().await {
        sessions::answer(connection.sessions(), send, recv).await;
    }
}

/// Reads the control stream; its response head comes with the connector's first bytes.
#[derive(Debug)]
enum ControlReader {
    Waiting(ResponseFuture),
    Open(H2Reader),
}

impl AsyncRead for ControlReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Self::Waiting(response) = &mut *self {
            let response = ready!(Pin::new(response).poll(cx)).map_err(std::io::Error::other)?;
            *self = Self::Open(H2Reader::new(response.into_body()));
        }
        match &mut *self {
            Self::Open(reader) => Pin::new(reader).poll_read(cx, out),
            Self::Waiting(_) => Poll::Pending,
        }
    }
}
