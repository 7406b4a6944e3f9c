//! An edge without sockets, and requests on it that went through the stages as any other: their tests make no proof by hand.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use adit_policy::grant::Grant;
use adit_policy::host::{HostPattern, Hostname};
use adit_policy::policy::{Layer, Layers, Patch};
use adit_policy::snapshot::{HttpMode, Snapshot, Tunnel, TunnelId, TunnelSecret};
use adit_telemetry::access_log::{AccessLog, Output};
use adit_telemetry::metrics::EdgeMetrics;
use http::HeaderMap;
use uuid::Uuid;

use super::RequestContext;
use crate::Edge;
use crate::rescue::Problem;
use crate::route::{self, Routed};
use crate::tls::CertTable;
use crate::visitor::Client;
use crate::worker::Worker;

/// The one tunnel of the snapshots here. It has `*.x.example` and the granted name `a.x.example`.
pub(crate) const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));

/// A configuration with one tunnel, where `patch` is said about `a.x.example`.
pub(crate) fn snapshot(patch: Patch) -> Snapshot {
    let patterns = ["*.x.example", "a.x.example"].map(|text| HostPattern::parse(text).unwrap());
    let tunnel = Tunnel {
        id: TUNNEL,
        name: "home".to_owned(),
        secret: TunnelSecret::new(vec![1; 32]),
        account_tag: None,
        grant: Grant::new(patterns.clone()),
        held: None,
    };
    let mut hostnames = Layers::default();
    hostnames.add(&patterns[1], Layer { base: patch, paths: Vec::new() });
    Snapshot::new(Hostname::parse("x.example").unwrap(), HttpMode::Serve, vec![tunnel])
        .with_layers(Layer::default(), hostnames)
}

/// A worker of an edge with this configuration.
pub(crate) fn worker(snapshot: Snapshot) -> Rc<Worker> {
    let log = AccessLog::open(&Output::Off).unwrap();
    let edge = Edge::new(Arc::new(snapshot), CertTable::default(), EdgeMetrics::new("test"), log).unwrap();
    Rc::new(Worker::new(Arc::new(edge), 0, 1))
}

/// A request from an address for a URL.
pub(crate) fn request(worker: &Rc<Worker>, ip: &str, url: &str) -> RequestContext {
    let ip: IpAddr = ip.parse().unwrap();
    let client = Client { ip, scheme: "http", proxied: false };
    let (worker, id) = (worker.clone(), worker.next_id());
    RequestContext { worker, client, tls: None, id, target: url.parse().unwrap(), is_websocket: false }
}

/// The same request after the first stage.
///
/// # Errors
/// As for [`route::route`].
pub(crate) fn routed(worker: &Rc<Worker>, ip: &str, url: &str) -> Result<Routed, Problem> {
    let view = worker.edge.registry.view().clone();
    route::route(request(worker, ip, url), view, &HeaderMap::new())
}
