//! Tunnel connections come in: registration against the Snapshot, claims against the grant, and out again.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use adit_policy::ingress::Claims;
use adit_policy::snapshot::TunnelId;
use adit_telemetry::metrics::GaugeGuard;
use adit_tunnel::Protocol;
use adit_tunnel::control::server::Registrar;
use adit_tunnel::edge::{Accepted, Connection, Control};
use adit_wire::configuration::Configuration;
use adit_wire::features::{ALLOW_REMOTE_CONFIG, Extensions, datagram_version};
use adit_wire::registration::{ConnectionDetails, RegisterError, RegisterRequest};
use uuid::Uuid;

use crate::Edge;
use crate::registry::{Session, Versioned, read_gates};

mod words;

/// Time to register after the handshake.
const REGISTER_TIMEOUT: Duration = adit_tunnel::limits::REGISTER_TIMEOUT;

/// Pause before a push that failed is tried again.
const PUSH_RETRY: Duration = Duration::from_secs(3);

/// Pause before the connection of a refused registration is closed, so that the answer arrives first.
const REFUSAL_LINGER: Duration = Duration::from_millis(200);

/// Serves one tunnel connection to its end.
pub(crate) async fn serve(edge: Arc<Edge>, worker: usize, remote: SocketAddr, accepted: Accepted) {
    let Accepted { connection, control } = accepted;
    let join = Rc::new(Join::new(edge, worker, remote, connection.clone()));
    tokio::select! {
        // The end shows in several ways at once; this one has the cause for the log.
        biased;
        cause = connection.closed() => join.ended(&cause.to_string()),
        cause = join.serve_control(control) => join.ended(cause),
        () = join.give_up() => {}
        () = connection.watch_health() => {}
        () = connection.serve_datagrams() => {}
        () = join.drained() => {}
        () = join.push() => {}
    }
    connection.close(&join.last_words());
}

/// The decisions about one connection.
struct Join {
    edge: Arc<Edge>,
    worker: usize,
    remote: SocketAddr,
    connection: Connection,
    state: RefCell<State>,
    /// Told when the state changes in a way that somebody waits for.
    changed: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    refused: Option<String>,
    counted: Option<GaugeGuard>,
}

impl Join {
    fn new(edge: Arc<Edge>, worker: usize, remote: SocketAddr, connection: Connection) -> Self {
        Self {
            edge,
            worker,
            remote,
            connection,
            state: RefCell::default(),
            changed: tokio::sync::Notify::new(),
        }
    }

