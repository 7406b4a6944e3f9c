//! The tunnels of `edge.yml`: who may connect, and which names each may claim.

use std::collections::HashMap;
use std::path::PathBuf;

use adit_policy::grant::Grant;
use adit_policy::host::{HostPattern, MANAGEMENT_HOST};
use adit_policy::snapshot::{Tunnel, TunnelId, TunnelSecret};
use uuid::Uuid;

use super::{Files, secret_file};
use crate::diagnostic::Findings;
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
            grant: Grant::new(self.hostnames.iter().map(|(pattern, _)| pattern.clone())),
        }
    }
}

/// Reads `tunnels`.
pub(super) fn decode(node: &Node, files: Files, findings: &mut Findings) -> Vec<TunnelEntry> {
    let Kind::Map(entries) = &node.kind else {
        let message = format!("`tunnels` is a table of names, not {}", node.describe());
        findings.error(node.span, message).help("write `NAME: { id: …, secret-file: …, hostnames: […] }`");
        return Vec::new();
    };
    let mut tunnels = Vec::new();
    for (key, value) in entries.iter() {
        tunnels.extend(decode_tunnel(key, value, files, findings));
    }
    refuse_same_id(&tunnels, findings);
    refuse_same_hostname(&tunnels, findings);
    tunnels
}

fn decode_tunnel(key: &Node, value: &Node, files: Files, findings: &mut Findings) -> Option<TunnelEntry> {
    let name = key.as_text().unwrap_or_default();
    if let Err(error) = check_name(name) {
        findings.error(key.span, error.to_string());
    }
    let mut table = Table::open(value, &format!("tunnel `{name}`"), findings)?;
    let id_node = table.require("id", "6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11", findings);
    let id = id_node.and_then(|node| decode_id(node, findings));
    let secret_node = table.require("secret-file", &format!("/run/secrets/{name}"), findings);
    let secret_file = secret_node.and_then(|node| yaml::path_text(node, findings));
    let secret_file = secret_file.map(|path| findings.source().resolve(path));
    let hostnames = table.take("hostnames").map(|node| decode_hostnames(node, findings));
    table.finish(findings);
    let read = match (files, secret_node, &secret_file) {
        (Files::Read, Some(node), Some(path)) => secret_file::read(path, id, node.span, findings),
        _ => None,
    };
    let (secret, account_tag) = read.map_or((None, None), |found| (Some(found.secret), found.account_tag));
    Some(TunnelEntry {
        name: name.to_owned(),
        id: id?,
        secret_file: secret_file?,
        hostnames: hostnames.unwrap_or_default(),
        secret,
        account_tag,
        span: key.span,
        id_span: id_node.map_or(key.span, |node| node.span),
    })
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
