//! The private data plane: it dials edges, and answers the streams that they open from origins at home.
//!
//! The files stand in the order of a stream: [`session`] dials and registers, `serve` takes a stream through the
//! stages, `ingress` finds the rule, `origin` asks the service, `rescue` turns errors into answers, `record` counts and
//! logs. It opens no listening socket.

pub mod session;

pub mod remote;

mod dialler;

mod serve;

mod ingress;

mod origin;

mod hello;

mod rescue;

mod record;

pub mod status;

pub mod endpoints;

use std::sync::Arc;

use adit_policy::ingress::Ingress;
use adit_telemetry::metrics::ConnectorMetrics;
use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::status::Status;

/// What all workers of a connector share.
#[derive(Debug)]
pub struct Connector {
    /// Id of this process at the edge.
    pub id: Uuid,
    /// The rules in force; a stream keeps those that it started with.
    pub ingress: ArcSwap<Ingress>,
    /// Counters.
    pub metrics: ConnectorMetrics,
    /// Connections, version, faults.
    pub status: Status,
}

impl Connector {
    /// A connector with these rules.
    #[must_use]
    pub fn new(ingress: Ingress, metrics: ConnectorMetrics) -> Arc<Self> {
        Arc::new(Self {
            id: Uuid::new_v4(),
            ingress: ArcSwap::from_pointee(ingress),
            metrics,
            status: Status::default(),
        })
    }

    /// Puts new rules in force, or notes why they are refused: then the last good ones stay. Running streams keep theirs.
    ///
    /// # Errors
    /// The refusal, handed through.
    pub fn take_rules(&self, rules: Result<Ingress, String>) -> Result<usize, String> {
        self.metrics.config_reloaded.set(rules.is_ok().into());
        self.status.changed(rules.as_ref().err().cloned());
        let rules = rules?;
        let count = rules.rules.len();
        self.ingress.store(Arc::new(rules));
        Ok(count)
    }
}
