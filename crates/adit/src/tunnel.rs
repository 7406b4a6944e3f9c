//! `adit tunnel create|list|info|token|rotate|release|delete`: the tunnels of an edge, from its files.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use adit_config::edge::EdgeFile;
use adit_control::files::{self, Access};
use adit_control::owners;
use adit_control::tunnels::{Tunnels, TunnelsError};
use adit_policy::host::HostPattern;
use adit_wire::credentials::Credentials;
use adit_wire::token;
use serde_json::Value;

use crate::cli::TunnelAnswer;
use crate::failure::Failure;
use crate::local;
use crate::status::own_rules;

/// Who gets a name that nobody else claims.
const NEXT_OWNER: &str = "the tunnel that claims it next";

/// Opens the tunnels of an edge's file.
///
/// # Errors
/// The report of its errors.
pub fn open(config: &Path) -> Result<Tunnels, Failure> {
    let (file, _) = EdgeFile::load(config).map_err(Failure::input)?;
    Tunnels::open(file).map_err(failed)
}

fn failed(error: TunnelsError) -> Failure {
    match error {
        TunnelsError::File { .. } | TunnelsError::Random => Failure::broke(error),
        other => Failure::input(other),
    }
}

/// Creates a tunnel; what to do next is the answer.
///
/// # Errors
/// When the name or a host name is taken.
pub fn create(
    config: &Path,
    name: &str,
    hostnames: &[String],
    out: Option<&Path>,
) -> Result<String, Failure> {
    if hostnames.is_empty() {
        return Err(Failure::input("a tunnel needs at least one --hostname: what may it serve?"));
    }
    let parse = |text: &String| {
        HostPattern::parse(text).map_err(|error| Failure::input(format!("--hostname {text}: {error}")))
    };
    let patterns = hostnames.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let mut tunnels = open(config)?;
    let credentials = tunnels.create(name, patterns).map_err(failed)?;
    let id = credentials.tunnel_id;
    let mut text = format!("Created tunnel {name} with id {id}\n");
    match out {
        Some(path) => {
            write_credentials(path, &credentials)?;
            text += &format!("Credentials: {} (keep it secret; the connector needs it)\n", path.display());
        }
        None => text += &format!("Its token: adit tunnel token {name} --config {}\n", config.display()),
    }
    Ok(text)
}

fn write_credentials(path: &Path, credentials: &Credentials) -> Result<(), Failure> {
    files::write(path, credentials.to_json().as_bytes(), Access::Owner)
        .map_err(|error| Failure::broke(format!("{}: {error}", path.display())))
}

/// The token of a tunnel.
///
/// # Errors
/// When there is no such tunnel.
pub fn token(config: &Path, name: &str) -> Result<String, Failure> {
    Ok(token::encode(&open(config)?.credentials(name).map_err(failed)?) + "\n")
}

/// Makes a new secret and answers with the new token, or writes the credentials.
///
/// # Errors
/// When there is no such tunnel.
pub fn rotate(config: &Path, name: &str, grace: Duration, out: Option<&Path>) -> Result<String, Failure> {
    let credentials = open(config)?.rotate(name, grace).map_err(failed)?;
    match out {
        Some(path) => {
            write_credentials(path, &credentials)?;
            Ok(format!("New credentials: {}; the old ones are good for {grace:?}\n", path.display()))
        }
        None => Ok(token::encode(&credentials) + "\n"),
    }
}

/// Deletes a tunnel.
///
/// # Errors
/// When there is no such tunnel, or it stands in the edge's file.
pub fn delete(config: &Path, name: &str) -> Result<String, Failure> {
    open(config)?.delete(name).map_err(failed)?;
    Ok(format!("Deleted tunnel {name}; its connectors are refused from now on\n"))
}

