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
pub(super) struct HeldConfigurations {
    held: HashMap<TunnelId, Versioned>,
    /// Of tunnels whose configuration was taken back: the version that says so.
    released: HashMap<TunnelId, i32>,
}

/// A configuration without rules.
const NOTHING: &[u8] = b"{}";

impl HeldConfigurations {
    /// Takes over those of a snapshot. What has not changed keeps its version.
    pub(super) fn renew(&mut self, snapshot: &Snapshot, now: SystemTime) {
        let old = std::mem::take(&mut self.held);
        for tunnel in snapshot.tunnels() {
            let known = old.get(&tunnel.id);
            let Some(held) = &tunnel.held else {
                if let Some(known) = known {
                    self.released.insert(tunnel.id, after(known.version, now));
                }
                continue;
            };
            let version = match (known, self.released.remove(&tunnel.id)) {
                (Some(known), _) if known.json == held.json => known.version,
                // Two changes in one second, or a clock that was set back.
                (Some(known), _) => after(known.version, now),
                (None, Some(version)) => after(version, now),
                (None, None) => version_at(now),
            };
            self.held.insert(tunnel.id, Versioned { version, json: held.json.clone() });
        }
    }

    pub(super) fn of(&self, tunnel: TunnelId) -> Option<Versioned> {
        self.held.get(&tunnel).cloned()
    }

    /// The empty configuration of a tunnel whose rules were taken back.
    pub(super) fn released(&self, tunnel: TunnelId) -> Option<Versioned> {
        self.released.get(&tunnel).map(|version| Versioned { version: *version, json: NOTHING.into() })
    }
}

fn after(version: i32, now: SystemTime) -> i32 {
    version_at(now).max(version.saturating_add(1))
}

fn version_at(now: SystemTime) -> i32 {
    let seconds = now.duration_since(UNIX_EPOCH + EPOCH).unwrap_or_default().as_secs();
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adit_policy::grant::Grant;
    use adit_policy::host::Hostname;
    use adit_policy::ingress::Claims;
    use adit_policy::snapshot::{Held, HttpMode, Tunnel, TunnelSecret};
    use uuid::Uuid;

    use super::*;

    const ID: TunnelId = TunnelId(Uuid::from_u128(1));

    fn snapshot(json: &str) -> Snapshot {
        with(Some(Held {
            json: json.as_bytes().into(),
            claims: Claims::default(),
            rules: Arc::default(),
            order: Arc::default(),
        }))
    }

    fn with(held: Option<Held>) -> Snapshot {
        let tunnel = Tunnel {
            id: ID,
            name: "home".to_owned(),
            secret: TunnelSecret::new(vec![1; 32]),
            account_tag: None,
            grant: Grant::default(),
            held,
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

    #[test]
    fn rules_that_are_taken_back_leave_an_empty_configuration_that_is_newer() {
        let now = UNIX_EPOCH + EPOCH + Duration::from_secs(1000);
        let mut held = HeldConfigurations::default();
        held.renew(&with(None), now);
        assert_eq!(held.released(ID), None, "there never was one");
        held.renew(&snapshot("{1}"), now);
        held.renew(&with(None), now);
        let released = held.released(ID).unwrap();
        assert_eq!((held.of(ID), released.version, &*released.json), (None, 1001, NOTHING));
        held.renew(&with(None), now + Duration::from_secs(9));
        assert_eq!(held.released(ID).unwrap().version, 1001);
        held.renew(&snapshot("{1}"), now);
        assert_eq!((held.of(ID).unwrap().version, held.released(ID)), (1002, None));
    }
}
