//! Edge, connector, origin and visitor together, as users run them.
//!
//! Each test goes through every way to connect: our connector over both transports, and the real cloudflared over both
//! when `CLOUDFLARED_BIN` names it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

mod abuse;
mod bans;
mod browser;
mod cache;
mod cache_keys;
mod certificates;
mod command;
mod consent;
mod door;
mod drain;
mod failover;
mod fields;
mod forwarding;
mod handshake;
mod hosts;
mod http3;
mod interim;
mod linger;
mod origins;
mod policy;
mod ports;
mod program;
mod purge;
mod push;
mod reading;
mod refusals;
mod replay;
mod scenario;
mod stalled;
mod streaming;
mod tcp;
mod tenants;
mod tools;
mod websocket;
