//! The edge's end of the control stream.

use std::rc::Rc;

use adit_wire::registration::{ConnectionDetails, RegisterError, RegisterRequest};
use adit_wire::rpc::tunnelrpc_capnp::registration_server as rpc;
use adit_wire::rpc::{configuration, read_register, write_response};
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::limits::CONTROL_BYTES_MAX;

/// Decides on a connector's calls. One registrar belongs to one connection.
pub trait Registrar {
    /// The connection asks to serve a tunnel.
    ///
    /// # Errors
    /// The refusal that the connector is told.
    fn register(&self, request: RegisterRequest) -> Result<ConnectionDetails, RegisterError>;

    /// The connector tells its configuration, as JSON.
    ///
    /// # Errors
    /// A text for the connector's log.
    fn local_configuration(&self, json: &[u8]) -> Result<(), String>;

    /// The connector wants no new streams.
    fn unregister(&self);
}

/// Answers calls until the stream ends. How it ends is no news: the connection's end says why.
pub(crate) async fn serve<R, W>(reader: R, writer: W, registrar: Rc<dyn Registrar>)
where
    R: AsyncRead + Unpin + 'static,
    W: AsyncWrite + Unpin + 'static,
{
    let network = twoparty::VatNetwork::new(
        reader.take(CONTROL_BYTES_MAX).compat(),
        writer.compat_write(),
        Side::Server,
        super::reader_options(),
    );
    let client: rpc::Client = capnp_rpc::new_client(Server(registrar));
    if let Err(error) = RpcSystem::new(Box::new(network), Some(client.client)).await {
        tracing::debug!(%error, "control stream ended");
    }
}

struct Server(Rc<dyn Registrar>);

impl rpc::Server for Server {
    async fn register_connection(
        self: Rc<Self>,
        params: rpc::RegisterConnectionParams,
        mut results: rpc::RegisterConnectionResults,
    ) -> Result<(), capnp::Error> {
        let request = read_register(params.get()?)?;
        let answer = self.0.register(request);
        write_response(&answer, results.get().init_result());
        Ok(())
    }

    async fn unregister_connection(
        self: Rc<Self>,
        _: rpc::UnregisterConnectionParams,
        _: rpc::UnregisterConnectionResults,
    ) -> Result<(), capnp::Error> {
        self.0.unregister();
        Ok(())
    }

    async fn update_local_configuration(
        self: Rc<Self>,
        params: rpc::UpdateLocalConfigurationParams,
        _: rpc::UpdateLocalConfigurationResults,
    ) -> Result<(), capnp::Error> {
        let json = configuration(params.get()?.get_config()?)?;
        self.0.local_configuration(json).map_err(capnp::Error::failed)
    }
}
