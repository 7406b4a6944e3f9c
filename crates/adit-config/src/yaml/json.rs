//! JSON as a tree, for the decoders of the same keys in YAML.

use serde_json::{Map, Value};

use super::{Kind, Node};

/// A table.
pub(crate) fn json_table(members: &Map<String, Value>) -> Node {
    let entries = members.iter().map(|(name, value)| (quoted(name), json_node(value)));
    Node::nowhere(Kind::Map(entries.collect()))
}

/// A value.
pub(crate) fn json_node(value: &Value) -> Node {
    match value {
        Value::Null => Node::nowhere(Kind::Null),
        Value::Bool(_) | Value::Number(_) => Node::nowhere(Kind::Plain(value.to_string().into())),
        Value::String(text) => quoted(text),
        Value::Array(items) => Node::nowhere(Kind::List(items.iter().map(json_node).collect())),
        Value::Object(members) => json_table(members),
    }
}

fn quoted(text: &str) -> Node {
    Node::nowhere(Kind::Quoted(text.into()))
}
