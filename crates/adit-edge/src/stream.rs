//! Streams of bytes that the edge does not read: those of passthrough names, and those of ports. They pass the gate that
//! requests pass, guard and limit, before anything is asked of a tunnel.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use adit_policy::host::{HostPattern, Hostname};
use adit_policy::path::RequestPath;
use adit_policy::policy::Settings;
use adit_policy::port::{Port, PortProtocol};
use adit_policy::route::Route;
use adit_policy::snapshot::TunnelId;
use http::HeaderMap;

use crate::context::RequestContext;
use crate::guard::{Arrival, permit};
use crate::limit::{Admitted, admit};
use crate::registry::{Session, Speaker, View};
use crate::rescue::Problem;
use crate::upstream::{Destination, Failed, Rerouted, Unreached, attempt};
use crate::worker::Worker;

/// The path of the request that a stream of a name travels as.
pub(crate) const PATH: &str = "/";

/// The proof that a stream belongs to a tunnel.
pub(crate) struct Stream {
    request: RequestContext,
    view: Arc<View>,
    route: Arc<Route>,
    speaker: Option<Arc<Speaker>>,
    settings: Arc<Settings>,
    source: Source,
    label: String,
}

/// What a stream came in by.
enum Source {
    /// The name of its TLS handshake.
    Name(Hostname),
    /// A port of the edge.
    Port(Arc<Port>),
}

impl Stream {
    fn of_name(request: RequestContext, name: &Hostname) -> Result<Self, Problem> {
        let view = request.edge().registry.view().clone();
        let route = view.routes.find(name.as_str()).cloned().ok_or(Problem::UnknownHost)?;
        let speaker = view.speaker(&route, &request).cloned();
        let policy = view.policy(speaker.as_deref(), name.as_str(), &RequestPath::of(PATH))?;
        let settings = policy.map(|policy| policy.unread.clone()).unwrap_or_default();
        let label = name.as_str().to_owned();
        Ok(Self { request, view, route, speaker, settings, source: Source::Name(name.clone()), label })
    }

    /// What `defaults` says holds for a port; nobody else speaks about it.
    fn of_port(request: RequestContext, port: &Arc<Port>) -> Result<Self, Problem> {
        let view = request.edge().registry.view().clone();
        let route = port_route(&view, port).ok_or(Problem::NoConnection)?;
        let settings = view.policies.defaults().unread.clone();
        let label = format!("{}/{}", port.listen, port.protocol);
        Ok(Self { request, view, route, speaker: None, settings, source: Source::Port(port.clone()), label })
    }

    /// The stream as it came in.
    pub(crate) fn request(&self) -> &RequestContext {
        &self.request
    }

    fn reroute(&self, view: &View) -> Option<Rerouted> {
        let name = match &self.source {
            Source::Name(name) => name.as_str(),
            Source::Port(port) => return Some((port_route(view, port)?, None)),
        };
        let is_same = |speaker: Option<&Speaker>| {
            let policy = view.policy(speaker, name, &RequestPath::of(PATH));
            policy.is_ok_and(|policy| policy.is_some_and(|policy| policy.unread == self.settings))
        };
        view.reroute(view.routes.find(name)?, &self.request, is_same)
    }
}

/// Any connection of a port's tunnel will do.
fn port_route(view: &View, port: &Port) -> Option<Arc<Route>> {
    let tunnel = view.snapshot.tunnel_by_name(&port.tunnel)?.id;
    Some(Arc::new(Route { tunnel, pattern: HostPattern::Any, connectors: Vec::new() }))
}

impl Arrival for Stream {
    fn request(&self) -> &RequestContext {
        &self.request
    }

