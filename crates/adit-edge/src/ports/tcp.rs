//! Streams of a port, carried on the worker that they were dealt to.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use adit_http::proxy_protocol;
use adit_http::relay::both;
use adit_policy::port::Port;
use adit_telemetry::logging::chain;
use adit_telemetry::metrics::GaugeGuard;
use adit_tunnel::SendError;
use adit_tunnel::edge::{Duplex, RequestHead};
use adit_wire::connect::StreamKind;
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::Empty;
use tokio::io::AsyncWriteExt as _;

use super::{failed, refused};
use crate::gone::Watched;
use crate::limit::Admitted;
use crate::rescue::Problem;
use crate::stream::{self, Stream};
use crate::upstream::{self, Unreached};
use crate::worker::Worker;

/// Why a visitor's stream leads nowhere.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Unreached(#[from] Unreached<SendError>),
    #[error("the connector did not open a stream")]
    NoStream,
    #[error("the stream broke")]
    Broken(#[from] std::io::Error),
}

/// Carries one stream to its end.
pub(crate) async fn serve(worker: &Rc<Worker>, client: Watched, remote: SocketAddr, port: &Arc<Port>) {
    let edge = &worker.edge;
    let mut admitted = match stream::admit_port(worker, remote.ip(), port) {
        Ok(admitted) => admitted,
        Err(Problem::NoConnection) => return failed(edge, remote, port, "the tunnel is not known"),
        Err(problem) => return refused(remote, port, &problem),
    };
    let _ticket = admitted.take_ticket();
    let _counted = GaugeGuard::new(edge.metrics.port_sessions.clone());
    match carry(&admitted, client, remote, port).await {
        Ok((up, down)) => {
            tracing::debug!(%remote, tunnel = port.tunnel, to = %port.to, up, down, "port stream ended");
        }
        // Either side may just go away.
        Err(Failed::Broken(error)) => tracing::debug!(%remote, %error, "port stream broke"),
        Err(error) => failed(edge, remote, port, &chain(&error)),
    }
}

async fn carry(
    admitted: &Admitted<Stream>,
    client: Watched,
    remote: SocketAddr,
    port: &Port,
) -> Result<(u64, u64), Failed> {
    let mut tunnel = open(admitted, port).await?;
    let header = proxy_protocol::header(port.proxy_protocol, Some(remote), port.to);
    tunnel.write_all(&header).await?;
    Ok(both(client, tunnel).await?)
}

async fn open(admitted: &Admitted<Stream>, port: &Port) -> Result<Duplex, Failed> {
    let host = port.to.to_string();
    let head = RequestHead {
        kind: StreamKind::Tcp,
        method: &Method::GET,
        host: &host,
        target: "/",
        headers: &HeaderMap::new(),
        interim: None,
    };
    let opened = stream::open(admitted, async |session| {
        let sent = session.connection.send(head, &mut None::<Empty<Bytes>>).await;
        sent.map_err(|error| upstream::Failed { may_repeat: error.is_connection_loss(), error })
    });
    opened.await?.into_body().into_duplex().ok_or(Failed::NoStream)
}
