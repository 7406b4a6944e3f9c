//! First stage: whose host is it, and is the connection as that host wants it? Leaves [`Routed`], without which nothing is
//! sent anywhere.

use std::sync::Arc;

use adit_policy::host::{Authority, Hostname};
use adit_policy::host_policy::{HostPolicy, TlsMode};
use adit_policy::path::RequestPath;
use adit_policy::policy::Settings;
use adit_policy::route::Route;
use adit_policy::snapshot::TunnelId;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Uri, header};

use crate::context::RequestContext;
use crate::guard::Arrival;
use crate::registry::{Speaker, View};
use crate::rescue::Problem;
use crate::tls::Shown;
use crate::upstream::Rerouted;

/// The proof that a request's host belongs to a tunnel, and that it came the way that the host wants. It is handed on from stage
/// to stage, so it is small.
pub(crate) struct Routed(Box<Findings>);

/// What the first stage has found.
struct Findings {
    request: RequestContext,
    view: Arc<View>,
    host: Hostname,
    authority: String,
    route: Arc<Route>,
    policy: Arc<HostPolicy>,
    speaker: Option<Arc<Speaker>>,
    settings: Arc<Settings>,
    is_ambiguous: bool,
}

impl Routed {
    /// The request.
    pub(crate) fn request(&self) -> &RequestContext {
        &self.0.request
    }

    /// What the request sees of the world.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.0.view
    }

    /// The host in its one form.
    pub(crate) fn host(&self) -> &Hostname {
        &self.0.host
    }

    /// The host in its one form, with the port that was asked for: what connectors and origins get.
    pub(crate) fn authority(&self) -> &str {
        &self.0.authority
    }

    /// Whose host it is.
    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.0.route
    }

    /// How TLS is done for the host.
    pub(crate) fn policy(&self) -> &Arc<HostPolicy> {
        &self.0.policy
    }

    /// Whose rules have judged it: it goes to no other connector.
    pub(crate) fn speaker(&self) -> Option<&Speaker> {
        self.0.speaker.as_deref()
    }

    /// How the request is treated.
    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.0.settings
    }

    /// The way in a newer view, to connectors whose rules judge the request as it was judged.
    pub(crate) fn reroute(&self, view: &View) -> Option<Rerouted> {
        let host = self.0.host.as_str();
        let route = view.routes.find(host)?;
        let path = RequestPath::of(path_of(&self.0.request));
        let is_same = |speaker: Option<&Speaker>| {
            view.settings(speaker, host, &path).is_ok_and(|now| now == self.0.settings)
        };
        view.reroute(route, &self.0.request, is_same)
    }

    /// Whether origins may disagree about the path.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.0.is_ambiguous
    }
}

impl Arrival for Routed {
    fn request(&self) -> &RequestContext {
        &self.0.request
    }