    fn view(&self) -> &View {
        &self.view
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn host(&self) -> Option<&str> {
        match &self.source {
            Source::Name(name) => Some(name.as_str()),
            Source::Port(_) => None,
        }
    }

    fn tunnel(&self) -> TunnelId {
        self.route.tunnel
    }

    fn counted_as(&self) -> &str {
        &self.label
    }
}

/// Lets a stream of a passthrough name pass the gate.
///
/// # Errors
/// [`Problem::UnknownHost`] when nobody serves the name, and those of [`permit`] and [`admit`].
pub(crate) fn admit_name(
    worker: &Rc<Worker>,
    client: IpAddr,
    name: &Hostname,
) -> Result<Admitted<Stream>, Problem> {
    gate(Stream::of_name(RequestContext::of_stream(worker, client, "https"), name)?)
}

/// Lets a stream, or the datagrams of one address, of a port pass the gate.
///
/// # Errors
/// [`Problem::NoConnection`] when the port's tunnel is not there, and those of [`permit`] and [`admit`].
pub(crate) fn admit_port(
    worker: &Rc<Worker>,
    client: IpAddr,
    port: &Arc<Port>,
) -> Result<Admitted<Stream>, Problem> {
    let scheme = match port.protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
    };
    gate(Stream::of_port(RequestContext::of_stream(worker, client, scheme), port)?)
}

fn gate(stream: Stream) -> Result<Admitted<Stream>, Problem> {
    admit(permit(stream)?, &HeaderMap::new())
}

/// Opens an admitted stream on the best connection that takes it.
///
/// # Errors
/// [`Unreached`] when no connection is there, or with what the last one said.
pub(crate) async fn open<T, E: std::error::Error>(
    admitted: &Admitted<Stream>,
    send: impl AsyncFnMut(&Arc<Session>) -> Result<T, Failed<E>>,
) -> Result<T, Unreached<E>> {
    let stream: &Stream = admitted;
    let udp = matches!(&stream.source, Source::Port(port) if port.protocol == PortProtocol::Udp);
    let find = |view: &View| stream.reroute(view);
    let (view, route, speaker) = (&*stream.view, &*stream.route, stream.speaker.as_deref());
    let to = Destination { view, route, speaker, find: &find, udp };
    attempt(&stream.request, &to, send).await
}

#[cfg(test)]
mod tests {
    use adit_policy::ingress::{Claims, ProxyProtocol};
    use adit_policy::policy::address::{Addresses, parse};
    use adit_policy::policy::limit::{Concurrency, LimitKey, Rate, RateLimit};
    use adit_policy::policy::rules::{RuleList, RuleWord};
    use adit_policy::policy::{Layer, Layers, Patch};
    use adit_policy::port::UDP_IDLE;
    use std::time::Duration;
    use uuid::Uuid;

    use super::*;
    use crate::context::fixture::{TUNNEL, snapshot, worker};
    use crate::guard::List;
    use crate::registry::Word;

    const HERE: &str = "192.0.2.1";
    const ELSEWHERE: &str = "198.51.100.1";

    fn addresses(text: &str) -> Option<Option<Addresses>> {
        Some(Some(Addresses::of(&[parse(text)?])))
    }

    fn port() -> Arc<Port> {
        Arc::new(Port {
            listen: "127.0.0.1:2222".parse().unwrap(),
            protocol: PortProtocol::Tcp,
            tunnel: "home".to_owned(),
            to: "10.0.0.5:22".parse().unwrap(),
            proxy_protocol: ProxyProtocol::Off,
            idle_timeout: UDP_IDLE,
        })
    }

