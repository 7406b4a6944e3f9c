//! The only place where an error becomes an answer. The visitor reads a page, the operator reads the cause.

use std::sync::Arc;
use std::time::Duration;

use adit_http::page::{Hop, Page, wants_json};
use adit_policy::limits::RETRY_AFTER_SECONDS;
use adit_policy::path::PathRefusal;
use adit_policy::policy::pace::Slow;
use adit_policy::policy::pages::Pages;
use adit_tunnel::SendError;
use adit_wire::names;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::capacity::Refused;
use crate::limit::Exceeded;
use crate::upstream::Unreached;

/// What can go wrong with a request, whoever's fault it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// Nobody serves the host; there is no answer.
    #[error("nobody serves this host")]
    UnknownHost,
    /// The request makes no sense.
    #[error("the request makes no sense")]
    BadRequest,
    /// The path can be read in several ways, and rules treat them differently.
    #[error(
        "the path can be read in several ways, and the rules of this name or of its connector treat them differently"
    )]
    AmbiguousPath,
    /// The connection was opened for another name, or the name is not served this way.
    #[error("the connection is for another name")]
    Misdirected,
    /// The host wants a certificate of the visitor's.
    #[error("the visitor showed no certificate")]
    CertificateRequired,
    /// The visitor's certificate is not one that the host trusts; holds the cause.
    #[error("the client certificate is not valid: {0}")]
    CertificateInvalid(&'static str),
    /// The operator has taken the host out of service; holds his words.
    #[error("the host is under maintenance")]
    Maintenance(Arc<str>),
    /// The operator has shut the host off.
    #[error("the host is shut off")]
    ShutOff,
    /// The visitor is banned.
    #[error("the address is banned")]
    Banned,
    /// The visitor's address may not come.
    #[error("the address is not allowed")]
    Denied,
    /// The same, without an answer.
    #[error("the address is not allowed, and gets no answer")]
    Dropped,
    /// The method is not let through; holds those that are.
    #[error("the method is not let through")]
    Method(Arc<[Method]>),
    /// The visitor asks too often.
    #[error("the visitor asks too often")]
    TooOften(Exceeded),
    /// The visitor asks too much at the same time.
    #[error("the visitor asks too much at the same time")]
    TooMuch,
    /// The body is larger than is let through.
    #[error("the body is too large")]
    TooLarge,
    /// The visitor sends its body too slowly.
    #[error("{0}")]
    SlowClient(Slow),
    /// There are too many requests in flight.
    #[error("{0}")]
    Overloaded(Refused),
    /// The answer did not begin in time.
    #[error("the answer did not begin within {0:?}")]
    Slow(Duration),
    /// The call is not signed by whom it is about.
    #[error("the signature is wrong, or too old")]
    NotSigned,
    /// What was asked for cannot be written down.
    #[error("it cannot be written down")]
    NotRemembered,
    /// The visitor wants what is kept, and nothing is.
    #[error("nothing is kept")]
    NotKept,
    /// What somebody else's request for the same has come to.
    #[error(transparent)]
    Again(Arc<Self>),
    /// The host is known and no connector is there.
    #[error("no connector is connected")]
    NoConnection,
    /// The connector has answered with this error by itself: no rule, no service, no word from the service.
    #[error("the connector answered {0} by itself")]
    Home(StatusCode),
    /// A connector was asked and no answer came of it.
    #[error("{0}")]
    Upstream(#[from] SendError),
}

impl From<Unreached<SendError>> for Problem {
    fn from(unreached: Unreached<SendError>) -> Self {
        match unreached {
            Unreached::NoConnection => Self::NoConnection,
            Unreached::Failed(error) => Self::Upstream(error),
        }
    }
}

impl Problem {
    /// The stable word for logs, metrics and JSON pages.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown_host",
            Self::BadRequest => "bad_request",
            Self::AmbiguousPath => "ambiguous_path",
            Self::Home(StatusCode::BAD_REQUEST) => "bad_request",
            Self::Misdirected => "misdirected",
            Self::CertificateRequired => "certificate_required",
            Self::CertificateInvalid(_) => "certificate_invalid",
            Self::Maintenance(_) => "maintenance",
            Self::ShutOff => "shut_off",
            Self::Banned => "banned",
            Self::Denied | Self::Dropped => "denied",
            Self::Method(_) => "method_not_allowed",
            Self::TooOften(_) => "rate_limited",
            Self::TooMuch => "too_many_at_once",
            Self::TooLarge => "body_too_large",
            Self::SlowClient(_) => "client_slow",
            Self::Overloaded(_) => "overloaded",
            Self::Slow(_) => "origin_silent",
            Self::NotKept => "not_kept",
            Self::NotSigned => "not_signed",
            Self::NotRemembered => "not_remembered",
            Self::Again(problem) => problem.code(),
            Self::NoConnection => "no_connection",
            Self::Home(StatusCode::NOT_FOUND) => "no_rule",
            Self::Home(StatusCode::FORBIDDEN) => "forbidden",
            Self::Home(StatusCode::GATEWAY_TIMEOUT) => "origin_silent",
            Self::Home(_) => "home",
            Self::Upstream(SendError::Origin(_)) => "origin_unreachable",
            Self::Upstream(SendError::NotSent | SendError::Lost) => "connection_lost",
            Self::Upstream(SendError::Upload) => "upload_broken",
            Self::Upstream(SendError::Reset) => "origin_reset",
            Self::Upstream(_) => "bad_answer",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownHost | Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::CertificateRequired
            | Self::CertificateInvalid(_)
            | Self::Banned
            | Self::Denied
            | Self::Dropped
            | Self::NotSigned => StatusCode::FORBIDDEN,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooOften(_) | Self::TooMuch => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) | Self::NotKept => StatusCode::GATEWAY_TIMEOUT,
            Self::Again(problem) => problem.status(),
            Self::BadRequest | Self::AmbiguousPath | Self::Upstream(SendError::Upload) => {
                StatusCode::BAD_REQUEST
            }
            Self::SlowClient(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NoConnection
            | Self::Maintenance(_)
            | Self::ShutOff
            | Self::NotRemembered
            | Self::Overloaded(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Home(status) => *status,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether the connector has answered by itself and left the page to us.
    pub(crate) fn of_home<B>(answer: &Response<B>) -> Option<Self> {
        let is_own = answer.headers().contains_key(names::OWN_ANSWER);
        is_own.then(|| Self::Home(answer.status()))
    }

    /// Whether it is about silence.
    pub(crate) fn is_slow(&self) -> bool {
        match self {
            Self::Slow(_) | Self::Home(StatusCode::GATEWAY_TIMEOUT) => true,
            Self::Again(problem) => problem.is_slow(),
            _ => false,
        }
    }

    /// Whether home or its service fails, so that an old answer is better than this.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::NoConnection | Self::Upstream(_) | Self::Slow(_) => true,
            Self::Home(status) => status.is_server_error(),
            Self::Again(problem) => problem.is_failure(),
            _ => false,
        }
    }

    /// Which part of the way is broken.
    fn broken(&self) -> Option<Hop> {
        match self {
            Self::NoConnection | Self::Upstream(SendError::NotSent | SendError::Lost) => Some(Hop::Home),
            Self::Again(problem) => problem.broken(),
            Self::Upstream(SendError::Upload) => None,
            Self::Home(StatusCode::GATEWAY_TIMEOUT) | Self::Upstream(_) | Self::Slow(_) => Some(Hop::Service),
            _ => None,
        }
    }

    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Misdirected => {
                ("Wrong connection", "This connection was opened for another name. Please try again.")
            }
            Self::CertificateRequired => (
                "A certificate is needed",
                "This site is for visitors who prove themselves with a certificate, and your browser has shown none.",
            ),
            Self::CertificateInvalid(_) => (
                "Another certificate is needed",
                "This site is for visitors who prove themselves with a certificate, and it does not accept the one that your browser has shown.",
            ),
            Self::Maintenance(text) => ("Back soon", text),
            Self::Home(StatusCode::NOT_FOUND) => {
                ("Nothing here", "This name is connected, but nothing is served under this address.")
            }
            Self::ShutOff => ("Switched off", "This site is switched off by its operator."),
            Self::Banned => (
                "Not now",
                "Too many requests from your network were refused, so it is kept out for a while.",
            ),
            Self::Denied | Self::Dropped => ("Not allowed", "This site is not open to your network."),
            Self::Method(_) => ("Not allowed", "This site does not take requests of this kind."),
            Self::TooOften(_) => ("Too many requests", "Please wait a moment, then try again."),
            Self::TooMuch => {
                ("Too many requests at once", "Please wait until your other requests are answered.")
            }
            Self::NotSigned => ("Not allowed", "The signature is wrong, or older than five minutes."),
            Self::NotRemembered => ("Not now", "This could not be written down. Please try again."),
            Self::NotKept => {
                ("Nothing is kept", "There is no copy of this here, and none was to be fetched.")
            }
            Self::Again(problem) => problem.words(),
            Self::TooLarge => ("Too large", "This is larger than the site takes."),
            Self::SlowClient(_) => ("Request timeout", "The request was sent too slowly, so it was ended."),
            Self::Overloaded(_) => {
                ("Too busy", "Too many requests are running. Please try again in a moment.")
            }
            Self::Home(StatusCode::FORBIDDEN) => ("Not allowed", "You may not see this page."),
            Self::Home(StatusCode::GATEWAY_TIMEOUT) | Self::Slow(_) => (
                "The site does not answer in time",
                "This name is connected, but the service behind it has said nothing for too long.",
            ),
            Self::BadRequest | Self::Home(StatusCode::BAD_REQUEST) => {
                ("Bad request", "This request could not be understood.")
            }
            Self::Home(_) => ("Not now", "This name is connected, but it does not serve this page."),
            Self::UnknownHost => ("Unknown host", "Nothing is served under this name."),
            Self::AmbiguousPath => (
                "Bad request",
                "The address of this page can be read in more than one way, and this site treats them differently.",
            ),
            Self::NoConnection => (
                "Home is away",
                "The place that serves this site is not connected right now. It usually comes back within a minute.",
            ),
            Self::Upstream(SendError::Upload) => {
                ("Upload broken off", "The request ended before it was complete.")
            }
            Self::Upstream(SendError::NotSent | SendError::Lost) => (
                "Connection lost",
                "The connection to this site broke while it was answering. Please try again.",
            ),
            Self::Upstream(_) => (
                "The site does not answer",
                "This name is connected, but the service behind it gave no answer.",
            ),
        }
    }

    /// The answer, with its body. HEAD gets the same head.
    pub(crate) fn answer(&self, reader: &Reader<'_>, request_id: &str) -> Response<Bytes> {
        let (title, text) = self.words();
        let (status, code, host) = (self.status(), self.code(), reader.host);
        let page = Page { status, code, title, text, request_id, host, broken: self.broken() };
        let own = reader.pages.and_then(|pages| pages.find(status.as_u16()));
        let (body, content_type) = match own {
            _ if wants_json(reader.accept) => (page.json(), "application/json"),
            Some(template) => (page.fill(template), "text/html; charset=utf-8"),
            None => (page.html(), "text/html; charset=utf-8"),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = page.status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.say_more(fields);
        response
    }

    /// What a program wants to know.
    fn say_more(&self, fields: &mut HeaderMap) {
        match self {
            Self::TooOften(exceeded) => {
                fields.insert(header::RETRY_AFTER, HeaderValue::from(exceeded.wait));
                fields.insert("ratelimit-limit", HeaderValue::from(exceeded.limit));
                fields.insert("ratelimit-remaining", HeaderValue::from(0));
                fields.insert("ratelimit-reset", HeaderValue::from(exceeded.wait));
            }
            Self::Again(problem) => problem.say_more(fields),
            Self::Method(methods) => {
                let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
                if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
                    fields.insert(header::ALLOW, names);
                }
            }
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE || matches!(self, Self::TooMuch) => {
                fields.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
    }
}

impl From<PathRefusal> for Problem {
    fn from(refusal: PathRefusal) -> Self {
        match refusal {
            PathRefusal::Ambiguous => Self::AmbiguousPath,
            _ => Self::BadRequest,
        }
    }
}

/// Who is to read the answer.
pub(crate) struct Reader<'a> {
    pub(crate) accept: Option<&'a HeaderValue>,
    /// The host; empty where it is not known.
    pub(crate) host: &'a str,
    /// The operator's own pages.
    pub(crate) pages: Option<&'a Pages>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOMEBODY: Reader<'_> = Reader { accept: None, host: "a.example", pages: None };

    #[test]
    fn the_visitor_does_not_read_the_cause() {
        let problem = Problem::Upstream(SendError::Origin("dial tcp 10.0.0.5:3000: refused".to_owned()));
        let answer = problem.answer(&SOMEBODY, "id");
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert!(!String::from_utf8_lossy(answer.body()).contains("10.0.0.5"));
        assert!(problem.to_string().contains("10.0.0.5"), "the operator does");
    }

    #[test]
    fn home_away_says_when_to_come_back() {
        let answer = Problem::NoConnection.answer(&SOMEBODY, "id");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "5");
    }
}
