//! Metrics: handles that are resolved once, so that a request costs a few atomic additions.
//!
//! Labels have few values by construction: never a host, a path or a visitor.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of request times, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Methods that have a label of their own; everything else is `OTHER`.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "OTHER"];

/// Status codes that are counted apart.
const STATUSES: usize = 600;

/// Outcomes of the cache that are counted apart.
const OUTCOMES: usize = 8;

/// The largest status that an origin can write with its three digits.
const ORIGIN_STATUS_MAX: usize = 999;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Word {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OrderLabels {
    authority: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CacheLabel {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TunnelLabels {
    tunnel: String,
    transport: String,
}

/// What the edge counts.
#[derive(Debug)]
pub struct EdgeMetrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    /// The same counters by index; filled as they are first used.
    by_index: Box<[OnceLock<Counter>]>,
    seconds: Histogram,
    /// Bytes of answers' bodies.
    pub response_bytes: Counter,
    /// Bytes of requests' bodies.
    pub request_bytes: Counter,
    /// Requests that are being answered.
    pub in_flight: Gauge,
    /// Visitor connections that are open.
    pub visitors: Gauge,
    /// Requests that were sent to a second connection.
    pub retries: Counter,
    /// Requests and handshakes for hosts that nobody serves.
    pub unknown_hosts: Counter,
    handshake_failures: Family<CauseLabel, Counter>,
    /// Access records that were dropped.
    pub records_dropped: Gauge,
    /// Streams and UDP sessions of ports that are open.
    pub port_sessions: Gauge,
    /// Streams and UDP sessions of ports that led nowhere.
    pub port_failures: Counter,
    /// Connections whose TLS ends at home, now.
    pub passthrough_sessions: Gauge,
    /// Those that led nowhere.
    pub passthrough_failures: Counter,
    /// Packets of UDP ports that were lost here.
    pub port_dropped: Counter,
    tunnel_connections: Family<TunnelLabels, Gauge>,
    certificates: Family<StateLabel, Gauge>,
    certificate_end: Gauge,
    certificate_orders: Family<OrderLabels, Counter>,
    refusals: Family<Word, Counter>,
    denied: Family<Word, Counter>,
    overload: Family<Word, Counter>,
    cached: Family<CacheLabel, Counter>,
    /// The same counters by outcome.
    cached_by_index: [OnceLock<Counter>; OUTCOMES],
    cache_objects: Gauge,
    cache_disk: Gauge,
    cache_memory: Gauge,
    /// Bans that answers of visitors have made.
    pub bans: Counter,
    /// Fields of requests that were dropped because an origin may read them as a field that steers the message.
    pub lookalikes: Counter,
    /// HTTP/1 messages that were refused because they can be read in two ways.
    pub ambiguous: Counter,
    errors: Family<Word, Counter>,
    /// 1 while the last change of the configuration was good, else 0.
    pub config_reloaded: Gauge,
}

impl EdgeMetrics {
    /// Registers everything.
    #[must_use]
    pub fn new(version: &str) -> Self {
        let mut registry = Registry::with_prefix("adit_edge");
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            by_index: (0..METHODS.len() * STATUSES).map(|_| OnceLock::new()).collect(),
            seconds: Histogram::new(SECONDS),
            response_bytes: Counter::default(),
            request_bytes: Counter::default(),
            in_flight: Gauge::default(),
            visitors: Gauge::default(),
            retries: Counter::default(),
            unknown_hosts: Counter::default(),
            handshake_failures: Family::default(),
            records_dropped: Gauge::default(),
            port_sessions: Gauge::default(),
            port_failures: Counter::default(),
            passthrough_sessions: Gauge::default(),
            passthrough_failures: Counter::default(),
            port_dropped: Counter::default(),
            tunnel_connections: Family::default(),
            certificates: Family::default(),
            certificate_end: Gauge::default(),
            certificate_orders: Family::default(),
            refusals: Family::default(),
            denied: Family::default(),
            overload: Family::default(),
            cached: Family::default(),
            cached_by_index: std::array::from_fn(|_| OnceLock::new()),
            cache_objects: Gauge::default(),
            cache_disk: Gauge::default(),
            cache_memory: Gauge::default(),
            bans: Counter::default(),
            lookalikes: Counter::default(),
            ambiguous: Counter::default(),
            errors: Family::default(),
            config_reloaded: Gauge::default(),
        };
        metrics.config_reloaded.set(1);
        metrics.register(&mut registry, version);
        metrics.registry = registry;
        metrics
    }

    fn register_ports(&self, registry: &mut Registry) {
        let sessions = "Streams and UDP sessions of ports that are open";
        registry.register("port_sessions", sessions, self.port_sessions.clone());
        let failures = "Streams and UDP sessions of ports that led nowhere";
        registry.register("port_failures", failures, self.port_failures.clone());
        let passed = "Connections whose TLS ends at home";
        registry.register("passthrough_sessions", passed, self.passthrough_sessions.clone());
        let failed = "Connections whose TLS ends at home, and that led nowhere";
        registry.register("passthrough_failures", failed, self.passthrough_failures.clone());
        let dropped = "Packets of UDP ports that were lost here";
        registry.register("port_packets_dropped", dropped, self.port_dropped.clone());
    }

    fn register(&self, registry: &mut Registry, version: &str) {
        registry.register("build", "Version", Info::new([("version", version.to_owned())]));
        registry.register("requests", "Requests answered", self.requests.clone());
        self.register_ports(registry);
        registry.register_with_unit("request", "Time to answer", Unit::Seconds, self.seconds.clone());
        registry.register_with_unit(
            "response",
            "Bodies sent to visitors",
            Unit::Bytes,
            self.response_bytes.clone(),
        );
        registry.register_with_unit(
            "upload",
            "Bodies taken from visitors",
            Unit::Bytes,
            self.request_bytes.clone(),
        );
        registry.register("in_flight", "Requests being answered", self.in_flight.clone());
        registry.register("visitor_connections", "Open visitor connections", self.visitors.clone());
        registry.register("retries", "Requests sent again elsewhere", self.retries.clone());
        registry.register(
            "unknown_hosts",
            "Requests for hosts that nobody serves",
            self.unknown_hosts.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "Failed TLS handshakes of visitors, and client certificates that were not accepted",
            self.handshake_failures.clone(),
        );
        registry.register("access_records_dropped", "Access records dropped", self.records_dropped.clone());
        registry.register("certificates", "Certificates by state", self.certificates.clone());
        let end = "When the first certificate ends, in Unix time; 0 without any";
        registry.register("certificate_first_end_timestamp_seconds", end, self.certificate_end.clone());
        let orders = "Orders of certificates";
        registry.register("certificate_orders", orders, self.certificate_orders.clone());
        registry.register("tunnel_connections", "Live tunnel connections", self.tunnel_connections.clone());
        let overload = "Connections and requests that were ended or refused to protect the edge";
        registry.register("overload", overload, self.overload.clone());
        registry.register("requests_denied", "Requests that were not let through", self.denied.clone());
        registry.register("cache_requests", "Requests at the cache, by outcome", self.cached.clone());
        registry.register("cache_objects", "Stored responses", self.cache_objects.clone());
        registry.register_with_unit(
            "cache_disk",
            "What they take on disk",
            Unit::Bytes,
            self.cache_disk.clone(),
        );
        registry.register_with_unit(
            "cache_memory",
            "What they take in memory",
            Unit::Bytes,
            self.cache_memory.clone(),
        );
        registry.register("bans", "Bans that answers have made", self.bans.clone());
        let lookalikes = "Request fields dropped as look-alikes of fields that steer the message";
        registry.register("lookalike_fields_dropped", lookalikes, self.lookalikes.clone());
        let ambiguous = "HTTP/1 messages refused because they can be read in two ways";
        registry.register("ambiguous_messages", ambiguous, self.ambiguous.clone());
        let reloaded = "Whether the last change of the configuration was good";
        registry.register("config_last_reload_successful", reloaded, self.config_reloaded.clone());
        registry.register("registration_refusals", "Refused registrations", self.refusals.clone());
        registry.register("upstream_errors", "Requests that a tunnel could not answer", self.errors.clone());
    }

    /// Counts a request at the cache: the number of its outcome among all, and its name.
    pub fn cached(&self, index: usize, status: &'static str) {
        if let Some(slot) = self.cached_by_index.get(index) {
            slot.get_or_init(|| self.cached.get_or_create(&CacheLabel { status }).clone()).inc();
        }
    }

    /// Notes how much is stored: responses, bytes on disk, bytes in memory.
    pub fn cache_size(&self, objects: u64, disk: u64, memory: u64) {
        for (gauge, number) in
            [(&self.cache_objects, objects), (&self.cache_disk, disk), (&self.cache_memory, memory)]
        {
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// Counts a connection or a request that was ended or refused to protect the edge.
    pub fn overload(&self, reason: &str) {
        self.overload.get_or_create(&Word { reason: reason.to_owned() }).inc();
    }

    /// Counts a request that was not let through.
    pub fn denied(&self, reason: &str) {
        self.denied.get_or_create(&Word { reason: reason.to_owned() }).inc();
    }

    /// Counts one request that is done.
    pub fn request(&self, method: &Method, status: StatusCode, time: Duration) {
        let method = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1);
        let status = usize::from(status.as_u16()).min(STATUSES - 1);
        if let Some(slot) = self.by_index.get(method * STATUSES + status) {
            slot.get_or_init(|| self.counter(method, status)).inc();
        }
        self.seconds.observe(time.as_secs_f64());
    }

    fn counter(&self, method: usize, status: usize) -> Counter {
        let method = METHODS.get(method).copied().unwrap_or("OTHER");
        self.requests.get_or_create(&RequestLabels { method, status: status as u16 }).clone()
    }

    /// Counts a tunnel connection for as long as the guard lives.
    #[must_use]
    pub fn tunnel_connection(&self, tunnel: &str, transport: &str) -> GaugeGuard {
        let labels = TunnelLabels { tunnel: tunnel.to_owned(), transport: transport.to_owned() };
        GaugeGuard::new(self.tunnel_connections.get_or_create(&labels).clone())
    }

    /// Counts a TLS handshake of a visitor that failed, or a client certificate that was not accepted.
    pub fn handshake_failed(&self, cause: &'static str) {
        self.handshake_failures.get_or_create(&CauseLabel { cause }).inc();
    }

    /// Counts a registration that was refused.
    pub fn refused(&self, reason: &str) {
        self.refusals.get_or_create(&Word { reason: reason.to_owned() }).inc();
    }

    /// Notes how certificates are: how many are good, how many are wanted and missing, and when the first one ends.
    pub fn certificates(&self, good: i64, missing: i64, first_end: i64) {
        self.certificates.get_or_create(&StateLabel { state: "good" }).set(good);
        self.certificates.get_or_create(&StateLabel { state: "missing" }).set(missing);
        self.certificate_end.set(first_end);
    }

    /// Counts an order of a certificate.
    pub fn certificate_order(&self, authority: &str, succeeded: bool) {
        let result = if succeeded { "given" } else { "failed" };
        let labels = OrderLabels { authority: authority.to_owned(), result };
        self.certificate_orders.get_or_create(&labels).inc();
    }

    /// Counts a request that a tunnel could not answer.
    pub fn upstream_error(&self, reason: &str) {
        self.errors.get_or_create(&Word { reason: reason.to_owned() }).inc();
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(&self.registry)
    }
}

/// Adds one to a gauge for as long as it lives.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Counts from now on.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusCodeLabel {
    status_code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[expect(non_snake_case, reason = "cloudflared's label names")]
struct RegisterLabels {
    rpcName: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LocationLabels {
    connection_id: u8,
    edge_location: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

/// What the connector counts, under cloudflared's names: its dashboards go on working. Names without `_total` are
/// written as gauges, because the format adds that ending to counters.
#[derive(Debug)]
pub struct ConnectorMetrics {
    registry: Registry,
    /// Requests taken.
    pub total_requests: Gauge<u64, AtomicU64>,
    /// Requests that the origin did not answer.
    pub request_errors: Gauge<u64, AtomicU64>,
    /// Requests being answered.
    pub concurrent_requests: Gauge<i64, AtomicI64>,
    /// Registered connections.
    pub ha_connections: Gauge<i64, AtomicI64>,
    /// Connections that were made anew after a loss.
    pub reconnects: Counter,
    /// TCP sessions now.
    pub tcp_active: Gauge<i64, AtomicI64>,
    /// TCP sessions so far.
    pub tcp_total: Gauge<u64, AtomicU64>,
    /// UDP sessions now.
    pub udp_active: Gauge,
    /// UDP sessions so far.
    pub udp_total: Gauge<u64, AtomicU64>,
    /// Datagrams that a session's socket did not take.
    pub udp_dropped: Counter,
    /// Version of the rules that an edge pushed; −1 for rules of one's own.
    pub config_version: Gauge<i64, AtomicI64>,
    /// Times that an edge was told the rules.
    pub config_pushes: Gauge<u64, AtomicU64>,
    /// Times that an edge did not take all of them.
    pub config_push_errors: Gauge<u64, AtomicU64>,
    /// 1 while the last change of the rules was good, 0 after a bad one.
    pub config_reloaded: Gauge<i64, AtomicI64>,
    /// Time to connect to an origin.
    pub connect_seconds: Histogram,
    responses: Family<StatusCodeLabel, Gauge<u64, AtomicU64>>,
    response_by_status: Box<[OnceLock<Gauge<u64, AtomicU64>>]>,
    registered: Family<RegisterLabels, Gauge<u64, AtomicU64>>,
    register_failed: Family<RegisterLabels, Gauge<u64, AtomicU64>>,
    locations: Family<LocationLabels, Gauge>,
    origin_errors: Family<Word, Counter>,
    origins_up: Family<ServiceLabel, Gauge>,
}

impl ConnectorMetrics {
    /// Registers everything.
    #[must_use]
    pub fn new(version: &str) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            total_requests: Gauge::default(),
            request_errors: Gauge::default(),
            concurrent_requests: Gauge::default(),
            ha_connections: Gauge::default(),
            reconnects: Counter::default(),
            tcp_active: Gauge::default(),
            tcp_total: Gauge::default(),
            udp_active: Gauge::default(),
            udp_total: Gauge::default(),
            udp_dropped: Counter::default(),
            config_version: Gauge::default(),
            config_pushes: Gauge::default(),
            config_push_errors: Gauge::default(),
            config_reloaded: Gauge::default(),
            connect_seconds: Histogram::new(SECONDS),
            responses: Family::default(),
            response_by_status: (0..=ORIGIN_STATUS_MAX).map(|_| OnceLock::new()).collect(),
            registered: Family::default(),
            register_failed: Family::default(),
            locations: Family::default(),
            origin_errors: Family::default(),
            origins_up: Family::default(),
        };
        let mut registry = Registry::default();
        metrics.register(&mut registry, version);
        metrics.registry = registry;
        metrics
    }

    fn register(&self, registry: &mut Registry, version: &str) {
        registry.register("build", "Version", Info::new([("version", version.to_owned())]));
        let tunnel = registry.sub_registry_with_prefix("cloudflared_tunnel");
        tunnel.register("total_requests", "Requests taken", self.total_requests.clone());
        tunnel.register(
            "request_errors",
            "Requests that the origin did not answer",
            self.request_errors.clone(),
        );
        tunnel.register("response_by_code", "Answers by status", self.responses.clone());
        let concurrent = "concurrent_requests_per_tunnel";
        tunnel.register(concurrent, "Requests being answered", self.concurrent_requests.clone());
        tunnel.register("ha_connections", "Registered connections", self.ha_connections.clone());
        tunnel.register("server_locations", "Where each connection ends", self.locations.clone());
        tunnel.register("tunnel_register_success", "Registrations", self.registered.clone());
        tunnel.register("tunnel_register_fail", "Failed registrations", self.register_failed.clone());
        self.register_state(registry);
        let ours = registry.sub_registry_with_prefix("adit_connector");
        ours.register("reconnects", "Connections made anew", self.reconnects.clone());
        let seconds = self.connect_seconds.clone();
        ours.register_with_unit("origin_connect", "Time to connect to an origin", Unit::Seconds, seconds);
        ours.register("origin_errors", "Failures of origins", self.origin_errors.clone());
        let up = "1 while the checks of an origin are good";
        ours.register("origin_up", up, self.origins_up.clone());
    }

    fn register_state(&self, registry: &mut Registry) {
        self.config_version.set(-1);
        self.config_reloaded.set(1);
        let tcp = registry.sub_registry_with_prefix("cloudflared_tcp");
        tcp.register("active_sessions", "TCP sessions now", self.tcp_active.clone());
        tcp.register("total_sessions", "TCP sessions so far", self.tcp_total.clone());
        let udp = registry.sub_registry_with_prefix("cloudflared_udp");
        udp.register("active_sessions", "UDP sessions now", self.udp_active.clone());
        udp.register("total_sessions", "UDP sessions so far", self.udp_total.clone());
        udp.register("dropped_datagrams", "Datagrams that no socket took", self.udp_dropped.clone());
        let orchestration = registry.sub_registry_with_prefix("cloudflared_orchestration");
        let version = "Version of the rules that an edge pushed, or -1";
        orchestration.register("config_version", version, self.config_version.clone());
        let config = registry.sub_registry_with_prefix("cloudflared_config");
        let told = "Times that an edge was told the rules";
        config.register("local_config_pushes", told, self.config_pushes.clone());
        let refused = "Times that an edge did not take all of the rules";
        config.register("local_config_pushes_errors", refused, self.config_push_errors.clone());
        let ours = registry.sub_registry_with_prefix("adit_connector");
        let reloaded = "1 while the last change of the rules was good, 0 after a bad one";
        ours.register("config_last_reload_successful", reloaded, self.config_reloaded.clone());
    }

    /// Notes what the checks say of one of several origins.
    pub fn origin_up(&self, service: &str, up: bool) {
        let label = ServiceLabel { service: service.to_owned() };
        self.origins_up.get_or_create(&label).set(up.into());
    }

    /// Counts an answer.
    pub fn response(&self, status: u16) {
        let index = usize::from(status);
        if let Some(slot) = self.response_by_status.get(index) {
            slot.get_or_init(|| {
                self.responses.get_or_create(&StatusCodeLabel { status_code: status }).clone()
            })
            .inc();
        }
    }

    /// Counts an origin's failure.
    pub fn origin_error(&self, reason: &str) {
        self.request_errors.inc();
        self.origin_errors.get_or_create(&Word { reason: reason.to_owned() }).inc();
    }

    /// Counts a registration.
    pub fn registration(&self, succeeded: bool) {
        let family = if succeeded { &self.registered } else { &self.register_failed };
        family.get_or_create(&RegisterLabels { rpcName: "registerConnection" }).inc();
    }

    /// Counts a registered connection for as long as the guards live.
    #[must_use]
    pub fn connected(&self, connection: u8, location: &str) -> [GaugeGuard; 2] {
        let labels = LocationLabels { connection_id: connection, edge_location: location.to_owned() };
        [
            GaugeGuard::new(self.ha_connections.clone()),
            GaugeGuard::new(self.locations.get_or_create(&labels).clone()),
        ]
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(&self.registry)
    }
}

fn encode(registry: &Registry) -> String {
    let mut out = String::new();
    if text::encode(&mut out, registry).is_err() {
        // Writing to a string fails only in a metric's own code, and ours has none.
        out.push_str("# EOF\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_by_method_and_status() {
        let metrics = EdgeMetrics::new("1");
        for (method, status) in [(Method::GET, 200), (Method::GET, 200), (Method::TRACE, 999)] {
            metrics.request(&method, StatusCode::from_u16(status).unwrap(), Duration::from_millis(3));
        }
        let guard = metrics.tunnel_connection("home", "quic");
        let text = metrics.encode();
        for line in [
            "adit_edge_requests_total{method=\"GET\",status=\"200\"} 2",
            "adit_edge_requests_total{method=\"OTHER\",status=\"599\"} 1",
            "adit_edge_request_seconds_count 3",
            "adit_edge_tunnel_connections{tunnel=\"home\",transport=\"quic\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        drop(guard);
        assert!(metrics.encode().contains("transport=\"quic\"} 0"));
    }

    #[test]
    fn the_connector_has_cloudflared_s_names() {
        let metrics = ConnectorMetrics::new("1");
        metrics.response(200);
        metrics.registration(true);
        let _connected = metrics.connected(0, "edge1");
        let text = metrics.encode();
        for line in [
            "cloudflared_tunnel_total_requests 0",
            "cloudflared_tunnel_response_by_code{status_code=\"200\"} 1",
            "cloudflared_tunnel_ha_connections 1",
            "cloudflared_tunnel_server_locations{connection_id=\"0\",edge_location=\"edge1\"} 1",
            "cloudflared_tunnel_tunnel_register_success{rpcName=\"registerConnection\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
