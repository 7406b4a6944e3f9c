//! `adit status`: how a running edge is, at a glance.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::admin::Admin;
use crate::failure::Failure;
use crate::unix_now;

const DAY: i64 = 24 * 3600;

/// The state of an edge, as text or as JSON.
///
/// # Errors
/// When the file has errors, or no edge answers.
pub fn status(config: &Path, as_json: bool) -> Result<String, Failure> {
    let admin = Admin::of(config)?;
    let (certificates, tunnels) = (admin.get("/certificates")?, admin.get("/tunnels")?);
    let (shutoff, configuration) = (admin.get("/shutoff")?, admin.get("/configuration")?);
    if as_json {
        let all = json!({
            "tunnels": tunnels["tunnels"], "certificates": certificates, "shutoff": shutoff["names"],
            "configurationError": configuration["configurationError"],
        });
        return Ok(format!("{all:#}\n"));
    }
    let mut text = String::new();
    if let Some(fault) = configuration["configurationError"].as_str() {
        line(&mut text, format_args!("CONFIGURATION NOT IN FORCE; the last good one is: {fault}"));
    }
    write_shutoff(&mut text, &shutoff);
    write_tunnels(&mut text, &tunnels);
    write_certificates(&mut text, &certificates, unix_now());
    Ok(text)
}

/// Writing to a string does not fail.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).unwrap_or_default();
    text.push('\n');
}

pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn words(value: &Value) -> String {
    list(value).filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

fn write_shutoff(text: &mut String, shutoff: &Value) {
    for name in list(&shutoff["names"]).filter_map(Value::as_str) {
        let what = if name == "*" { "EVERYTHING" } else { name };
        line(text, format_args!("SWITCHED OFF: {what} answers 503 until `adit resume`"));
    }
}

fn write_tunnels(text: &mut String, tunnels: &Value) {
    line(text, format_args!("{:<16} {:<11} SERVES", "TUNNEL", "CONNECTIONS"));
    for tunnel in list(&tunnels["tunnels"]) {
        let connections = list(&tunnel["connections"]).count();
        let name = tunnel["name"].as_str().unwrap_or_default();
        line(text, format_args!("{name:<16} {connections:<11} {}", words(&tunnel["serves"])));
        if tunnel["managed"] == true {
            for connector in own_rules(tunnel) {
                line(
                    text,
                    format_args!(
                        "  own rules: connector {connector} keeps the rules of its own configuration; those of this edge are not in force there"
                    ),
                );
            }
        }
        let owns = words(&tunnel["owns"]);
        if !owns.is_empty() {
            line(text, format_args!("  owns: {owns}"));
        }
        for refusal in list(&tunnel["refused"]).filter_map(Value::as_str) {
            line(text, format_args!("  refused: {refusal}"));
        }
    }
}

/// Connectors that keep the rules of their own configuration.
pub(crate) fn own_rules(tunnel: &Value) -> Vec<&str> {
    let keeping = list(&tunnel["connections"]).filter(|connection| connection["keeps_rules"] == true);
    let mut connectors: Vec<&str> =
        keeping.filter_map(|connection| connection["connector"].as_str()).collect();
    connectors.dedup();
    connectors
}

fn write_certificates(text: &mut String, certificates: &Value, now: i64) {
    line(text, format_args!(""));
    if list(certificates).next().is_none() {
        line(
            text,
            format_args!("No certificates from files or authorities: the edge's own authority signs."),
        );
        return;
    }
    line(text, format_args!("{:<32} {:<10} {:<24} RENEWED", "CERTIFICATE", "DAYS LEFT", "FROM"));
    for certificate in list(certificates) {
        let days = match certificate["not_after"].as_i64() {
            Some(end) if end <= now => "expired".to_owned(),
            Some(end) => ((end - now) / DAY).to_string(),
            None => "none yet".to_owned(),
        };
        let renewed = certificate["renew_at"].as_i64().map_or_else(String::new, |at| moment(at, now));
        let source = certificate["source"].as_str().unwrap_or("-");
        let names = words(&certificate["names"]);
        line(text, format_args!("{names:<32} {days:<10} {source:<24} {renewed}"));
        if let Some(error) = certificate["last_error"].as_str() {
            line(text, format_args!("  last error: {error}"));
        }
        if let Some(next) = certificate["next_try"].as_i64() {
            line(text, format_args!("  tried again {}", moment(next, now)));
        }
    }
}

/// A moment to come, as people say it.
pub(crate) fn moment(at: i64, now: i64) -> String {
    let seconds = u64::try_from(at - now).unwrap_or_default();
    match seconds {
        0 => "now".to_owned(),
        1..3600 => format!("in {} min", seconds / 60 + 1),
        3600..172_800 => format!("in {} h", seconds / 3600),
        _ => format!("in {} days", Duration::from_secs(seconds).as_secs() / DAY.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_shown_with_their_days_and_errors() {
        let mut text = String::new();
        let certificates = json!([
            { "names": ["a.example"], "source": "letsencrypt", "not_after": 100 * DAY, "renew_at": 60 * DAY },
            { "names": ["b.example"], "source": null, "not_after": null, "last_error": "no way", "next_try": 90 },
            { "names": ["c.example"], "source": "c.pem", "not_after": -1 },
        ]);
        write_certificates(&mut text, &certificates, 0);
        for part in [
            "a.example",
            " 100 ",
            "in 60 days",
            "none yet",
            "last error: no way",
            "tried again in 2 min",
            "expired",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
