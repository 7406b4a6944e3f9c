//! Bans by hand, and what is remembered of all of them: the JSON of the local endpoint and of the file beside the edge.

use std::time::{Duration, SystemTime};

use adit_policy::host::Hostname;
use adit_policy::ingress::IpPrefix;
use adit_policy::policy::address;
use adit_policy::policy::bans::{Banned, Scope};
use serde_json::{Value, json};

use crate::guard::Doors;

/// All bans.
pub(super) fn list(doors: &Doors) -> Value {
    let now = SystemTime::now();
    let bans: Vec<Value> = doors.list().iter().map(|ban| show(ban, now)).collect();
    json!({ "bans": bans })
}

fn show(ban: &Banned, now: SystemTime) -> Value {
    let name = match &ban.scope {
        Scope::All => None,
        Scope::Name(name) => Some(name.as_ref()),
    };
    json!({
        "network": ban.network.to_string(), "name": name, "since": unix(ban.since),
        "until": ban.until.map(unix), "times": ban.times, "reason": ban.reason, "in_force": ban.holds(now),
    })
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Adds a ban: `network`, and if wanted `seconds`, `name` and `reason`.
pub(super) fn add(doors: &Doors, body: &[u8]) -> Result<Value, String> {
    let said: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let now = SystemTime::now();
    let until =
        said["seconds"].as_u64().map(|seconds| now + Duration::from_secs(seconds.min(u32::MAX.into())));
    let reason = said["reason"].as_str().unwrap_or("by hand").chars().take(200).collect();
    let ban = Banned { network: network(&said)?, scope: scope(&said)?, since: now, until, times: 1, reason };
    let shown = show(&ban, now);
    doors.ban(ban).map_err(|error| error.to_string())?;
    tracing::info!(ban = %shown, "banned by hand");
    Ok(shown)
}

/// Lifts the bans of a network; of one name, if it says so.
pub(super) fn remove(doors: &Doors, body: &[u8]) -> Result<Value, String> {
    let said: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let (network, scope) = (network(&said)?, scope(&said)?);
    let lifted = doors.lift(network, Some(&scope).filter(|scope| **scope != Scope::All));
    tracing::info!(%network, lifted, "ban lifted by hand");
    Ok(json!({ "lifted": lifted }))
}

fn network(said: &Value) -> Result<IpPrefix, String> {
    let text = said["network"].as_str().ok_or("`network` is missing")?;
    address::parse(text).ok_or_else(|| format!("`{text}` is no address and no network"))
}

fn scope(said: &Value) -> Result<Scope, String> {
    let Some(name) = said["name"].as_str() else { return Ok(Scope::All) };
    let name = Hostname::parse(name).map_err(|error| format!("`{name}` is no host name: {error}"))?;
    Ok(Scope::Name(name.as_str().into()))
}

/// What is remembered over a restart: the same JSON.
#[must_use]
pub fn remembered(doors: &Doors) -> String {
    format!("{:#}\n", list(doors))
}

/// Takes in what was remembered. What cannot be read is skipped; says how many were taken in.
pub fn remember(doors: &Doors, text: &str) -> usize {
    let all: Value = serde_json::from_str(text).unwrap_or_default();
    let bans = all["bans"].as_array().into_iter().flatten();
    bans.filter_map(read).filter(|ban| doors.ban(ban.clone()).is_ok()).count()
}

fn read(said: &Value) -> Option<Banned> {
    let time = |value: &Value| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(value.as_u64()?));
    Some(Banned {
        network: network(said).ok()?,
        scope: scope(said).ok()?,
        since: time(&said["since"])?,
        until: time(&said["until"]),
        times: u32::try_from(said["times"].as_u64()?).ok()?,
        reason: said["reason"].as_str().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_are_remembered() {
        let doors = Doors::default();
        add(
            &doors,
            br#"{ "network": "192.0.2.0/24", "seconds": 60, "name": "A.example", "reason": "test" }"#,
        )
        .unwrap();
        add(&doors, br#"{ "network": "2001:db8::1" }"#).unwrap();
        let again = Doors::default();
        assert_eq!(remember(&again, &remembered(&doors)), 2);
        let (before, after) = (doors.list(), again.list());
        assert_eq!(before.len(), after.len());
        assert!(again.is_blocked("192.0.2.9".parse().unwrap(), "a.example"));
        assert!(!again.is_blocked("192.0.2.9".parse().unwrap(), "b.example"));
        assert!(again.is_blocked("2001:db8::99".parse().unwrap(), "b.example"), "a home");
        assert_eq!(remove(&again, br#"{ "network": "2001:db8::1" }"#).unwrap()["lifted"], 1);
        for nonsense in
            [&b"{}"[..], b"x", br#"{ "network": "x" }"#, br#"{ "network": "::1", "name": "a b" }"#]
        {
            assert!(add(&doors, nonsense).is_err());
        }
        assert_eq!(remember(&again, "torn {"), 0);
    }
}
