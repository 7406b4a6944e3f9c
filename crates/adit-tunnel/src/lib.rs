//! cloudflared's tunnel protocol, driven over QUIC and over HTTP/2 on TLS.
//!
//! The roles are inverted: the connector dials out, the edge opens the request streams. [`edge`] is the end that
//! sends requests, [`connector`] the end that answers them. Both hide the transport: what is above this crate sees a
//! [`edge::Connection`] or a [`connector::Link`] and never a QUIC or HTTP/2 type.
//!
//! A leaner framing between our own two ends would be a third transport: a variant of the same enums.

pub mod limits;

pub mod error;

pub mod quic;

pub mod tls;

pub mod control;

pub mod edge;

pub mod connector;

pub mod datagrams;

pub mod coalesce;

mod address_validation;
mod framing;

mod window;

pub use error::{LinkClosed, SendError, StreamError};

/// Which transport carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/2 on TLS over TCP.
    Http2,
    /// QUIC over UDP.
    Quic,
}

impl Protocol {
    /// The word for it in logs, metrics and configuration (cloudflared's spelling).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http2 => "http2",
            Self::Quic => "quic",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