    fn view(&self) -> &View {
        &self.0.view
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn host(&self) -> Option<&str> {
        Some(self.0.host.as_str())
    }

    fn tunnel(&self) -> TunnelId {
        self.0.route.tunnel
    }

    fn counted_as(&self) -> &str {
        self.0.host.as_str()
    }
}

/// Finds the route of a request. There is no other way to make a [`Routed`].
///
/// # Errors
/// [`Problem::UnknownHost`] when nobody serves the host, [`Problem::BadRequest`] when there is none, or no path,
/// [`Problem::AmbiguousPath`] when rules would read the path in several ways, [`Problem::Misdirected`],
/// [`Problem::CertificateRequired`] and [`Problem::CertificateInvalid`] when it came the wrong way.
pub(crate) fn route(
    request: RequestContext,
    view: Arc<View>,
    headers: &HeaderMap,
) -> Result<Routed, Problem> {
    let authority = authority(&request.target, headers)?;
    let (authority, host) = (authority.to_string(), authority.into_hostname());
    let route = view.routes.find(host.as_str()).cloned().ok_or(Problem::UnknownHost)?;
    let policy = view.snapshot.hosts().find(host.as_str()).clone();
    check_way(&request, &host, &policy)?;
    let path = RequestPath::parse(path_of(&request))?;
    let speaker = view.speaker(&route, &request).cloned();
    let settings = view.settings(speaker.as_deref(), host.as_str(), &path)?;
    view.check_path(&route, &host, &path)?;
    let is_ambiguous = !path.has_one_reading();
    let findings =
        Findings { request, view, host, authority, route, policy, speaker, settings, is_ambiguous };
    Ok(Routed(Box::new(findings)))
}

fn path_of(request: &RequestContext) -> &str {
    request.target.path_and_query().map_or("", PathAndQuery::path)
}

/// What a host asks of TLS holds on every protocol, whatever name the connection was opened for (RFC 9110, section
/// 7.4). A trusted proxy may bring the requests of many hosts on one connection.
fn check_way(request: &RequestContext, host: &Hostname, policy: &HostPolicy) -> Result<(), Problem> {
    if policy.tls == TlsMode::Passthrough {
        return Err(Problem::Misdirected);
    }
    let name = request.tls.as_ref().and_then(|tls| tls.name.as_deref());
    let wants_client = policy.client_certificates.as_ref();
    if name.is_some_and(|name| name != host.as_str()) && (!request.client.proxied || wants_client.is_some()) {
        return Err(Problem::Misdirected);
    }
    match (wants_client, request.tls.as_ref().map(|tls| &tls.shown)) {
        // A wrong certificate is not the same as none, also where none is needed.
        (Some(_), Some(Shown::Invalid(cause))) => Err(Problem::CertificateInvalid(cause)),
        (Some(wanted), None | Some(Shown::Nothing)) if wanted.required => Err(Problem::CertificateRequired),
        _ => Ok(()),
    }
}

/// The host of a request, if somebody serves it.
///
/// # Errors
/// As for [`route`].
pub(crate) fn find(view: &View, uri: &Uri, headers: &HeaderMap) -> Result<Hostname, Problem> {
    let host = host(uri, headers)?;
    view.routes.find(host.as_str()).map(|_| host).ok_or(Problem::UnknownHost)
}

/// The host of a request in its one form.
///
/// # Errors
/// The same, for what can be nobody's host.
pub(crate) fn host(uri: &Uri, headers: &HeaderMap) -> Result<Hostname, Problem> {
    authority(uri, headers).map(Authority::into_hostname)
}

/// The host of a request: the target's, or the one Host field (RFC 9112, section 3.2).
fn authority<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Result<Authority<'r>, Problem> {
    // What is asked for by another scheme is not served here (RFC 9110, section 7.4).
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP) {
        return Err(Problem::BadRequest);
    }
    let mut fields = headers.get_all(header::HOST).iter();
    let field = fields.next().map(|host| host.to_str().map_err(|_| Problem::BadRequest)).transpose()?;
    if fields.next().is_some() {
        return Err(Problem::BadRequest);
    }
    let written = match (uri.authority(), field) {
        // Two different hosts in one request: one of them is a lie.
        (Some(target), Some(host)) if !target.as_str().eq_ignore_ascii_case(host) => {
            return Err(Problem::BadRequest);
        }
        (Some(target), _) => target.as_str(),
        (None, Some(host)) => host,
        (None, None) => return Err(Problem::BadRequest),
    };
    Authority::parse(written.as_bytes()).map_err(|_| Problem::UnknownHost)
}

#[cfg(test)]
mod tests {
    use adit_policy::policy::Patch;

    use super::*;
    use crate::context::fixture::{TUNNEL, routed, snapshot, worker};

    #[test]
    fn only_a_request_for_a_known_host_leaves_the_first_stage() {
        let worker = worker(snapshot(Patch::default()));
        let found = routed(&worker, "192.0.2.1", "http://A.X.example:8080/b?c").unwrap();
        assert_eq!(found.route().tunnel, TUNNEL);
        assert_eq!((found.host().as_str(), found.authority()), ("a.x.example", "a.x.example:8080"));
        assert_eq!(found.request().path_and_query(), "/b?c");
        let spelled = routed(&worker, "192.0.2.1", "http://A.X.example.:08080/b").unwrap();
        assert_eq!((spelled.host().as_str(), spelled.authority()), ("a.x.example", "a.x.example:8080"));
        let pathless = routed(&worker, "192.0.2.1", "a.x.example").err();
        assert!(matches!(pathless, Some(Problem::BadRequest)), "{pathless:?}");
        let unknown = routed(&worker, "192.0.2.1", "http://y.example/").err();
        assert!(matches!(unknown, Some(Problem::UnknownHost)), "{unknown:?}");
        let hostless = routed(&worker, "192.0.2.1", "/").err();
        assert!(matches!(hostless, Some(Problem::BadRequest)), "{hostless:?}");
        let other_scheme = routed(&worker, "192.0.2.1", "ftp://a.x.example/").err();
        assert!(matches!(other_scheme, Some(Problem::BadRequest)), "{other_scheme:?}");
    }
}
