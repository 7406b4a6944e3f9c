//! `defaults` and `hostnames`: how names are served, and requests for them treated.

use std::fs;
use std::path::Path;

use adit_policy::host::HostPattern;
use adit_policy::host_policy::{ClientCertificates, HostPolicies, HostPolicy, TlsMode};
use adit_policy::policy::{Layer, Layers};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::diagnostic::Findings;
use crate::policy::{Decoder, Files};
use crate::yaml::{self, Kind, Node, Table};

/// What both say.
#[derive(Default)]
pub(super) struct Names {
    pub(super) hosts: HostPolicies,
    pub(super) defaults: Layer,
    pub(super) layers: Layers,
}

/// Reads both.
pub(super) fn decode(
    defaults: Option<&Node>,
    hostnames: Option<&Node>,
    has_ports: bool,
    files: Files,
    findings: &mut Findings,
) -> Names {
    let base = HostPolicy::default();
    let default = defaults.and_then(|node| policy(node, "`defaults`", &base, files, findings));
    let (default, layer) = default.unwrap_or_default();
    let mut names = Names { defaults: layer, ..Names::default() };
    let mut named = Vec::new();
    for (key, node) in entries(hostnames, findings) {
        let pattern = pattern(key, findings);
        let policy = policy(node, "a host name's entry", &default, files, findings);
        if let Some((pattern, (policy, layer))) = pattern.zip(policy) {
            names.layers.add(&pattern, layer);
            named.push((pattern, policy));
        }
    }
    let passes = |(_, policy): &(HostPattern, HostPolicy)| policy.tls == TlsMode::Passthrough;
    let unread = match (named.iter().any(passes), has_ports) {
        (true, true) => Some("passthrough names and ports"),
        (true, false) => Some("passthrough names"),
        (false, true) => Some("ports"),
        (false, false) => None,
    };
    if let Some((node, unread)) = defaults.zip(unread)
        && default.tls != TlsMode::Passthrough
    {
        warn_of_defaults(node, &names.defaults, unread, findings);
    }
    names.hosts = HostPolicies::new(default, named);
    names
}

fn entries<'n>(hostnames: Option<&'n Node>, findings: &mut Findings) -> &'n [(Node, Node)] {
    let Some(node) = hostnames else { return &[] };
    match &node.kind {
        Kind::Null => &[],
        Kind::Map(entries) => entries,
        _ => {
            findings
                .error(node.span, "`hostnames` is a table of names")
                .help("for example `docs.home.example: { hsts: true }`");
            &[]
        }
    }
}

fn pattern(key: &Node, findings: &mut Findings) -> Option<HostPattern> {
    let text = yaml::text(key, findings)?;
    match HostPattern::parse(text) {
        Ok(HostPattern::Any) => {
            findings.error(key.span, "`*` is every name").help("write it under `defaults`");
            None
        }
        Ok(pattern) => Some(pattern),
        Err(error) => {
            findings.error(key.span, format!("`{text}` is no host name: {error}"));
            None
        }
    }
}

fn policy(
    node: &Node,
    what: &str,
    base: &HostPolicy,
    files: Files,
    findings: &mut Findings,
) -> Option<(HostPolicy, Layer)> {
    let mut table = Table::open(node, what, findings)?;
    let mut policy = base.clone();
    let modes = [("terminate", TlsMode::Terminate), ("passthrough", TlsMode::Passthrough)];
    if let Some(mode) = table.take("tls").and_then(|node| yaml::word(node, &modes, findings)) {
        policy.tls = mode;
    }
    if let Some(node) = table.take("client-certificates") {
        policy.client_certificates = client_certificates(node, files, findings);
    }
    let layer = Decoder { files, findings }.layer(&mut table);
    if policy.tls == TlsMode::Passthrough {
        refuse_unread(&table, &layer, findings);
    }
    table.finish(findings);
    Some((policy, layer))
}

