//! `accept-rules`: the limits of rules that an edge pushes. Ours, so every key is known or wrong.

use std::path::PathBuf;

use adit_policy::ingress::{AcceptRules, ServicePattern};

use super::{Form, origin_request};
use crate::diagnostic::Findings;
use crate::yaml::{self, Node, Table};

/// Reads `accept-rules`; `false`, which takes no rules at all, is its caller's.
pub(super) fn decode(node: &Node, findings: &mut Findings) -> AcceptRules {
    let mut accept = AcceptRules::default();
    if yaml::truth_of(node) == Some(false) {
        return accept;
    }
    let Some(mut table) = Table::open(node, "`accept-rules`", findings) else { return accept };
    if let Some(node) = table.take("services") {
        accept.services = patterns(node, findings);
    }
    let files = table.take("files").map(yaml::one_or_many).unwrap_or_default();
    accept.files =
        files.iter().filter_map(|node| yaml::path_text(node, findings)).map(PathBuf::from).collect();
    if let Some(node) = table.take("ipRules") {
        accept.ip_rules = origin_request::decode_ip_rules(node, Form::Held, findings);
    }
    table.finish(findings);
    accept
}

fn patterns(node: &Node, findings: &mut Findings) -> Vec<ServicePattern> {
    let mut patterns = Vec::new();
    for node in yaml::one_or_many(node) {
        let Some(text) = yaml::text(node, findings) else { continue };
        match ServicePattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => drop(findings.error(node.span, format!("`{text}`: {error}"))),
        }
    }
    patterns
}
