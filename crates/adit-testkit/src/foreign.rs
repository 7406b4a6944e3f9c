//! An edge of somebody else: it registers whoever comes, and sends requests that ours never would.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use adit_tunnel::SendError;
use adit_tunnel::control::server::Registrar;
use adit_tunnel::edge::{Accepted, Connection, RequestHead, accept_h2, accept_quic};
use adit_wire::connect::StreamKind;
use adit_wire::registration::{ConnectionDetails, RegisterError, RegisterRequest};
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::Empty;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_rustls::TlsAcceptor;

use crate::connector::Way;
use crate::tap;

/// A running edge of somebody else.
#[derive(Debug)]
pub struct ForeignEdge {
    /// Where connectors reach it.
    pub address: SocketAddr,
    connections: Receiver<Connection>,
}

impl ForeignEdge {
    /// Starts one on a thread of its own, for the transport of a way to connect, with the authority of a data folder.
    ///
    /// # Panics
    /// When there is no port, or no authority in the folder.
    pub async fn start(way: Way, data: &Path) -> Self {
        let (tls, _) = tap::tls(data);
        let (registered, connections) = channel(16);
        let (bound, address) = tokio::sync::oneshot::channel();
        let is_quic = way.protocol() == "quic";
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                if is_quic {
                    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
                    let socket = adit_tunnel::quic::bind_udp(loopback, false).unwrap();
                    let server = adit_tunnel::quic::server(socket, tls.quic).unwrap();
                    bound.send(server.local_addr().unwrap()).unwrap();
                    while let Some(incoming) = server.accept().await {
                        let Ok(connection) = incoming.await else { continue };
                        let accepting = accept_quic(connection);
                        let registered = registered.clone();
                        tokio::task::spawn_local(
                            async move { serve(accepting.await.ok(), registered).await },
                        );
                    }
                } else {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    bound.send(listener.local_addr().unwrap()).unwrap();
                    while let Ok((stream, _)) = listener.accept().await {
                        let Ok(stream) = TlsAcceptor::from(tls.tcp.clone()).accept(stream).await else {
                            continue;
                        };
                        let registered = registered.clone();
                        let accepting = accept_h2(stream);
                        tokio::task::spawn_local(
                            async move { serve(accepting.await.ok(), registered).await },
                        );
                    }
                }
            });
        });
        Self { address: address.await.unwrap(), connections }
    }

    /// The next connection that registers.
    ///
    /// # Panics
    /// When the edge has ended.
    pub async fn connection(&mut self) -> Connection {
        self.connections.recv().await.expect("a connection")
    }
}

/// Sends a GET with this host and this target, as they stand, and returns the status.
///
/// # Errors
/// When the transport cannot carry it.
pub async fn get(connection: &Connection, host: &str, target: &str) -> Result<u16, SendError> {
    let head = RequestHead {
        kind: StreamKind::Http,
        method: &Method::GET,
        host,
        target,
        headers: &HeaderMap::new(),
        interim: None,
    };
    let answer = connection.send(head, &mut None::<Empty<Bytes>>).await?;
    Ok(answer.status().as_u16())
}

async fn serve(accepted: Option<Accepted>, registered: Sender<Connection>) {
    let Some(Accepted { connection, control }) = accepted else { return };
    let everybody = Everybody { connection: connection.clone(), registered: RefCell::new(Some(registered)) };
    tokio::select! {
        () = control.serve(Rc::new(everybody)) => {}
        _ = connection.closed() => {}
    }
}

/// Takes every registration.
struct Everybody {
    connection: Connection,
    registered: RefCell<Option<Sender<Connection>>>,
}

impl Registrar for Everybody {
    fn register(&self, _request: RegisterRequest) -> Result<ConnectionDetails, RegisterError> {
        if let Some(registered) = self.registered.take() {
            // The test may have what it wants already.
            drop(registered.try_send(self.connection.clone()));
        }
        Ok(ConnectionDetails::default())
    }

    fn local_configuration(&self, _json: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn unregister(&self) {}
}
