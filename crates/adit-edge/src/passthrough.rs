//! TLS that somebody at home ends: the edge finds the tunnel by the name in the ClientHello and carries bytes that it cannot
//! read. They travel as a WebSocket to the rule of that name, so a stock cloudflared with `service: tcp://…` serves it too.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use adit_http::forwarded::{self, Visit};
use adit_http::websocket::{ByteStream, config, relay};
use adit_policy::host::Hostname;
use adit_telemetry::logging::chain;
use adit_telemetry::metrics::GaugeGuard;
use adit_tunnel::SendError;
use adit_tunnel::edge::{Duplex, RequestHead};
use adit_wire::connect::StreamKind;
use adit_wire::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version};
use http_body_util::Empty;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use uuid::Uuid;

use crate::limit::Admitted;
use crate::rescue::Problem;
use crate::stream::{self, Stream};
use crate::upstream::{self, Unreached};
use crate::worker::Worker;

/// How long the far end may go on after the visitor has finished: a WebSocket has no half-close.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a stream leads nowhere.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Unreached(#[from] Unreached<SendError>),
    #[error(
        "the connector answered {0}; the rule of a passthrough name leads to `tcp://…`, `https://…`, or has `tls`"
    )]
    Refused(StatusCode),
    #[error("the stream broke")]
    Broken(#[from] std::io::Error),
}

/// Carries one connection to its end.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    client: impl AsyncRead + AsyncWrite + Unpin,
    remote: SocketAddr,
    name: Hostname,
) {
    let edge = &worker.edge;
    let mut admitted = match stream::admit_name(worker, remote.ip(), &name) {
        Ok(admitted) => admitted,
        Err(Problem::UnknownHost) => {
            edge.metrics.unknown_hosts.inc();
            return;
        }
        // No answer can say so: the visitor's TLS is not ours.
        Err(problem) => {
            return tracing::debug!(%remote, %name, reason = problem.code(), "passthrough refused");
        }
    };
    let _ticket = admitted.take_ticket();
    let _counted = GaugeGuard::new(edge.metrics.passthrough_sessions.clone());
    let carried = async {
        let tunnel = open(&admitted, remote, &name).await?;
        let (read, write) = split(client);
        let socket = WebSocketStream::from_raw_socket(tunnel, Role::Client, Some(config())).await;
        Ok(relay(read, write, ByteStream::new(socket), PATIENCE).await?)
    };
    match carried.await {
        Ok(()) => tracing::debug!(%remote, %name, "passthrough ended"),
        // Either side may just go away.
        Err(Failed::Broken(error)) => tracing::debug!(%remote, %name, %error, "passthrough broke"),
        Err(error) => {
            edge.metrics.passthrough_failures.inc();
            if edge.complaints.may() {
                tracing::warn!(%remote, %name, cause = chain(&error), "passthrough leads nowhere");
            }
        }
    }
}

/// Opens a stream to the rule of a name, on the best connection that takes it.
async fn open(admitted: &Admitted<Stream>, remote: SocketAddr, name: &Hostname) -> Result<Duplex, Failed> {
    let headers = headers(remote, name, &admitted.request().id_text());
    let head = RequestHead {
        kind: StreamKind::WebSocket,
        method: &Method::GET,
        host: name.as_str(),
        target: stream::PATH,
        headers: &headers,
        interim: None,
    };
    let answer = stream::open(admitted, async |session| {
        let sent = session.connection.send(head, &mut None::<Empty<Bytes>>).await;
        sent.map_err(|error| upstream::Failed { may_repeat: error.is_connection_loss(), error })
    });
    let answer = answer.await?;
    match answer.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            answer.into_body().into_duplex().ok_or(Failed::Refused(StatusCode::SWITCHING_PROTOCOLS))
        }
        status => Err(Failed::Refused(status)),
    }
}

/// What the connector learns of the visitor, and that the bytes are TLS.
fn headers(remote: SocketAddr, name: &Hostname, id: &[u8; 32]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let visit =
        Visit { client: remote.ip(), scheme: "https", host: name.as_str(), id, version: Version::HTTP_11 };
    forwarded::set(&mut headers, &visit);
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(names::PASSTHROUGH, HeaderValue::from_static("tls"));
    if let Ok(key) = HeaderValue::try_from(STANDARD.encode(Uuid::new_v4().as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    headers
}
