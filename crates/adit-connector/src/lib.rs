//! The private data plane: it dials edges, and answers the streams that they open from origins at home.
//!
//! The files stand in the order of a stream: [`session`] dials and registers, `serve` takes a stream through the
//! stages, `ingress` finds the rule, `access` checks its token, `balance` chooses, `origin` asks the service, `rescue`
//! turns errors into answers, `record` counts and logs. Beside the rules, `private` opens raw TCP and UDP. It opens no listening socket.

pub mod session;

pub mod consent;

pub mod remote;

mod dialler;

mod limits;

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

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_policy::ingress::{Ingress, Service};
use adit_telemetry::metrics::ConnectorMetrics;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use uuid::Uuid;

use crate::access::Issuers;
use crate::balance::InForce;
use crate::consent::Consent;
use crate::given::Given;
use crate::restarts::Restarts;
use crate::status::{NOT_PUSHED, Status};

/// What all workers of a connector share.
#[derive(Debug)]
pub struct Connector {
    /// Id of this process at the edge.
    pub id: Uuid,
    /// The rules in force; a stream keeps those that it started with.
    pub rules: ArcSwap<InForce>,
    /// What the own side says.
    consent: ArcSwap<Consent>,
    /// Rules of the edge as it pushed them, while they are in force.
    pushed: Mutex<Option<Ingress>>,
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
    /// A connector whose own side says this. Origins are told the tags, names and values, as `Cf-Warp-Tag-NAME` (cloudflared:
    /// `proxy.appendTagHeaders`).
    #[must_use]
    pub fn new(consent: Consent, metrics: ConnectorMetrics, tags: &[(String, String)]) -> Arc<Self> {
        let ingress = consent.base();
        say_hello(&ingress);
        let field = |(name, value): &(String, String)| (format!("Cf-Warp-Tag-{name}"), value.clone());
        Arc::new(Self {
            tags: tags.iter().map(field).collect(),
            id: Uuid::new_v4(),
            rules: ArcSwap::from_pointee(InForce::new(ingress)),
            consent: ArcSwap::from_pointee(consent),
            pushed: Mutex::default(),
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

    /// Puts in force what the own side says now, or notes why it is refused: then the last good word stays. Rules of the
    /// edge stay where they are still accepted. Running streams keep the rules that they began with.
    ///
    /// # Errors
    /// The refusal, handed through.
    pub fn configure(&self, consent: Result<Consent, String>) -> Result<usize, String> {
        self.note(consent.as_ref().err());
        let consent = consent?;
        let mut pushed = self.pushed();
        let kept = pushed.take().and_then(|rules| match consent.judge(rules.clone()) {
            Ok(judged) => Some((rules, judged)),
            Err(error) => {
                tracing::warn!(error, "rules of the edge are no longer taken");
                None
            }
        });
        let ingress = match kept {
            Some((rules, judged)) => {
                *pushed = Some(rules);
                judged
            }
            None => {
                self.status.set_version(NOT_PUSHED);
                consent.base()
            }
        };
        self.consent.store(Arc::new(consent));
        Ok(self.put_in_force(ingress))
    }

    /// Puts rules of the edge in force, inside of what the own side accepts; else the last good ones stay.
    ///
    /// # Errors
    /// Why they are not taken.
    pub(crate) fn take_pushed(&self, version: i32, rules: Result<Ingress, String>) -> Result<usize, String> {
        let mut pushed = self.pushed();
        let consent = self.consent.load();
        let judged = rules.and_then(|rules| Ok((rules.clone(), consent.judge(rules)?)));
        self.note(judged.as_ref().err());
        let (rules, ingress) = judged?;
        *pushed = Some(rules);
        self.status.set_version(version);
        Ok(self.put_in_force(ingress))
    }

    /// Takes the edge's rules out of force, when no edge holds any for this tunnel.
    pub(crate) fn release(&self) {
        let mut pushed = self.pushed();
        if pushed.take().is_some() {
            tracing::info!(
                "the edge holds no rules for this tunnel any more; what its own configuration says is in force"
            );
            self.status.set_version(NOT_PUSHED);
            self.put_in_force(self.consent.load().base());
        }
    }

    /// Whether rules of an edge are taken at all.
    pub(crate) fn takes_rules(&self) -> bool {
        self.consent.load().takes_rules()
    }

    fn note(&self, fault: Option<&String>) {
        self.metrics.config_reloaded.set(fault.is_none().into());
        self.status.changed(fault.cloned());
    }

    fn put_in_force(&self, rules: Ingress) -> usize {
        let count = rules.rules.len();
        say_hello(&rules);
        self.rules.store(Arc::new(InForce::after(rules, &self.rules.load())));
        self.changed.send_replace(());
        count
    }

    fn pushed(&self) -> MutexGuard<'_, Option<Ingress>> {
        self.pushed.lock().unwrap_or_else(PoisonError::into_inner)
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
