//! The way to an origin: a rule's pool of connections, and the three ways of asking.

mod connect;
mod fetch;
mod frames;
mod head;
mod http1;
mod http2;
mod io;
mod passthrough;
mod proxy;
mod socks;
mod tcp;
mod tls;
mod websocket;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_http::answer::Malformed;
use adit_policy::ingress::{OriginRequest, Service};
use adit_tunnel::connector::{RequestBody, StreamRequest};
use rustls::ClientConfig;

use crate::rescue::Problem;
use crate::serve::Answer;

pub(crate) use connect::connect_any;
pub(crate) use fetch::{check, json};
pub(crate) use passthrough::{passthrough, takes};
pub(crate) use tcp::tcp;
pub(crate) use websocket::websocket;

/// What a rule leads to, as one worker sees it.
pub(crate) struct Origin {
    service: Service,
    settings: OriginRequest,
    /// Connections that wait for the next request; the last one used is used first.
    idle: RefCell<Vec<Idle>>,
    /// The shared connection of an HTTP/2 origin.
    shared: RefCell<Option<http2::Shared>>,
    tls: OnceCell<Arc<ClientConfig>>,
    /// What TLS of visitors is ended with, where the edge does not.
    certificate: RefCell<passthrough::OwnCertificate>,
}

/// A connection that waits.
struct Idle {
    connection: http1::Connection,
    since: Instant,
}

/// An origin could not be asked, or did not answer well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    #[error("cannot connect to {0}")]
    Connect(String, #[source] std::io::Error),
    #[error("no connection to {0} within {1:?}")]
    ConnectTimeout(String, Duration),
    #[error("{0} is not allowed by the rule's `ipRules`")]
    NotAllowed(String),
    #[error("TLS with {0} failed")]
    Tls(String, #[source] std::io::Error),
    #[error("the trust store of this rule cannot be used: {0}")]
    Trust(String),
    #[error("the origin closed the connection before it answered")]
    Closed,
    #[error("the connection to the origin broke")]
    Broken(#[source] std::io::Error),
    #[error("the origin's answer is malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("the origin upgraded a connection that nobody asked to upgrade")]
    Upgraded,
    #[error("HTTP/2 with the origin failed")]
    Http2(#[from] h2::Error),
    #[error(
        "`disableChunkedEncoding` is set, and the body, whose length is not announced, has more than {0} bytes"
    )]
    TooLong(usize),
    #[error("the certificate of this rule cannot be used: {0}")]
    Certificate(String),
    #[error(
        "visitors bring TLS, and {0} does not speak it; set `tlsCertificate` and `tlsKey`, or lead to `https://…`"
    )]
    NoCertificate(String),
    #[error("the request cannot be sent: {0}")]
    Request(&'static str),
    #[error("nothing was said for {0:?} (`idleTimeout`)")]
    Silent(Duration),
    #[error("the origin sent more than {0} interim responses (1xx) to one request")]
    Interim(usize),
    #[error("the origin did not complete a head, a chunk size or its trailers within {0:?}")]
    Trickles(Duration),
}

impl OriginError {
    /// The stable word for logs and metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Connect(..) => "connect_failed",
            Self::NotAllowed(_) => "not_allowed",
            Self::ConnectTimeout(..) => "connect_timeout",
            Self::Silent(_) => "idle_timeout",
            Self::Interim(_) => "too_many_interim",
            Self::Trickles(_) => "origin_trickles",
            Self::Tls(..) | Self::Trust(_) | Self::Certificate(_) | Self::NoCertificate(_) => "tls_failed",
            Self::Closed | Self::Broken(_) => "origin_closed",
            Self::Malformed(_) | Self::Upgraded | Self::Http2(_) => "malformed_answer",
            Self::Request(_) | Self::TooLong(_) => "malformed_request",
        }
    }
}

impl Origin {
    pub(crate) fn new(service: &Service, settings: &OriginRequest) -> Self {
        Self {
            service: service.clone(),
            settings: settings.clone(),
            idle: RefCell::default(),
            shared: RefCell::default(),
            tls: OnceCell::new(),
            certificate: RefCell::default(),
        }
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// An idle connection that is still alive and was made for this server name.
    fn reuse(&self, server_name: Option<&str>) -> Option<http1::Connection> {
        let mut idle = self.idle.borrow_mut();
        let timeout = self.settings.keep_alive_timeout;
        while let Some(mut last) = idle.pop() {
            if last.since.elapsed() > timeout {
                // All below it are older still.
                idle.clear();
                return None;
            }
            if last.connection.serves(server_name) && last.connection.is_alive() {
                return Some(last.connection);
            }
        }
        None
    }

    fn keep(&self, connection: http1::Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.settings.keep_alive_connections {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self.service, Service::Http { tls: true, .. } | Service::Unix { tls: true, .. })
    }
}

/// Asks the origin and carries the answer.
///
/// # Errors
/// [`Problem`]; the head may be out already, and the stream is reset then.
pub(crate) async fn request(
    origin: &Rc<Origin>,
    request: &StreamRequest,
    body: &mut RequestBody,
    answer: &mut Answer,
) -> Result<(), Problem> {
    if origin.settings.http2_origin {
        return http2::request(origin, request, body, answer).await;
    }
    http1::request(origin, request, body, answer).await
}
