//! `ports`: TCP and UDP ports that lead to an address behind a tunnel.

use std::net::SocketAddr;

use adit_policy::ingress::ProxyProtocol;
use adit_policy::port::{Port, PortProtocol, UDP_IDLE};

use super::listen;
use crate::diagnostic::Findings;
use crate::tunnel_name::check_name;
use crate::yaml::{self, Node, Span, Table};

/// A port, with where its tunnel's name stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortEntry {
    /// The port.
    pub port: Port,
    /// Where the name of its tunnel stands.
    pub tunnel_span: Span,
}

/// Reads `ports`.
pub(super) fn decode(node: &Node, findings: &mut Findings) -> Vec<PortEntry> {
    let nodes = yaml::list(node, findings).unwrap_or_default();
    let ports: Vec<(PortEntry, Span)> =
        nodes.iter().filter_map(|node| Some((decode_port(node, findings)?, node.span))).collect();
    for (index, (second, span)) in ports.iter().enumerate() {
        let same = |(first, _): &&(PortEntry, Span)| {
            first.port.listen == second.port.listen && first.port.protocol == second.port.protocol
        };
        if second.port.listen.port() != 0
            && let Some((_, first)) = ports.iter().take(index).find(same)
        {
            let (listen, protocol) = (second.port.listen, second.port.protocol);
            let message = format!("two ports listen at {listen} ({protocol})");
            findings.error(*span, message).help(format!("the other is in line {}", first.line));
        }
    }
    ports.into_iter().map(|(entry, _)| entry).collect()
}

fn decode_port(node: &Node, findings: &mut Findings) -> Option<PortEntry> {
    let mut table = Table::open(node, "a port", findings)?;
    let listen = table.require("listen", "2222", findings).and_then(|node| listen::address(node, findings));
    let words = [("tcp", PortProtocol::Tcp), ("udp", PortProtocol::Udp)];
    let protocol_node = table.take("protocol");
    let protocol = protocol_node.map_or(Some(PortProtocol::Tcp), |node| yaml::word(node, &words, findings));
    let tunnel = table.require("tunnel", "home", findings);
    let name = tunnel.and_then(|node| decode_name(node, findings));
    let to = table.require("to", "10.0.0.5:22", findings).and_then(|node| decode_to(node, findings));
    let words = [("off", ProxyProtocol::Off), ("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
    let proxy_protocol = table.take("proxy-protocol").and_then(|node| yaml::word(node, &words, findings));
    let idle_timeout = table.take("idle-timeout").and_then(|node| yaml::duration(node, findings));
    refuse_foreign(protocol, &table, findings);
    table.finish(findings);
    let port = Port {
        listen: listen?,
        protocol: protocol?,
        tunnel: name?,
        to: to?,
        proxy_protocol: proxy_protocol.unwrap_or_default(),
        idle_timeout: idle_timeout.filter(|time| !time.is_zero()).unwrap_or(UDP_IDLE),
    };
    Some(PortEntry { port, tunnel_span: tunnel?.span })
}

fn decode_name(node: &Node, findings: &mut Findings) -> Option<String> {
    let name = yaml::text(node, findings)?;
    if let Err(error) = check_name(name) {
        findings.error(node.span, error.to_string());
    }
    Some(name.to_owned())
}

/// An address, because the connector compares it with its `ipRules`.
fn decode_to(node: &Node, findings: &mut Findings) -> Option<SocketAddr> {
    let text = yaml::text(node, findings)?;
    let to: Option<SocketAddr> = text.parse().ok().filter(|to: &SocketAddr| to.port() > 0);
    if to.is_none() {
        let help = "write an address and a port: `10.0.0.5:22`, `127.0.0.1:53` or `[fd00::5]:22`";
        findings.error(node.span, format!("`{text}` is nowhere to go")).help(help);
    }
    to
}

/// What the other protocol has no use for.
fn refuse_foreign(protocol: Option<PortProtocol>, table: &Table<'_>, findings: &mut Findings) {
    let foreign = match protocol {
        Some(PortProtocol::Tcp) => ("idle-timeout", "UDP"),
        Some(PortProtocol::Udp) => ("proxy-protocol", "TCP"),
        None => return,
    };
    if table.has(foreign.0) {
        let message = format!("`{}` is for {} ports only", foreign.0, foreign.1);
        findings.error(table.key_span(foreign.0), message).help("remove it");
    }
}
