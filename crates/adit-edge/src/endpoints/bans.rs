//! Bans by hand, and what is remembered of all of them: the JSON of the local endpoint and of the file beside the edge.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_policy::host::Hostname;
use adit_policy::ingress::IpPrefix;
use adit_policy::policy::address;
use adit_policy::policy::bans::{Banned, Scope};
use adit_policy::snapshot::TunnelId;
use serde_json::{Value, json};

use crate::Edge;
use crate::guard::Doors;

/// All bans, with the names of the tunnels that they are for.
pub(super) fn list(edge: &Edge) -> Value {
    let mut all = listed(&edge.doors);
    let view = edge.registry.view();
    for ban in all["bans"].as_array_mut().into_iter().flatten() {
        let tunnel = tunnel(&ban["tunnel"]).and_then(|id| view.snapshot.tunnel(id));
        ban["tunnel_name"] = tunnel.map_or(Value::Null, |tunnel| tunnel.name.clone().into());
    }
    all
}

fn listed(doors: &Doors) -> Value {
    let now = SystemTime::now();
    let bans: Vec<Value> = doors.list().iter().map(|ban| show(ban, now)).collect();
    json!({ "bans": bans })
}

fn show(ban: &Banned, now: SystemTime) -> Value {
    let tunnel = |id: Option<TunnelId>| id.map(|id| id.to_string());
    json!({
        "network": ban.network.to_string(), "name": ban.scope.name.as_deref(), "tunnel": tunnel(ban.scope.tunnel),
        "by": tunnel(ban.by), "since": unix(ban.since),
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
    let (network, scope) = (network(&said)?, Scope { tunnel: None, name: name(&said)? });
    let ban = Banned { network, scope, by: None, since: now, until, times: 1, reason };
    let shown = show(&ban, now);
    doors.ban(ban).map_err(|error| error.to_string())?;
    tracing::info!(ban = %shown, "banned by hand");
    Ok(shown)
}

/// Lifts the bans of a network; of one name, if it says so.
pub(super) fn remove(doors: &Doors, body: &[u8]) -> Result<Value, String> {
    let said: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let (network, name) = (network(&said)?, name(&said)?);
    let lifted = doors.lift(network, name.as_deref());
    tracing::info!(%network, lifted, "ban lifted by hand");
    Ok(json!({ "lifted": lifted }))
}

fn network(said: &Value) -> Result<IpPrefix, String> {
    let text = said["network"].as_str().ok_or("`network` is missing")?;
    address::parse(text).ok_or_else(|| format!("`{text}` is no address and no network"))
}

fn name(said: &Value) -> Result<Option<Arc<str>>, String> {
    let Some(name) = said["name"].as_str() else { return Ok(None) };
    let parsed = Hostname::parse(name);
    let name = parsed.map_err(|error| format!("`{name}` is not a valid host name: {error}"))?;
    Ok(Some(name.as_str().into()))
}

fn scope_of(said: &Value) -> Option<Option<TunnelId>> {
    if said.is_null() { Some(None) } else { tunnel(said).map(Some) }
}

fn tunnel(said: &Value) -> Option<TunnelId> {
    said.as_str().and_then(|id| id.parse().ok()).map(TunnelId)
}

/// What is remembered over a restart: the same JSON.
#[must_use]
pub fn remembered(doors: &Doors) -> String {
    format!("{:#}\n", listed(doors))
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
        // A tunnel that cannot be read must not make the ban wider.
        scope: Scope { tunnel: scope_of(&said["tunnel"])?, name: name(said).ok()? },
        by: tunnel(&said["by"]),
        since: time(&said["since"])?,
        until: time(&said["until"]),
        times: u32::try_from(said["times"].as_u64()?).ok()?,
        reason: said["reason"].as_str().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use adit_policy::policy::bans::Site;

    use super::*;

    #[test]
    fn a_ban_of_one_tunnel_stays_one_over_a_restart() {
        let doors = Doors::default();
        let (a, b) = (TunnelId(uuid::Uuid::from_u128(1)), TunnelId(uuid::Uuid::from_u128(2)));
        let since = SystemTime::now();
        let scope = Scope { tunnel: Some(a), name: None };
        let network = "192.0.2.1".parse::<std::net::IpAddr>().unwrap().into();
        let ban = Banned { network, scope, by: Some(a), since, until: None, times: 1, reason: String::new() };
        doors.ban(ban).unwrap();
        let again = Doors::default();
        assert_eq!(remember(&again, &remembered(&doors)), 1);
        let blocked = |tunnel| {
            again.is_blocked("192.0.2.1".parse().unwrap(), Site { name: "x.example", tunnel: Some(tunnel) })
        };
        assert!(blocked(a) && !blocked(b));
        assert_eq!(again.list()[0].by, Some(a));
        let broken = remembered(&doors).replace(&a.to_string(), "nonsense");
        assert_eq!(remember(&Doors::default(), &broken), 0, "it does not become a ban of all names");
    }

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
        let site = |name| Site { name, tunnel: None };
        assert!(again.is_blocked("192.0.2.9".parse().unwrap(), site("a.example")));
        assert!(!again.is_blocked("192.0.2.9".parse().unwrap(), site("b.example")));
        assert!(again.is_blocked("2001:db8::99".parse().unwrap(), site("b.example")), "a home");
        assert_eq!(remove(&again, br#"{ "network": "2001:db8::1" }"#).unwrap()["lifted"], 1);
        for nonsense in
            [&b"{}"[..], b"x", br#"{ "network": "x" }"#, br#"{ "network": "::1", "name": "a b" }"#]
        {
            assert!(add(&doors, nonsense).is_err());
        }
        assert_eq!(remember(&again, "torn {"), 0);
    }
}
