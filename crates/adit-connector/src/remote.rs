//! Configurations that the edge pushes: newer versions replace the rules, older ones are ignored.
//!
//! Every connection of a connector gets the same push; the version makes one of them count (cloudflared:
//! `orchestration/orchestrator.go`).

use std::sync::{Arc, Mutex, PoisonError};

use adit_policy::ingress::Ingress;
use adit_tunnel::connector::ConfigurationApplied;

use crate::Connector;

/// Reads rules from a pushed configuration, or says in one line what is wrong with it.
pub type ReadRules = dyn Fn(&[u8]) -> Result<Ingress, String> + Send + Sync;

/// What a connector makes of pushed configurations.
pub struct Remote {
    read: Box<ReadRules>,
    /// The version in force; −1 before the first.
    version: Mutex<i32>,
}

impl Remote {
    /// Takes configurations that can be read.
    #[must_use]
    pub fn new(read: Box<ReadRules>) -> Arc<Self> {
        Arc::new(Self { read, version: Mutex::new(-1) })
    }

    /// Puts a configuration in force. One that is older than the present one changes nothing; one that cannot be read
    /// leaves the last good one in force.
    pub(crate) fn take(&self, connector: &Connector, version: i32, json: &[u8]) -> ConfigurationApplied {
        let mut known = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        if version <= *known {
            return ConfigurationApplied { version: *known, error: None };
        }
        match connector.take_rules((self.read)(json)) {
            Ok(rules) => {
                tracing::info!(version, rules, "configuration of the edge in force");
                connector.status.set_version(version);
                connector.metrics.config_version.set(version.into());
                *known = version;
                ConfigurationApplied { version, error: None }
            }
            Err(error) => {
                tracing::error!(
                    version,
                    error,
                    "configuration of the edge refused; the last good one stays in force"
                );
                ConfigurationApplied { version: *known, error: Some(error) }
            }
        }
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("version", &self.version).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_telemetry::metrics::ConnectorMetrics;

    #[test]
    fn only_newer_and_good_configurations_count() {
        let connector = Connector::new(Ingress::default_503(), ConnectorMetrics::new("0"), &[]);
        let remote = Remote::new(Box::new(|json| match json {
            b"good" => Ok(Ingress::default_503()),
            _ => Err("rule 1 is wrong".to_owned()),
        }));
        let first = connector.rules.load_full();
        let refused = remote.take(&connector, 1, b"bad");
        assert_eq!((refused.version, refused.error.as_deref()), (-1, Some("rule 1 is wrong")));
        assert!(Arc::ptr_eq(&first, &connector.rules.load_full()), "the last good one stays");
        assert_eq!(remote.take(&connector, 3, b"good"), ConfigurationApplied { version: 3, error: None });
        assert!(!Arc::ptr_eq(&first, &connector.rules.load_full()));
        assert_eq!(remote.take(&connector, 2, b"bad"), ConfigurationApplied { version: 3, error: None });
    }
}
