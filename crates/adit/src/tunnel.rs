//! `adit tunnel create|list|info|token|rotate|delete`: the tunnels of an edge, from its files.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use adit_config::edge::EdgeFile;
use adit_control::files::{self, Access};
use adit_control::tunnels::{Tunnels, TunnelsError};
use adit_policy::host::HostPattern;
use adit_wire::credentials::Credentials;
use adit_wire::token;

use crate::failure::Failure;
use crate::local;

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

/// All tunnels, one a line; with their connections when the edge runs.
///
/// # Errors
/// When the files have errors.
pub fn list(config: &Path, json: bool) -> Result<String, Failure> {
    let (state, running) = state(config)?;
    if json {
        return Ok(format!("{state:#}\n"));
    }
    let mut text = format!("{:<16} {:<36} {:<11} HOSTNAMES\n", "NAME", "ID", "CONNECTIONS");
    for tunnel in state["tunnels"].as_array().into_iter().flatten() {
        let connections = if running {
            tunnel["connections"].as_array().map_or(0, Vec::len).to_string()
        } else {
            "?".to_owned()
        };
        let hostnames = words(&tunnel["hostnames"]).join(" ");
        line(
            &mut text,
            format_args!(
                "{:<16} {:<36} {connections:<11} {hostnames}",
                word(&tunnel["name"]),
                word(&tunnel["id"])
            ),
        );
    }
    Ok(text)
}

/// One tunnel with its connections, names, and what it was refused.
///
/// # Errors
/// When there is no such tunnel.
pub fn info(config: &Path, name: &str, json: bool) -> Result<String, Failure> {
    let (state, running) = state(config)?;
    let tunnels = state["tunnels"].as_array().cloned().unwrap_or_default();
    let tunnel = tunnels.iter().find(|tunnel| tunnel["name"] == name || tunnel["id"] == name);
    let tunnel = tunnel.ok_or_else(|| failed(TunnelsError::Unknown(name.to_owned())))?;
    if json {
        return Ok(format!("{tunnel:#}\n"));
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

fn word(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(value: &serde_json::Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
}

/// What the files say, with what the running edge knows of it. The flag says whether one runs.
fn state(config: &Path) -> Result<(serde_json::Value, bool), Failure> {
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
    let tunnels: Vec<_> = snapshot.tunnels().iter().map(tunnel).collect();
    Ok((serde_json::json!({ "tunnels": tunnels }), running.is_some()))
}

/// Asks a running edge. `None` when none answers.
fn ask(admin: SocketAddr) -> Option<serde_json::Value> {
    let (_, body) = local::ask(admin, "/tunnels")?;
    serde_json::from_slice(&body).ok()
}