/// Takes names away from a tunnel that owns them because it claimed them first: at the running edge, or in its folder.
///
/// # Errors
/// When there is no such tunnel, or it does not own one of the names. Those before it in the list are released.
pub fn release(config: &Path, name: &str, hostnames: &[String]) -> Result<String, Failure> {
    let tunnels = open(config)?;
    let mut text = String::new();
    for hostname in hostnames {
        let said = serde_json::json!({ "tunnel": name, "hostname": hostname }).to_string();
        let admin = tunnels.edge().listen.admin;
        let owner = match admin.and_then(|admin| local::send(admin, "POST", "/tunnels/release", &said)) {
            Some((_, body)) => released_by_edge(&body)?,
            None => released_in_file(&tunnels, name, hostname)?,
        };
        line(&mut text, format_args!("Released {hostname}: it belongs to {owner} now"));
    }
    Ok(text)
}

/// The new owner, by what the edge answers.
fn released_by_edge(body: &[u8]) -> Result<String, Failure> {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(error) = said["error"].as_str() {
        return Err(Failure::input(error));
    }
    Ok(said["owner"].as_str().map_or_else(|| NEXT_OWNER.to_owned(), |owner| format!("tunnel {owner}")))
}

/// No edge answers, so no connector claims anything now.
fn released_in_file(tunnels: &Tunnels, name: &str, hostname: &str) -> Result<String, Failure> {
    let data_dir = &tunnels.edge().data_dir;
    let broke =
        |error: std::io::Error| Failure::broke(format!("{}: {error}", owners::file(data_dir).display()));
    let snapshot = tunnels.snapshot().map_err(failed)?;
    let tunnel =
        snapshot.tunnels().iter().find(|tunnel| tunnel.name == name || tunnel.id.to_string() == name);
    let tunnel = tunnel.ok_or_else(|| failed(TunnelsError::Unknown(name.to_owned())))?;
    let pattern = HostPattern::parse(hostname)
        .map_err(|error| Failure::input(format!("`{hostname}` is not a valid host pattern: {error}")))?;
    let mut known = owners::read(data_dir).map_err(broke)?;
    if !known.release(&snapshot, tunnel.id, &pattern, &[]) {
        return Err(Failure::input(format!("tunnel `{name}` does not own `{pattern}`")));
    }
    owners::write(data_dir, &known).map_err(broke)?;
    Ok(NEXT_OWNER.to_owned())
}

/// All tunnels, one a line; with their connections when the edge runs.
///
/// # Errors
/// When the files have errors.
pub fn list(config: &Path, only: Option<&str>, answer: TunnelAnswer) -> Result<String, Failure> {
    let (tunnels, running) = state(config)?;
    let tunnels: Vec<Value> =
        tunnels.into_iter().filter(|tunnel| only.is_none_or(|name| tunnel["name"] == name)).collect();
    if answer != TunnelAnswer::Text {
        return Ok(shown(&tunnels.into(), answer));
    }
    // The id goes first, as in cloudflared's list: scripts take the first word of a line.
    let mut text = format!("{:<36} {:<16} {:<11} HOSTNAMES\n", "ID", "NAME", "CONNECTIONS");
    for tunnel in &tunnels {
        let connections = if running {
            tunnel["connections"].as_array().map_or(0, Vec::len).to_string()
        } else {
            "?".to_owned()
        };
        let hostnames = words(&tunnel["hostnames"]).join(" ");
        line(
            &mut text,
            format_args!(
                "{:<36} {:<16} {connections:<11} {hostnames}",
                word(&tunnel["id"]),
                word(&tunnel["name"])
            ),
        );
    }
    Ok(text)
}

