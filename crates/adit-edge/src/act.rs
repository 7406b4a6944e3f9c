//! Fourth stage: what the edge answers by itself, and what the origin is asked for instead. Leaves [`Onward`].

use std::ops::Deref;
use std::rc::Rc;

use adit_http::body::declared_length;
use adit_policy::field::parse_length;
use adit_policy::path::RequestPath;
use adit_policy::policy::Settings;
use adit_policy::policy::act::{Asked, Respond};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Uri};

use crate::limit::Admitted;
use crate::rescue::Problem;
use crate::route::Routed;

/// The proof that a request goes on to the origin, or to what is kept of it.
pub(crate) struct Onward(Routed);

impl Deref for Onward {
    type Target = Routed;

    fn deref(&self) -> &Routed {
        &self.0
    }
}

/// What comes of a request.
pub(crate) enum Act {
    /// This answer.
    Answer(Response<Bytes>),
    /// It goes on.
    Onward(Rc<Onward>),
}

/// Answers, or sets what the origin is asked for. There is no other way to make an [`Onward`].
///
/// # Errors
/// [`Problem::TooLarge`] for a body that is announced larger than is let through, [`Problem::BadRequest`] and
/// [`Problem::AmbiguousPath`] for a path that is rewritten to what cannot be forwarded.
pub(crate) fn act(admitted: Admitted, head: &mut Parts) -> Result<Act, Problem> {
    let routed = admitted.into_arrival();
    let settings = routed.settings();
    if ends_here(head) {
        return Ok(Act::Answer(own_options(settings)));
    }
    let path = head.uri.path().to_owned();
    let asked = Asked { host: routed.authority(), path: &path, query: head.uri.query() };
    if let Some(answer) = redirection(settings, &asked).or_else(|| settings.respond.as_ref().map(fixed)) {
        return Ok(Act::Answer(answer));
    }
    let length = declared_length(&head.headers);
    if settings.body_limit.zip(length).is_some_and(|(most, length)| length > most) {
        return Err(Problem::TooLarge);
    }
    let rewritten =
        settings.rewrite.iter().flat_map(|rules| rules.iter()).find_map(|rule| rule.target(&asked));
    if let Some(target) = rewritten {
        head.uri = with_target(&head.uri, &target).ok_or(Problem::BadRequest)?;
        // The connector chooses its rule by what it gets.
        let path = RequestPath::parse(head.uri.path())?;
        routed.view().check_path(routed.route(), routed.host(), &path)?;
    }
    Ok(Act::Onward(Rc::new(Onward(routed))))
}

/// Whether a request is for the server as a whole (`OPTIONS *`), or may go no further (RFC 9110, section 7.6.2). One that may go
/// further may go one step less.
fn ends_here(head: &mut Parts) -> bool {
    if head.method != Method::OPTIONS && head.method != Method::TRACE {
        return false;
    }
    let left = head.headers.get(header::MAX_FORWARDS).and_then(|left| parse_length(left.as_bytes()));
    if let Some(less) = left.and_then(|left| left.checked_sub(1)) {
        head.headers.insert(header::MAX_FORWARDS, HeaderValue::from(less));
    }
    left == Some(0) || (head.method == Method::OPTIONS && head.uri.path() == "*")
}

/// The edge's own answer to a request that ends here: what it lets through.
fn own_options(settings: &Settings) -> Response<Bytes> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let allowed = settings.methods.as_deref().unwrap_or(&known);
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    // Methods are tokens.
    if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
        response.headers_mut().insert(header::ALLOW, names);
    }
    response
}

fn redirection(settings: &Settings, asked: &Asked<'_>) -> Option<Response<Bytes>> {
    let rules = settings.redirect.as_ref()?;
    let (rule, target) = rules.iter().find_map(|rule| Some((rule, rule.target(asked)?)))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = rule.status;
    response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(target).ok()?);
    Some(response)
}

fn fixed(respond: &Respond) -> Response<Bytes> {
    let mut body = String::from(&*respond.body);
    if !body.is_empty() && !body.ends_with('\n') {
        body.push('\n');
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = respond.status;
    if respond.status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(header::CONTENT_TYPE, respond.content_type.clone());
    }
    response
}

/// A URI with another path and query.
pub(crate) fn with_target(uri: &Uri, target: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use adit_policy::policy::Patch;
    use http::{HeaderMap, Request};

    use super::*;
    use crate::context::fixture::{routed, snapshot, worker};
    use crate::guard::guard;
    use crate::limit::admit;

    #[test]
    fn a_request_that_the_edge_does_not_answer_leaves_the_fourth_stage() {
        let body_limit = Some(Some(10));
        let worker = worker(snapshot(Patch { body_limit, ..Patch::default() }));
        let ask = |length: &str| {
            let url = "http://a.x.example/b";
            let admitted = guard(routed(&worker, "192.0.2.1", url).unwrap(), &Method::POST)
                .and_then(|permitted| admit(permitted, &HeaderMap::new()));
            let request = Request::post(url).header(header::CONTENT_LENGTH, length).body(()).unwrap();
            act(admitted.unwrap(), &mut request.into_parts().0)
        };
        assert!(matches!(ask("10"), Ok(Act::Onward(onward)) if onward.host().as_str() == "a.x.example"));
        assert!(matches!(ask("11"), Err(Problem::TooLarge)));
    }

    #[test]
    fn a_request_goes_as_far_as_it_may() {
        for (method, target, left, ends, sent_on) in [
            (Method::OPTIONS, "/", Some("0"), true, Some("0")),
            (Method::TRACE, "/", Some("0"), true, Some("0")),
            (Method::OPTIONS, "/", Some("7"), false, Some("6")),
            (Method::OPTIONS, "/", Some("many"), false, Some("many")),
            (Method::OPTIONS, "/", None, false, None),
            (Method::OPTIONS, "*", None, true, None),
            (Method::GET, "/", Some("0"), false, Some("0")),
        ] {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = target.parse().unwrap();
            let fields = left.map(|left| (header::MAX_FORWARDS, HeaderValue::from_static(left)));
            request.headers_mut().extend(fields);
            let (mut head, ()) = request.into_parts();
            assert_eq!(ends_here(&mut head), ends, "{head:?}");
            let left = head.headers.get(header::MAX_FORWARDS).map(HeaderValue::as_bytes);
            assert_eq!(left, sent_on.map(str::as_bytes), "{head:?}");
        }
    }
}
