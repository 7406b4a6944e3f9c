//! Ports without HTTP: each leads to an address behind a tunnel. They open and close with the configuration.

mod tcp;
mod udp;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use adit_policy::port::Port;
use tokio::task::{AbortHandle, spawn_local};

use crate::Edge;
use crate::listener::{BindError, PortSocket, accept_tcp, bind_port};
use crate::rescue::Problem;
use crate::worker::Worker;

pub(crate) use tcp::serve as serve_tcp;

/// Counts a visitor whom a port led nowhere, and says so now and then.
fn failed(edge: &Edge, remote: SocketAddr, port: &Port, cause: &str) {
    edge.metrics.port_failures.inc();
    if edge.complaints.may() {
        let (protocol, tunnel, to) = (port.protocol, &port.tunnel, port.to);
        tracing::warn!(%remote, %protocol, tunnel, %to, cause, "port leads nowhere");
    }
}

/// Says why a visitor of a port may not come. Where nothing is spoken that the edge knows, no answer can say so.
fn refused(remote: SocketAddr, port: &Port, problem: &Problem) {
    let (protocol, tunnel, to) = (port.protocol, &port.tunnel, port.to);
    tracing::debug!(%remote, %protocol, tunnel, %to, reason = problem.code(), "port refused");
}

/// Who gets accepted streams.
pub(crate) type Deal = Arc<dyn Fn(std::net::TcpStream, SocketAddr, Arc<Port>)>;

/// A port that is open; it closes when it is dropped.
struct Open(AbortHandle);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps open what the configuration names, for ever. Run it on the first worker.
pub(crate) async fn run(worker: Rc<Worker>, deal: Deal) {
    let edge = &worker.edge;
    let mut changes = edge.registry.watch();
    let mut open: HashMap<Port, Open> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let snapshot = edge.registry.view().snapshot.clone();
        open.retain(|port, _| snapshot.ports().contains(port));
        for port in snapshot.ports() {
            if !open.contains_key(port)
                && let Some(opened) = start(&worker, port, &deal)
            {
                open.insert(port.clone(), opened);
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A port that cannot be had costs that port; the next change tries again.
fn start(worker: &Rc<Worker>, port: &Port, deal: &Deal) -> Option<Open> {
    match try_start(worker, port, deal) {
        Ok((open, listen)) => {
            tracing::info!(%listen, protocol = %port.protocol, tunnel = port.tunnel, to = %port.to, "port is open");
            Some(open)
        }
        Err(error) => {
            tracing::error!(%error, tunnel = port.tunnel, "port is not open");
            None
        }
    }
}

fn try_start(worker: &Rc<Worker>, port: &Port, deal: &Deal) -> Result<(Open, SocketAddr), BindError> {
    let bound = bind_port(port)?;
    let (listen, shared) = (bound.address, Arc::new(port.clone()));
    let task = match bound.socket {
        PortSocket::Tcp(listener) => {
            let deal = deal.clone();
            spawn_local(accept_tcp(listener, move |stream, remote| deal(stream, remote, shared.clone())))
        }
        PortSocket::Udp(socket) => spawn_local(udp::serve(worker.clone(), socket, shared)),
    };
    Ok((Open(task.abort_handle()), listen))
}
