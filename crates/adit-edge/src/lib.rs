//! The public data plane: from an accepted connection to an answer through a tunnel.
//!
//! The files stand in the order of a request: [`listener`] accepts, `reception` finds out whose a connection is and what
//! it speaks, [`tls`] ends TLS, `visitor` speaks HTTP, `serve` runs the stages over a `context`, `route`
//! finds the tunnel, `upstream` asks a connection, `forward` carries heads and bodies, `rescue` turns errors into
//! answers, `record` writes what happened. Beside them, `join` takes tunnel connections in, [`registry`] holds
//! them, `ports` leads bytes without HTTP through them, and `passthrough` TLS that is not ours to read; `stream` takes
//! both through the gate that requests pass.
//!
//! It knows no files, no YAML and no certificate authority: it is given a Snapshot and a table of certificates.

pub mod listener;

mod reception;

mod gone;

mod rewind;

mod gate;

mod interim;

mod linger;

pub mod tls;

mod worker;

mod visitor;

mod context;

mod http3;

mod serve;

mod fields;

mod route;

mod upstream;

pub mod guard;

mod limit;

pub mod purge;

mod act;

mod cache;

mod forward;

mod body;

mod pace;

pub mod capacity;

mod running;

mod calm;

mod compress;

mod rescue;

mod record;

mod join;

mod complaints;

mod ports;

mod stream;

mod passthrough;

mod quick;

pub mod registry;

pub mod endpoints;

use std::sync::Arc;

use adit_cache::Store;
use adit_policy::policy::Layer;
use adit_policy::snapshot::Snapshot;
use adit_telemetry::access_log::AccessLog;
use adit_telemetry::metrics::EdgeMetrics;
use http::HeaderValue;

use crate::registry::Registry;
use crate::tls::{CertTable, Tls};

/// Reads what a connector says about requests for a name: `edge` beside a rule, in JSON. The error is for its author.
pub type PolicyReader = fn(&serde_json::Value) -> Result<Layer, String>;

/// What all workers share.
#[derive(Debug)]
pub struct Edge {
    /// Live tunnel connections and the routes that follow from them.
    pub registry: Registry,
    /// Certificates by name, and what else handshakes are made from.
    pub tls: Tls,
    /// Counters.
    pub metrics: EdgeMetrics,
    /// Access records.
    pub access_log: AccessLog,
    /// What connectors see as the place of this edge.
    pub location: String,
    /// Port that a redirect to HTTPS names; `None` for 443.
    pub https_port: Option<u16>,
    /// Where browsers find HTTP/3 (RFC 7838); `None` if it is off.
    pub alt_svc: Option<HeaderValue>,
    /// Reads what connectors say about requests.
    pub read_policy: PolicyReader,
    /// Whom the edge keeps out.
    pub doors: guard::Doors,
    limits: limit::Limits,
    /// How many connections and requests there are.
    pub capacity: Arc<capacity::Capacity>,
    /// What is kept of origins' answers; `None` for nothing.
    pub cache: Option<Arc<Store>>,
    flights: cache::Flights,
    encoders: Arc<compress::EncoderRoom>,
    gated: cache::Gated,
    complaints: complaints::Complaints,
}

impl Edge {
    /// An edge without connections.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        snapshot: Arc<Snapshot>,
        certs: CertTable,
        metrics: EdgeMetrics,
        access_log: AccessLog,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: Tls::new(certs, snapshot.hosts())?,
            registry: Registry::new(snapshot),
            metrics,
            access_log,
            location: "edge".to_owned(),
            https_port: None,
            alt_svc: None,
            read_policy: |_| Err("this edge reads no policies of connectors".to_owned()),
            doors: guard::Doors::default(),
            limits: limit::Limits::default(),
            capacity: Arc::default(),
            cache: None,
            flights: cache::Flights::default(),
            encoders: Arc::default(),
            gated: cache::Gated::default(),
            complaints: complaints::Complaints::default(),
        })
    }

    /// Puts a new configuration in force: for handshakes and requests from now on.
    pub fn replace_snapshot(&self, snapshot: Arc<Snapshot>) {
        self.tls.set_policies(snapshot.hosts());
        self.registry.replace_snapshot(snapshot);
    }
}
