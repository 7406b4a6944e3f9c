//! How names and paths are treated: the keys of `defaults` and `hostnames` in `edge.yml`, and of `edge` beside a rule.

mod access;
mod act;
mod cache;
mod compress;
mod fields;
mod limit;
mod pages;
mod units;
mod wire;

use adit_policy::ingress::path_regex;
use adit_policy::policy::{Expression, Layer, Patch, PathLayer};

use crate::diagnostic::Findings;
use crate::yaml::{self, Kind, Node, Table};

pub use units::{parse_rate, parse_size};
pub use wire::decode as decode_wire;
pub(crate) use wire::said;

/// Paths of one name that may be told apart: each is tried on every request.
const PATHS_MAX: usize = 200;

/// Whether decoding also reads the files that the file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// It reads them.
    Read,
    /// It leaves them alone.
    Leave,
    /// There are none: what would be in a file stands in its place.
    Inline,
}

/// What decoding needs beside the node.
pub(crate) struct Decoder<'f> {
    pub(crate) files: Files,
    pub(crate) findings: &'f mut Findings,
}

impl Decoder<'_> {
    /// Reads `edge` beside a rule.
    pub(crate) fn edge(&mut self, node: &Node, has_path: bool) -> Option<Layer> {
        let mut table = Table::open(node, "`edge`", self.findings)?;
        let layer = self.layer(&mut table);
        if has_path && table.has("paths") {
            let message = "`paths` cannot stand beside a rule with a `path`";
            let help = "write `paths` beside the rule of the whole name, or what is in it beside this one";
            self.findings.error(table.key_span("paths"), message).help(help);
        }
        table.finish(self.findings);
        Some(layer)
    }

    /// Reads the keys of a policy out of a table, which may have others.
    pub(crate) fn layer(&mut self, table: &mut Table<'_>) -> Layer {
        let base = self.patch(table);
        let paths = match table.take("paths").map(|node| (node, &node.kind)) {
            None => Vec::new(),
            Some((_, Kind::Map(entries))) => self.paths(entries),
            Some((node, _)) => {
                self.findings
                    .error(node.span, "`paths` is a table of expressions")
                    .help("for example `paths: { '^/api/': { cache: false } }`");
                Vec::new()
            }
        };
        Layer { base, paths }
    }

    fn paths(&mut self, entries: &[(Node, Node)]) -> Vec<PathLayer> {
        if let Some((key, _)) = entries.get(PATHS_MAX) {
            self.findings.error(key.span, format!("there are more than {PATHS_MAX} paths"));
        }
        let mut layers = Vec::new();
        for (key, node) in entries.iter().take(PATHS_MAX) {
            let path = self.expression(key);
            let Some(mut table) = Table::open(node, "what is said about a path", self.findings) else {
                continue;
            };
            let patch = self.patch(&mut table);
            table.finish(self.findings);
            layers.extend(path.map(|path| PathLayer { path, patch }));
        }
        layers
    }

    /// A regular expression for paths.
    fn expression(&mut self, node: &Node) -> Option<Expression> {
        let text = yaml::text(node, self.findings)?;
        match path_regex(text) {
            Ok(regex) => Some(Expression(regex)),
            Err(error) => {
                self.findings.error(node.span, format!("`{text}`: {error}"));
                None
            }
        }
    }

    fn patch(&mut self, table: &mut Table<'_>) -> Patch {
        Patch {
            cache: self.key(table, "cache", Self::cache),
            rate_limit: self.key(table, "rate-limit", Self::rate_limit),
            concurrency: self.key(table, "concurrency", Self::concurrency),
            ban: self.key(table, "ban", Self::ban),
            headers: self.key(table, "headers", Self::headers),
            security_headers: self.key(table, "security-headers", Self::security_headers),
            hsts: self.key(table, "hsts", Self::hsts),
            body_limit: self.key(table, "body-limit", Self::body_limit),
            compress: self.key(table, "compress", Self::compress),
            redirect: self.key(table, "redirect", Self::redirect),
            rewrite: self.key(table, "rewrite", Self::rewrite),
            respond: self.key(table, "respond", Self::respond),
            allow: self.key(table, "allow", Self::networks),
            deny: self.key(table, "deny", Self::networks),
            deny_mode: self.key(table, "deny-mode", Self::deny_mode),
            methods: self.key(table, "methods", Self::methods),
            pages: self.key(table, "error-page", Self::pages),
            maintenance: self.key(table, "maintenance", Self::maintenance),
            timeouts: self.key(table, "timeouts", Self::timeouts),
            min_rate: self.key(table, "min-rate", Self::min_rate),
        }
    }

    fn key<T>(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        read: fn(&mut Self, &Node) -> Option<T>,
    ) -> Option<T> {
        table.take(key).and_then(|node| read(self, node))
    }

    /// Reads a word that `false` takes back.
    fn unless_off<T>(
        &mut self,
        node: &Node,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<Option<T>> {
        match yaml::truth_of(node) {
            Some(false) => Some(None),
            _ => read(self, node).map(Some),
        }
    }
}