    /// Answers the calls of the control stream, and resolves with the reason why the connection is over because of it.
    ///
    /// cloudflared closes its control stream as soon as its `UnregisterConnection` is answered, and keeps the connection
    /// for the requests in flight (cloudflared: `connection/control.go`, `waitForUnregister`). The end of the stream is
    /// the end of the connection only without that call; with it, [`Self::drained`] ends the connection.
    async fn serve_control(self: &Rc<Self>, control: Control) -> &'static str {
        control.serve(self.clone()).await;
        if self.connection.is_draining() {
            "the requests in flight did not end within the longest grace period"
        } else {
            "the control stream ended"
        }
    }

    /// Resolves when no registration came in time, or it was refused and the answer is out.
    async fn give_up(&self) {
        // The notice of a refusal ends the wait early; a registration lets it run out harmlessly.
        drop(tokio::time::timeout(REGISTER_TIMEOUT, self.changed.notified()).await);
        if self.state.borrow().session.is_some() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(REFUSAL_LINGER).await;
    }

    /// Resolves when the connector has unregistered and its last request is answered.
    async fn drained(&self) {
        while !self.connection.is_draining() {
            self.changed.notified().await;
        }
        self.connection.idle().await;
        // The answer to the unregister call goes out first.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Pushes the configuration that the edge holds for the tunnel, now and whenever it changes. Never resolves.
    async fn push(&self) {
        let mut changes = self.edge.registry.watch();
        let (mut pushed, mut failed): (Option<i32>, bool) = (None, false);
        loop {
            changes.borrow_and_update();
            let session = self.state.borrow().session.clone().filter(|session| !session.keeps_rules());
            let held = session.as_ref().and_then(|session| self.edge.registry.held(session.tunnel, pushed));
            if let (Some(session), Some(held)) = (session, held)
                && pushed != Some(held.version)
            {
                failed = !self.push_once(&session, &held).await;
                pushed = if failed { pushed } else { Some(held.version) };
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = tokio::time::sleep(PUSH_RETRY), if failed => {}
            }
        }
    }

    /// Whether the connector answered, be it with a refusal.
    async fn push_once(&self, session: &Session, held: &Versioned) -> bool {
        let (tunnel, version) = (&*session.tunnel_name, held.version);
        let applied = match session.connection.push_configuration(version, &held.json).await {
            Ok(applied) => applied,
            Err(error) => {
                tracing::warn!(tunnel, connection = %session.id, version, error, "cannot push the configuration");
                return false;
            }
        };
        match &applied.error {
            None => tracing::info!(tunnel, connection = %session.id, version, "configuration pushed"),
            Some(error) => {
                tracing::error!(tunnel, connection = %session.id, version, error, "the connector refuses its configuration");
            }
        }
        // One that runs an earlier version serves that.
        if applied.version >= 0 {
            self.edge.registry.mark_configured(session);
        }
        true
    }

    fn ended(&self, cause: &str) {
        if let Some(session) = &self.state.borrow().session {
            tracing::info!(tunnel = &*session.tunnel_name, connection = %session.id, index = session.index, cause, "tunnel connection ended");
        }
    }

    /// What the connector's log shows when we close (QUIC only).
    fn last_words(&self) -> String {
        let state = self.state.borrow();
        match (&state.refused, &state.session) {
            (Some(cause), _) => cause.clone(),
            (None, None) => "no registration".to_owned(),
            (None, Some(_)) => "drained".to_owned(),
        }
    }

    fn decide(&self, request: &RegisterRequest) -> Result<Arc<Session>, RegisterError> {
        let id = TunnelId(request.tunnel_id);
        let view = self.edge.registry.view();
        let now = SystemTime::now();
        let unix = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let Some(tunnel) = view.snapshot.tunnel(id) else {
            return Err(self.refuse(
                "unknown_tunnel",
                format!(
                    "Unauthorized: tunnel {id} is not known here; it was deleted, or belongs to another edge"
                ),
            ));
        };
        if !tunnel.secret.verify(request.auth.secret.expose(), unix) {
            return Err(self.refuse(
                "wrong_secret",
                format!("Unauthorized: wrong secret for tunnel {id}; fetch a new token or credentials file"),
            ));
        }
        let client = &request.options.client;
        let keeps_rules = !client.features.iter().any(|feature| feature == ALLOW_REMOTE_CONFIG);
        Ok(Arc::new(Session {
            id: Uuid::new_v4(),
            tunnel: id,
            tunnel_name: tunnel.name.as_str().into(),
            connector: client.client_id,
            index: request.conn_index,
            worker: self.worker,
            connection: self.connection.clone(),
            remote: self.remote,
            since: now,
            version: client.version.clone(),
            arch: client.arch.clone(),
            configured: AtomicBool::new(tunnel.held.is_none() || keeps_rules),
            managed: tunnel.held.is_some(),
            keeps_rules: AtomicBool::new(keeps_rules),
        }))
    }

    fn refuse(&self, reason: &'static str, cause: String) -> RegisterError {
        tracing::warn!(remote = %self.remote, reason, cause, "registration refused");
        self.edge.metrics.refused(reason);
        self.state.borrow_mut().refused = Some(cause.clone());
        self.changed.notify_waiters();
        RegisterError { cause, retry_after: Duration::from_secs(10), should_retry: true }
    }

    fn welcome(&self, session: Arc<Session>, offered: Extensions) -> ConnectionDetails {
        self.connection.registered(offered.intersection(Extensions::ALL));
        let protocol = self.connection.protocol();
        tracing::info!(
            tunnel = &*session.tunnel_name, connection = %session.id, index = session.index, %protocol,
            remote = %self.remote, version = session.version, "tunnel connection registered"
        );
        if session.managed && session.keeps_rules() {
            warn_of_own_rules(&session);
        }
        let details = ConnectionDetails {
            uuid: session.id,
            location: self.edge.location.clone(),
            remotely_managed: session.managed,
            features: Extensions::ALL.names().map(str::to_owned).collect(),
        };
        let mut state = self.state.borrow_mut();
        state.counted = Some(self.edge.metrics.tunnel_connection(&session.tunnel_name, protocol.as_str()));
        state.session = Some(session);
        self.changed.notify_waiters();
        details
    }
}

