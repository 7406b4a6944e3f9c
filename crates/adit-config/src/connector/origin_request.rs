//! `originRequest`: how to talk to an origin.

use adit_policy::ingress::{
    Access, Balance, HealthCheck, IpRule, OriginRequestPatch, ProxyProtocol, ProxyType, TlsEnd,
};

use super::Form;
use crate::diagnostic::Findings;
use crate::yaml::{self, Node, Table};

/// Keys of `originRequest` that only we have.
const OURS: [&str; 6] =
    ["tlsCertificate", "tlsKey", "proxyProtocol", "idleTimeout", "balance", "healthCheck"];

/// Reads `originRequest`, of a rule or at the top.
pub(super) fn decode(node: &Node, form: Form, findings: &mut Findings) -> Option<OriginRequestPatch> {
    let mut table = Table::open(node, "`originRequest`", findings)?;
    let mut patch = OriginRequestPatch::default();
    decode_times(&mut table, form, &mut patch, findings);
    decode_switches(&mut table, &mut patch, findings);
    decode_texts(&mut table, &mut patch, findings);
    decode_certificate(&mut table, &mut patch, findings);
    let connections = table.take("keepAliveConnections");
    patch.keep_alive_connections = connections.and_then(|node| yaml::integer(node, 0..=1_000_000, findings));
    patch.proxy_port = table.take("proxyPort").and_then(|node| yaml::integer(node, 0..=u16::MAX, findings));
    patch.proxy_type = table.take("proxyType").and_then(|node| decode_proxy_type(node, findings));
    let words = [("off", ProxyProtocol::Off), ("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
    patch.proxy_protocol = table.take("proxyProtocol").and_then(|node| yaml::word(node, &words, findings));
    patch.ip_rules = table.take("ipRules").map(|node| decode_ip_rules(node, form, findings));
    patch.balance = table.take("balance").and_then(|node| yaml::word(node, &Balance::WORDS, findings));
    patch.health_check = table.take("healthCheck").and_then(|node| decode_health_check(node, form, findings));
    patch.access = table.take("access").and_then(|node| decode_access(node, form, findings));
    form.finish(table, &OURS, findings);
    Some(patch)
}

fn decode_times(table: &mut Table<'_>, form: Form, patch: &mut OriginRequestPatch, findings: &mut Findings) {
    let mut time = |key| table.take(key).and_then(|node| form.duration(node, findings));
    patch.connect_timeout = time("connectTimeout");
    patch.tls_timeout = time("tlsTimeout");
    patch.tcp_keep_alive = time("tcpKeepAlive");
    patch.keep_alive_timeout = time("keepAliveTimeout");
    patch.idle_timeout = time("idleTimeout");
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

/// A certificate and its key come together. Ours, so the paths are relative to the file.
fn decode_certificate(table: &mut Table<'_>, patch: &mut OriginRequestPatch, findings: &mut Findings) {
    let mut file = |key| {
        let path = table.take(key).and_then(|node| yaml::path_text(node, findings))?;
        Some(findings.source().resolve(path))
    };
    let (certificate, key) = (file("tlsCertificate"), file("tlsKey"));
    patch.tls_end = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsEnd::Files { certificate, key }),
        (Some(certificate), None) if certificate.file_name().is_some_and(|name| name == "acme") => {
            Some(TlsEnd::Acme)
        }
        (None, None) => None,
        _ => {
            let message = "`tlsCertificate` and `tlsKey` belong together";
            findings.error(table.span(), message).help("name both files, or `tlsCertificate: acme`");
            None
        }
    };
}

fn decode_proxy_type(node: &Node, findings: &mut Findings) -> Option<ProxyType> {
    match node.as_text() {
        Some("") => Some(ProxyType::Plain),
        _ => yaml::word(node, &[("socks", ProxyType::Socks)], findings),
    }
}

pub(super) fn decode_ip_rules(node: &Node, form: Form, findings: &mut Findings) -> Vec<IpRule> {
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
    form.finish(table, &[], findings);
    Some(IpRule { prefix: prefix?.ok()?, ports, allow })
}

/// An empty table is a check with the defaults: to connect is enough.
fn decode_health_check(node: &Node, form: Form, findings: &mut Findings) -> Option<HealthCheck> {
    let usual = HealthCheck::default();
    let mut table = Table::open(node, "`healthCheck`", findings)?;
    let path_node = table.take("path");
    let path = path_node.and_then(|node| yaml::text(node, findings));
    if let (Some(node), Some(path)) = (path_node, path)
        && !path.starts_with('/')
    {
        let help = format!("did you mean `/{path}`?");
        findings.error(node.span, "the path of a check starts with `/`").help(help);
    }
    let mut time = |key, usual| {
        let node = table.take(key)?;
        let time = form.duration(node, findings);
        if time.is_some_and(|time| time.is_zero()) {
            findings.error(node.span, format!("`{key}` of a check is more than zero"));
        }
        Some(time.unwrap_or(usual))
    };
    let interval = time("interval", usual.interval).unwrap_or(usual.interval);
    let timeout = time("timeout", usual.timeout).unwrap_or(usual.timeout);
    let mut count = |key| table.take(key).and_then(|node| yaml::integer(node, 1..=1000, findings));
    let (fall, rise) = (count("fall").unwrap_or(usual.fall), count("rise").unwrap_or(usual.rise));
    form.finish_ours(table, findings);
    Some(HealthCheck { path: path.map(str::to_owned), interval, timeout, fall, rise })
}

fn decode_access(node: &Node, form: Form, findings: &mut Findings) -> Option<Access> {
    let mut table = Table::open(node, "`access`", findings)?;
    let required = table.take("required").and_then(|node| yaml::boolean(node, findings)).unwrap_or_default();
    let mut text = |key| yaml::optional_text(table.take(key), findings).filter(|text| !text.is_empty());
    let team_name = text("teamName").unwrap_or_default();
    let (issuer, keys_url) = (text("issuer"), text("keysUrl"));
    let (environment, header) = (text("environment").unwrap_or_default(), text("header"));
    let tags = table.take("audTag").map(yaml::one_or_many).unwrap_or_default();
    let aud_tag: Vec<String> =
        tags.iter().filter_map(|node| yaml::text(node, findings)).map(str::to_owned).collect();
    let access =
        Access { required, team_name, aud_tag, environment, issuer, keys_url, header, ceiling: None };
    check_access(&access, &table, findings);
    form.finish(table, &["issuer", "keysUrl", "header"], findings);
    Some(access)
}

/// A check that lets nobody through is a mistake, or not finished.
fn check_access(access: &Access, table: &Table<'_>, findings: &mut Findings) {
    for (key, url) in [("issuer", &access.issuer), ("keysUrl", &access.keys_url)] {
        if url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
            let help = "write it whole: `https://id.home.example/realms/home`";
            findings.error(table.key_span(key), format!("`{key}` is no URL")).help(help);
        }
    }
    if !access.required {
        return;
    }
    let anonymous = access.team_name.is_empty() && access.issuer.is_none();
    if anonymous && !access.aud_tag.is_empty() {
        let message = "`teamName` is missing: `audTag` needs it, or an `issuer`";
        findings.error(table.key_span("audTag"), message).help("add `teamName: NAME` or `issuer: URL`");
    }
    // As in cloudflared: closed first, opened when the rest is known.
    if access.aud_tag.is_empty() {
        let message =
            "no token is good enough without `audTag`: every request to this rule is refused with 403";
        findings.warning(table.span(), message).help("add `audTag: [AUDIENCE]`, and `issuer` or `teamName`");
    }
}
