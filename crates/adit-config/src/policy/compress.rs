//! `compress`.

use std::sync::Arc;

use adit_policy::policy::compress::{Coding, Compress};

use super::Decoder;
use crate::yaml::{self, Kind, Node, Table};

const CODINGS: [(&str, Coding); 3] = [("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip)];

impl Decoder<'_> {
    pub(super) fn compress(&mut self, node: &Node) -> Option<Option<Arc<Compress>>> {
        self.unless_off(node, |decoder, node| {
            let mut rule = Compress::default();
            match &node.kind {
                _ if yaml::truth_of(node) == Some(true) => {}
                Kind::Map(_) => decoder.compress_table(node, &mut rule)?,
                _ => rule.codings = decoder.codings(node),
            }
            Some(Arc::new(rule))
        })
    }

    fn compress_table(&mut self, node: &Node, rule: &mut Compress) -> Option<()> {
        let mut table = Table::open(node, "`compress`", self.findings)?;
        if let Some(node) = table.take("codings") {
            rule.codings = self.codings(node);
        }
        if let Some(node) = table.take("types") {
            let types = yaml::one_or_many(node).iter();
            rule.types = types.filter_map(|node| self.kind_of_content(node)).collect();
        }
        if let Some(size) = table.take("min-size").and_then(|node| self.size(node)) {
            rule.min_size = size;
        }
        table.finish(self.findings);
        Some(())
    }

    fn codings(&mut self, node: &Node) -> Vec<Coding> {
        let nodes = yaml::one_or_many(node).iter();
        nodes.filter_map(|node| yaml::word(node, &CODINGS, self.findings)).collect()
    }

    fn kind_of_content(&mut self, node: &Node) -> Option<String> {
        let text = yaml::text(node, self.findings)?;
        if !text.contains('/') && !text.starts_with('+') {
            self.findings
                .error(node.span, format!("`{text}` is no type"))
                .help("for example `text/html`, `text/*` or `+json`");
            return None;
        }
        Some(text.to_ascii_lowercase())
    }
}
