//! Configurations that the edge pushes: newer versions replace the rules, older ones are ignored. Whether they are taken at all
//! is the own side's decision ([`crate::consent`]).
//!
//! Every connection of a connector gets the same push; the version makes one of them count (cloudflared:
//! `orchestration/orchestrator.go`).

use std::sync::{Arc, Mutex, PoisonError};

use adit_policy::ingress::Ingress;
use adit_tunnel::connector::ConfigurationApplied;

use crate::Connector;
use crate::consent::KEEPS_ITS_OWN;

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
        if !connector.takes_rules() {
            tracing::warn!(version, "the edge pushes rules; this connector keeps its own");
            return ConfigurationApplied { version: *known, error: Some(KEEPS_ITS_OWN.to_owned()) };
        }
        match connector.take_pushed(version, (self.read)(json)) {
            Ok(rules) => {
                tracing::info!(version, rules, "configuration of the edge in force");
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
    use adit_policy::ingress::{OriginRequest, Service};
    use adit_telemetry::metrics::ConnectorMetrics;

    use super::*;
    use crate::consent::Consent;

    fn rules(service: &str) -> Ingress {
        Ingress::single(Service::parse(service).unwrap(), OriginRequest::default())
    }

    /// A configuration is the text of one service.
    fn remote() -> Arc<Remote> {
        Remote::new(Box::new(|json| Ok(rules(std::str::from_utf8(json).unwrap()))))
    }

    fn in_force(connector: &Connector) -> String {
        connector.rules.load().ingress.rules[0].service.to_string()
    }

    #[test]
    fn only_newer_and_good_configurations_count() {
        let connector = Connector::new(Consent::default(), ConnectorMetrics::new("0"), &[]);
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

    #[test]
    fn own_rules_stay_whatever_the_edge_pushes() {
        let own = |service| Consent { own: Some(rules(service)), ..Consent::default() };
        let connector = Connector::new(own("http://own:1"), ConnectorMetrics::new("0"), &[]);
        let remote = remote();
        let answer = remote.take(&connector, 5, b"http://pushed:1");
        assert!(answer.version == -1 && answer.error.is_some(), "{answer:?}");
        assert_eq!((in_force(&connector).as_str(), connector.status.version()), ("http://own:1", -1));
        assert_eq!(connector.status.fault(), None, "it is no fault to have rules");
    }

    #[test]
    fn rules_of_the_edge_go_when_the_own_side_gets_some_or_the_edge_has_none() {
        let connector = Connector::new(Consent::default(), ConnectorMetrics::new("0"), &[]);
        let remote = remote();
        assert_eq!(remote.take(&connector, 5, b"http://pushed:1").error, None);
        assert_eq!((in_force(&connector).as_str(), connector.status.version()), ("http://pushed:1", 5));
        connector.configure(Ok(Consent::default())).unwrap();
        assert_eq!(in_force(&connector), "http://pushed:1", "a reload that says nothing changes nothing");
        connector.release();
        assert_eq!((in_force(&connector).as_str(), connector.status.version()), ("http_status:503", -1));
        assert_eq!(remote.take(&connector, 6, b"http://pushed:2").error, None);
        let own = Consent { own: Some(rules("http://own:1")), ..Consent::default() };
        connector.configure(Ok(own)).unwrap();
        assert_eq!((in_force(&connector).as_str(), connector.status.version()), ("http://own:1", -1));
    }

    #[test]
    fn limits_hold_for_rules_that_are_in_force_already() {
        let connector = Connector::new(Consent::default(), ConnectorMetrics::new("0"), &[]);
        assert_eq!(remote().take(&connector, 5, b"http://pushed:1").error, None);
        connector.configure(Ok(Consent { accept: None, ..Consent::default() })).unwrap();
        assert_eq!(in_force(&connector), "http_status:503");
    }
}
