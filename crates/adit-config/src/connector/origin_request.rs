//! `originRequest`: how to talk to an origin.

use adit_policy::ingress::{Access, IpRule, OriginRequestPatch, ProxyProtocol, ProxyType};

use super::Form;
use crate::diagnostic::Findings;
use crate::yaml::{self, Node, Table};

/// Reads `originRequest`, of a rule or at the top.
pub(super) fn decode(node: &Node, form: Form, findings: &mut Findings) -> Option<OriginRequestPatch> {
    let mut table = Table::open(node, "`originRequest`", findings)?;
    let mut patch = OriginRequestPatch::default();
    decode_times(&mut table, form, &mut patch, findings);
    decode_switches(&mut table, &mut patch, findings);
    decode_texts(&mut table, &mut patch, findings);
    let connections = table.take("keepAliveConnections");
    patch.keep_alive_connections = connections.and_then(|node| yaml::integer(node, 0..=1_000_000, findings));
    patch.proxy_port = table.take("proxyPort").and_then(|node| yaml::integer(node, 0..=u16::MAX, findings));
    patch.proxy_type = table.take("proxyType").and_then(|node| decode_proxy_type(node, findings));
    let words = [("off", ProxyProtocol::Off), ("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
    patch.proxy_protocol = table.take("proxyProtocol").and_then(|node| yaml::word(node, &words, findings));
    patch.ip_rules = table.take("ipRules").map(|node| decode_ip_rules(node, form, findings));
    patch.access = table.take("access").and_then(|node| decode_access(node, form, findings));
    form.finish(table, findings);
    Some(patch)
}

fn decode_times(table: &mut Table<'_>, form: Form, patch: &mut OriginRequestPatch, findings: &mut Findings) {
    let mut time = |key| table.take(key).and_then(|node| form.duration(node, findings));
    patch.connect_timeout = time("connectTimeout");
    patch.tls_timeout = time("tlsTimeout");
    patch.tcp_keep_alive = time("tcpKeepAlive");
    patch.keep_alive_timeout = time("keepAliveTimeout");
}

fn decode_switches(table: &mut Table<'_>, patch: &mut OriginRequestPatch, findings: &mut Findings) {
    let mut switch = |key| table.take(key).and_then(|node| yaml::boolean(node, findings));
    patch.no_happy_eyeballs = switch("noHappyEyeballs");
    patch.match_sni_to_host = switch("matchSNItoHost");
    patch.no_tls_verify = switch("noTLSVerify");
    patch.disable_chunked_encoding = switch("disableChunkedEncoding");
    patch.bastion_mode = switch("bastionMode");
    patch.http2_origin = switch("http2Origin");
}

fn decode_texts(table: &mut Table<'_>, patch: &mut OriginRequestPatch, findings: &mut Findings) {
    let mut text = |key| yaml::optional_text(table.take(key), findings);
    patch.http_host_header = text("httpHostHeader");
    patch.origin_server_name = text("originServerName");
    patch.ca_pool = text("caPool").map(Into::into);
    patch.proxy_address = text("proxyAddress");
}

fn decode_proxy_type(node: &Node, findings: &mut Findings) -> Option<ProxyType> {
    match node.as_text() {
        Some("") => Some(ProxyType::Plain),
        _ => yaml::word(node, &[("socks", ProxyType::Socks)], findings),
    }
}

fn decode_ip_rules(node: &Node, form: Form, findings: &mut Findings) -> Vec<IpRule> {
    let nodes = yaml::list(node, findings).unwrap_or_default();
    nodes.iter().filter_map(|node| decode_ip_rule(node, form, findings)).collect()
}

fn decode_ip_rule(node: &Node, form: Form, findings: &mut Findings) -> Option<IpRule> {
    let mut table = Table::open(node, "an IP rule", findings)?;
    let prefix_node = table.require("prefix", "192.168.0.0/16", findings);
    let prefix = prefix_node.and_then(|node| yaml::text(node, findings)).map(str::parse);
    if let (Some(node), Some(Err(error))) = (prefix_node, &prefix) {
        findings.error(node.span, format!("`{}` is {error}", node.as_text().unwrap_or_default()));
    }
    let ports = table.take("ports").and_then(|node| yaml::list(node, findings)).unwrap_or_default();
    let ports = ports.iter().filter_map(|node| yaml::integer(node, 1..=u16::MAX, findings)).collect();
    let allow = table.take("allow").and_then(|node| yaml::boolean(node, findings)).unwrap_or_default();
    form.finish(table, findings);
    Some(IpRule { prefix: prefix?.ok()?, ports, allow })
}

fn decode_access(node: &Node, form: Form, findings: &mut Findings) -> Option<Access> {
    let mut table = Table::open(node, "`access`", findings)?;
    let required = table.take("required").and_then(|node| yaml::boolean(node, findings)).unwrap_or_default();
    let team_name = yaml::optional_text(table.take("teamName"), findings).unwrap_or_default();
    let tags = table.take("audTag").map(yaml::one_or_many).unwrap_or_default();
    let aud_tag: Vec<String> =
        tags.iter().filter_map(|node| yaml::text(node, findings)).map(str::to_owned).collect();
    let environment = yaml::optional_text(table.take("environment"), findings).unwrap_or_default();
    if required && team_name.is_empty() && !aud_tag.is_empty() {
        let span = table.key_span("audTag");
        findings.error(span, "`teamName` is missing: `audTag` needs it").help("add `teamName: NAME`");
    }
    if required {
        let message = "tokens are not checked yet: every request to this rule is refused with 403";
        findings.warning(table.span(), message).help("remove `access` to let requests through");
    }
    form.finish(table, findings);
    Some(Access { required, team_name, aud_tag, environment })
}
