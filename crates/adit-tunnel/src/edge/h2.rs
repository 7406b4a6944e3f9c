//! Requests over HTTP/2 on a connection that the connector dialled: the edge is the HTTP/2 client on it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use adit_wire::connect::StreamKind;
use adit_wire::{names, packed};
use bytes::Bytes;
use h2::client::{Connection as Driver, ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use http::header::HeaderValue;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::body::{ResponseBody, Upload, append, final_status, length};
use super::pump::pump;
use super::{Connection, InFlight, InterimSink, RequestHead, Transport};
use crate::coalesce::{Coalesced, Flusher, coalesced};
use crate::connector::ConfigurationApplied;
use crate::control::push;
use crate::framing::{BodyWriter, H2Reader, H2Writer};
use crate::limits::{self, IDLE_TIMEOUT, KEEP_ALIVE, SUSPECT_AFTER};
use crate::window::{Outflow, Windows};
use crate::{LinkClosed, SendError};

/// The sending side of an HTTP/2 connection, and the word about its end.
#[derive(Debug)]
pub(super) struct Sender {
    send: SendRequest<Bytes>,
    end: watch::Sender<Option<LinkClosed>>,
    rtt_micros: Arc<AtomicU64>,
}

/// Speaks the client preface on a stream that was accepted, and starts the driver on this thread.
pub(super) async fn handshake<IO>(io: IO) -> Result<Connection, LinkClosed>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (io, flusher) = coalesced(io);
    let (send, mut driver) = builder().handshake::<_, Bytes>(io).await?;
    let pings = driver.ping_pong();
    let rtt_micros = Arc::new(AtomicU64::new(0));
    let sender = Sender { send, end: watch::Sender::new(None), rtt_micros };
    let connection = Connection::new(Transport::H2(sender));
    tokio::task::spawn_local(drive(driver, flusher, pings, connection.clone()));
    Ok(connection)
}

fn builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::H2_FRAME_MAX)
        .max_header_list_size(limits::H2_HEADERS_MAX)
        .max_send_buffer_size(limits::H2_SEND_BUFFER)
        .max_concurrent_reset_streams(limits::H2_RESET_STREAMS_MAX)
        .max_pending_accept_reset_streams(limits::H2_RESET_STREAMS_MAX)
        .max_local_error_reset_streams(None);
    builder
}

/// Runs the connection to its end. The clone of `connection` keeps nothing alive: the driver ends with the socket.
async fn drive<IO>(
    mut driver: Driver<Coalesced<IO>, Bytes>,
    mut flusher: Flusher<IO>,
    pings: Option<PingPong>,
    connection: Connection,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Transport::H2(sender) = &connection.0.transport else { return };
    let mut stopped = sender.end.subscribe();
    let driver = std::future::poll_fn(|cx| {
        let ended = Pin::new(&mut driver).poll(cx);
        flusher.flush(cx);
        ended
    });
    let cause = tokio::select! {
        ended = driver => ended.err().map_or_else(|| LinkClosed::Remote(String::new()), LinkClosed::from),
        cause = probe(pings, &connection, sender) => cause,
        _ = stopped.wait_for(Option::is_some) => LinkClosed::Local,
    };
    connection.0.health.mark_closed();
    sender.finish(cause);
}

/// Pings once a second; silence makes the connection suspect, and ends it after the idle time-out.
async fn probe(pings: Option<PingPong>, connection: &Connection, sender: &Sender) -> LinkClosed {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(KEEP_ALIVE).await;
        let sent = Instant::now();
        if pings.send_ping(Ping::opaque()).is_err() {
            continue;
        }
        if !pong_within(&mut pings, SUSPECT_AFTER).await {
            connection.0.health.set(true);
            if !pong_within(&mut pings, IDLE_TIMEOUT.saturating_sub(SUSPECT_AFTER)).await {
                return LinkClosed::TimedOut;
            }
        }
        connection.0.health.set(false);
        let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        sender.rtt_micros.store(micros, Ordering::Relaxed);
    }
}

async fn pong_within(pings: &mut PingPong, limit: Duration) -> bool {
    let pong = std::future::poll_fn(|cx| pings.poll_pong(cx));
    matches!(tokio::time::timeout(limit, pong).await, Ok(Ok(_)))
}

impl Sender {
    pub(super) fn close(&self) {
        self.finish(LinkClosed::Local);
    }