impl Join {
    fn take(
        &self,
        request: &RegisterRequest,
        offered: Extensions,
    ) -> Result<ConnectionDetails, RegisterError> {
        if self.state.borrow().session.is_some() {
            return Err(self.refuse(
                "registered_twice",
                "Unauthorized: this connection is registered already".to_owned(),
            ));
        }
        let session = self.decide(request)?;
        self.edge
            .registry
            .join(session.clone())
            .map_err(|error| self.refuse("too_many_connections", format!("Unauthorized: {error}")))?;
        Ok(self.welcome(session, offered))
    }
}

impl Registrar for Join {
    fn register(&self, request: RegisterRequest) -> Result<ConnectionDetails, RegisterError> {
        let features = request.options.client.features.iter().map(String::as_str);
        let offered = Extensions::from_features(features);
        self.connection.set_datagrams(datagram_version(&request.options.client.features));
        self.take(&request, offered).inspect_err(|refusal| {
            // cloudflared does not log a refusal that it gets over QUIC. It does log why a connection was closed.
            if offered == Extensions::default() && self.connection.protocol() == Protocol::Quic {
                self.connection.close(&refusal.cause);
            }
        })
    }

    fn local_configuration(&self, json: &[u8]) -> Result<(), String> {
        let session = self.state.borrow().session.clone().ok_or("register first")?;
        let configuration = Configuration::from_json(json).map_err(|error| error.to_string())?;
        // Who tells its rules serves them, whatever the edge holds.
        if self.edge.registry.mark_own_rules(&session) && session.managed {
            warn_of_own_rules(&session);
        }
        let (word, mut unread) = words::read(&configuration, self.edge.read_policy);
        let view = self.edge.registry.view();
        unread.extend(words::beyond_us(&view.snapshot, session.tunnel, &word.rules));
        let claims = claims(&configuration);
        let gates = read_gates(&configuration);
        let said = (word, gates.clone());
        let refusals = self.edge.registry.claim(session.tunnel, session.connector, claims, said);
        self.edge.gated.hear(self.edge.cache.as_ref(), session.tunnel, gates);
        if refusals.is_empty() && unread.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = refusals.iter().map(ToString::to_string).chain(unread).collect();
        for text in &texts {
            tracing::warn!(tunnel = &*session.tunnel_name, connector = %session.connector, "{text}");
        }
        Err(texts.join("; "))
    }

    fn unregister(&self) {
        self.connection.start_drain();
        self.changed.notify_waiters();
        if let Some(session) = &self.state.borrow().session {
            tracing::info!(tunnel = &*session.tunnel_name, connection = %session.id, "tunnel connection drains");
        }
    }
}

impl Drop for Join {
    fn drop(&mut self) {
        if let Some(session) = &self.state.borrow().session {
            self.edge.registry.leave(session.id);
        }
    }
}

/// Says that a connector keeps the rules of its own configuration, and those that the edge holds are not served there.
fn warn_of_own_rules(session: &Session) {
    tracing::warn!(
        tunnel = &*session.tunnel_name, connector = %session.connector, connection = %session.id,
        "this connector keeps rules of its own; those that the edge holds for the tunnel are not in force there"
    );
}

/// What a configuration claims.
fn claims(configuration: &Configuration) -> Claims {
    let rules = configuration.ingress.iter();
    Claims::of_rules(
        rules.map(|rule| (rule.hostname.as_deref(), rule.path.as_deref(), rule.service.as_str())),
    )
}
