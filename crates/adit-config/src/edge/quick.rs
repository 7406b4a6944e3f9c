//! `quick-tunnels`: who gets a throw-away name under the domain.

use adit_policy::ingress::IpPrefix;
use adit_policy::quick::{LIMIT, QuickTunnels};

use crate::diagnostic::Findings;
use crate::yaml::{self, Node, Table};

/// Reads `quick-tunnels`.
pub(super) fn decode(node: &Node, findings: &mut Findings) -> Option<QuickTunnels> {
    let mut table = Table::open(node, "`quick-tunnels`", findings)?;
    let allow =
        table.require("allow", "[192.168.0.0/16]", findings).map(yaml::one_or_many).unwrap_or_default();
    let allow: Vec<Option<IpPrefix>> = allow.iter().map(|node| decode_prefix(node, findings)).collect();
    let limit = table.take("limit").and_then(|node| yaml::integer(node, 1..=10_000, findings));
    table.finish(findings);
    Some(QuickTunnels { allow: allow.into_iter().flatten().collect(), limit: limit.unwrap_or(LIMIT) })
}

fn decode_prefix(node: &Node, findings: &mut Findings) -> Option<IpPrefix> {
    let text = yaml::text(node, findings)?;
    let prefix = text.parse();
    if let Err(error) = &prefix {
        let help = "write `0.0.0.0/0` and `::/0` for everybody";
        findings.error(node.span, format!("`{text}` is {error}")).help(help);
    }
    prefix.ok()
}
