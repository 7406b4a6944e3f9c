//! HTTP/2 to an origin (`http2Origin`): by ALPN over TLS, with prior knowledge in plain. One shared connection carries
//! many requests, with trailers both ways, so gRPC works.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use adit_policy::field;
use adit_policy::ingress::Service;
use adit_tunnel::connector::{Chunk, ReplyBody, RequestBody, StreamRequest};
use adit_wire::fields::Fields;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};

use super::connect::connect;
use super::frames::without_empty;
use super::http1::{self, server_name};
use super::{Origin, OriginError};
use crate::idle::Idle;
use crate::limits::INTERIM_MAX;
use crate::rescue::Problem;
use crate::serve::Answer;

/// Bytes in flight on one stream from an origin.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes in flight on one connection from an origin.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// A shared connection; the task that drives it ends with it.
pub(super) struct Shared {
    send: SendRequest<Bytes>,
    server_name: Option<String>,
}

/// Asks the origin and carries the answer.
///
/// # Errors
/// [`Problem`]; the head may be out already.
pub(super) async fn request(
    origin: &Rc<Origin>,
    request: &StreamRequest,
    body: &mut RequestBody,
    answer: &mut Answer,
) -> Result<(), Problem> {
    let ready = tokio::select! {
        biased;
        ready = sender(origin, request) => ready?,
        () = answer.cancelled() => return Err(Problem::Cancelled),
    };
    let Some(mut send) = ready else {
        // The origin chose HTTP/1.1; the next request starts there.
        return http1::request(origin, request, body, answer).await;
    };
    let head = head(origin, request)?;
    let (response, stream) = send.send_request(head, !request.has_body).map_err(OriginError::Http2)?;
    let idle = answer.idle.clone();
    let upload = async { if request.has_body { upload(body, stream, &idle).await } else { Ok(()) } };
    let download = download(response, answer);
    // A finished answer ends the exchange, whatever is left of the upload.
    let mut upload = std::pin::pin!(upload);
    let mut download = std::pin::pin!(download);
    tokio::select! {
        biased;
        done = &mut download => done,
        sent = &mut upload => {
            sent?;
            download.await
        }
    }
}

/// The status of an answer to a request of our own.
///
/// # Errors
/// [`OriginError`] when there is none.
pub(super) async fn check(origin: &Origin, request: &StreamRequest) -> Result<u16, OriginError> {
    let name = server_name(origin, request);
    let route = connect(origin, name.as_deref()).await?;
    let (send, driver) = h2::client::handshake(without_empty(route.io)).await?;
    let (response, _) = send.ready().await?.send_request(head(origin, request)?, true)?;
    tokio::select! {
        response = response => Ok(response?.status().as_u16()),
        _ = driver => Err(OriginError::Closed),
    }
}

/// A sender that may send now; `None` when the origin speaks only HTTP/1.1.
async fn sender(
    origin: &Rc<Origin>,
    request: &StreamRequest,
) -> Result<Option<SendRequest<Bytes>>, OriginError> {
    let name = server_name(origin, request);
    let known = origin
        .shared
        .borrow()
        .as_ref()
        .filter(|shared| shared.server_name == name)
        .map(|shared| shared.send.clone());
    if let Some(send) = known
        && let Ok(ready) = send.ready().await
    {
        return Ok(Some(ready));
    }
    let route = connect(origin, name.as_deref()).await?;
    if origin.is_tls() && !route.io.chose_h2() {
        origin.keep(http1::Connection::new(route, name));
        return Ok(None);
    }
    let io = without_empty(route.io);
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let (send, driver) = builder.handshake(io).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "connection to an origin ended");
        }
    });
    let ready = send.clone().ready().await?;
    *origin.shared.borrow_mut() = Some(Shared { send, server_name: name });
    Ok(Some(ready))
}

fn head(origin: &Origin, request: &StreamRequest) -> Result<Request<()>, OriginError> {
    let bad = |what| OriginError::Request(what);
    let authority =
        origin.settings.http_host_header.as_ref().map_or(&request.host[..], |host| host.as_bytes());
    let scheme = if matches!(origin.service, Service::Http { tls: true, .. }) { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(&request.target[..]);
    let mut head = Request::new(());
    *head.method_mut() = Method::from_bytes(&request.method).map_err(|_| bad("not a method"))?;
    *head.uri_mut() = uri.build().map_err(|_| bad("not a target"))?;
    for (name, value) in request.fields.iter_shared() {
        let name = HeaderName::from_bytes(name).map_err(|_| bad("not a field name"))?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| bad("not a field value"))?;
        head.headers_mut().append(name, value);
    }
    field::strip_lookalikes(head.headers_mut());
    let trailers = adit_http::hop::asks_for_trailers(head.headers());
    adit_http::hop::strip(head.headers_mut());
    if !trailers {
        head.headers_mut().remove(http::header::TE);
    }
    head.headers_mut().remove(http::header::HOST);
    Ok(head)
}

