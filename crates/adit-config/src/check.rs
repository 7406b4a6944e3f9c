//! `adit check FILE`: which of the two files it is, everything that is wrong with it, and what it would do.

mod summary;

use std::path::Path;

use crate::connector::{ConnectorFile, NO_RULES};
use crate::diagnostic::{Diagnostic, Findings, Report, Severity};
use crate::edge::EdgeFile;
use crate::source::Source;
use crate::stored;
use crate::yaml::{self, Kind, Node};

/// Which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `edge.yml`.
    Edge,
    /// cloudflared's `config.yml`.
    Connector,
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct CheckOutcome {
    /// Which file it is, if that could be told.
    pub kind: Option<FileKind>,
    /// Everything that was found.
    pub report: Report,
    /// What the file does, in a few lines; empty if it is refused.
    pub summary: String,
}

impl CheckOutcome {
    /// Whether the file works, and nothing in it is without effect or perhaps not as meant.
    #[must_use]
    pub fn is_flawless(&self) -> bool {
        self.report.0.is_empty()
    }

    /// Whether the file works.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.report.has_errors()
    }
}

/// Checks a file, and the files that it names.
#[must_use]
pub fn check(path: &Path) -> CheckOutcome {
    let outcome = |kind, result: Result<(String, Vec<Diagnostic>), Report>| match result {
        Ok((summary, warnings)) => CheckOutcome { kind, report: Report(warnings), summary },
        Err(report) => CheckOutcome { kind, report, summary: String::new() },
    };
    match recognise(path) {
        Ok(FileKind::Edge) => outcome(Some(FileKind::Edge), check_edge(path)),
        Ok(FileKind::Connector) => outcome(Some(FileKind::Connector), check_connector(path)),
        Err(report) => outcome(None, Err(report)),
    }
}

/// Keys that only `edge.yml` has.
const EDGE_KEYS: [&str; 11] = [
    "domain",
    "listen",
    "tunnels",
    "http-mode",
    "certificates",
    "data-dir",
    "access-log",
    "acme",
    "http3",
    "hostnames",
    "trusted",
];

/// Keys that only `config.yml` has.
const CONNECTOR_KEYS: [&str; 10] = [
    "accept-rules",
    "ingress",
    "tunnel",
    "credentials-file",
    "originRequest",
    "warp-routing",
    "token",
    "token-file",
    "edge",
    "url",
];

/// Tells which file it is by the keys at its top.
///
/// # Errors
/// A report if the file cannot be read, is no YAML, or has no key that tells.
pub fn recognise(path: &Path) -> Result<FileKind, Report> {
    let source = Source::read(path)?;
    let mut findings = Findings::new(&source);
    let Some(root) = yaml::parse_lenient(&mut findings) else {
        return findings.finish::<FileKind>(None).map(|(kind, _)| kind);
    };
    let edge = count_keys(&root, &EDGE_KEYS);
    let connector = count_keys(&root, &CONNECTOR_KEYS);
    if edge == 0 && connector == 0 {
        let message = "this is neither an edge.yml nor a config.yml of a connector";
        let help = "an edge.yml has `domain`, a config.yml has `tunnel` or `ingress`";
        findings.error(root.span, message).help(help);
        return findings.finish::<FileKind>(None).map(|(kind, _)| kind);
    }
    Ok(if edge >= connector { FileKind::Edge } else { FileKind::Connector })
}

fn count_keys(root: &Node, keys: &[&str]) -> usize {
    match &root.kind {
        Kind::Map(entries) => {
            entries.iter().filter(|(key, _)| key.as_text().is_some_and(|name| keys.contains(&name))).count()
        }
        _ => 0,
    }
}

fn check_edge(path: &Path) -> Result<(String, Vec<Diagnostic>), Report> {
    let (file, mut warnings) = EdgeFile::load(path)?;
    let stored = stored::load_all(&file.data_dir)?;
    let snapshot = stored::merge(&file, stored)?;
    warnings.extend(stored::not_created(&file, &snapshot));
    Ok((summary::edge(&file, &snapshot), warnings))
}

fn check_connector(path: &Path) -> Result<(String, Vec<Diagnostic>), Report> {
    let (file, mut warnings) = ConnectorFile::load(path)?;
    let has_token = file.token.is_some() || file.token_file.is_some();
    let said = warnings.iter().any(|warning| warning.message == NO_RULES);
    if file.ingress.is_none() && file.single.is_none() && !has_token && !said {
        warnings.push(Diagnostic::new(path, Severity::Warning, NO_RULES.to_owned()));
    }
    Ok((summary::connector(&file), warnings))
}
