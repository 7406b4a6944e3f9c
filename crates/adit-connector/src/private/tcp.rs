//! A raw TCP stream to an address of the edge's choice (cloudflared: `proxy.ProxyTCP`).

use std::net::SocketAddr;

use adit_http::relay::both_unless;
use adit_policy::ingress::{OriginRequest, WarpRouting, destination_of};
use adit_tunnel::connector::{Duplex, RequestBody, StreamRequest};
use adit_wire::fields::Fields;
use bytes::Bytes;
use tokio::net::TcpStream;

use super::offer;
use crate::Connector;
use crate::origin::{OriginError, connect_any};
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
    let to = destination_of(to);
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
    let settings = {
        let in_force = connector.rules.load();
        let WarpRouting { connect_timeout, tcp_keep_alive, .. } = in_force.ingress.warp;
        OriginRequest { connect_timeout, tcp_keep_alive, ..OriginRequest::default() }
    };
    connect_any(&settings, &to.to_string(), &[to]).await
}
