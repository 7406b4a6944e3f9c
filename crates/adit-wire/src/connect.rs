//! ConnectRequest and ConnectResponse: the heads of a request stream, written and read by hand.
//!
//! The bytes are Cap'n Proto in the unpacked stream framing (`tunnelrpc/proto/quic_metadata_protocol.capnp`). We write
//! one segment and read any segmentation. Reading copies nothing: texts are slices of the input.
//!
//! On a stream with [`Extensions::INTERIM`](crate::features::Extensions::INTERIM) the connector may write responses
//! with a status of 1xx before the final one; each is decoded by a call of its own.

mod decode;
mod encode;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::fields::Fields;

pub use decode::{decode_request_stream, decode_response_stream};
pub use encode::{encode_request, encode_response};

/// What a stream carries (cloudflared: `ConnectionType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A request and its response.
    Http,
    /// A request that becomes a two-way stream.
    WebSocket,
    /// Raw bytes to an address.
    Tcp,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// What the stream carries.
    pub kind: StreamKind,
    /// URL of the request, or `ip:port` for TCP.
    pub dest: Bytes,
    /// The request method; empty for TCP.
    pub method: Bytes,
    /// The host that rules match; the last one wins, as in cloudflared.
    pub host: Bytes,
    /// The header fields.
    pub fields: Fields,
    /// The body is framed (ours; see [`crate::frame`]).
    pub framed: bool,
}

impl ConnectRequest {
    /// Path and query of the URL; `/` when it has none. `*` behind the host, which no host ends with, is the target of
    /// `OPTIONS *` (RFC 9112, section 3.2.4). For TCP the address.
    #[must_use]
    pub fn target(&self) -> Bytes {
        if self.kind == StreamKind::Tcp {
            return self.dest.clone();
        }
        let after_scheme = self.dest.windows(3).position(|at| at == b"://").map_or(0, |at| at + 3);
        let rest = self.dest.slice(after_scheme..);
        match rest.iter().position(|byte| matches!(byte, b'/' | b'?')) {
            Some(start) if rest.get(start) == Some(&b'/') => rest.slice(start..),
            Some(start) => [b"/", rest.get(start..).unwrap_or_default()].concat().into(),
            None if rest.ends_with(b"*") => Bytes::from_static(b"*"),
            None => Bytes::from_static(b"/"),
        }
    }
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ConnectResponse {
    /// Why the origin could not be asked; for the operator only.
    pub error: Option<Bytes>,
    /// The status.
    pub status: Option<u16>,
    /// The header fields.
    pub fields: Fields,
    /// The connector has too many flows.
    pub flow_rate_limited: bool,
    /// The body is framed (ours; see [`crate::frame`]).
    pub framed: bool,
}

/// One metadata entry to write.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A key and its value.
    Meta(&'a str, &'a [u8]),
    /// A header field: the key is `HttpHeader:` and the name.
    Header(&'a [u8], &'a [u8]),
}

/// Bytes that are no message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A size passes its limit.
    #[error("{0} passes its limit")]
    TooLarge(&'static str),
    /// The bytes break the format.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
}
