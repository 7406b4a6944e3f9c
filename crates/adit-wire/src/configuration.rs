//! The JSON of a tunnel's configuration: what a connector tells its edge (`updateLocalConfiguration`), and what an edge
//! pushes to a connector (`updateConfiguration`). Durations are whole seconds.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::{CONFIGURATION_BYTES_MAX, INGRESS_RULES_MAX};

/// A configuration as it travels. Unknown members are ignored, as cloudflared does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Flags that were set explicitly; only from connector to edge.
    #[serde(rename = "__configuration_flags", default, skip_serializing_if = "Map::is_empty")]
    pub flags: Map<String, Value>,
    /// The rules, first match wins.
    #[serde(default)]
    pub ingress: Vec<IngressRule>,
    /// Defaults of all rules.
    #[serde(rename = "originRequest", default, skip_serializing_if = "Map::is_empty")]
    pub origin_request: Map<String, Value>,
    /// Settings of private-network routing.
    #[serde(rename = "warp-routing", default)]
    pub warp_routing: Map<String, Value>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IngressRule {
    /// Host pattern; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Path expression; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where requests go.
    pub service: String,
    /// All services, where there are several; ours. The first one is `service`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Settings that differ from the defaults.
    #[serde(rename = "originRequest", default)]
    pub origin_request: Map<String, Value>,
    /// Policy of the name at the edge; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Value>,
}

/// Bytes that are no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// More bytes or rules than allowed.
    #[error("the configuration passes its limit: {0}")]
    TooLarge(&'static str),
    /// Not the expected JSON.
    #[error("the configuration is malformed")]
    Malformed(#[source] serde_json::Error),
}

impl Configuration {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] says where it goes wrong.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigurationError> {
        if json.len() > CONFIGURATION_BYTES_MAX {
            return Err(ConfigurationError::TooLarge("4 MiB"));
        }
        let configuration: Self = serde_json::from_slice(json).map_err(ConfigurationError::Malformed)?;
        if configuration.ingress.len() > INGRESS_RULES_MAX {
            return Err(ConfigurationError::TooLarge("10 000 rules"));
        }
        Ok(configuration)
    }

    /// Writes the configuration.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Maps with string keys and plain values always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_program_s_json_is_read() {
        let json = br#"{"__configuration_flags":{"protocol":"quic"},"ingress":[{"hostname":"a","path":"^/x",
            "service":"http://localhost:1","originRequest":{"connectTimeout":3}},{"service":"http_status:404",
            "originRequest":{}}],"warp-routing":{}}"#;
        let configuration = Configuration::from_json(json).unwrap();
        assert_eq!(configuration.ingress.len(), 2);
        assert_eq!(configuration.ingress[0].hostname.as_deref(), Some("a"));
        assert_eq!(configuration.ingress[1].service, "http_status:404");
        assert_eq!(Configuration::from_json(&configuration.to_json()).unwrap(), configuration);
    }

    #[test]
    fn nonsense_is_refused() {
        for json in ["", "5", r#"{"ingress":[{}]}"#, r#"{"ingress":5}"#] {
            assert!(Configuration::from_json(json.as_bytes()).is_err(), "{json}");
        }
        assert!(Configuration::from_json(&vec![b' '; CONFIGURATION_BYTES_MAX + 1]).is_err());
    }
}
