//! What the edge reaches beside the rules (`warp-routing`): raw TCP and UDP, only where `ipRules` allow.

pub(crate) mod tcp;
pub(crate) mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adit_policy::ingress::WarpRouting;

use crate::Connector;

/// Flows at the same time where the configuration sets no limit: each has a socket.
const FLOWS_MAX: u64 = 10_000;

/// Why the edge may not go there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOffered {
    /// No rule allows it.
    #[error("{0} is not allowed by `ipRules` of `warp-routing`")]
    NotAllowed(SocketAddr),
    /// The limit is reached.
    #[error("there are {0} flows already (`maxActiveFlows`)")]
    TooMany(u64),
}

/// Flows that are open in the whole process.
#[derive(Debug, Default)]
pub(crate) struct Flows(Arc<AtomicU64>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Flow(Arc<AtomicU64>);

impl Drop for Flow {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Flows {
    fn begin(&self, warp: &WarpRouting) -> Result<Flow, NotOffered> {
        let limit = if warp.max_active_flows == 0 { FLOWS_MAX } else { warp.max_active_flows };
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let flow = Flow(self.0.clone());
        if before < limit { Ok(flow) } else { Err(NotOffered::TooMany(limit)) }
    }
}

/// Whether the edge may open a flow there.
pub(crate) fn offer(connector: &Connector, to: SocketAddr) -> Result<Flow, NotOffered> {
    let in_force = connector.rules.load();
    let warp = &in_force.ingress.warp;
    if !warp.allows(to) {
        return Err(NotOffered::NotAllowed(to));
    }
    connector.flows.begin(warp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_counted_while_they_live() {
        let flows = Flows::default();
        let warp = WarpRouting { max_active_flows: 1, ..WarpRouting::default() };
        let first = flows.begin(&warp).unwrap();
        assert_eq!(flows.begin(&warp).unwrap_err(), NotOffered::TooMany(1));
        drop(first);
        assert!(flows.begin(&warp).is_ok());
    }
}
