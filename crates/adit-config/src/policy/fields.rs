//! `headers`, `security-headers`, `hsts`.

use std::time::Duration;

use adit_policy::field;
use adit_policy::policy::fields::{Changes, FieldPreset, FieldRules, Hsts, SecurityHeaders};
use http::{HeaderName, HeaderValue};

use super::Decoder;
use crate::yaml::{self, Kind, Node, Table};

/// HSTS where `hsts: true` says no more (hstspreload.org asks for a year).
const HSTS: Duration = Duration::from_secs(365 * 24 * 3600);

/// Fields that carry the message itself, or that the edge answers for.
const OURS: [&str; 12] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "alt-svc",
];

/// The preset (OWASP's list, without what breaks sites).
const PRESET: [(&str, &str, &str); 3] = [
    ("frame-options", "x-frame-options", "DENY"),
    ("content-type-options", "x-content-type-options", "nosniff"),
    ("referrer-policy", "referrer-policy", "strict-origin-when-cross-origin"),
];

/// Fields of the same kind that have no value that fits all sites.
const MORE: [(&str, &str); 5] = [
    ("permissions-policy", "permissions-policy"),
    ("content-security-policy", "content-security-policy"),
    ("cross-origin-opener-policy", "cross-origin-opener-policy"),
    ("cross-origin-embedder-policy", "cross-origin-embedder-policy"),
    ("cross-origin-resource-policy", "cross-origin-resource-policy"),
];

impl Decoder<'_> {
    pub(super) fn headers(&mut self, node: &Node) -> Option<FieldRules> {
        let mut table = Table::open(node, "`headers`", self.findings)?;
        let presets = [("cloudflare", FieldPreset::Cloudflare), ("none", FieldPreset::None)];
        let preset = table.take("preset").and_then(|node| yaml::word(node, &presets, self.findings));
        let request = table.take("request").and_then(|node| self.changes(node));
        let response = table.take("response").and_then(|node| self.changes(node));
        table.finish(self.findings);
        let (request, response) = (request.unwrap_or_default(), response.unwrap_or_default());
        Some(FieldRules { preset, request, response })
    }

    fn changes(&mut self, node: &Node) -> Option<Changes> {
        let mut table = Table::open(node, "fields that are changed", self.findings)?;
        let set = table.take("set").map(|node| self.pairs(node)).unwrap_or_default();
        let add = table.take("add").map(|node| self.pairs(node)).unwrap_or_default();
        let remove = table.take("remove").map(yaml::one_or_many).unwrap_or_default();
        let remove = remove.iter().filter_map(|node| self.field_name(node)).collect();
        table.finish(self.findings);
        Some(Changes { set, add, remove })
    }

    fn pairs(&mut self, node: &Node) -> Vec<(HeaderName, HeaderValue)> {
        let Kind::Map(entries) = &node.kind else {
            self.findings
                .error(node.span, "expected a table of fields")
                .help("for example `set: { X-Robots-Tag: noindex }`");
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (key, value) in entries.iter() {
            let name = self.field_name(key);
            pairs.extend(name.zip(self.field_value(value)));
        }
        pairs
    }

    /// The name of a field that may be changed.
    pub(super) fn field_name(&mut self, node: &Node) -> Option<HeaderName> {
        let text = yaml::text(node, self.findings)?;
        let Ok(name) = HeaderName::try_from(text) else {
            self.findings.error(node.span, format!("`{text}` is no name of a field"));
            return None;
        };
        if OURS.contains(&name.as_str()) || name.as_str().starts_with("cf-cloudflared-") {
            self.findings
                .error(node.span, format!("`{text}` cannot be changed: it carries the message itself"));
            return None;
        }
        if field::is_lookalike(name.as_str().as_bytes()) {
            self.findings
                .error(node.span, format!("`{text}` is read as another field by many origins"))
                .help("write the name with `-`");
            return None;
        }
        Some(name)
    }

    fn field_value(&mut self, node: &Node) -> Option<HeaderValue> {
        let text = yaml::text(node, self.findings)?;
        match HeaderValue::try_from(text) {
            Ok(value) => Some(value),
            Err(_) => {
                self.findings.error(node.span, "this has a character that no field can have");
                None
            }
        }
    }

    pub(super) fn security_headers(&mut self, node: &Node) -> Option<Option<SecurityHeaders>> {
        match (yaml::truth_of(node), &node.kind) {
            (Some(false), _) => return Some(None),
            (Some(true), _) | (None, Kind::Map(_)) => {}
            _ => {
                self.findings
                    .error(node.span, "expected true, false or a table")
                    .help("for example `security-headers: { frame-options: SAMEORIGIN }`");
                return None;
            }
        }
        let nothing = Node::nowhere(Kind::Null);
        let node = if yaml::truth_of(node).is_some() { &nothing } else { node };
        let mut table = Table::open(node, "`security-headers`", self.findings)?;
        let mut fields = Vec::new();
        for (key, name, usual) in PRESET {
            let value = match table.take(key) {
                Some(node) if yaml::truth_of(node) == Some(false) => None,
                Some(node) => self.field_value(node),
                None => Some(HeaderValue::from_static(usual)),
            };
            fields.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
        for (key, name) in MORE {
            let value = table.take(key).and_then(|node| self.field_value(node));
            fields.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
        table.finish(self.findings);
        Some(Some(SecurityHeaders(fields.into())))
    }

    pub(super) fn hsts(&mut self, node: &Node) -> Option<Option<Hsts>> {
        let plain = |max_age| Hsts { max_age, subdomains: false, preload: false };
        if let Kind::Map(_) = &node.kind {
            let mut table = Table::open(node, "`hsts`", self.findings)?;
            let max_age = table.take("max-age").and_then(|node| yaml::period(node, self.findings));
            let mut flag =
                |key| table.take(key).and_then(|node| yaml::boolean(node, self.findings)).unwrap_or(false);
            let (subdomains, preload) = (flag("subdomains"), flag("preload"));
            table.finish(self.findings);
            return Some(Some(Hsts { max_age: max_age.unwrap_or(HSTS), subdomains, preload }));
        }
        match yaml::truth_of(node) {
            Some(on) => Some(on.then(|| plain(HSTS))),
            None => yaml::period(node, self.findings).map(|max_age| Some(plain(max_age))),
        }
    }
}
