//! `adit explain URL`: what an edge does with it, from its files.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use adit_config::edge::EdgeFile;
use adit_policy::host::{HostPattern, Hostname};
use adit_policy::host_policy::{HostPolicy, TlsMode};
use adit_policy::path::{PathRefusal, RequestPath};
use adit_policy::policy::rules::RulePolicies;
use adit_policy::policy::{Policies, Policy, Settings};
use adit_policy::snapshot::{Snapshot, Tunnel};

use crate::failure::Failure;
use crate::tunnel::open;

/// Explains a URL.
///
/// # Errors
/// When the files have errors, or the URL names no host.
pub fn explain(config: &Path, url: &str) -> Result<String, Failure> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, target) =
        rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len())).unwrap_or((rest, ""));
    let path = Some(target.split(['?', '#']).next().unwrap_or_default()).filter(|path| !path.is_empty());
    let host = Hostname::from_authority(authority.as_bytes())
        .map_err(|error| Failure::input(format!("`{url}` names no host: {error}")))?;
    let tunnels = open(config)?;
    let snapshot = tunnels.snapshot().map_err(Failure::input)?;
    let policy = snapshot.hosts().find(host.as_str());
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        writeln!(text, "{name:<17}{value}").unwrap_or_default();
    };
    line("host", host.to_string());
    line("tunnel", whose(&snapshot, &host));
    line("TLS", tls(policy).to_owned());
    line("who can read", readers(policy).to_owned());
    line("certificate", certificate(tunnels.edge(), policy, &host));
    if let Some(wanted) = &policy.client_certificates {
        let asked = if wanted.required {
            "visitors show a certificate; no HTTP/3 for this name"
        } else {
            "asked for, and not required"
        };
        line("clients", asked.to_owned());
    }
    let path = RequestPath::of(path.unwrap_or("/"));
    let settings = settings(&snapshot, &host, &path);
    if snapshot.shutoff().includes(host.as_str()) {
        line("switched off", "503 until `adit resume`".to_owned());
    }
    let settings = settings.unwrap_or_else(|refusal| {
        line("answer", format!("400: {refusal}"));
        None
    });
    for said in settings.map(|settings| settings.describe()).unwrap_or_default() {
        line(said.key, format!("{}  ({})", said.value, said.voice));
    }
    if let Some(trust) = snapshot.trust() {
        line("visitor", format!("named by {} of {} trusted networks", trust.field.name(), trust.from.len()));
    }
    Ok(text)
}

/// What holds for a request, as far as the edge knows by itself.
fn settings(
    snapshot: &Snapshot,
    host: &Hostname,
    path: &RequestPath<'_>,
) -> Result<Option<Arc<Settings>>, PathRefusal> {
    let names = Policies::of(snapshot.defaults(), snapshot.layers());
    let policy = held_word(snapshot, host, path)?.or_else(|| names.find(host.as_str()).cloned());
    policy.map(|policy| policy.of_request(path).cloned()).transpose()
}

/// What the rules say that the edge holds for the tunnel of a name. What a connector says by itself is known while it runs.
fn held_word(
    snapshot: &Snapshot,
    host: &Hostname,
    path: &RequestPath<'_>,
) -> Result<Option<Arc<Policy>>, PathRefusal> {
    let Some(held) = tunnel_of(snapshot, host).and_then(|tunnel| tunnel.held.as_ref()) else {
        return Ok(None);
    };
    let policies = RulePolicies::of(snapshot.defaults(), held.rules.clone(), snapshot.layers());
    Ok(policies.find(host.as_str(), path)?.cloned())
}

/// The tunnel whose grant for the name is the narrowest.
fn tunnel_of<'s>(snapshot: &'s Snapshot, host: &Hostname) -> Option<&'s Tunnel> {
    let grant = |tunnel: &&Tunnel| tunnel.grant.best_cover(&HostPattern::Exact(host.clone()));
    snapshot.tunnels().iter().filter(|tunnel| grant(tunnel).is_some()).max_by_key(grant)
}

fn whose(snapshot: &Snapshot, host: &Hostname) -> String {
    match tunnel_of(snapshot, host) {
        Some(tunnel) => format!("{} ({})", tunnel.name, tunnel.id),
        None => "none: no tunnel may serve this name, so visitors get no answer".to_owned(),
    }
}

fn tls(policy: &HostPolicy) -> &'static str {
    match policy.tls {
        TlsMode::Terminate => "ended at the edge",
        TlsMode::Passthrough => "passed through; ended at home",
    }
}

fn readers(policy: &HostPolicy) -> &'static str {
    match policy.tls {
        TlsMode::Terminate => "this edge, the connector and the origin; whoever holds this machine",
        TlsMode::Passthrough => "home alone; this edge sees the name, addresses and the amount of bytes",
    }
}

fn certificate(file: &EdgeFile, policy: &HostPolicy, host: &Hostname) -> String {
    if policy.tls == TlsMode::Passthrough {
        return "at home".to_owned();
    }
    match (file.certificates.is_empty(), &file.acme) {
        (_, Some(acme)) => {
            let names: Vec<&str> = acme.authorities.iter().map(|authority| authority.name.as_str()).collect();
            let wildcard = host.parent().filter(|_| acme.dns.is_some() && acme.wildcards);
            let scope = wildcard.map_or_else(String::new, |parent| format!(", perhaps by *.{parent}"));
            format!("from files where they name it, else from {}{scope}", names.join(", then "))
        }
        (false, None) => "from files; a name that is in none of them has no handshake".to_owned(),
        (true, None) => "of the edge's own authority, which browsers do not trust".to_owned(),
    }
}
