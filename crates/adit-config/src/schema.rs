//! JSON Schemas of both files, for editors. A test holds them to the decoders: the same tables, and the same keys.

mod tables;

use serde_json::{Map, Value, json};

use crate::check::FileKind;
use tables::{Key, TABLES};

/// The schema of a file (JSON Schema 2020-12).
#[must_use]
pub fn schema(kind: FileKind) -> Value {
    let (root, title) = match kind {
        FileKind::Edge => ("edge-file", "Adit: edge.yml"),
        FileKind::Connector => ("connector-file", "Adit: config.yml of a connector"),
    };
    let definitions: Map<String, Value> =
        TABLES.iter().map(|table| (table.name.to_owned(), object(table.keys, table.open))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "$ref": format!("#/$defs/{root}"),
        "$defs": definitions,
    })
}

fn object(keys: &[Key], open: bool) -> Value {
    let mut properties = Map::new();
    for (name, kinds, description) in keys {
        let mut property = alternatives(kinds);
        if let (false, Some(members)) = (description.is_empty(), property.as_object_mut()) {
            members.insert("description".to_owned(), (*description).into());
        }
        properties.insert((*name).to_owned(), property);
    }
    let required: Vec<&str> =
        keys.iter().filter(|(_, kinds, _)| kinds.starts_with('!')).map(|(name, ..)| *name).collect();
    let mut object =
        json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": open });
    if let (false, Some(members)) = (required.is_empty(), object.as_object_mut()) {
        members.insert("required".to_owned(), required.into());
    }
    object
}

/// Kinds between `|`; `!` before them: the key must be there.
fn alternatives(kinds: &str) -> Value {
    let all: Vec<Value> = kinds.trim_start_matches('!').split('|').map(kind).collect();
    match <[Value; 1]>::try_from(all) {
        Ok([one]) => one,
        Err(several) => json!({ "anyOf": several }),
    }
}

fn kind(word: &str) -> Value {
    let list = |of: Value| json!({ "anyOf": [of.clone(), { "type": "array", "items": of }] });
    match word {
        "any" => json!({}),
        "bool" => json!({ "type": "boolean" }),
        "true" => json!({ "const": true }),
        "false" => json!({ "const": false }),
        "text" => json!({ "type": ["string", "number", "boolean"] }),
        "texts" => list(json!({ "type": ["string", "number"] })),
        "int" => json!({ "type": "integer", "minimum": 0 }),
        "size" => {
            json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": "^[0-9]+ ?([kKmMgGtT]([iI]?[bB])?|[bB])?$" }] })
        }
        "time" => {
            json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": "^([0-9.]+(y|w|d|h|m|s|ms|us|ns))+$" }] })
        }
        "rate" => {
            json!({ "type": "string", "pattern": "^[0-9]+ *r? */ *(s|sec|second|m|min|minute|h|hour|d|day)$" })
        }
        "map" => json!({ "type": "object" }),
        _ => match (word.strip_prefix('@'), word.strip_prefix("list @"), word.strip_prefix("map @")) {
            (Some(name), ..) => reference(name),
            (_, Some(name), _) => json!({ "type": "array", "items": reference(name) }),
            (.., Some(name)) => {
                json!({ "type": ["object", "null"], "additionalProperties": reference(name) })
            }
            // One of a few words, as in `'static`.
            _ => json!({ "const": word.trim_start_matches('\'') }),
        },
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::connector::ConnectorFile;
    use crate::edge::EdgeFile;
    use crate::yaml::decode::asked;

    /// Every example decodes, and what its decoders ask for are the keys of the schema.
    #[test]
    fn the_schema_has_the_keys_of_the_decoders() {
        let mut seen = BTreeSet::new();
        for entry in fs::read_dir("tests/accepted").unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let is_edge = path.file_name().unwrap().to_string_lossy().starts_with("edge");
            let decoded = match is_edge {
                true => EdgeFile::parse(&text, Path::new("edge.yml")).map(drop),
                false => ConnectorFile::parse(&text, Path::new("config.yml")).map(drop),
            };
            assert!(decoded.is_ok(), "{}", path.display());
            for (what, keys) in asked::all() {
                let table = TABLES.iter().find(|table| table.is_of(&what, is_edge));
                let table = table.unwrap_or_else(|| panic!("no table for {what}"));
                let known: BTreeSet<&str> = table.keys.iter().map(|(name, ..)| *name).collect();
                // cloudflared's flags are keys of its file too, a hundred of them.
                match table.open {
                    true => assert!(known.is_subset(&keys), "{what}: {:?}", known.difference(&keys)),
                    false => assert_eq!(known, keys.into_iter().collect(), "{what}"),
                }
                seen.insert(table.name);
            }
        }
        let unseen: Vec<&str> =
            TABLES.iter().map(|table| table.name).filter(|name| !seen.contains(name)).collect();
        assert!(unseen.is_empty(), "no example has {unseen:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for file in [FileKind::Edge, FileKind::Connector] {
            let schema = schema(file).to_string();
            for name in schema.split("#/$defs/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(TABLES.iter().any(|table| table.name == name), "{name}");
            }
        }
    }
}
