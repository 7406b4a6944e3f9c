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

/// The edge cannot read what it passes through: nothing that is said about requests has an effect.
fn refuse_unread(table: &Table<'_>, layer: &Layer, findings: &mut Findings) {
    let paths = (!layer.paths.is_empty()).then_some("paths");
    let certificates = table.has("client-certificates").then_some("client-certificates");
    let keys = layer.base.keys().into_iter().chain(paths).chain(certificates);
    for key in keys.filter(|key| !table.is_off(key)) {
        let message =
            format!("`{key}` has no effect with `tls: passthrough`: the edge does not end TLS there");
        findings.error(table.key_span(key), message);
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
