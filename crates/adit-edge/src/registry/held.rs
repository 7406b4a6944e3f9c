//! Versions of the configurations that the edge holds. A connector takes only what is newer than what it has, and it may
//! outlive the edge: so a version is a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adit_policy::snapshot::{Snapshot, TunnelId};

/// The first of January 2025: versions have 31 bits, which last until 2093.
const EPOCH: Duration = Duration::from_secs(1_735_689_600);

/// A configuration to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Newer ones are larger.
    pub version: i32,
    /// The configuration as it travels.
    pub json: Arc<[u8]>,
}

/// The configurations in force, by tunnel.
#[derive(Debug, Default)]
pub(super) struct HeldConfigurations(HashMap<TunnelId, Versioned>);

impl HeldConfigurations {
    /// Takes over those of a snapshot. What has not changed keeps its version.
    pub(super) fn renew(&mut self, snapshot: &Snapshot, now: SystemTime) {
        let old = std::mem::take(&mut self.0);
        for tunnel in snapshot.tunnels() {
            let Some(held) = &tunnel.held else { continue };
            let known = old.get(&tunnel.id);
            let version = match known {
                Some(known) if known.json == held.json => known.version,
                // Two changes in one second, or a clock that was set back.
                Some(known) => version_at(now).max(known.version.saturating_add(1)),
                None => version_at(now),
            };
            self.0.insert(tunnel.id, Versioned { version, json: held.json.clone() });
        }
    }

    pub(super) fn of(&self, tunnel: TunnelId) -> Option<Versioned> {
        self.0.get(&tunnel).cloned()
    }
}

fn version_at(now: SystemTime) -> i32 {
    let seconds = now.duration_since(UNIX_EPOCH + EPOCH).unwrap_or_default().as_secs();
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use adit_policy::grant::Grant;
    use adit_policy::host::Hostname;
    use adit_policy::ingress::Claims;
    use adit_policy::policy::Layers;
    use adit_policy::snapshot::{Held, HttpMode, Tunnel, TunnelSecret};
    use uuid::Uuid;

    use super::*;

    const ID: TunnelId = TunnelId(Uuid::from_u128(1));

    fn snapshot(json: &str) -> Snapshot {
        let tunnel = Tunnel {
            id: ID,
            name: "home".to_owned(),
            secret: TunnelSecret::new(vec![1; 32]),
            account_tag: None,
            grant: Grant::default(),
            held: Some(Held {
                json: json.as_bytes().into(),
                claims: Claims::default(),
                layers: Layers::default(),
            }),
        };
        Snapshot::new(Hostname::parse("home.example").unwrap(), HttpMode::Redirect, vec![tunnel])
    }

    #[test]
    fn a_change_is_newer_whatever_the_clock_says() {
        let start = UNIX_EPOCH + EPOCH + Duration::from_secs(1000);
        let mut held = HeldConfigurations::default();
        let mut version = |json, now| {
            held.renew(&snapshot(json), now);
            held.of(ID).unwrap().version
        };
        assert_eq!(version("{}", start), 1000);
        assert_eq!(version("{}", start + Duration::from_secs(60)), 1000, "nothing changed");
        assert_eq!(version("{1}", start + Duration::from_secs(60)), 1060);
        assert_eq!(version("{2}", start + Duration::from_secs(60)), 1061);
        assert_eq!(version("{3}", UNIX_EPOCH), 1062);
    }
}
