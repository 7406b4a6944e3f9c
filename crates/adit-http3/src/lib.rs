//! HTTP/3 towards visitors: RFC 9114 with the static table of RFC 9204, over QUIC connections that are given to it.
//!
//! A layer of our own: nothing is read from a stream before somebody wants it, so what a stalled origin leaves unread
//! stays in the visitor's flow control window. What could be read in two ways is refused (docs/design/http3.md).

pub mod code;

pub mod varint;

pub mod frame;

pub mod qpack;

pub mod head;

mod body;

mod connection;

mod control;

mod reader;

mod respond;

pub use body::{BodyError, RecvBody};
pub use code::Code;
pub use connection::{Connection, ConnectionError, Incoming, RequestError};
pub use head::{HeadError, Protocol};
pub use respond::{Responder, SendError};

/// What a visitor may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a decoded head, counted as RFC 9114, section 4.2.2 does: names, values, and 32 for each field.
    pub head_bytes: usize,
    /// Fields of a head.
    pub fields: usize,
    /// Time for a head to be complete, from the start of its stream on.
    pub head_time: std::time::Duration,
    /// Bytes of one read of a body.
    pub read: usize,
}
