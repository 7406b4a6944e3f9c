//! What a file does, in a few lines for people.

use std::fmt::Write as _;
use std::net::SocketAddr;

use adit_policy::host::HostPattern;
use adit_policy::ingress::Rule;
use adit_policy::policy::{Policies, Policy, Voice};
use adit_policy::snapshot::{HttpMode, Snapshot, Tunnel};

use crate::connector::ConnectorFile;
use crate::edge::EdgeFile;

/// What an edge listens at, and which tunnel has which names.
pub(super) fn edge(file: &EdgeFile, snapshot: &Snapshot) -> String {
    let mut text = format!("edge of {}\n", file.domain);
    let mode = match file.http_mode {
        HttpMode::Redirect => "redirects to https",
        HttpMode::Serve => "serves",
    };
    line(&mut text, "https", &addresses(&file.listen.https));
    line(&mut text, "http", &format!("{} ({mode})", addresses(&file.listen.http)));
    line(&mut text, "tunnel", &addresses(&file.listen.tunnel));
    line(&mut text, "admin", &addresses(file.listen.admin.as_slice()));
    line(&mut text, "certificates", &file.certificates.len().to_string());
    if snapshot.tunnels().is_empty() {
        text.push_str("no tunnels yet: `adit tunnel create NAME` makes one\n");
    }
    for tunnel in snapshot.tunnels() {
        line(&mut text, &format!("tunnel {}", tunnel.name), &names(tunnel));
    }
    for entry in &file.ports {
        let port = &entry.port;
        let left = format!("port {} ({})", port.listen, port.protocol);
        line(&mut text, &left, &format!("-> {} in tunnel {}", port.to, port.tunnel));
    }
    let policies = Policies::of(snapshot.defaults(), snapshot.layers());
    for pattern in snapshot.layers().patterns().iter().chain(&[HostPattern::Any]) {
        if let Some(policy) = policies.of_pattern(pattern) {
            write_policy(&mut text, &pattern.to_string(), policy);
        }
    }
    text
}

/// What holds for a name, and whose word it is.
fn write_policy(text: &mut String, name: &str, policy: &Policy) {
    for (path, said) in policy.describe() {
        if said.is_empty() {
            continue;
        }
        let subject = path.map_or_else(|| name.to_owned(), |path| format!("{name} {path}"));
        text.push_str(&format!("policy of {subject}\n"));
        for said in said {
            line(text, said.key, &format!("{}  ({})", said.value, said.voice));
        }
    }
}

/// What a connector serves, rule by rule.
pub(super) fn connector(file: &ConnectorFile) -> String {
    let tunnel = file.tunnel.as_deref().unwrap_or("(by token)");
    let mut text = format!("connector of tunnel {tunnel}\n");
    if !file.edge.is_empty() {
        line(&mut text, "edge", &file.edge.join(", "));
    }
    for rule in &file.ingress_or_single().rules {
        line(&mut text, &subject(rule), &format!("-> {}", services(rule)));
        let Some(word) = &rule.edge else { continue };
        let policy = Policy::of("", &[(Voice::Connector, &word.layer)]);
        write_policy(&mut text, &subject(rule), &policy);
    }
    text
}

fn services(rule: &Rule) -> String {
    let services: Vec<String> = rule.services().map(ToString::to_string).collect();
    services.join(", ")
}

/// Two columns.
fn line(text: &mut String, left: &str, right: &str) {
    // Writing to a text cannot fail.
    writeln!(text, "  {left:<32} {right}").unwrap_or_default();
}

fn addresses(addresses: &[SocketAddr]) -> String {
    match addresses {
        [] => "off".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn names(tunnel: &Tunnel) -> String {
    match tunnel.grant.patterns() {
        [] => "no names yet".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn subject(rule: &Rule) -> String {
    let host = rule.hostname.as_ref().map_or("*", |host| host.text());
    match &rule.path {
        Some(path) => format!("{host} {path}"),
        None => host.to_owned(),
    }
}
