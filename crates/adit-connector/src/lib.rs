//! The private data plane: it dials edges, and answers the streams that they open from origins at home.
//!
//! The files stand in the order of a stream: [`session`] dials and registers, `serve` takes a stream through the
//! stages, `ingress` finds the rule, `access` checks its token, `balance` chooses, `origin` asks the service, `rescue`
//! turns errors into answers, `record` counts and logs. Beside the rules, `private` opens raw TCP and UDP. It opens no listening socket.

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

mod restarts;

pub mod given;

pub mod status;

pub mod quick;

pub mod endpoints;

use std::sync::Arc;
use std::time::Duration;

use adit_policy::ingress::{Ingress, Service};
use adit_telemetry::metrics::ConnectorMetrics;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use uuid::Uuid;

use crate::access::Issuers;
use crate::balance::InForce;
use crate::given::Given;
use crate::restarts::Restarts;
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
    /// Fields that every origin gets (`tag`), as names and values.
    tags: Vec<(String, String)>,
    /// Certificates that come by themselves; empty until somebody asks for them.
    pub given: Option<Given>,
    issuers: Issuers,
    flows: private::Flows,
    /// Says that other rules are in force.
    changed: watch::Sender<()>,
    /// Connections that are to be made anew.
    restarts: Restarts,
}

impl Connector {
    /// A connector with these rules. Origins are told the tags, names and values, as `Cf-Warp-Tag-NAME` (cloudflared:
    /// `proxy.appendTagHeaders`).
    #[must_use]
    pub fn new(ingress: Ingress, metrics: ConnectorMetrics, tags: &[(String, String)]) -> Arc<Self> {
        say_hello(&ingress);
        let field = |(name, value): &(String, String)| (format!("Cf-Warp-Tag-{name}"), value.clone());
        Arc::new(Self {
            tags: tags.iter().map(field).collect(),
            id: Uuid::new_v4(),
            rules: ArcSwap::from_pointee(InForce::new(ingress)),
            metrics,
            status: Status::default(),
            given: Given::new().ok(),
            issuers: Issuers::default(),
            flows: private::Flows::default(),
            changed: watch::Sender::new(()),
            restarts: Restarts::default(),
        })
    }

    /// Has one connection end, and made anew after the pause (cloudflared's `stdin-control`).
    pub fn restart_connection(&self, pause: Duration) {
        self.restarts.ask(pause);
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
        say_hello(&rules);
        self.rules.store(Arc::new(InForce::after(rules, &self.rules.load())));
        self.changed.send_replace(());
        Ok(count)
    }

    /// Hears of other rules.
    fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// cloudflared starts a server for it, and people wait for its line.
fn say_hello(ingress: &Ingress) {
    if ingress.rules.iter().any(|rule| rule.service == Service::HelloWorld) {
        tracing::info!("Starting Hello World page");
    }
}
