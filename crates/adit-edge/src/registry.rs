//! Live tunnel connections, and the routes that follow from grants and claims.
//!
//! Requests read a [`View`]: one pointer load gives the Snapshot, the routes and the connections that belong together.
//! A view is built anew when a connection comes or goes, which is rare.

mod gates;
mod guests;
mod held;
mod pick;
mod words;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use adit_policy::host::{HostPattern, Hostname};
use adit_policy::ingress::{Claims, Gates, RuleOrder};
use adit_policy::limits::{CONNECTIONS_PER_CONNECTOR_MAX, CONNECTIONS_PER_TUNNEL_MAX};
use adit_policy::path::{PathRefusal, RequestPath};
use adit_policy::policy::Policies;
use adit_policy::route::{Claimant, Owners, Refusal, Route, RouteTable};
use adit_policy::snapshot::{Snapshot, TunnelId};
use adit_tunnel::edge::Connection;
use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;
use uuid::Uuid;

use gates::AllGates;
use gates::GatesOfTunnels;
pub(crate) use gates::read as read_gates;
pub use guests::Full;
use guests::Guest;
use held::HeldConfigurations;
pub use held::Versioned;
use pick::{Replica, Wanted};
pub(crate) use words::Speaker;
pub use words::Word;
use words::Words;

use crate::context::RequestContext;

/// Time in which a connector that was killed is noticed by its silence, at most.
const SUCCESSION: Duration = Duration::from_secs(30);

/// One live connection of a connector.
#[derive(Debug)]
pub struct Session {
    /// Id of this connection, in both logs.
    pub id: Uuid,
    /// Its tunnel.
    pub tunnel: TunnelId,
    /// The tunnel's name.
    pub tunnel_name: Arc<str>,
    /// The connector process.
    pub connector: Uuid,
    /// Which of the connector's connections it is.
    pub index: u8,
    /// The worker that owns it.
    pub worker: usize,
    /// The connection.
    pub connection: Connection,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// Since when.
    pub since: SystemTime,
    /// The connector's version.
    pub version: String,
    /// The connector's platform.
    pub arch: String,
    /// Whether it serves: one whose configuration the edge holds does once it has taken it.
    pub configured: AtomicBool,
    /// Whether the edge held rules for the tunnel when it registered.
    pub managed: bool,
    /// Whether it serves the rules of its own configuration, and takes none of the edge's.
    pub keeps_rules: AtomicBool,
}

impl Session {
    /// Whether requests may go to it.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.configured.load(Ordering::Relaxed)
    }

    /// Whether the rules that the edge holds are not taken there.
    #[must_use]
    pub fn keeps_rules(&self) -> bool {
        self.keeps_rules.load(Ordering::Relaxed)
    }
}

/// What a request sees.
#[derive(Debug)]
pub struct View {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// The routes.
    pub routes: RouteTable,
    /// How requests are treated, by name, where no rule of a connector says anything.
    pub policies: Policies,
    gates: GatesOfTunnels,
    /// The rules of connectors that look at paths, by tunnel.
    orders: HashMap<TunnelId, Vec<Arc<RuleOrder>>>,
    /// The connectors of tunnels whose rules say something.
    speakers: HashMap<TunnelId, Vec<Arc<Speaker>>>,
    live: HashMap<TunnelId, Vec<Replica>>,
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The connector has enough.
    #[error("a connector may have {CONNECTIONS_PER_CONNECTOR_MAX} connections")]
    ConnectorFull,
    /// The tunnel has enough.
    #[error("a tunnel may have {CONNECTIONS_PER_TUNNEL_MAX} connections")]
    TunnelFull,
}

/// All live connections.
#[derive(Debug)]
pub struct Registry {
    state: Mutex<State>,
    view: ArcSwap<View>,
    changed: watch::Sender<u64>,
    owned: watch::Sender<Owners>,
}

