//! Settings of the connector itself: which edge, over what, how loud.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use adit_policy::ingress::WarpRouting;
use adit_wire::secret::Secret;

use super::{ConnectorFile, Form, origin_request};
use crate::diagnostic::Findings;
use crate::yaml::{self, Node, Table};

/// Transport to the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// QUIC, and HTTP/2 where that does not get through.
    #[default]
    Auto,
    /// QUIC alone.
    Quic,
    /// HTTP/2 over TLS alone.
    Http2,
}

/// IP versions to reach the edge with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdgeIpVersion {
    /// What the name gives.
    #[default]
    Auto,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// cloudflared's own limit.
const GRACE_PERIOD_MAX: Duration = Duration::from_secs(180);

const LOG_LEVELS: [&str; 7] = ["trace", "debug", "info", "warn", "error", "fatal", "panic"];

/// Reads the settings into their fields.
pub(super) fn decode(table: &mut Table<'_>, file: &mut ConnectorFile, findings: &mut Findings) {
    file.edge = decode_edges(table, findings);
    file.cacert = take_path(table, "cacert", findings);
    file.acme = table.take("acme").and_then(|node| crate::edge::acme::decode(node, findings));
    let data_dir = table.take("data-dir").and_then(|node| yaml::path_text(node, findings));
    file.data_dir = Some(findings.source().resolve(data_dir.unwrap_or("data")));
    file.protocol = table.take("protocol").and_then(|node| decode_protocol(node, findings));
    let ha_connections = table.take("ha-connections");
    file.ha_connections = ha_connections.and_then(|node| yaml::integer(node, 1..=u8::MAX, findings));
    file.metrics = table.take("metrics").and_then(|node| decode_metrics(node, findings));
    file.grace_period = table.take("grace-period").and_then(|node| decode_grace_period(node, findings));
    file.retries = table.take("retries").and_then(|node| yaml::integer(node, 0..=u32::MAX, findings));
    file.loglevel = table.take("loglevel").and_then(|node| decode_level(node, findings));
    file.transport_loglevel = table.take("transport-loglevel").and_then(|node| decode_level(node, findings));
    file.logfile = take_path(table, "logfile", findings);
    file.edge_ip_version = table.take("edge-ip-version").and_then(|node| decode_ip_version(node, findings));
    file.edge_bind_address = table.take("edge-bind-address").and_then(|node| decode_ip(node, findings));
    file.token = take_secret(table, "token", findings);
    file.token_file = take_path(table, "token-file", findings);
    file.credentials_contents = take_secret(table, "credentials-contents", findings);
    file.tags = table.take("tag").map(|node| decode_tags(node, findings)).unwrap_or_default();
}

/// Reads `warp-routing`.
pub(super) fn decode_warp(node: &Node, form: Form, findings: &mut Findings) -> WarpRouting {
    let mut warp = WarpRouting::default();
    let Some(mut table) = Table::open(node, "`warp-routing`", findings) else {
        return warp;
    };
    if let Some(timeout) = table.take("connectTimeout").and_then(|node| form.duration(node, findings)) {
        warp.connect_timeout = timeout;
    }
    if let Some(flows) =
        table.take("maxActiveFlows").and_then(|node| yaml::integer(node, 0..=u64::MAX, findings))
    {
        warp.max_active_flows = flows;
    }
    if let Some(interval) = table.take("tcpKeepAlive").and_then(|node| form.duration(node, findings)) {
        warp.tcp_keep_alive = interval;
    }
    if let Some(node) = table.take("ipRules") {
        warp.ip_rules = origin_request::decode_ip_rules(node, form, findings);
    }
    if table.take("enabled").is_some() && form != Form::Wire {
        findings.warning(table.key_span("enabled"), "`enabled` has no effect").help("remove it");
    }
    form.finish(table, &["ipRules"], findings);
    warp
}

fn take_path(table: &mut Table<'_>, key: &'static str, findings: &mut Findings) -> Option<PathBuf> {
    table.take(key).and_then(|node| yaml::path_text(node, findings)).map(PathBuf::from)
}

