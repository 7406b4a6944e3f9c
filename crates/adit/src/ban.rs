//! `adit ban`: addresses that are kept out of a running edge.

use std::fmt::Write as _;
use std::path::Path;

use adit_config::yaml::parse_period;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::failure::Failure;
use crate::status::{list as values, moment};
use crate::unix_now;

/// Who is kept out.
///
/// # Errors
/// When no edge answers.
pub fn list(config: &Path, as_json: bool) -> Result<String, Failure> {
    let said = Admin::of(config)?.get("/bans")?;
    Ok(if as_json { format!("{said:#}\n") } else { table(&said, unix_now()) })
}

fn table(said: &Value, now: i64) -> String {
    let in_force: Vec<&Value> =
        values(&said["bans"]).filter(|ban| ban["in_force"].as_bool() == Some(true)).collect();
    if in_force.is_empty() {
        return "Nobody is banned.\n".to_owned();
    }
    let mut text = format!("{:<28} {:<24} {:<14} {:<6} WHY\n", "ADDRESS", "FROM", "ENDS", "TIMES");
    for ban in in_force {
        let word = |name: &str| ban[name].as_str().unwrap_or_default();
        let tunnel = ban["tunnel_name"].as_str().or_else(|| ban["tunnel"].as_str());
        let from = match (ban["name"].as_str(), tunnel) {
            (Some(name), _) => name.to_owned(),
            (None, Some(tunnel)) => format!("names of {tunnel}"),
            (None, None) => "all names".to_owned(),
        };
        let ends = ban["until"].as_i64().map_or_else(|| "never".to_owned(), |end| moment(end, now));
        let (network, reason, times) = (word("network"), word("reason"), &ban["times"]);
        // Writing to a text cannot fail.
        writeln!(text, "{network:<28} {from:<24} {ends:<14} {times:<6} {reason}").unwrap_or_default();
    }
    text
}

/// Keeps somebody out.
///
/// # Errors
/// When no edge answers, or something is wrong with what was said.
pub fn add(
    config: &Path,
    network: &str,
    time: Option<&str>,
    name: Option<&str>,
    reason: Option<&str>,
) -> Result<String, Failure> {
    let seconds = match time {
        Some(time) => {
            let bad = || Failure::input(format!("--time {time}: write it like `1h` or `7d`"));
            Some(parse_period(time).ok_or_else(bad)?.as_secs())
        }
        None => None,
    };
    let said = json!({ "network": network, "seconds": seconds, "name": name, "reason": reason });
    let ban = Admin::of(config)?.send("POST", "/bans", &said.to_string())?;
    Ok(table(&json!({ "bans": [ban] }), unix_now()))
}

/// Lets somebody in again.
///
/// # Errors
/// The same; also when he was not kept out.
pub fn remove(config: &Path, network: &str, name: Option<&str>) -> Result<String, Failure> {
    let said = json!({ "network": network, "name": name });
    let lifted = Admin::of(config)?.send("DELETE", "/bans", &said.to_string())?;
    match lifted["lifted"].as_u64() {
        Some(0) | None => {
            Err(Failure::input(format!("{network} is not banned; `adit ban list` shows who is")))
        }
        Some(_) => Ok(format!("{network} may come again.\n")),
    }
}
