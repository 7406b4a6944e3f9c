//! The tunnels of `edge.yml`: who may connect, and which names each may claim.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use adit_policy::grant::Grant;
use adit_policy::host::{HostPattern, MANAGEMENT_HOST};
use adit_policy::ingress::{Ingress, Rule, RuleHost};
use adit_policy::snapshot::{Held, Tunnel, TunnelId, TunnelSecret};
use uuid::Uuid;

use super::secret_file;
use crate::connector::{held, local_json};
use crate::diagnostic::Findings;
use crate::policy::Files;
use crate::tunnel_name::check_name;
use crate::yaml::{self, Kind, Node, Span, Table};

/// One tunnel of the file.
#[derive(Clone, Debug)]
pub struct TunnelEntry {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: TunnelId,
    /// Where its secret is.
    pub secret_file: PathBuf,
    /// What it may claim, each with its place in the file.
    pub hostnames: Vec<(HostPattern, Span)>,
    /// The rules of its connectors, where the edge holds them. Their names are granted.
    pub ingress: Option<Ingress>,
    /// Its secret. `None` if the files were not read.
    pub secret: Option<TunnelSecret>,
    /// The account that its credentials name, if they are a credentials file.
    pub account_tag: Option<String>,
    /// Where its name stands in the file.
    pub span: Span,
    /// Where its id stands in the file.
    pub id_span: Span,
}

impl TunnelEntry {
    /// The same for the data path.
    #[must_use]
    pub fn tunnel(&self) -> Tunnel {
        Tunnel {
            id: self.id,
            name: self.name.clone(),
            secret: self.secret.clone().unwrap_or_default(),
            account_tag: self.account_tag.clone(),
            grant: grant(&self.hostnames, self.ingress.as_ref()),
            held: self.ingress.as_ref().map(hold),
        }
    }
}

/// What the file says of a tunnel that a command created: more names, or its connectors' rules.
#[derive(Clone, Debug)]
pub struct TunnelAddition {
    /// Its name.
    pub name: String,
    /// More that it may claim, each with its place in the file.
    pub hostnames: Vec<(HostPattern, Span)>,
    /// The rules of its connectors, where the edge holds them. Their names are granted.
    pub ingress: Option<Ingress>,
    /// Where its name stands in the file.
    pub span: Span,
}

impl TunnelAddition {
    /// Adds this to the tunnel.
    pub(crate) fn apply(&self, tunnel: &mut Tunnel) {
        let added = grant(&self.hostnames, self.ingress.as_ref());
        tunnel.grant = Grant::new(tunnel.grant.patterns().iter().chain(added.patterns()).cloned());
        tunnel.held = self.ingress.as_ref().map(hold);
    }
}

fn grant(hostnames: &[(HostPattern, Span)], ingress: Option<&Ingress>) -> Grant {
    let named = hostnames.iter().map(|(pattern, _)| pattern.clone());
    let ruled = ingress.into_iter().flat_map(|ingress| &ingress.rules).filter_map(own_name);
    Grant::new(named.chain(ruled))
}

/// The name of a rule; a rule without one speaks for the names that are granted otherwise.
fn own_name(rule: &Rule) -> Option<HostPattern> {
    rule.hostname.as_ref().and_then(RuleHost::pattern)
}

fn hold(ingress: &Ingress) -> Held {
    let configuration = local_json::configuration(ingress, &BTreeMap::new());
    Held {
        json: configuration.to_json().into(),
        claims: ingress.claims(),
        rules: Arc::new(ingress.words()),
        order: Arc::new(ingress.order()),
    }
}

/// What the file says of tunnels.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    pub(super) tunnels: Vec<TunnelEntry>,
    pub(super) additions: Vec<TunnelAddition>,
}

/// Reads `tunnels`.
pub(super) fn decode(node: &Node, files: Files, findings: &mut Findings) -> Declared {
    let Kind::Map(entries) = &node.kind else {
        let message = format!("`tunnels` is a table of names, not {}", node.describe());
        findings.error(node.span, message).help("write `NAME: { id: …, secret-file: …, hostnames: […] }`");
        return Declared::default();
    };
    let mut declared = Declared::default();
    for (key, value) in entries.iter() {
        match decode_tunnel(key, value, files, findings) {
            Some(Entry::Tunnel(tunnel)) => declared.tunnels.push(tunnel),
            Some(Entry::Addition(addition)) => declared.additions.push(addition),
            None => {}
        }
    }
    refuse_same_id(&declared.tunnels, findings);
    refuse_same_hostname(&declared.tunnels, findings);
    declared
}

enum Entry {
    Tunnel(TunnelEntry),
    Addition(TunnelAddition),
}

