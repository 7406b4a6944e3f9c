//! The public data plane: from an accepted connection to an answer through a tunnel.
//!
//! The files stand in the order of a request: [`listener`] accepts, [`tls`] ends TLS, `serve` runs the stages, `route`
//! finds the tunnel, `upstream` asks a connection, `forward` carries heads and bodies, `rescue` turns errors into
//! answers, `record` writes what happened. Beside them, `join` takes tunnel connections in, [`registry`] holds
//! them, and `ports` leads bytes without HTTP through them.
//!
//! It knows no files, no YAML and no certificate authority: it is given a Snapshot and a table of certificates.

pub mod listener;

pub mod tls;

mod worker;

mod serve;

mod route;

mod upstream;

mod forward;

mod body;

mod rescue;

mod record;

mod join;

mod ports;

mod quick;

pub mod registry;

pub mod endpoints;

use std::sync::Arc;

use adit_policy::snapshot::Snapshot;
use adit_telemetry::access_log::AccessLog;
use adit_telemetry::metrics::EdgeMetrics;
use arc_swap::ArcSwap;

use crate::registry::Registry;
use crate::tls::CertTable;

/// What all workers share.
#[derive(Debug)]
pub struct Edge {
    /// Live tunnel connections and the routes that follow from them.
    pub registry: Registry,
    /// Certificates by name.
    pub certs: ArcSwap<CertTable>,
    /// Counters.
    pub metrics: EdgeMetrics,
    /// Access records.
    pub access_log: AccessLog,
    /// What connectors see as the place of this edge.
    pub location: String,
    /// Port that a redirect to HTTPS names; `None` for 443.
    pub https_port: Option<u16>,
    complaints: ports::Complaints,
}

impl Edge {
    /// An edge without connections.
    #[must_use]
    pub fn new(
        snapshot: Arc<Snapshot>,
        certs: CertTable,
        metrics: EdgeMetrics,
        access_log: AccessLog,
    ) -> Self {
        Self {
            registry: Registry::new(snapshot),
            certs: ArcSwap::from_pointee(certs),
            metrics,
            access_log,
            location: "edge".to_owned(),
            https_port: None,
            complaints: ports::Complaints::default(),
        }
    }
}
