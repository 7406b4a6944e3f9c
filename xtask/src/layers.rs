//! Layers: which crate may import which, and which words may stand in which room.
//!
//! The table is the architecture. A new import that breaks it is a question to the architecture, not to the table.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::sources::{self, Source};

/// Each crate of ours with its level. It imports lower levels only, and of its own level nobody.
const LEVELS: [(&str, u8); 15] = [
    ("adit-policy", 0),
    ("adit-wire", 0),
    ("adit-lifecycle", 0),
    ("adit-telemetry", 0),
    ("adit-config", 1),
    ("adit-http", 1),
    ("adit-http3", 1),
    ("adit-tunnel", 1),
    ("adit-cache", 1),
    ("adit-certs", 2),
    ("adit-dns", 2),
    ("adit-edge", 3),
    ("adit-connector", 3),
    ("adit-control", 3),
    ("adit", 5),
];
/// Test support: nobody that ships imports it.
const BESIDE: [&str; 5] = ["adit-testkit", "adit-integration", "adit-hostile", "adit-fuzz", "xtask"];

/// Crates from outside that a crate must not have: the invariants of absence.
const ABSENT: [(&str, &[&str]); 5] = [
    ("adit-policy", &["tokio", "quinn", "hyper", "socket2", "rustls", "time"]),
    ("adit-wire", &["tokio", "quinn", "hyper", "socket2", "rustls"]),
    ("adit-cache", &["hyper", "rustls", "quinn"]),
    ("adit-edge", &["serde-saphyr", "notify", "rcgen", "adit-config"]),
    ("adit-connector", &["serde-saphyr", "notify", "rcgen", "adit-config"]),
];

/// A text that may stand only in the named files of a crate, with the reason.
struct Room {
    folder: &'static str,
    text: &'static str,
    files: &'static [&'static str],
    reason: &'static str,
}

const ROOMS: [Room; 6] = [
    Room {
        folder: "crates/adit-edge/src",
        text: "StatusCode::BAD_GATEWAY",
        files: &["rescue.rs"],
        reason: "only `rescue` writes errors to visitors",
    },
    Room {
        folder: "crates/adit-edge/src",
        text: "StatusCode::SERVICE_UNAVAILABLE",
        files: &["rescue.rs", "endpoints.rs"],
        reason: "only `rescue` writes errors to visitors",
    },
    Room {
        folder: "crates/adit-edge/src",
        text: "upstream::send",
        files: &["serve.rs", "cache/fetch.rs"],
        reason: "only `serve` and the cache's own fetch ask an origin",
    },
    Room {
        folder: "crates/adit-policy/src",
        text: "::now()",
        files: &[],
        reason: "time is an argument of pure code",
    },
    Room {
        folder: "crates/adit-edge/src",
        text: "std::fs",
        files: &[],
        reason: "the edge's data plane knows no files",
    },
    Room {
        folder: "crates/adit-connector/src",
        text: "std::fs",
        files: &["tls.rs", "origin/passthrough.rs"],
        reason: "the connector's data plane knows no files but an origin's CA and a certificate of its own",
    },
];

/// Checks crates and rooms.
pub(crate) fn check(root: &Path) -> Result<()> {
    let imports = imports(root)?;
    let mut problems = Vec::new();
    for (name, dependencies) in &imports {
        problems.extend(dependencies.iter().filter_map(|dependency| forbidden(name, dependency)));
    }
    let sources = sources::all(root)?;
    for room in &ROOMS {
        problems.extend(sources.iter().filter_map(|source| strays(room, source)));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    println!("layers hold: {} crates, {} rooms", imports.len(), ROOMS.len());
    Ok(())
}

/// The direct dependencies of each member that ship with it.
fn imports(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("what cargo metadata says")?;
    let mut imports = BTreeMap::new();
    for package in metadata.get("packages").and_then(Value::as_array).into_iter().flatten() {
        let list = package.get("dependencies").and_then(Value::as_array);
        let ships =
            list.into_iter().flatten().filter(|dependency| dependency.get("kind").is_none_or(Value::is_null));
        imports.insert(name(package), ships.map(name).collect());
    }
    Ok(imports)
}

fn name(value: &Value) -> String {
    value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn level(name: &str) -> Option<u8> {
    LEVELS.iter().find(|(member, _)| *member == name).map(|(_, level)| *level)
}

fn forbidden(member: &str, dependency: &str) -> Option<String> {
    if BESIDE.contains(&member) {
        return None;
    }
    let Some(own) = level(member) else {
        return Some(format!("{member} has no level; add it to xtask/src/layers.rs"));
    };
    if BESIDE.contains(&dependency) {
        return Some(format!("{member} ships and imports the test support {dependency}"));
    }
    let absent = ABSENT.iter().any(|(name, banned)| *name == member && banned.contains(&dependency));
    let upward = level(dependency).is_some_and(|other| other >= own);
    (absent || upward).then(|| format!("{member} must not import {dependency}"))
}

fn strays(room: &Room, source: &Source) -> Option<String> {
    let inside = source.path.strip_prefix(room.folder)?;
    let allowed = room.files.iter().any(|file| inside.ends_with(&format!("/{file}")));
    let shipped = source.text.split("#[cfg(test)]").next().unwrap_or_default();
    let found = !allowed && !source.is_test() && shipped.contains(room.text);
    found.then(|| format!("{}: `{}` does not belong here: {}", source.path, room.text, room.reason))
}
