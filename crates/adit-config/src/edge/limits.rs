//! `limits`: how many connections and requests there may be at the same time.

use std::time::Duration;

use adit_policy::capacity::Caps;

use crate::diagnostic::Findings;
use crate::yaml::{self, Node, Table};

/// The most that can be said: more than any machine has descriptors.
const MOST: u32 = 16_000_000;

/// What the file says. What it leaves out follows from the limit of descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsEntry {
    /// Connections of all visitors.
    pub connections: Option<u32>,
    /// Connections of one visitor.
    pub connections_per_address: Option<u32>,
    /// Requests in flight of all visitors.
    pub requests: Option<u32>,
    /// Requests in flight of one visitor.
    pub requests_per_address: Option<u32>,
    /// How long a connection without requests is kept.
    pub idle: Option<Duration>,
}

impl LimitsEntry {
    /// Lays what the file says over what follows from the machine.
    #[must_use]
    pub fn over(&self, caps: Caps) -> Caps {
        let caps = self.connections.map_or(caps, |connections| caps.with_connections(connections as usize));
        let or = |said: Option<u32>, cap: usize| said.map_or(cap, |said| said as usize);
        Caps {
            connections: caps.connections,
            connections_per_address: or(self.connections_per_address, caps.connections_per_address),
            requests: or(self.requests, caps.requests),
            requests_per_address: or(self.requests_per_address, caps.requests_per_address),
            idle: self.idle.unwrap_or(caps.idle),
        }
    }
}

/// Reads `limits`.
pub(super) fn decode(node: &Node, findings: &mut Findings) -> Option<LimitsEntry> {
    let mut table = Table::open(node, "`limits`", findings)?;
    let mut number = |key| table.take(key).and_then(|node| yaml::integer(node, 1..=MOST, findings));
    let entry = LimitsEntry {
        connections: number("connections"),
        connections_per_address: number("connections-per-address"),
        requests: number("requests"),
        requests_per_address: number("requests-per-address"),
        idle: None,
    };
    let idle = table.take("idle").and_then(|node| yaml::period(node, findings));
    table.finish(findings);
    Some(LimitsEntry { idle, ..entry })
}