    fn finish(&self, cause: LinkClosed) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(cause);
            first
        });
    }

    pub(super) async fn closed(&self) -> LinkClosed {
        let mut end = self.end.subscribe();
        let cause = end.wait_for(Option::is_some).await;
        cause.ok().and_then(|cause| cause.clone()).unwrap_or(LinkClosed::Local)
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Opens the control stream.
    pub(super) async fn open_control(&self) -> Result<(ResponseFuture, H2Writer), LinkClosed> {
        self.open(names::UPGRADE_CONTROL_STREAM).await
    }

    /// Opens the stream of window updates and carries them until it ends.
    pub(super) async fn carry_windows(&self, windows: Windows) -> Result<(), SendError> {
        let (response, send) = self.open(names::UPGRADE_WINDOWS).await.map_err(|_| SendError::NotSent)?;
        let recv = H2Reader::new(response.await.map_err(|_| SendError::Reset)?.into_body());
        windows.run(recv, send).await;
        Ok(())
    }

    /// Opens a stream whose request body stays open.
    async fn open(&self, what: &'static str) -> Result<(ResponseFuture, H2Writer), LinkClosed> {
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static("https://control.tunnel/");
        request.headers_mut().insert(names::UPGRADE_HEADER, HeaderValue::from_static(what));
        let mut send = self.send.clone().ready().await?;
        let (response, body) = send.send_request(request, false)?;
        Ok((response, H2Writer::new(body, false)))
    }

    /// One request whose body is the new configuration.
    pub(super) async fn push_configuration(
        &self,
        version: i32,
        json: &[u8],
    ) -> Result<ConfigurationApplied, String> {
        let text = |error: h2::Error| error.to_string();
        let mut request = Request::new(());
        *request.method_mut() = http::Method::PUT;
        *request.uri_mut() = Uri::from_static("https://control.tunnel/");
        let value = HeaderValue::from_static(names::UPGRADE_CONFIGURATION);
        request.headers_mut().insert(names::UPGRADE_HEADER, value);
        let mut send = self.send.clone().ready().await.map_err(text)?;
        let (response, mut body) = send.send_request(request, false).map_err(text)?;
        let update = push::encode_update(version, json);
        crate::framing::send_h2(&mut body, update.into()).await.map_err(|error| error.to_string())?;
        body.send_data(Bytes::new(), true).map_err(text)?;
        let answer = H2Reader::new(response.await.map_err(text)?.into_body());
        push::decode_updated(answer).await.ok_or_else(|| "the answer makes no sense".to_owned())
    }

    pub(super) async fn send<B>(
        &self,
        head: RequestHead<'_>,
        body: &mut Option<B>,
        guard: InFlight,
    ) -> Result<Response<ResponseBody>, SendError>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        let request = request(&head)?;
        let mut send = tokio::select! {
            biased;
            ready = self.send.clone().ready() => ready.map_err(|_| SendError::NotSent)?,
            () = guard.suspect() => return Err(SendError::NotSent),
        };
        let ends = body.is_none() && head.kind == StreamKind::Http;
        let (response, stream) = send.send_request(request, ends).map_err(|_| SendError::NotSent)?;
        let send = H2Writer::new(stream, ends);
        let outflow = Outflow::new(guard.windows(), send.stream());
        let sink = BodyWriter::h2(send, outflow);
        let (response, upload) = match body.take() {
            Some(body) => with_body(body, sink, response, (&guard, head.interim)).await?,
            None if ends => (answer(response, (&guard, head.interim)).await?, Upload::Done),
            None => (answer(response, (&guard, head.interim)).await?, Upload::Kept(sink)),
        };
        respond(&head, response, upload, guard)
    }
}

fn request(head: &RequestHead<'_>) -> Result<Request<()>, SendError> {
    let malformed = || SendError::Malformed("the target is no URI".to_owned());
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::builder()
        .scheme("https")
        .authority(head.host)
        .path_and_query(head.target)
        .build()
        .map_err(|_| malformed())?;
    *request.headers_mut() = head.headers.clone();
    if head.kind == StreamKind::WebSocket {
        let value = HeaderValue::from_static(names::UPGRADE_WEBSOCKET);
        request.headers_mut().insert(names::UPGRADE_HEADER, value);
    }
    if head.kind == StreamKind::Tcp {
        request.headers_mut().insert(names::TCP_PROXY_SRC, HeaderValue::from_static("tcp"));
    }
    Ok(request)
}

