//! `defaults` and `hostnames`: how names are served. An entry says what differs from the defaults.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adit_policy::host::HostPattern;
use adit_policy::host_policy::{ClientCertificates, HostPolicies, HostPolicy, Hsts, Pages, TlsMode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::Files;
use crate::diagnostic::Findings;
use crate::yaml::{self, Kind, Node, Table};

/// Bytes of one template.
const TEMPLATE_MAX: u64 = 256 * 1024;
/// What visitors read where `maintenance: true` says no more.
const MAINTENANCE: &str = "This site is being worked on. Please come back a little later.";
/// HSTS where `hsts: true` says no more (hstspreload.org asks for a year).
const HSTS: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads both.
pub(super) fn decode(
    defaults: Option<&Node>,
    hostnames: Option<&Node>,
    files: Files,
    findings: &mut Findings,
) -> HostPolicies {
    let base = HostPolicy::default();
    let default =
        defaults.and_then(|node| policy(node, "`defaults`", &base, files, findings)).unwrap_or(base);
    let entries = match hostnames.map(|node| &node.kind) {
        None | Some(Kind::Null) => &[][..],
        Some(Kind::Map(entries)) => entries,
        Some(_) => {
            let span = hostnames.map(|node| node.span).unwrap_or_default();
            findings
                .error(span, "`hostnames` is a table of names")
                .help("for example `docs.home.example: { hsts: true }`");
            &[]
        }
    };
    let mut named = Vec::new();
    for (key, node) in entries {
        let pattern = pattern(key, findings);
        let policy = policy(node, "a host name's entry", &default, files, findings);
        named.extend(pattern.zip(policy));
    }
    HostPolicies::new(default, named)
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
) -> Option<HostPolicy> {
    let mut table = Table::open(node, what, findings)?;
    let mut policy = base.clone();
    let modes = [("terminate", TlsMode::Terminate), ("passthrough", TlsMode::Passthrough)];
    if let Some(mode) = table.take("tls").and_then(|node| yaml::word(node, &modes, findings)) {
        policy.tls = mode;
    }
    if let Some(node) = table.take("client-certificates") {
        policy.client_certificates = client_certificates(node, files, findings);
    }
    if let Some(node) = table.take("hsts") {
        policy.hsts = hsts(node, findings);
    }
    if let Some(node) = table.take("maintenance") {
        policy.maintenance = maintenance(node, findings);
    }
    if let Some(node) = table.take("error-pages") {
        policy.pages = pages(node, files, findings);
    }
    let unread =
        [("client-certificates", policy.client_certificates.is_some()), ("hsts", policy.hsts.is_some())];
    for (key, set) in unread {
        if policy.tls == TlsMode::Passthrough && set && table.has(key) {
            let message =
                format!("`{key}` has no effect with `tls: passthrough`: the edge does not end TLS there");
            findings.error(table.key_span(key), message);
        }
    }
    table.finish(findings);
    Some(policy)
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
        Files::Leave => Vec::new(),
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

fn hsts(node: &Node, findings: &mut Findings) -> Option<Hsts> {
    let plain = |max_age| Hsts { max_age, subdomains: false, preload: false };
    match &node.kind {
        Kind::Map(_) => {
            let mut table = Table::open(node, "`hsts`", findings)?;
            let max_age = table.take("max-age").and_then(|node| yaml::period(node, findings));
            let mut flag =
                |key| table.take(key).and_then(|node| yaml::boolean(node, findings)).unwrap_or(false);
            let (subdomains, preload) = (flag("subdomains"), flag("preload"));
            table.finish(findings);
            Some(Hsts { max_age: max_age.unwrap_or(HSTS), subdomains, preload })
        }
        _ => match yaml::truth_of(node) {
            Some(true) => Some(plain(HSTS)),
            Some(false) => None,
            None => yaml::period(node, findings).map(plain),
        },
    }
}

fn maintenance(node: &Node, findings: &mut Findings) -> Option<Arc<str>> {
    match yaml::truth_of(node) {
        Some(on) => on.then(|| MAINTENANCE.into()),
        None => yaml::text(node, findings).map(Into::into),
    }
}

/// A folder with `503.html`, …, and `error.html` for all others.
fn pages(node: &Node, files: Files, findings: &mut Findings) -> Option<Arc<Pages>> {
    let folder = yaml::path_text(node, findings)?;
    let folder = findings.source().resolve(folder);
    if files == Files::Leave {
        return Some(Arc::default());
    }
    match read_pages(&folder) {
        Ok(pages) => Some(Arc::new(pages)),
        Err(what) => {
            findings
                .error(node.span, what)
                .help("a folder holds `503.html`, `404.html`, …, or `error.html` for all");
            None
        }
    }
}

fn read_pages(folder: &Path) -> Result<Pages, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("`{}` cannot be read: {error}", folder.display()))?;
    let mut pages = Pages::default();
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "html")) {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let status = stem.parse::<u16>().ok().filter(|status| (400..600).contains(status));
        if status.is_none() && stem != "error" {
            continue;
        }
        let template: Arc<str> = template(path)?.into();
        match status {
            Some(status) => pages.by_status.push((status, template)),
            None => pages.other = Some(template),
        }
    }
    if pages == Pages::default() {
        return Err(format!("there is no page in `{}`", folder.display()));
    }
    Ok(pages)
}

fn template(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default();
    if size > TEMPLATE_MAX {
        return Err(format!("`{}` is larger than {} KiB", path.display(), TEMPLATE_MAX / 1024));
    }
    fs::read_to_string(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}
