//! The connector's streams on HTTP/2: it dialled, and is the HTTP/2 server on the connection.

use std::task::Poll;
use std::time::Duration;

use adit_wire::connect::StreamKind;
use adit_wire::names;
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

use super::reply::Reply;
use super::request::{RequestBody, Source, StreamRequest, announced_length};
use super::{Agreed, Handlers, Stream};
use crate::coalesce::{Coalesced, Flusher, coalesced};
use crate::framing::{H2Reader, H2Writer, fields_of};
use crate::limits::{self, IDLE_TIMEOUT, KEEP_ALIVE};
use crate::{LinkClosed, StreamError};

/// An HTTP/2 connection and the word about its peer's silence.
pub(super) struct Transport {
    connection: Connection<Coalesced<TlsStream<TcpStream>>, Bytes>,
    flusher: Flusher<TlsStream<TcpStream>>,
    silent: watch::Receiver<bool>,
}

/// A request of the edge, whatever it is for.
pub(super) type Opening = Inbound;

pub(super) struct Inbound {
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

/// Answers the client preface and starts the pings.
pub(super) async fn handshake(io: TlsStream<TcpStream>) -> Result<Transport, LinkClosed> {
    let (io, flusher) = coalesced(io);
    let mut connection = builder().handshake(io).await?;
    let (tell, silent) = watch::channel(false);
    if let Some(pings) = connection.ping_pong() {
        tokio::task::spawn_local(probe(pings, tell));
    }
    Ok(Transport { connection, flusher, silent })
}

fn builder() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::H2_FRAME_MAX)
        .max_header_list_size(limits::H2_HEADERS_MAX)
        .max_concurrent_streams(limits::H2_STREAMS_MAX)
        .max_send_buffer_size(limits::H2_SEND_BUFFER)
        .max_concurrent_reset_streams(limits::H2_RESET_STREAMS_MAX)
        .max_pending_accept_reset_streams(limits::H2_RESET_STREAMS_MAX)
        .max_local_error_reset_streams(None);
    builder
}

/// Pings once a second; ends when the peer is silent for the idle time-out, or the connection is gone.
async fn probe(mut pings: PingPong, silent: watch::Sender<bool>) {
    loop {
        tokio::time::sleep(KEEP_ALIVE).await;
        if silent.is_closed() || pings.send_ping(Ping::opaque()).is_err() {
            return;
        }
        let pong = std::future::poll_fn(|cx| pings.poll_pong(cx));
        let patience = IDLE_TIMEOUT.saturating_sub(Duration::from_secs(1));
        match tokio::time::timeout(patience, pong).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return,
            Err(_) => return silent.send_modify(|silent| *silent = true),
        }
    }
}

impl Transport {
    pub(super) async fn accept(&mut self) -> Result<Inbound, LinkClosed> {
        let accepted = std::future::poll_fn(|cx| {
            let accepted = self.connection.poll_accept(cx);
            // With a request in hand, another turn follows and takes what this one wrote along.
            if !matches!(accepted, Poll::Ready(Some(Ok(_)))) {
                self.flusher.flush(cx);
            }
            accepted
        });
        tokio::select! {
            biased;
            accepted = accepted => match accepted {
                None => Err(LinkClosed::Remote("end of connection".to_owned())),
                Some(Ok((request, respond))) => Ok(Inbound { request, respond }),
                Some(Err(error)) => Err(error.into()),
            },
            () = silence(&mut self.silent) => Err(LinkClosed::TimedOut),
        }
    }

    /// Waits for the control stream, which the edge opens first.
    pub(super) async fn accept_control(&mut self) -> Result<(H2Reader, H2Writer), LinkClosed> {
        loop {
            let mut inbound = self.accept().await?;
            if inbound.kind() != Kind::Control {
                inbound.respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            let send = inbound.respond.send_response(Response::new(()), false)?;
            return Ok((H2Reader::new(inbound.request.into_body()), H2Writer::new(send, false)));
        }
    }

    pub(super) fn close(&mut self) {
        self.connection.abrupt_shutdown(h2::Reason::NO_ERROR);
    }
}

/// Resolves when the peer is silent; never when the connection merely ended.
async fn silence(silent: &mut watch::Receiver<bool>) {
    if silent.wait_for(|silent| *silent).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What a request is for, decided as cloudflared does, in this order (`connection/http2.go`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Configuration,
    Windows,
    Control,
    Stream(StreamKind),
}

impl Inbound {
    fn kind(&self) -> Kind {
        let headers = self.request.headers();
        let upgrade = headers.get(names::UPGRADE_HEADER).map(http::HeaderValue::as_bytes);
        match upgrade {
            Some(value) if value == names::UPGRADE_CONFIGURATION.as_bytes() => Kind::Configuration,
            Some(value) if value == names::UPGRADE_WINDOWS.as_bytes() => Kind::Windows,
            Some(value) if value == names::UPGRADE_WEBSOCKET.as_bytes() => {
                Kind::Stream(StreamKind::WebSocket)
            }
            _ if headers.get(names::TCP_PROXY_SRC).is_some_and(|src| !src.is_empty()) => {
                Kind::Stream(StreamKind::Tcp)
            }
            Some(value) if value == names::UPGRADE_CONTROL_STREAM.as_bytes() => Kind::Control,
            _ => Kind::Stream(StreamKind::Http),
        }
    }

    pub(super) async fn read(
        mut self,
        agreed: &Agreed,
        handlers: Handlers,
    ) -> Result<Option<Stream>, StreamError> {
        match self.kind() {
            Kind::Stream(kind) => Ok(Some(self.stream(kind, agreed))),
            Kind::Windows => {
                let windows = agreed.windows().cloned().ok_or(StreamError::Stopped)?;
                let send = H2Writer::new(self.respond.send_response(Response::new(()), false)?, false);
                let recv = H2Reader::new(self.request.into_body());
                // Ends with the connection, and is none of its requests.
                drop(tokio::task::spawn_local(windows.run(recv, send)));
                Ok(None)
            }
            Kind::Configuration => {
                let reader = H2Reader::new(self.request.into_body());
                crate::control::push::answer_h2(reader, self.respond, handlers.configuration).await;
                Ok(None)
            }
            // One control stream per connection is enough; dropping the second resets it.
            Kind::Control => Ok(None),
        }
    }

    fn stream(self, kind: StreamKind, agreed: &Agreed) -> Stream {
        let (head, recv) = self.request.into_parts();
        let mut headers = head.headers;
        headers.remove(names::UPGRADE_HEADER);
        let fields = fields_of(&headers);
        let authority = head.uri.authority().map_or("", http::uri::Authority::as_str);
        let target = match kind {
            StreamKind::Tcp => authority,
            StreamKind::Http | StreamKind::WebSocket => {
                head.uri.path_and_query().map_or("/", |target| target.as_str())
            }
        };
        let request = StreamRequest {
            kind,
            method: Bytes::copy_from_slice(head.method.as_str().as_bytes()),
            host: Bytes::copy_from_slice(authority.as_bytes()),
            target: Bytes::copy_from_slice(target.as_bytes()),
            has_body: !recv.is_end_stream(),
            fields,
        };
        let remaining = if kind == StreamKind::Http { announced_length(&request.fields) } else { None };
        let body = if request.has_body { Source::H2(recv) } else { Source::Empty };
        let body = RequestBody::new(body, remaining.filter(|_| request.has_body), agreed.windows());
        Stream { request, body, reply: Reply::h2(self.respond, agreed) }
    }
}