    /// What became of a stream from an address: the code of the problem, or nothing.
    fn name(worker: &Rc<Worker>, ip: &str) -> Option<&'static str> {
        let name = Hostname::parse("a.x.example").unwrap();
        admit_name(worker, ip.parse().unwrap(), &name).err().map(|problem| problem.code())
    }

    fn at_port(worker: &Rc<Worker>, ip: &str) -> Option<&'static str> {
        admit_port(worker, ip.parse().unwrap(), &port()).err().map(|problem| problem.code())
    }

    fn defaults(patch: Patch) -> Rc<Worker> {
        let layer = Layer { base: patch, paths: Vec::new() };
        worker(snapshot(Patch::default()).with_layers(layer, Layers::default()))
    }

    #[test]
    fn what_defaults_says_about_addresses_holds_for_names_and_ports() {
        for patch in [
            Patch { allow: addresses("192.0.2.0/24"), ..Patch::default() },
            Patch { deny: addresses("198.51.100.0/24"), ..Patch::default() },
        ] {
            let worker = defaults(patch);
            for ask in [name, at_port] {
                assert_eq!((ask(&worker, HERE), ask(&worker, ELSEWHERE)), (None, Some("denied")));
                let mapped = format!("::ffff:{ELSEWHERE}");
                assert_eq!(ask(&worker, &mapped), Some("denied"));
            }
        }
    }

    #[test]
    fn limits_count_streams_of_names_and_ports() {
        let rate = Rate { count: 1, per: Duration::from_secs(3600) };
        let rate_limit = Some(Some(RateLimit { rate, burst: 0, key: LimitKey::Cookie("c".to_owned()) }));
        let worker = defaults(Patch { rate_limit, ..Patch::default() });
        for ask in [name, at_port] {
            assert_eq!((ask(&worker, HERE), ask(&worker, HERE)), (None, Some("rate_limited")));
            assert_eq!(ask(&worker, ELSEWHERE), None, "without cookies it is the address that counts");
        }
        let concurrency = Some(Some(Concurrency { requests: 1, key: LimitKey::All }));
        let worker = defaults(Patch { concurrency, ..Patch::default() });
        let mut first = admit_port(&worker, HERE.parse().unwrap(), &port()).unwrap();
        let ticket = first.take_ticket();
        assert_eq!(at_port(&worker, ELSEWHERE), Some("too_many_at_once"));
        drop(ticket);
        assert_eq!(at_port(&worker, ELSEWHERE), None);
    }

    #[test]
    fn lists_bans_and_what_is_out_of_service_hold_for_names_and_ports() {
        let worker = defaults(Patch::default());
        let network = parse("198.51.100.0/24").unwrap();
        worker
            .edge
            .doors
            .set_lists(vec![List { name: "l".to_owned(), addresses: Addresses::of(&[network]) }]);
        for ask in [name, at_port] {
            assert_eq!((ask(&worker, HERE), ask(&worker, ELSEWHERE)), (None, Some("banned")));
        }
        let worker = defaults(Patch { maintenance: Some(Some("later".into())), ..Patch::default() });
        for ask in [name, at_port] {
            assert_eq!(ask(&worker, HERE), Some("maintenance"));
        }
    }

    /// An edge that cannot do what the connector wants does not serve the name instead.
    #[test]
    fn a_word_of_the_connector_that_cannot_hold_closes_the_name() {
        let said = |patch: Patch| {
            let worker = defaults(Patch::default());
            let hosts = HostPattern::parse("a.x.example").unwrap();
            let claims = Claims::new([hosts.clone()], false);
            let layer = Some(Arc::new(Layer { base: patch, paths: Vec::new() }));
            let rules = RuleList::new([RuleWord { hosts, path: None, layer }]);
            let word = Word { rules: Arc::new(rules), ..Word::default() };
            worker.edge.registry.claim(TUNNEL, Uuid::from_u128(7), claims, (word, None));
            (name(&worker, HERE), name(&worker, ELSEWHERE))
        };
        let allow = addresses("192.0.2.0/24");
        assert_eq!(said(Patch { allow: allow.clone(), ..Patch::default() }), (None, Some("denied")));
        let methods = Some(Some([http::Method::GET].into()));
        let closed = (Some("maintenance"), Some("denied"));
        assert_eq!(said(Patch { allow, methods: methods.clone(), ..Patch::default() }), closed);
        let closed = (Some("maintenance"), Some("maintenance"));
        assert_eq!(said(Patch { methods, ..Patch::default() }), closed);
        assert_eq!(said(Patch { methods: Some(None), ..Patch::default() }), (None, None), "off");
    }
}
