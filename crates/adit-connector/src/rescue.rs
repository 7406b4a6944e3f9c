//! The only place where an error becomes an answer to the edge. Causes go to the log and to the edge's operator; the
//! visitor sees neither.

use adit_policy::host::HostError;
use adit_policy::path::PathRefusal;
pub(crate) use adit_telemetry::logging::chain;
use adit_tunnel::StreamError;
use adit_tunnel::connector::Reply;
use adit_wire::fields::Fields;
use adit_wire::names;
use bytes::Bytes;

use crate::access::Denied;
use crate::origin::OriginError;
use crate::private::NotOffered;

/// What can go wrong with a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// No rule matches: there are no rules at all.
    #[error("no ingress rule matches")]
    NoRule,
    /// The rule wants a token.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The host of the request is none.
    #[error("the host of the request cannot be read: {0}")]
    BadHost(#[from] HostError),
    /// The path of the request is none, or several.
    #[error(transparent)]
    BadPath(#[from] PathRefusal),
    /// The edge sent a request that makes no sense.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// The rule's service is of a kind that cannot be asked this.
    #[error("a `{0}` service cannot answer this request")]
    Unsupported(String),
    /// The edge asks for what is not offered.
    #[error(transparent)]
    NotOffered(#[from] NotOffered),
    /// The origin could not be asked, or broke off before its head was complete.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The visitor is gone, or the tunnel is. There is nobody to answer.
    #[error("nobody waits for the answer: {0}")]
    Gone(#[from] StreamError),
    /// The edge cancelled the stream.
    #[error("cancelled by the edge")]
    Cancelled,
}

impl From<adit_http::answer::Malformed> for Problem {
    fn from(error: adit_http::answer::Malformed) -> Self {
        Self::Origin(error.into())
    }
}

impl Problem {
    /// The stable word for logs and metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::Denied(Denied::NoKeys { .. }) => "no_keys",
            Self::Denied(_) => "forbidden",
            Self::Malformed(_) | Self::BadHost(_) | Self::BadPath(_) => "malformed_request",
            Self::Unsupported(_) => "unsupported_service",
            Self::NotOffered(_) => "not_allowed",
            Self::Origin(error) => error.code(),
            Self::Gone(_) | Self::Cancelled => "cancelled",
        }
    }

    /// Whether the origin or the operator has something to mend.
    pub(crate) fn is_failure(&self) -> bool {
        let nobodys = matches!(self, Self::Gone(_) | Self::Cancelled);
        !nobodys && self.code() != "forbidden"
    }

    /// What ended a relay between an origin and the edge: the edge's own errors are known as such.
    pub(crate) fn of_relay(error: std::io::Error) -> Self {
        match error.downcast::<StreamError>() {
            Ok(gone) => Self::Gone(gone),
            Err(error) => OriginError::Broken(error).into(),
        }
    }

    /// Whether nothing of the request was sent: another origin may be asked.
    pub(crate) fn is_before_request(&self) -> bool {
        use OriginError::{Connect, ConnectTimeout, Tls};
        matches!(self, Self::Origin(Connect(..) | ConnectTimeout(..) | Tls(..)))
    }
}

/// Answers a stream whose head is not answered yet.
pub(crate) async fn rescue(problem: &Problem, reply: Reply) -> u16 {
    match problem {
        // cloudflared: 503 and 403 with no body.
        Problem::NoRule => bare(503, reply).await,
        Problem::BadHost(_) | Problem::BadPath(_) => bare(400, reply).await,
        Problem::Denied(Denied::NoToken(_) | Denied::BadToken(_)) => bare(403, reply).await,
        Problem::Origin(OriginError::Silent(_) | OriginError::Trickles(_)) => bare(504, reply).await,
        Problem::Gone(_) | Problem::Cancelled => 499,
        _ => {
            let intro = "Unable to reach the origin service";
            reply.refuse(&format!("{intro}: {}", chain(problem))).await;
            502
        }
    }
}

/// The fields of an error of ours: the edge has pages for it, and another edge sees an empty answer.
pub(crate) fn own_answer() -> Fields {
    Fields::from_texts(&[("Content-Length", "0"), (names::OWN_ANSWER, "1")])
}

async fn bare(status: u16, reply: Reply) -> u16 {
    // An edge that is gone needs no answer.
    drop(reply.head(status, &own_answer(), Bytes::new(), true).await);
    status
}