fn take_secret(table: &mut Table<'_>, key: &'static str, findings: &mut Findings) -> Option<Secret> {
    let text = yaml::text(table.take(key)?, findings)?;
    Some(Secret::new(text.trim().as_bytes().to_vec()))
}

fn decode_edges(table: &mut Table<'_>, findings: &mut Findings) -> Vec<String> {
    let nodes = table.take("edge").map(yaml::one_or_many).unwrap_or_default();
    let mut edges = Vec::new();
    for node in nodes {
        let text = yaml::text(node, findings).unwrap_or_default();
        let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
        edges.extend(addresses.filter_map(|address| checked_address(node, address, findings)));
    }
    edges
}

fn checked_address(node: &Node, address: &str, findings: &mut Findings) -> Option<String> {
    if is_host_and_port(address) || is_host(address) {
        return Some(address.to_owned());
    }
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/');
    let diagnostic = findings.error(node.span, format!("`{address}` is no address of an edge"));
    match is_host_and_port(bare) || is_host(bare) {
        true => diagnostic.help(format!("did you mean `{bare}`?")),
        false => diagnostic.help("an address is written like `edge.example.com:7844`"),
    };
    None
}

/// The port may be left out: it is the tunnel's usual one then.
fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.bytes().all(plain) && text.parse::<u16>().is_err()
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && !host.contains(['/', ':', '[', ']', '@', ' ']);
    (plain || bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn decode_protocol(node: &Node, findings: &mut Findings) -> Option<Protocol> {
    if node.as_text() == Some("h2mux") {
        findings.warning(node.span, "`h2mux` is gone: `http2` is used").help("write `http2`, or `auto`");
        return Some(Protocol::Http2);
    }
    let words = [("auto", Protocol::Auto), ("quic", Protocol::Quic), ("http2", Protocol::Http2)];
    yaml::word(node, &words, findings)
}

fn decode_metrics(node: &Node, findings: &mut Findings) -> Option<String> {
    let text = yaml::text(node, findings)?;
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>().is_ok());
    if port != Some(true) {
        let help = "write `127.0.0.1:20241` or `:20241`";
        findings.error(node.span, format!("`{text}` is no address to listen at")).help(help);
        return None;
    }
    Some(text.to_owned())
}

/// cloudflared starts with a level that it does not know.
fn decode_level(node: &Node, findings: &mut Findings) -> Option<String> {
    let level = yaml::text(node, findings)?;
    if LOG_LEVELS.contains(&level) {
        return Some(level.to_owned());
    }
    let known = yaml::did_you_mean(level, LOG_LEVELS);
    let help = known.map_or_else(
        || format!("known: {}", LOG_LEVELS.join(", ")),
        |meant| format!("did you mean `{meant}`?"),
    );
    findings.warning(node.span, format!("`{level}` is not a log level: it has no effect")).help(help);
    None
}

fn decode_grace_period(node: &Node, findings: &mut Findings) -> Option<Duration> {
    let period = yaml::duration(node, findings)?;
    if period > GRACE_PERIOD_MAX {
        findings.error(node.span, "`grace-period` is at most 3m");
        return None;
    }
    Some(period)
}

fn decode_ip_version(node: &Node, findings: &mut Findings) -> Option<EdgeIpVersion> {
    let words = [("auto", EdgeIpVersion::Auto), ("4", EdgeIpVersion::V4), ("6", EdgeIpVersion::V6)];
    yaml::word(node, &words, findings)
}

fn decode_ip(node: &Node, findings: &mut Findings) -> Option<IpAddr> {
    let text = yaml::text(node, findings)?;
    let address = text.parse().ok();
    if address.is_none() {
        findings.error(node.span, format!("`{text}` is no IP address"));
    }
    address
}

fn decode_tags(node: &Node, findings: &mut Findings) -> Vec<(String, String)> {
    let mut tags = Vec::new();
    for node in yaml::one_or_many(node) {
        let text = yaml::text(node, findings).unwrap_or_default();
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => tags.push((name.to_owned(), value.to_owned())),
            _ => drop(
                findings
                    .error(node.span, format!("`{text}` is no tag"))
                    .help("a tag is written `NAME=VALUE`"),
            ),
        }
    }
    tags
}
