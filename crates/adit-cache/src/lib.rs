//! Stored responses: small ones in memory, all of them on disk, each in a file of its own.
//!
//! What may be stored and used is decided elsewhere (`adit_policy::cache`). Here, a response has a [`meta`] and a [`body`];
//! a `file` holds both so that a torn one is known; the `index` knows what is there and what goes first when room is
//! needed; [`mod@purge`] says what does not count any more; the [`store`] is all of it together.

pub mod body;
mod file;
mod index;
pub mod meta;
pub mod purge;
mod scan;
pub mod store;

pub use body::{Broken, Reader};
pub use meta::{Head, Kind, Meta, Place};
pub use purge::{Purge, What};
pub use store::{Fill, Found, Object, Room, Stats, Store};
