//! Bytes inside a WebSocket to a TCP service: `tcp://` and its relatives, `bastion`, `socks-proxy` (cloudflared:
//! `ingress/origin_connection.go`). Either side's end ends both.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use adit_http::proxy_protocol;
use adit_http::websocket::{ByteStream, accept_key, relay};
use adit_policy::ingress::{ProxyType, Service};
use adit_tunnel::connector::{Duplex, RequestBody, StreamRequest};
use adit_wire::connect::StreamKind;
use adit_wire::fields::Fields;
use adit_wire::names::JUMP_DESTINATION;
use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, split};
use tokio::net::TcpStream;

use super::connect::{allowed, connect_any, resolve};
use super::{Origin, OriginError, socks};
use crate::idle::Watched;
use crate::rescue::Problem;
use crate::serve::{Answer, TcpSession};

/// The byte stream to the visitor.
pub(super) type Visitor = ByteStream<Duplex>;

/// Opens the service and carries bytes until either side ends.
///
/// # Errors
/// [`Problem`]; the head may be out already.
pub(crate) async fn tcp(
    origin: &Rc<Origin>,
    request: &StreamRequest,
    body: &mut RequestBody,
    answer: &mut Answer,
    session: TcpSession,
) -> Result<(), Problem> {
    if request.kind != StreamKind::WebSocket {
        return upgrade_required(answer).await;
    }
    if is_socks(origin) {
        let mut visitor = accept(request, body, answer).await?;
        match socks::connect(&mut visitor, origin).await? {
            Some(stream) => answer.go_on_with(carry(answer.idle.watch(stream), visitor, session)),
            None => visitor.shutdown().await.map_err(OriginError::Broken)?,
        }
        return Ok(());
    }
    let opening = open(origin, request);
    let stream = tokio::select! {
        biased;
        stream = opening => stream?,
        () = answer.cancelled() => return Err(Problem::Cancelled),
    };
    let visitor = accept(request, body, answer).await?;
    answer.go_on_with(carry(answer.idle.watch(stream), visitor, session));
    Ok(())
}

fn is_socks(origin: &Origin) -> bool {
    origin.service == Service::SocksProxy || origin.settings.proxy_type == ProxyType::Socks
}

/// Opens the service, and tells it whose connection it is, if it wants to know.
async fn open(origin: &Origin, request: &StreamRequest) -> Result<TcpStream, OriginError> {
    let mut stream = dial(origin, request).await?;
    let service = stream.peer_addr().map_err(OriginError::Broken)?;
    let header = proxy_protocol::header(origin.settings.proxy_protocol, visitor_of(request), service);
    stream.write_all(&header).await.map_err(OriginError::Broken)?;
    Ok(stream)
}

/// The visitor's address in the edge's words. The edge keeps the port to itself.
pub(super) fn visitor_of(request: &StreamRequest) -> Option<SocketAddr> {
    let text = std::str::from_utf8(request.fields.get("x-real-ip")?).ok()?;
    Some(SocketAddr::new(text.trim().parse().ok()?, 0))
}

async fn dial(origin: &Origin, request: &StreamRequest) -> Result<TcpStream, OriginError> {
    let bastion = origin.service == Service::Bastion || origin.settings.bastion_mode;
    match &origin.service {
        _ if bastion => {
            let (host, port) = destination(request)?;
            let addresses = allowed(origin, resolve(origin, &host, port).await?);
            if addresses.is_empty() {
                return Err(OriginError::NotAllowed(format!("{host}:{port}")));
            }
            connect_any(&origin.settings, &format!("{host}:{port}"), &addresses).await
        }
        Service::Tcp { host, port: Some(port), .. } => {
            let addresses = resolve(origin, host, *port).await?;
            connect_any(&origin.settings, &origin.service.to_string(), &addresses).await
        }
        _ => Err(OriginError::Request("the service has no port, and its scheme has no usual one")),
    }
}

/// Where a bastion is asked to go: `host:port`, with or without a scheme and a path.
fn destination(request: &StreamRequest) -> Result<(String, u16), OriginError> {
    let bad = || OriginError::Request("the request does not say where the bastion is to go, as host:port");
    let field = request.fields.get(JUMP_DESTINATION).ok_or_else(bad)?;
    let text = std::str::from_utf8(field).map_err(|_| bad())?.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = text.split('/').next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match port.parse() {
        Ok(port) if !host.is_empty() && port > 0 => Ok((host.to_owned(), port)),
        _ => Err(bad()),
    }
}

/// A plain request cannot carry bytes both ways.
async fn upgrade_required(answer: &mut Answer) -> Result<(), Problem> {
    let text = "This address is for TCP clients: adit access tcp, or cloudflared access tcp.\n";
    let length = text.len().to_string();
    let fields = [("Upgrade", "websocket"), ("Content-Type", "text/plain"), ("Content-Length", &length)];
    let fields = Fields::from_texts(&fields);
    answer.begin(426)?.head(426, &fields, Bytes::from_static(text.as_bytes()), true).await?;
    Ok(())
}

/// Accepts the WebSocket ourselves: the service behind it knows nothing of it.
pub(super) async fn accept(
    request: &StreamRequest,
    body: &mut RequestBody,
    answer: &mut Answer,
) -> Result<Visitor, Problem> {
    let key = request.fields.get("sec-websocket-key").unwrap_or_default();
    let accept = accept_key(key);
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", &accept)];
    let fields = Fields::from_texts(&fields);
    let reply = answer.begin(101)?.head(101, &fields, Bytes::new(), false).await?;
    Ok(ByteStream::server(Duplex::new(body.take(), reply)).await)
}

pub(super) async fn carry(
    stream: Watched<TcpStream>,
    visitor: Visitor,
    session: TcpSession,
) -> Result<(), Problem> {
    let (read, write) = split(stream);
    let carried = relay(read, write, visitor, Duration::ZERO).await;
    drop(session);
    carried.map_err(Problem::of_relay)
}