async fn upload(body: &mut RequestBody, mut stream: SendStream<Bytes>, idle: &Idle) -> Result<(), Problem> {
    while let Some(chunk) = body.next().await {
        idle.touch();
        let sent = match chunk? {
            Chunk::Data(data) => send_data(&mut stream, data).await,
            Chunk::Trailers(fields) => return trailers_up(&mut stream, &fields),
        };
        if sent.is_err() {
            // The origin takes no more; its answer may still come.
            return Ok(());
        }
    }
    // The same.
    drop(stream.send_data(Bytes::new(), true));
    Ok(())
}

fn trailers_up(stream: &mut SendStream<Bytes>, fields: &Fields) -> Result<(), Problem> {
    let mut trailers = header_map(fields)?;
    field::strip_trailers(&mut trailers);
    Ok(stream.send_trailers(trailers).map_err(OriginError::Http2)?)
}

fn header_map(fields: &Fields) -> Result<HeaderMap, OriginError> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.iter_shared() {
        let name = HeaderName::from_bytes(name).map_err(|_| OriginError::Request("not a field name"))?;
        map.append(
            name,
            HeaderValue::from_maybe_shared(value).map_err(|_| OriginError::Request("not a field value"))?,
        );
    }
    Ok(map)
}

async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(granted) => drop(granted?),
                None => return Err(h2::Reason::CANCEL.into()),
            }
        }
        let part = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}

/// An interim response, or the final one.
enum Head {
    Interim(Response<()>),
    Final(Response<RecvStream>),
}

fn poll_head(response: &mut ResponseFuture, cx: &mut Context<'_>) -> Poll<Result<Head, h2::Error>> {
    match response.poll_informational(cx) {
        Poll::Ready(Some(interim)) => Poll::Ready(interim.map(Head::Interim)),
        Poll::Ready(None) | Poll::Pending => Pin::new(response).poll(cx).map_ok(Head::Final),
    }
}

/// Waits for the final response; interim ones are passed on.
async fn final_response(
    mut response: ResponseFuture,
    answer: &mut Answer,
) -> Result<Response<RecvStream>, Problem> {
    for _ in 0..=INTERIM_MAX {
        let head = tokio::select! {
            biased;
            head = poll_fn(|cx| poll_head(&mut response, cx)) => head.map_err(OriginError::Http2)?,
            () = answer.cancelled() => return Err(Problem::Cancelled),
        };
        match (head, answer.reply()) {
            (Head::Final(response), _) => return Ok(response),
            (Head::Interim(head), Some(reply)) => {
                reply.interim(head.status().as_u16(), &fields(head.headers())).await?;
            }
            (Head::Interim(_), None) => {}
        }
    }
    Err(OriginError::Interim(INTERIM_MAX).into())
}

async fn download(response: ResponseFuture, answer: &mut Answer) -> Result<(), Problem> {
    let response = final_response(response, answer).await?;
    let (mut head, mut recv) = response.into_parts();
    adit_http::hop::strip(&mut head.headers);
    let status = head.status.as_u16();
    let reply = answer.begin(status)?;
    let ended = recv.is_end_stream();
    let mut body = reply.head(status, &fields(&head.headers), Bytes::new(), ended).await?;
    if ended {
        return Ok(());
    }
    loop {
        let data = tokio::select! {
            biased;
            data = poll_fn(|cx| recv.poll_data(cx)) => data,
            () = body.cancelled() => return Err(Problem::Cancelled),
        };
        answer.idle.touch();
        match data {
            Some(Ok(data)) => pass_on(&mut recv, &mut body, data).await?,
            Some(Err(error)) => {
                body.abort();
                return Err(OriginError::Http2(error).into());
            }
            None => break,
        }
    }
    match poll_fn(|cx| recv.poll_trailers(cx)).await {
        Ok(Some(trailers)) => Ok(body.trailers(&fields(&trailers)).await?),
        Ok(None) => Ok(body.finish().await?),
        Err(error) => {
            body.abort();
            Err(OriginError::Http2(error).into())
        }
    }
}

/// The origin may send more once the edge has taken this.
async fn pass_on(recv: &mut RecvStream, body: &mut ReplyBody, data: Bytes) -> Result<(), Problem> {
    let length = data.len();
    body.data(data).await?;
    // Fails only for a stream that is gone; the next read says so.
    drop(recv.flow_control().release_capacity(length));
    Ok(())
}

fn fields(map: &HeaderMap) -> Fields {
    Fields::from_pairs(map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
}