fn decode_tunnel(key: &Node, value: &Node, files: Files, findings: &mut Findings) -> Option<Entry> {
    let name = key.as_text().unwrap_or_default();
    if let Err(error) = check_name(name) {
        findings.error(key.span, error.to_string());
    }
    let mut table = Table::open(value, &format!("tunnel `{name}`"), findings)?;
    let hostnames = table.take("hostnames").map(|node| decode_hostnames(node, findings)).unwrap_or_default();
    let ingress = held(&mut table, findings);
    if !table.has("id") && !table.has("secret-file") {
        table.finish(findings);
        return Some(Entry::Addition(TunnelAddition {
            name: name.to_owned(),
            hostnames,
            ingress,
            span: key.span,
        }));
    }
    let id_node = table.require("id", "6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11", findings);
    let id = id_node.and_then(|node| decode_id(node, findings));
    let secret_node = table.require("secret-file", &format!("/run/secrets/{name}"), findings);
    let secret_file = secret_node.and_then(|node| yaml::path_text(node, findings));
    let secret_file = secret_file.map(|path| findings.source().resolve(path));
    table.finish(findings);
    let read = match (files, secret_node, &secret_file) {
        (Files::Read, Some(node), Some(path)) => secret_file::read(path, id, node.span, findings),
        _ => None,
    };
    let (secret, account_tag) = read.map_or((None, None), |found| (Some(found.secret), found.account_tag));
    Some(Entry::Tunnel(TunnelEntry {
        name: name.to_owned(),
        id: id?,
        secret_file: secret_file?,
        hostnames,
        ingress,
        secret,
        account_tag,
        span: key.span,
        id_span: id_node.map_or(key.span, |node| node.span),
    }))
}

fn decode_id(node: &Node, findings: &mut Findings) -> Option<TunnelId> {
    let text = yaml::text(node, findings)?;
    let id = Uuid::try_parse(text).ok().filter(|id| !id.is_nil());
    if id.is_none() {
        let help = "`adit tunnel create` makes one, and cloudflared's credentials file has it as `TunnelID`";
        findings.error(node.span, format!("`{text}` is no UUID")).help(help);
    }
    id.map(TunnelId)
}

fn decode_hostnames(node: &Node, findings: &mut Findings) -> Vec<(HostPattern, Span)> {
    let mut patterns: Vec<(HostPattern, Span)> = Vec::new();
    for node in yaml::one_or_many(node) {
        let Some(pattern) = decode_pattern(node, findings) else {
            continue;
        };
        match patterns.iter().any(|(other, _)| *other == pattern) {
            true => drop(findings.warning(node.span, format!("`{pattern}` is there twice"))),
            false => patterns.push((pattern, node.span)),
        }
    }
    patterns
}

fn decode_pattern(node: &Node, findings: &mut Findings) -> Option<HostPattern> {
    let text = yaml::text(node, findings)?;
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(name)) if name.as_str() == MANAGEMENT_HOST => {
            findings.error(
                node.span,
                format!("`{name}` cannot be granted: requests for it control the connector"),
            );
            None
        }
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("`{text}` is no host pattern: {error}");
            findings.error(node.span, message).help("write `app.home.example`, `*.home.example` or `*`");
            None
        }
    }
}

fn refuse_same_id(tunnels: &[TunnelEntry], findings: &mut Findings) {
    let mut seen: HashMap<TunnelId, &TunnelEntry> = HashMap::new();
    for tunnel in tunnels {
        if let Some(first) = seen.get(&tunnel.id) {
            let message = format!("tunnel `{}` has the same id as tunnel `{}`", tunnel.name, first.name);
            let help = format!("that one is in line {}; an id belongs to one tunnel", first.id_span.line);
            findings.error(tunnel.id_span, message).help(help);
        }
        seen.entry(tunnel.id).or_insert(tunnel);
    }
}

fn refuse_same_hostname(tunnels: &[TunnelEntry], findings: &mut Findings) {
    let mut seen: HashMap<&HostPattern, (&TunnelEntry, Span)> = HashMap::new();
    for tunnel in tunnels {
        for (pattern, span) in &tunnel.hostnames {
            if !matches!(pattern, HostPattern::Exact(_)) {
                continue;
            }
            if let Some((first, first_span)) = seen.get(pattern) {
                let message = format!("`{pattern}` is granted to tunnel `{}` already", first.name);
                let help = format!("that is in line {}; a name belongs to one tunnel", first_span.line);
                findings.error(*span, message).help(help);
            }
            seen.entry(pattern).or_insert((tunnel, *span));
        }
    }
}
