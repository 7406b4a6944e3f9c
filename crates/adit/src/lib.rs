//! The program as a library: what the commands do, without the command line. Wiring only.

pub mod cli;

pub mod failure;

pub mod edge;

pub mod explain;

pub mod connect;

pub mod status;

pub mod cache;

pub mod ban;

pub mod shutoff;

pub mod tunnel;

pub mod demo;

pub mod access;

pub mod check;

pub mod ingress;

pub mod instead;

mod admin;

mod local;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Seconds since 1970.
fn unix_now() -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.as_secs().cast_signed()
}