#[derive(Debug)]
struct State {
    /// The configuration.
    base: Arc<Snapshot>,
    /// The same with quick tunnels.
    snapshot: Arc<Snapshot>,
    guests: Vec<Guest>,
    /// In order of arrival.
    sessions: Vec<Arc<Session>>,
    /// What each connector said, in order of arrival; kept for the last one of a tunnel after it left.
    claims: Vec<Claimant>,
    refusals: Vec<Refusal>,
    /// What connectors say about requests for their names.
    words: Words,
    held: HeldConfigurations,
    /// Who keeps the names that several tunnels may claim.
    owners: Owners,
    /// Which rules of connectors check a token.
    gates: AllGates,
}

impl Registry {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        let mut held = HeldConfigurations::default();
        held.renew(&snapshot, SystemTime::now());
        let mut state = State {
            base: snapshot.clone(),
            snapshot,
            guests: Vec::new(),
            sessions: Vec::new(),
            claims: Vec::new(),
            refusals: Vec::new(),
            words: Words::default(),
            held,
            owners: Owners::default(),
            gates: AllGates::default(),
        };
        state.gates.renew(&state.snapshot.clone());
        let (view, _) = state.view();
        Self {
            state: Mutex::new(state),
            view: ArcSwap::from_pointee(view),
            changed: watch::Sender::new(0),
            owned: watch::Sender::new(Owners::default()),
        }
    }

    /// Takes over who owned which names before the edge started. For the start: before the first connection.
    pub fn remember(&self, owners: Owners) {
        let mut state = self.lock();
        state.owners = owners;
        self.publish(&mut state);
    }

    /// Who owns which names, now and whenever it changes.
    #[must_use]
    pub fn owners(&self) -> watch::Receiver<Owners> {
        self.owned.subscribe()
    }

    /// Takes a name away from the tunnel that owns it. Says whether it did.
    pub fn release(&self, tunnel: TunnelId, pattern: &HostPattern) -> bool {
        let mut state = self.lock();
        let State { owners, snapshot, claims, .. } = &mut *state;
        let released = owners.release(snapshot, tunnel, pattern, claims);
        self.publish(&mut state);
        released
    }

    /// What a request sees now.
    #[must_use]
    pub fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// Tells when a view was built anew.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts a new configuration in force. Connections of tunnels that are gone are closed.
    pub fn replace_snapshot(&self, snapshot: Arc<Snapshot>) {
        let mut state = self.lock();
        state.base = snapshot;
        self.renew(state);
    }

    fn renew(&self, mut state: MutexGuard<'_, State>) {
        let snapshot = state.with_guests();
        let sessions = std::mem::take(&mut state.sessions);
        let (kept, gone): (Vec<_>, Vec<_>) =
            sessions.into_iter().partition(|session| snapshot.tunnel(session.tunnel).is_some());
        state.sessions = kept;
        state.snapshot = snapshot.clone();
        state.held.renew(&snapshot, SystemTime::now());
        state.gates.renew(&snapshot);
        state.claims.retain(|claimant| snapshot.tunnel(claimant.tunnel).is_some());
        self.publish(&mut state);
        drop(state);
        for session in gone {
            session.connection.close("this tunnel was deleted at the edge");
        }
    }

    /// Takes a connection in. An older one of the same connector and index is replaced at once: its process has
    /// dialled again, so the old one is dead, whatever it looks like.
    ///
    /// # Errors
    /// [`JoinError`] when there are too many.
    pub fn join(&self, session: Arc<Session>) -> Result<(), JoinError> {
        let mut state = self.lock();
        let replaced = state.remove_slot(&session);
        state.check_room(&session)?;
        if !state.claims.iter().any(|claimant| claimant.connector == session.connector) {
            // What was remembered of the tunnel's last connector is out of date now.
            let live: Vec<Uuid> = state.sessions.iter().map(|session| session.connector).collect();
            state
                .claims
                .retain(|claimant| claimant.tunnel != session.tunnel || live.contains(&claimant.connector));
            state.claims.push(Claimant {
                tunnel: session.tunnel,
                connector: session.connector,
                claims: None,
            });
        }
        state.sessions.push(session);
        self.publish(&mut state);
        drop(state);
        // One that drains has said goodbye already: its last requests may finish.
        if let Some(replaced) = replaced.filter(|replaced| !replaced.connection.is_draining()) {
            replaced.connection.close("replaced by a newer connection of the same connector");
        }
        Ok(())
    }

    /// Records what a connector serves, how it wants requests to be treated, and which of its rules check a token; the answer
    /// lists what it does not get.
    pub fn claim(
        &self,
        tunnel: TunnelId,
        connector: Uuid,
        claims: Claims,
        (word, gates): (Word, Option<Gates>),
    ) -> Vec<Refusal> {
        let mut state = self.lock();
        state.words.hear(connector, word);
        state.gates.hear(connector, gates);
        let claimant = Claimant { tunnel, connector, claims: Some(claims) };
        let known =
            state.claims.iter_mut().find(|known| known.tunnel == tunnel && known.connector == connector);
        let before = match known {
            Some(known) => Some(std::mem::replace(known, claimant)),
            None => {
                state.claims.push(claimant);
                None
            }
        };
        let State { owners, snapshot, claims, .. } = &mut *state;
        owners.hear(snapshot, (tunnel, connector), before.as_ref(), claims);
        self.publish(&mut state);
        state
            .refusals
            .iter()
            .filter(|refusal| (refusal.tunnel(), refusal.connector()) == (tunnel, connector))
            .cloned()
            .collect()
    }

    /// The configuration that a connection of the tunnel has to have. A connection that was given one (`pushed` is its
    /// version) gets an empty one once the edge holds none any more: it does not go on with rules that are not in force.
    #[must_use]
    pub fn held(&self, tunnel: TunnelId, pushed: Option<i32>) -> Option<Versioned> {
        let state = self.lock();
        state.held.of(tunnel).or_else(|| state.held.released(tunnel).filter(|_| pushed.is_some()))
    }

    /// Notes that a connection serves rules of its own. Whether that is news.
    pub fn mark_own_rules(&self, session: &Session) -> bool {
        let news = !session.keeps_rules.swap(true, Ordering::Relaxed);
        if news {
            self.mark_configured(session);
        }
        news
    }

    /// Lets requests go to a connection that has taken its configuration; whoever waits for one is told.
    pub fn mark_configured(&self, session: &Session) {
        if !session.configured.swap(true, Ordering::Relaxed) {
            self.changed.send_modify(|generation| *generation += 1);
        }
    }

    /// Takes a connection out.
    pub fn leave(&self, id: Uuid) {
        let mut state = self.lock();
        let Some(at) = state.sessions.iter().position(|session| session.id == id) else { return };
        let session = state.sessions.remove(at);
        if !session.connection.is_draining() {
            state.note_successors(&session);
        }
        state.forget_absent();
        self.publish(&mut state);
    }

    /// Closes every connection. Connectors dial again, or another edge.
    pub fn close_all(&self, reason: &str) {
        for session in self.sessions() {
            session.connection.close(reason);
        }
    }

    /// All live connections, in order of arrival.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.clone()
    }

    /// Claims that are not honoured now.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        self.lock().refusals.clone()
    }

    fn publish(&self, state: &mut State) {
        let State { words, claims, owners, snapshot, .. } = &mut *state;
        words.keep(claims);
        owners.renew(snapshot);
        let (view, refusals) = state.view();
        state.refusals = refusals;
        let State { owners, snapshot, claims, .. } = &mut *state;
        owners.note(snapshot, &view.routes, claims);
        self.owned.send_if_modified(|known| {
            let is_new = *known != state.owners;
            if is_new {
                known.clone_from(&state.owners);
            }
            is_new
        });
        self.view.store(Arc::new(view));
        self.changed.send_modify(|generation| *generation += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn view(&mut self) -> (View, Vec<Refusal>) {
        let (routes, refusals) = RouteTable::build(&self.snapshot, &self.claims, &self.owners);
        let mut live: HashMap<TunnelId, Vec<Replica>> = HashMap::new();
        for session in &self.sessions {
            pick::add(live.entry(session.tunnel).or_default(), session);
        }
        let policies = Policies::of(self.snapshot.defaults(), self.snapshot.layers());
        let speakers = self.words.speakers(&self.snapshot, &self.claims);
        let gates = self.gates.keep(&self.claims);
        let orders = self.words.orders(&self.snapshot, &self.claims);
        (View { snapshot: self.snapshot.clone(), routes, policies, gates, orders, speakers, live }, refusals)
    }

    fn remove_slot(&mut self, new: &Session) -> Option<Arc<Session>> {
        let same = |old: &Arc<Session>| {
            (old.tunnel, old.connector, old.index) == (new.tunnel, new.connector, new.index)
        };
        let at = self.sessions.iter().position(same)?;
        Some(self.sessions.remove(at))
    }

    fn check_room(&self, new: &Session) -> Result<(), JoinError> {
        let of_tunnel = self.sessions.iter().filter(|old| old.tunnel == new.tunnel);
        if of_tunnel.clone().filter(|old| old.connector == new.connector).count()
            >= CONNECTIONS_PER_CONNECTOR_MAX
        {
            return Err(JoinError::ConnectorFull);
        }
        if of_tunnel.count() >= CONNECTIONS_PER_TUNNEL_MAX {
            return Err(JoinError::TunnelFull);
        }
        Ok(())
    }

    /// The last connection of a connector was cut off: those that came just before it was noticed may have taken its place.
    fn note_successors(&mut self, cut_off: &Session) {
        let of_tunnel = |session: &&Arc<Session>| session.tunnel == cut_off.tunnel;
        if self.sessions.iter().filter(of_tunnel).any(|session| session.connector == cut_off.connector) {
            return;
        }
        let (gone, left): (Vec<Claimant>, Vec<Claimant>) =
            self.claims.iter().cloned().partition(|claimant| claimant.connector == cut_off.connector);
        let is_new = |session: &&Arc<Session>| session.since.elapsed().is_ok_and(|time| time < SUCCESSION);
        for session in self.sessions.iter().filter(of_tunnel).filter(is_new) {
            for gone in &gone {
                self.owners.succeed(&self.snapshot, gone, session.connector, &left);
            }
        }
    }

    /// Drops the claims of connectors that left, but for the last of a tunnel: its names stay known, so that their
    /// visitors get an honest page while home is away.
    fn forget_absent(&mut self) {
        let live: Vec<(TunnelId, Uuid)> =
            self.sessions.iter().map(|session| (session.tunnel, session.connector)).collect();
        self.claims.retain(|claimant| {
            let tunnel_lives = live.iter().any(|(tunnel, _)| *tunnel == claimant.tunnel);
            live.contains(&(claimant.tunnel, claimant.connector)) || !tunnel_lives
        });
    }
}

impl View {
    /// Whether a request may meet a rule of its tunnel that checks a token: nothing of that is kept. `path` is in its normal
    /// form.
    #[must_use]
    pub fn is_gated(&self, tunnel: TunnelId, host: &Hostname, path: &str) -> bool {
        gates::include(&self.gates, tunnel, host, path)
    }

    /// The best connection of a route for a request or a stream, of those that were not tried; `None` when there is none.
    /// Where a speaker's rules judge the request, it goes to one of his connectors.
    pub(crate) fn pick(
        &self,
        route: &Route,
        speaker: Option<&Speaker>,
        request: &RequestContext,
        udp: bool,
        tried: &[Uuid],
    ) -> Option<Arc<Session>> {
        pick::pick(self.live.get(&route.tunnel)?, route, Wanted { request, speaker, udp, tried }).cloned()
    }

    /// Checks that the connectors of a route choose the same rule in every reading of a path. Ours refuse by themselves;
    /// a stock cloudflared does not.
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if one of them might not.
    pub fn check_path(
        &self,
        route: &Route,
        host: &Hostname,
        path: &RequestPath<'_>,
    ) -> Result<(), PathRefusal> {
        self.orders.get(&route.tunnel).into_iter().flatten().try_for_each(|order| order.check(host, path))
    }
}
