//! `trusted`: proxies in front of the edge, whose word about visitors counts.

use adit_policy::ingress::IpPrefix;
use adit_policy::policy::address;
use adit_policy::trust::{AddressField, CLOUDFLARE, FLY, Trust};

use crate::diagnostic::Findings;
use crate::yaml::{self, Kind, Node, Table};

const FIELDS: [(&str, AddressField); 4] = [
    ("x-forwarded-for", AddressField::ForwardedFor),
    ("x-real-ip", AddressField::RealIp),
    ("fly-client-ip", AddressField::Fly),
    ("cf-connecting-ip", AddressField::Cloudflare),
];

/// Reads `trusted`: a platform's name, networks, or networks with the field that they use.
pub(super) fn decode(node: &Node, findings: &mut Findings) -> Option<Trust> {
    if matches!(node.kind, Kind::Map(_)) {
        let mut table = Table::open(node, "`trusted`", findings)?;
        let from = table.require("from", "[10.0.0.0/8]", findings);
        let field = table.take("header").and_then(|node| yaml::word(node, &FIELDS, findings));
        let from = from.map(|node| networks(node, findings)).unwrap_or_default();
        table.finish(findings);
        return Some(Trust { from, field: field.unwrap_or_default() });
    }
    match node.as_text() {
        Some("fly") => Some(Trust::of(&FLY, AddressField::Fly)),
        Some("cloudflare") => Some(Trust::of(&CLOUDFLARE, AddressField::Cloudflare)),
        _ => Some(Trust { from: networks(node, findings), field: AddressField::ForwardedFor }),
    }
}

fn networks(node: &Node, findings: &mut Findings) -> Vec<IpPrefix> {
    yaml::one_or_many(node).iter().filter_map(|node| network(node, findings)).collect()
}

/// A network, or an address alone.
fn network(node: &Node, findings: &mut Findings) -> Option<IpPrefix> {
    let text = yaml::text(node, findings)?;
    let prefix = address::parse(text);
    if prefix.is_none() {
        let help = "write `fly`, `cloudflare`, or networks such as `[10.0.0.0/8]`";
        findings.error(node.span, format!("`{text}` is neither a known platform nor a network")).help(help);
    }
    prefix
}
