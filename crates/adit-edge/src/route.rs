//! First stage: whose host is it? Leaves [`Routed`], without which nothing is sent anywhere.

use std::sync::Arc;

use adit_policy::host::Hostname;
use adit_policy::route::Route;
use http::{HeaderMap, Uri, header};

use crate::registry::View;
use crate::rescue::Problem;

/// The proof that a request's host belongs to a tunnel.
#[derive(Debug)]
pub(crate) struct Routed {
    /// What the request sees of the world.
    pub(crate) view: Arc<View>,
    /// The host in its one form.
    pub(crate) host: Hostname,
    /// The host as asked for, lower-case, with its port.
    pub(crate) authority: String,
    pub(crate) route: Arc<Route>,
}

/// Finds the route of a request.
///
/// # Errors
/// [`Problem::UnknownHost`] when nobody serves the host, [`Problem::BadRequest`] when there is none.
pub(crate) fn route(view: Arc<View>, uri: &Uri, headers: &HeaderMap) -> Result<Routed, Problem> {
    let authority = authority(uri, headers)?;
    let host = Hostname::from_authority(authority.as_bytes()).map_err(|_| Problem::UnknownHost)?;
    let route = view.routes.find(host.as_str()).cloned().ok_or(Problem::UnknownHost)?;
    Ok(Routed { view, host, authority, route })
}

/// The host of a request in its one form.
///
/// # Errors
/// The same, for what can be nobody's host.
pub(crate) fn host(uri: &Uri, headers: &HeaderMap) -> Result<Hostname, Problem> {
    Hostname::from_authority(authority(uri, headers)?.as_bytes()).map_err(|_| Problem::UnknownHost)
}

/// The host of a request: the target's, or the one Host field (RFC 9112, section 3.2).
fn authority(uri: &Uri, headers: &HeaderMap) -> Result<String, Problem> {
    let mut fields = headers.get_all(header::HOST).iter();
    let field = fields.next().map(|host| host.to_str().map_err(|_| Problem::BadRequest)).transpose()?;
    if fields.next().is_some() {
        return Err(Problem::BadRequest);
    }
    match (uri.authority(), field) {
        // Two different hosts in one request: one of them is a lie.
        (Some(target), Some(host)) if !target.as_str().eq_ignore_ascii_case(host) => Err(Problem::BadRequest),
        (Some(target), _) => Ok(target.as_str().to_ascii_lowercase()),
        (None, Some(host)) => Ok(host.to_ascii_lowercase()),
        (None, None) => Err(Problem::BadRequest),
    }
}
