//! A raw TCP stream to an address of the edge's choice (cloudflared: `proxy.ProxyTCP`).

use std::net::SocketAddr;

use adit_http::relay::both_unless;
use adit_tunnel::connector::{Duplex, RequestBody, StreamRequest};
use adit_wire::fields::Fields;
use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::offer;
use crate::Connector;
use crate::origin::OriginError;
use crate::rescue::Problem;
use crate::serve::{Answer, TcpSession};

/// Connects, and carries bytes until both sides have ended.
///
/// # Errors
/// [`Problem`] when the edge may not go there, or nobody is there.
pub(crate) async fn connect(
    connector: &Connector,
    request: &StreamRequest,
    body: RequestBody,
    answer: &mut Answer,
    session: TcpSession,
) -> Result<(), Problem> {
    let text = std::str::from_utf8(&request.target).unwrap_or_default();
    let to: SocketAddr = text.parse().map_err(|_| Problem::Malformed("raw TCP goes to ip:port"))?;
    let flow = offer(connector, to)?;
    let stream = tokio::select! {
        biased;
        stream = open(connector, to) => stream?,
        () = answer.cancelled() => return Err(Problem::Cancelled),
    };
    let reply = answer.begin(101)?.head(101, &Fields::default(), Bytes::new(), false).await?;
    let edge = Duplex::new(body, reply);
    answer.go_on_with(async move {
        let carried = both_unless(stream, edge, Duplex::poll_gone).await;
        drop((flow, session));
        carried.map(drop).map_err(Problem::of_relay)
    });
    Ok(())
}

async fn open(connector: &Connector, to: SocketAddr) -> Result<TcpStream, OriginError> {
    let (limit, keep_alive) = {
        let in_force = connector.rules.load();
        (in_force.ingress.warp.connect_timeout, in_force.ingress.warp.tcp_keep_alive)
    };
    let connected = timeout(limit, TcpStream::connect(to)).await;
    let connected = connected.map_err(|_| OriginError::ConnectTimeout(to.to_string(), limit))?;
    let stream = connected.map_err(|error| OriginError::Connect(to.to_string(), error))?;
    // Neither is vital.
    drop(stream.set_nodelay(true));
    drop(SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(keep_alive)));
    Ok(stream)
}
