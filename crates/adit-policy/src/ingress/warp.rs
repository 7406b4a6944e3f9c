//! `warp-routing`: what the edge may reach over raw TCP and UDP, beside the rules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Ceiling, IpRule, dialled};

/// Settings of private-network routing (cloudflared's word for it). Nothing is reached without an `ipRules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarpRouting {
    /// Time to connect. 5 s.
    pub connect_timeout: Duration,
    /// Flows at the same time; 0 for no limit but our own.
    pub max_active_flows: u64,
    /// Interval of TCP keep-alive probes. 30 s.
    pub tcp_keep_alive: Duration,
    /// Where the edge may go; the first match wins. Without one, nowhere; ours.
    pub ip_rules: Vec<IpRule>,
    /// What the edge's ports may reach at most, where the rules are not the connector's own.
    pub ceiling: Option<Arc<Ceiling>>,
}

impl Default for WarpRouting {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            max_active_flows: 0,
            tcp_keep_alive: Duration::from_secs(30),
            ip_rules: Vec::new(),
            ceiling: None,
        }
    }
}

impl WarpRouting {
    /// Whether the edge may go anywhere at all.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ip_rules.iter().any(|rule| rule.allow)
    }

    /// Whether the edge may go there.
    #[must_use]
    pub fn allows(&self, to: SocketAddr) -> bool {
        dialled::allows(&self.ip_rules, to.ip(), to.port())
            && self.ceiling.as_ref().is_none_or(|ceiling| ceiling.admits_flow(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reached_without_a_rule_that_allows_it() {
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        let closed = WarpRouting::default();
        assert!(!closed.is_open() && !closed.allows(to("10.0.0.1:22")));
        let rule = |prefix: &str, allow| IpRule { prefix: prefix.parse().unwrap(), ports: vec![22], allow };
        let ip_rules = vec![rule("10.0.0.1/32", false), rule("10.0.0.0/8", true)];
        let open = WarpRouting { ip_rules, ..closed };
        assert!(open.is_open() && open.allows(to("10.0.0.2:22")) && open.allows(to("[::ffff:10.0.0.2]:22")));
        assert!(!open.allows(to("10.0.0.1:22")) && !open.allows(to("10.0.0.2:23")));
    }
}
