//! `edge` beside a rule, on its way from the connector to the edge: the same keys in JSON. Files are sent as what is in them.

use std::path::Path;

use adit_policy::policy::Layer;
use adit_policy::policy::pages::Pages;
use serde_json::{Map, Value};

use super::{Decoder, Files};
use crate::diagnostic::Findings;
use crate::source::Source;
use crate::yaml::{Kind, Node, json_node};

/// Bytes of what one rule may say: a dozen error pages.
const WORD_MAX: usize = 1024 * 1024;

/// Reads what a connector says beside a rule.
///
/// # Errors
/// Everything that is wrong with it, in one line.
pub fn decode(value: &Value) -> Result<Layer, String> {
    if value.to_string().len() > WORD_MAX {
        return Err(format!("it is longer than {} KiB", WORD_MAX / 1024));
    }
    let source = Source::new(Path::new("edge"), "").map_err(|report| report.in_one_line())?;
    let mut findings = Findings::new(&source);
    let layer = Decoder { files: Files::Inline, findings: &mut findings }.edge(&json_node(value), false);
    findings.finish(layer).map(|(layer, _)| layer).map_err(|report| report.in_one_line())
}

/// What is said about a name, as it travels.
pub(crate) fn said(node: &Node, layer: &Layer) -> Value {
    let mut value = json(node);
    set_pages(&mut value, layer.base.pages.as_ref().and_then(Option::as_deref));
    let paths = value.get_mut("paths").and_then(Value::as_object_mut);
    for path in paths.into_iter().flatten() {
        let found = layer.paths.iter().find(|known| known.path.0.as_str() == path.0);
        set_pages(path.1, found.and_then(|known| known.patch.pages.as_ref()).and_then(Option::as_deref));
    }
    value
}

fn set_pages(value: &mut Value, pages: Option<&Pages>) {
    let (Some(pages), Some(members)) = (pages, value.as_object_mut()) else { return };
    let own = pages.by_status.iter().map(|(status, page)| (status.to_string(), page));
    let other = pages.other.iter().map(|page| ("error".to_owned(), page));
    let table: Map<String, Value> = own.chain(other).map(|(name, page)| (name, (**page).into())).collect();
    members.insert("error-page".to_owned(), table.into());
}

fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Quoted(text) => (**text).into(),
        Kind::Plain(text) => match (crate::yaml::truth_of(node), text.parse::<u64>()) {
            (Some(truth), _) => truth.into(),
            (None, Ok(number)) => number.into(),
            _ => (**text).into(),
        },
        Kind::List(items) => items.iter().map(json).collect(),
        Kind::Map(entries) => {
            let text = |node: &Node| node.as_text().unwrap_or_default().to_owned();
            entries.iter().map(|(key, value)| (text(key), json(value))).collect()
        }
    }
}
