//! `deny-lists` and `crowdsec`: whom others say to keep out.

use std::path::PathBuf;
use std::time::Duration;

use adit_wire::secret::Secret;

use crate::diagnostic::Findings;
use crate::policy::Files;
use crate::yaml::{self, Node, Table};

/// Pause between two questions, as CrowdSec's own bouncers make it.
const INTERVAL: Duration = Duration::from_secs(10);

/// A local API of CrowdSec.
#[derive(Clone, Debug)]
pub struct CrowdsecEntry {
    /// Its address: `http://127.0.0.1:8080`.
    pub url: String,
    /// File of the key (`cscli bouncers add`).
    pub key_file: PathBuf,
    /// The key; `None` if the files were not read.
    pub key: Option<Secret>,
    /// Pause between two questions.
    pub interval: Duration,
}

/// Reads the files' names.
pub(super) fn decode_lists(node: &Node, files: Files, findings: &mut Findings) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for node in yaml::one_or_many(node) {
        let Some(text) = yaml::path_text(node, findings) else { continue };
        let path = findings.source().resolve(text);
        if files == Files::Read
            && let Err(error) = std::fs::File::open(&path)
        {
            findings.error(node.span, format!("`{}` cannot be read: {error}", path.display()));
        }
        paths.push(path);
    }
    paths
}

/// Reads where CrowdSec is.
pub(super) fn decode_crowdsec(node: &Node, files: Files, findings: &mut Findings) -> Option<CrowdsecEntry> {
    let mut table = Table::open(node, "`crowdsec`", findings)?;
    let url = table.require("url", "http://127.0.0.1:8080", findings);
    let url = url.and_then(|node| decode_url(node, findings));
    let key_node = table.require("key-file", "/run/secrets/crowdsec", findings);
    let key_file = key_node.and_then(|node| yaml::path_text(node, findings));
    let key_file = key_file.map(|path| findings.source().resolve(path));
    let interval = table.take("interval").and_then(|node| yaml::period(node, findings));
    table.finish(findings);
    let key = match (files, key_node, &key_file) {
        (Files::Read, Some(node), Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Some(Secret::new(text.trim().as_bytes().to_vec())),
            Err(error) => {
                findings.error(node.span, format!("`{}` cannot be read: {error}", path.display()));
                None
            }
        },
        _ => None,
    };
    let interval = interval.unwrap_or(INTERVAL).max(Duration::from_secs(1));
    Some(CrowdsecEntry { url: url?, key_file: key_file?, key, interval })
}

fn decode_url(node: &Node, findings: &mut Findings) -> Option<String> {
    let text = yaml::text(node, findings)?;
    if !text.starts_with("http://") && !text.starts_with("https://") {
        findings
            .error(node.span, format!("`{text}` is no address"))
            .help("for example `http://127.0.0.1:8080`");
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}
