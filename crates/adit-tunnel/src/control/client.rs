//! The connector's end of the control stream.

use std::rc::Rc;
use std::time::Duration;

use adit_wire::registration::{ConnectionDetails, RegisterError, RegisterRequest};
use adit_wire::rpc::tunnelrpc_capnp::registration_server as rpc;
use adit_wire::rpc::{read_response, write_register};
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::LinkClosed;
use crate::limits::{CONTROL_BYTES_MAX, RPC_TIMEOUT};

/// The calls that a connector makes. Clones share the stream.
#[derive(Clone)]
pub struct Control {
    client: rpc::Client,
    system: Rc<System>,
}

/// The task that moves the calls; it ends with the last clone.
struct System(JoinHandle<()>);

impl Drop for System {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a registration did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterFailed {
    /// The edge said no.
    #[error("the edge refused: {0}")]
    Refused(#[from] RegisterError),
    /// The connection ended meanwhile; the edge's reason may be in it.
    #[error("the connection ended during registration")]
    Closed(#[from] LinkClosed),
    /// No answer in time.
    #[error("no answer to the registration within {0:?}")]
    Timeout(Duration),
    /// The answer makes no sense, or the call failed.
    #[error("the registration call failed: {0}")]
    Call(String),
}

/// A call other than registration failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct CallFailed(String);

/// Starts the calls on an open control stream.
pub(crate) fn connect<R, W>(reader: R, writer: W) -> Control
where
    R: AsyncRead + Unpin + 'static,
    W: AsyncWrite + Unpin + 'static,
{
    let network = twoparty::VatNetwork::new(
        reader.take(CONTROL_BYTES_MAX).compat(),
        writer.compat_write(),
        Side::Client,
        super::reader_options(),
    );
    let mut system = RpcSystem::new(Box::new(network), None);
    let client: rpc::Client = system.bootstrap(Side::Server);
    let task = tokio::task::spawn_local(async move {
        if let Err(error) = system.await {
            tracing::debug!(%error, "control stream ended");
        }
    });
    Control { client, system: Rc::new(System(task)) }
}

impl Control {
    /// Registers the connection.
    ///
    /// # Errors
    /// [`RegisterFailed`], with the edge's own words where it said something.
    pub async fn register(&self, request: &RegisterRequest) -> Result<ConnectionDetails, RegisterFailed> {
        let call_failed = |error: capnp::Error| RegisterFailed::Call(error.to_string());
        let mut call = self.client.register_connection_request();
        write_register(request, call.get());
        let answered = timeout(RPC_TIMEOUT, call.send().promise).await;
        let answer = answered.map_err(|_| RegisterFailed::Timeout(RPC_TIMEOUT))?.map_err(call_failed)?;
        let result = answer.get().and_then(|results| read_response(results.get_result()?));
        Ok(result.map_err(call_failed)??)
    }

    /// Tells the edge which rules are served here.
    ///
    /// # Errors
    /// When the edge does not take them; it says why.
    pub async fn update_local_configuration(&self, json: &[u8]) -> Result<(), CallFailed> {
        let mut call = self.client.update_local_configuration_request();
        call.get().set_config(json);
        finish(call.send().promise, RPC_TIMEOUT).await
    }

    /// Asks for no new streams; returns when the edge has heard it.
    ///
    /// # Errors
    /// When the edge does not answer within `patience`.
    pub async fn unregister(&self, patience: Duration) -> Result<(), CallFailed> {
        finish(self.client.unregister_connection_request().send().promise, patience).await
    }

    /// Closes the control stream; no more calls can be made. cloudflared does it after [`Self::unregister`], while it
    /// still answers requests.
    pub fn close(&self) {
        self.system.0.abort();
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

async fn finish<T>(
    call: impl Future<Output = Result<T, capnp::Error>>,
    patience: Duration,
) -> Result<(), CallFailed> {
    match timeout(patience, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(CallFailed(error.to_string())),
        Err(_) => Err(CallFailed(format!("no answer within {patience:?}"))),
    }
}
