//! The control stream: Cap'n Proto calls between connector and edge.
//!
//! The futures here are not `Send`; they run on the thread that owns the connection.

pub mod client;

pub mod server;

pub(crate) mod push;

pub(crate) mod sessions;

mod stream;

use capnp::message::ReaderOptions;

use crate::limits::RPC_MESSAGE_WORDS_MAX;

/// Bounds on one message, so that a hostile peer cannot make us walk for ever.
fn reader_options() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(Some(RPC_MESSAGE_WORDS_MAX)).nesting_limit(32);
    options
}
