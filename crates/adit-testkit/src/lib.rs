//! Edges, connectors, origins and visitors for tests, as real processes and real sockets.
//!
//! A test reads as a sentence: a home with an origin, an edge, a connector in some way, a visitor who asks.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot go on ends with a panic"
)]

pub mod access;
pub mod acme;
pub mod connector;
pub mod crowdsec;
pub mod edge;
pub mod foreign;
pub mod frames;
pub mod git;
pub mod home;
pub mod issuer;
pub mod origin;
pub mod pebble;
pub mod pki;
pub mod program;
pub mod ssh;
pub mod tap;
pub mod visitor;
pub mod visitor3;

pub use connector::{Connector, Way};
pub use edge::Edge;
pub use home::Home;
pub use origin::Origin;
pub use program::{Ended, Program};
pub use visitor::{Answer, Visitor};