/// One tunnel with its connections, names, and what it was refused.
///
/// # Errors
/// When there is no such tunnel.
pub fn info(config: &Path, name: &str, answer: TunnelAnswer) -> Result<String, Failure> {
    let (tunnels, running) = state(config)?;
    let tunnel = tunnels.iter().find(|tunnel| tunnel["name"] == name || tunnel["id"] == name);
    let tunnel = tunnel.ok_or_else(|| failed(TunnelsError::Unknown(name.to_owned())))?;
    if answer != TunnelAnswer::Text {
        return Ok(shown(tunnel, answer));
    }
    let mut text = String::new();
    line(&mut text, format_args!("name:      {}", word(&tunnel["name"])));
    line(&mut text, format_args!("id:        {}", word(&tunnel["id"])));
    line(&mut text, format_args!("hostnames: {}", words(&tunnel["hostnames"]).join(" ")));
    if !running {
        line(
            &mut text,
            format_args!("the edge does not run, or its admin address is off: no connections are known"),
        );
        return Ok(text);
    }
    line(&mut text, format_args!("serves:    {}", words(&tunnel["serves"]).join(" ")));
    line(&mut text, format_args!("owns:      {}", words(&tunnel["owns"]).join(" ")));
    if tunnel["managed"] == true {
        for connector in own_rules(tunnel) {
            line(
                &mut text,
                format_args!(
                    "own rules: connector {connector} keeps the rules of its own configuration; those of this edge are not in force there"
                ),
            );
        }
    }
    for refusal in words(&tunnel["refused"]) {
        line(&mut text, format_args!("refused:   {refusal}"));
    }
    for connection in tunnel["connections"].as_array().into_iter().flatten() {
        let (id, remote, version) =
            (word(&connection["connector"]), word(&connection["remote"]), word(&connection["version"]));
        let (index, protocol) = (&connection["index"], word(&connection["protocol"]));
        line(
            &mut text,
            format_args!("connection {index} of connector {id}: {protocol} from {remote}, {version}"),
        );
    }
    Ok(text)
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    text.write_fmt(arguments).unwrap_or_default();
    text.push('\n');
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the files say, with what the running edge knows of it. The flag says whether one runs.
fn state(config: &Path) -> Result<(Vec<Value>, bool), Failure> {
    let tunnels = open(config)?;
    let running = tunnels.edge().listen.admin.and_then(ask);
    let snapshot = tunnels.snapshot().map_err(failed)?;
    let known = |id: &str| {
        let list = running.as_ref()?.get("tunnels")?.as_array()?;
        list.iter().find(|tunnel| tunnel["id"] == id).cloned()
    };
    let tunnel = |tunnel: &adit_policy::snapshot::Tunnel| {
        let hostnames: Vec<_> = tunnel.grant.patterns().iter().map(ToString::to_string).collect();
        let id = tunnel.id.to_string();
        known(&id)
            .unwrap_or_else(|| serde_json::json!({ "name": tunnel.name, "id": id, "hostnames": hostnames }))
    };
    let tunnels = snapshot.tunnels().iter().map(tunnel).collect();
    Ok((tunnels, running.is_some()))
}

/// JSON, or the same in YAML.
fn shown(value: &Value, answer: TunnelAnswer) -> String {
    match answer {
        TunnelAnswer::Yaml => yaml(value, 0),
        TunnelAnswer::Json | TunnelAnswer::Text => format!("{value:#}\n"),
    }
}

/// A value in YAML's block style, after `indent` spaces. Scalars and empty collections are written as in JSON, which is YAML.
fn yaml(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let below = |value: &Value| match value {
        Value::Object(members) if !members.is_empty() => format!("\n{}", yaml(value, indent + 2)),
        Value::Array(items) if !items.is_empty() => format!("\n{}", yaml(value, indent + 2)),
        scalar => format!(" {scalar}\n"),
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().map(|(name, value)| format!("{pad}{name}:{}", below(value))).collect()
        }
        Value::Array(items) if !items.is_empty() => items
            .iter()
            // An item begins behind its dash.
            .map(|item| format!("{pad}- {}", yaml(item, indent + 2).trim_start()))
            .collect(),
        scalar => format!("{pad}{scalar}\n"),
    }
}

/// Asks a running edge. `None` when none answers.
fn ask(admin: SocketAddr) -> Option<Value> {
    let (_, body) = local::ask(admin, "/tunnels")?;
    serde_json::from_slice(&body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_written_in_blocks() {
        let value = serde_json::json!([
            { "id": "a", "names": ["x", "y: z"], "connections": [{ "index": 0 }], "none": [] },
            { "id": "b", "names": null },
        ]);
        let text = "- connections:\n    - index: 0\n  id: \"a\"\n  names:\n    - \"x\"\n    - \"y: z\"\n  none: []\n- id: \"b\"\n  names: null\n";
        assert_eq!(shown(&value, TunnelAnswer::Yaml), text);
    }
}