async fn with_body<B>(
    body: B,
    sink: BodyWriter,
    response: ResponseFuture,
    waiting: Waiting<'_>,
) -> Result<(Response<h2::RecvStream>, Upload), SendError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    let mut pump = Box::pin(pump(body, sink, waiting.0.with_fixed_windows()));
    let mut response = std::pin::pin!(answer(response, waiting));
    let mut pumping = true;
    loop {
        tokio::select! {
            biased;
            response = &mut response => {
                let upload = if pumping { Upload::spawn(pump) } else { Upload::Done };
                return Ok((response?, upload));
            }
            sent = &mut pump, if pumping => {
                sent?;
                pumping = false;
            }
        }
    }
}

/// What goes on while a head is waited for: the count of requests, and where interim heads go.
type Waiting<'a> = (&'a InFlight, Option<&'a dyn InterimSink>);

async fn answer(
    mut response: ResponseFuture,
    (guard, interim): Waiting<'_>,
) -> Result<Response<h2::RecvStream>, SendError> {
    let mut told = 0;
    let response = std::future::poll_fn(|cx| {
        loop {
            match response.poll_informational(cx) {
                Poll::Ready(Some(Ok(head))) => {
                    told += 1;
                    if let Some(interim) = interim.filter(|_| told <= limits::INTERIMS_MAX) {
                        tell(interim, head);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) | Poll::Pending => return Pin::new(&mut response).poll(cx),
            }
        }
    });
    tokio::select! {
        biased;
        response = response => response.map_err(|error| {
            if error.is_reset() { SendError::Reset } else { SendError::Lost }
        }),
        () = guard.suspect() => Err(SendError::Lost),
    }
}

/// Interim heads are not packed.
fn tell(interim: &dyn InterimSink, head: Response<()>) {
    let (head, ()) = head.into_parts();
    let internal = |name: &http::HeaderName| names::is_internal_response_header(name.as_str().as_bytes());
    let mut headers = HeaderMap::new();
    for (name, value) in head.headers.iter().filter(|(name, _)| !internal(name)) {
        headers.append(name, value.clone());
    }
    interim.interim(head.status, headers);
}

/// The origin's head is packed into one field; the outer ones are the connector's own, but for the length.
fn respond(
    head: &RequestHead<'_>,
    response: Response<h2::RecvStream>,
    upload: Upload,
    guard: InFlight,
) -> Result<Response<ResponseBody>, SendError> {
    let (outer, recv) = response.into_parts();
    let from_connector = outer.headers.get(names::RESPONSE_META).is_some_and(is_from_connector);
    if from_connector && outer.status == StatusCode::BAD_GATEWAY {
        return Err(SendError::Origin(cause(&outer.headers)));
    }
    let headers = unpack(&outer.headers)?;
    let status = final_status(head.kind, Some(status_of(head.kind, outer.status, &headers)))?;
    let length = length(head.method, status, &headers)?;
    let mut response = Response::new(ResponseBody::h2(recv, length, upload, guard));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Our connector says why; cloudflared does not on HTTP/2.
fn cause(outer: &HeaderMap) -> String {
    let cause = outer
        .get(crate::connector::CAUSE)
        .map(|cause| String::from_utf8_lossy(cause.as_bytes()).into_owned());
    cause.unwrap_or_else(|| "no cause given".to_owned())
}

fn is_from_connector(meta: &HeaderValue) -> bool {
    packed::meta::is_from_connector(meta.as_bytes())
}

/// An accepted WebSocket comes as 200 (cloudflared: `http2.go`); the handshake's own field tells it from a page.
fn status_of(kind: StreamKind, status: StatusCode, headers: &HeaderMap) -> u16 {
    let accepted =
        headers.contains_key(header::SEC_WEBSOCKET_ACCEPT) || headers.contains_key(header::UPGRADE);
    if kind == StreamKind::WebSocket && status == StatusCode::OK && accepted { 101 } else { status.as_u16() }
}

fn unpack(outer: &HeaderMap) -> Result<HeaderMap, SendError> {
    let blob = outer.get(names::RESPONSE_HEADERS).map_or(&b""[..], HeaderValue::as_bytes);
    let fields = packed::decode(blob).map_err(|error| SendError::Malformed(error.to_string()))?;
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    for (name, value) in fields.iter_shared() {
        append(&mut headers, name, value)?;
    }
    if let Some(length) = outer.get(header::CONTENT_LENGTH)
        && !headers.contains_key(header::CONTENT_LENGTH)
    {
        headers.insert(header::CONTENT_LENGTH, length.clone());
    }
    Ok(headers)
}
