//! The edge's end of the control stream.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use adit_wire::registration::{ConnectionDetails, RegisterError, RegisterRequest};
use adit_wire::rpc::tunnelrpc_capnp::registration_server as rpc;
use adit_wire::rpc::{configuration, read_register, write_response};
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::limits::{CONTROL_BYTES_MAX, UNREGISTERED_BYTES_MAX};

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
    let left = Rc::new(Cell::new(UNREGISTERED_BYTES_MAX));
    let network = twoparty::VatNetwork::new(
        Bounded { reader, left: left.clone() }.compat(),
        writer.compat_write(),
        Side::Server,
        super::reader_options(),
    );
    let client: rpc::Client = capnp_rpc::new_client(Server { registrar, left });
    if let Err(error) = RpcSystem::new(Box::new(network), Some(client.client)).await {
        tracing::debug!(%error, "control stream ended");
    }
}

struct Server {
    registrar: Rc<dyn Registrar>,
    /// Bytes that the peer may still send.
    left: Rc<Cell<u64>>,
}

/// A stream that ends after so many bytes; who is registered gets more.
struct Bounded<R> {
    reader: R,
    left: Rc<Cell<u64>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Bounded<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.left.get();
        let room = out.remaining().min(usize::try_from(left).unwrap_or(usize::MAX));
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(out.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.reader).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        out.advance(read);
        self.left.set(left - read as u64);
        Poll::Ready(Ok(()))
    }
}

impl rpc::Server for Server {
    async fn register_connection(
        self: Rc<Self>,
        params: rpc::RegisterConnectionParams,
        mut results: rpc::RegisterConnectionResults,
    ) -> Result<(), capnp::Error> {
        let request = read_register(params.get()?)?;
        let answer = self.registrar.register(request);
        if answer.is_ok() {
            self.left.set(CONTROL_BYTES_MAX);
        }
        write_response(&answer, results.get().init_result());
        Ok(())
    }

    async fn unregister_connection(
        self: Rc<Self>,
        _: rpc::UnregisterConnectionParams,
        _: rpc::UnregisterConnectionResults,
    ) -> Result<(), capnp::Error> {
        self.registrar.unregister();
        Ok(())
    }

    async fn update_local_configuration(
        self: Rc<Self>,
        params: rpc::UpdateLocalConfigurationParams,
        _: rpc::UpdateLocalConfigurationResults,
    ) -> Result<(), capnp::Error> {
        let json = configuration(params.get()?.get_config()?)?;
        self.registrar.local_configuration(json).map_err(capnp::Error::failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn who_is_not_registered_is_heard_so_far_and_no_further() {
        let left = Rc::new(Cell::new(10));
        let mut bounded = Bounded { reader: &[7; 100][..], left: left.clone() };
        let mut read = Vec::new();
        bounded.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [7; 10]);
        left.set(20);
        bounded.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [7; 30]);
    }
}
