//! A call on a QUIC stream of its own: what configurations and UDP sessions have in common.

use capnp::capability::{Client, FromClientHook};
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use adit_wire::preamble::RPC_PREAMBLE;

use crate::limits::{CONTROL_BYTES_MAX, RPC_TIMEOUT};

/// Answers the calls of a stream. The caller ends it after its call; whoever does not is cut (cloudflared's
/// `rpc-timeout`).
pub(super) async fn answer(
    reader: impl AsyncRead + Unpin + 'static,
    send: quinn::SendStream,
    server: Client,
) {
    let reader = reader.take(CONTROL_BYTES_MAX).compat();
    let options = super::reader_options();
    let network = twoparty::VatNetwork::new(reader, send.compat_write(), Side::Server, options);
    drop(timeout(RPC_TIMEOUT, RpcSystem::new(Box::new(network), Some(server))).await);
}

/// Opens a stream, and asks the other end on it.
pub(super) async fn call<C: FromClientHook, T>(
    connection: &quinn::Connection,
    ask: impl AsyncFnOnce(C) -> Result<T, capnp::Error>,
) -> Result<T, capnp::Error> {
    let failed = |error: &dyn std::fmt::Display| capnp::Error::failed(error.to_string());
    let (mut send, recv) = connection.open_bi().await.map_err(|error| failed(&error))?;
    send.write_all(&RPC_PREAMBLE).await.map_err(|error| failed(&error))?;
    let reader = recv.take(CONTROL_BYTES_MAX).compat();
    let options = super::reader_options();
    let network = twoparty::VatNetwork::new(reader, send.compat_write(), Side::Client, options);
    let mut system = RpcSystem::new(Box::new(network), None);
    let client: C = system.bootstrap(Side::Server);
    tokio::select! {
        answer = ask(client) => answer,
        ended = system => Err(ended.err().unwrap_or_else(|| failed(&"the stream ended without an answer"))),
        () = tokio::time::sleep(RPC_TIMEOUT) => Err(failed(&"no answer in time")),
    }
}
