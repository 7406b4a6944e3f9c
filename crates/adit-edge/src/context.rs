//! What is known about one request, or one stream of bytes, besides where it goes. It is made once, and travels inside the
//! proof of the stage that the request has reached.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use adit_telemetry::record::hex;
use http::Uri;

use crate::Edge;
use crate::tls::Identity;
use crate::visitor::{Client, Secured, Visitor};
use crate::worker::Worker;

/// One request or stream: who sent it, how it came, and which worker serves it.
#[derive(Clone)]
pub(crate) struct RequestContext {
    /// The worker that serves it.
    pub(crate) worker: Rc<Worker>,
    /// Who sent it.
    pub(crate) client: Client,
    /// How the connection is encrypted at this edge; `None` if it is not, or if its TLS ends elsewhere.
    pub(crate) tls: Option<Rc<Secured>>,
    /// The id in logs and for origins.
    pub(crate) id: u128,
    /// The target as the client requested it, before any rewriting.
    pub(crate) target: Uri,
    /// Whether it asks for a WebSocket.
    pub(crate) is_websocket: bool,
}

impl RequestContext {
    /// Makes the context of an HTTP request.
    pub(crate) fn of_request(visitor: &Visitor, client: Client, target: Uri, is_websocket: bool) -> Self {
        let worker = visitor.worker.clone();
        let id = worker.next_id();
        Self { worker, client, tls: visitor.tls.clone(), id, target, is_websocket }
    }

    /// Makes the context of a stream or of datagrams that the edge does not read.
    pub(crate) fn of_stream(worker: &Rc<Worker>, ip: IpAddr, scheme: &'static str) -> Self {
        let client = Client { ip, scheme, proxied: false };
        let (worker, id) = (worker.clone(), worker.next_id());
        Self { worker, client, tls: None, id, target: Uri::default(), is_websocket: false }
    }

    /// The edge that serves it.
    pub(crate) fn edge(&self) -> &Arc<Edge> {
        &self.worker.edge
    }

    /// The certificate that the client showed.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.tls.as_ref()?.identity()
    }

    /// The id as text, in hexadecimal.
    pub(crate) fn id_text(&self) -> [u8; 32] {
        hex(self.id)
    }

    /// A number for taking turns between connectors that are equally busy.
    pub(crate) fn turn(&self) -> usize {
        self.id as usize
    }

    /// Path and query as the client requested them.
    pub(crate) fn path_and_query(&self) -> &str {
        self.target.path_and_query().map_or("/", |target| target.as_str())
    }
}

#[cfg(test)]
pub(crate) mod fixture;
