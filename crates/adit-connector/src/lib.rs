//! The private data plane: it dials edges, and answers the streams that they open from origins at home.
//!
//! The files stand in the order of a stream: [`session`] dials and registers, `serve` takes a stream through the
//! stages, `ingress` finds the rule, `access` checks its token, `balance` chooses, `origin` asks the service, `rescue` turns errors into answers, `record` counts and
//! logs. It opens no listening socket.

pub mod session;

pub mod remote;

mod dialler;

mod serve;

mod ingress;

mod access;

pub mod balance;

mod health;

mod idle;

mod origin;

mod private;

mod hello;

mod rescue;

mod record;

pub mod status;

pub mod endpoints;

use std::sync::Arc;

use adit_policy::ingress::Ingress;
use adit_telemetry::metrics::ConnectorMetrics;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use uuid::Uuid;

use crate::access::Issuers;
use crate::balance::InForce;
use crate::status::Status;

/// What all workers of a connector share.
#[derive(Debug)]
pub struct Connector {
    /// Id of this process at the edge.
    pub id: Uuid,
    /// The rules in force; a stream keeps those that it started with.
    pub rules: ArcSwap<InForce>,
    /// Counters.
    pub metrics: ConnectorMetrics,
    /// Connections, version, faults.
    pub status: Status,
    issuers: Issuers,
    flows: private::Flows,
    /// Says that other rules are in force.
    changed: watch::Sender<()>,
}

impl Connector {
    /// A connector with these rules.
    #[must_use]
    pub fn new(ingress: Ingress, metrics: ConnectorMetrics) -> Arc<Self> {
        Arc::new(Self {
            id: Uuid::new_v4(),
            rules: ArcSwap::from_pointee(InForce::new(ingress)),
            metrics,
            status: Status::default(),
            issuers: Issuers::default(),
            flows: private::Flows::default(),
            changed: watch::Sender::new(()),
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
        self.rules.store(Arc::new(InForce::after(rules, &self.rules.load())));
        self.changed.send_replace(());
        Ok(count)
    }

    /// Hears of other rules.
    fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