/// The edge cannot read what it passes through: what is said about addresses holds, and nothing that is said about requests.
fn refuse_unread(table: &Table<'_>, layer: &Layer, findings: &mut Findings) {
    let certificates = table.has("client-certificates").then_some("client-certificates");
    let keys = layer.keys_for_requests().into_iter().chain(certificates);
    for key in keys.filter(|key| !table.is_off(key)) {
        let message =
            format!("`{key}` has no effect with `tls: passthrough`: the edge does not end TLS there");
        findings.error(table.key_span(key), message).help(instead(key));
    }
}

/// What to write in place of a key that cannot hold for bytes.
fn instead(key: &str) -> &'static str {
    match key {
        "rate-limit" | "concurrency" => {
            "count by `key: address` or `key: all`; the edge sees no fields there"
        }
        "maintenance" => "take the name out of service with `adit shutoff NAME`",
        "ban" => "`adit ban` and `deny-lists` hold for passthrough names",
        _ => {
            "remove it, or let the edge end TLS (`tls: terminate`); `allow`, `deny`, `rate-limit` and `concurrency` hold"
        }
    }
}

/// The keys that turn requests away: whoever writes one of them relies on it. The others are no loss where nothing is read.
const RESTRICTING: [&str; 12] = [
    "allow",
    "ban",
    "body-limit",
    "client-certificates",
    "concurrency",
    "deny",
    "maintenance",
    "methods",
    "paths",
    "rate-limit",
    "redirect",
    "respond",
];

/// `defaults` is about all names. What of it turns visitors away and cannot hold for some of them is said, so that nobody
/// relies on it there.
fn warn_of_defaults(node: &Node, layer: &Layer, unread: &str, findings: &mut Findings) {
    let Kind::Map(entries) = &node.kind else { return };
    let restricts = |key: &&str| RESTRICTING.contains(key);
    let mut paths = layer.paths.iter().flat_map(|path| path.patch.keys_in_use());
    let restricts_paths = paths.any(|key| restricts(&key));
    let certificates = entries.iter().any(|(name, _)| name.as_text() == Some("client-certificates"));
    let keys = layer.keys_for_requests().into_iter().chain(certificates.then_some("client-certificates"));
    for key in keys.filter(restricts) {
        let is_held = match key {
            // A site in maintenance is closed there too; only its page cannot be shown.
            "maintenance" => true,
            "paths" => !restricts_paths,
            _ => false,
        };
        if is_held {
            continue;
        }
        let span = entries.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(name, _)| name.span);
        let message = match key {
            "rate-limit" | "concurrency" => {
                format!("`{key}` of `defaults` counts by address for {unread}: the edge sees no fields there")
            }
            _ => format!("`{key}` of `defaults` does not hold for {unread}: the edge cannot read them"),
        };
        let help = "`allow`, `deny`, `rate-limit` and `concurrency` hold for them";
        findings.warning(span.unwrap_or(node.span), message).help(help);
    }
}

fn client_certificates(node: &Node, files: Files, findings: &mut Findings) -> Option<ClientCertificates> {
    let mut table = Table::open(node, "`client-certificates`", findings)?;
    let ca = table.require("ca", "clients.pem", findings);
    let required = table.take("required").and_then(|node| yaml::boolean(node, findings)).unwrap_or(true);
    table.finish(findings);
    let node = ca?;
    let path = yaml::path_text(node, findings)?;
    let path = findings.source().resolve(path);
    let authorities = match files {
        Files::Leave | Files::Inline => Vec::new(),
        Files::Read => match authorities(&path) {
            Ok(list) => list,
            Err(what) => {
                findings.error(node.span, format!("`{}` {what}", path.display()));
                return None;
            }
        },
    };
    Some(ClientCertificates { authorities: authorities.into(), required })
}

fn authorities(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let pem = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match list {
        Ok(list) if list.is_empty() => Err("has no certificate in it".to_owned()),
        Ok(list) => Ok(list.into_iter().map(|certificate| certificate.to_vec()).collect()),
        Err(error) => Err(format!("is no PEM file: {error}")),
    }
}
