//! What connectors tell about rules that check a token: answers of those are not for the cache.

use std::collections::HashMap;
use std::sync::Arc;

use adit_policy::host::Hostname;
use adit_policy::ingress::Gates;
use adit_policy::route::Claimant;
use adit_policy::snapshot::{Snapshot, TunnelId};
use adit_wire::configuration::{Configuration, IngressRule};
use serde_json::{Map, Value};
use uuid::Uuid;

/// By tunnel, those of all its connectors: any of them may be asked.
pub(super) type GatesOfTunnels = HashMap<TunnelId, Vec<Arc<Gates>>>;

/// What each connector told, and what the configurations say that the edge holds.
#[derive(Debug, Default)]
pub(super) struct AllGates {
    told: HashMap<Uuid, Arc<Gates>>,
    held: GatesOfTunnels,
}

impl AllGates {
    pub(super) fn hear(&mut self, connector: Uuid, gates: Option<Gates>) {
        match gates {
            Some(gates) => drop(self.told.insert(connector, Arc::new(gates))),
            None => drop(self.told.remove(&connector)),
        }
    }

    /// Takes over what the configurations of a snapshot say.
    pub(super) fn renew(&mut self, snapshot: &Snapshot) {
        let held = snapshot.tunnels().iter().filter_map(|tunnel| Some((tunnel.id, tunnel.held.as_ref()?)));
        let gates = held.filter_map(|(id, held)| {
            let configuration = Configuration::from_json(&held.json).ok()?;
            Some((id, vec![Arc::new(read(&configuration)?)]))
        });
        self.held = gates.collect();
    }

    /// Forgets those who claim nothing any more; what counts now is the answer.
    pub(super) fn keep(&mut self, claimants: &[Claimant]) -> GatesOfTunnels {
        self.told.retain(|connector, _| claimants.iter().any(|claimant| claimant.connector == *connector));
        let mut all = self.held.clone();
        for claimant in claimants {
            if let Some(gates) = self.told.get(&claimant.connector) {
                all.entry(claimant.tunnel).or_default().push(gates.clone());
            }
        }
        all
    }
}

/// Whether a request may meet a rule that checks a token.
pub(super) fn include(all: &GatesOfTunnels, tunnel: TunnelId, host: &Hostname, path: &str) -> bool {
    all.get(&tunnel).is_some_and(|gates| gates.iter().any(|gates| gates.include(host, path)))
}

/// What a configuration says; `None` where no rule checks a token.
pub(crate) fn read(configuration: &Configuration) -> Option<Gates> {
    let all = checks(&configuration.origin_request).unwrap_or(false);
    let rule = |rule: &IngressRule| checks(&rule.origin_request).unwrap_or(all);
    let rules = configuration.ingress.iter();
    Gates::of_rules(rules.map(|of| (of.hostname.as_deref(), of.path.as_deref(), rule(of))))
}

/// `None`: nothing is said. What is said and cannot be read counts as a check.
fn checks(origin_request: &Map<String, Value>) -> Option<bool> {
    let access = origin_request.get("access").filter(|access| !access.is_null())?;
    let required =
        access.as_object().map(|access| access.get("required").cloned().unwrap_or(Value::Bool(false)));
    Some(required != Some(Value::Bool(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_checks_a_token_by_its_own_word_or_that_of_all() {
        for (all, own, expected) in [
            ("{}", "{}", false),
            ("{}", r#"{"access":{"required":true,"teamName":"a"}}"#, true),
            ("{}", r#"{"access":{"required":false}}"#, false),
            ("{}", r#"{"access":{"teamName":"a"}}"#, false),
            ("{}", r#"{"access":null}"#, false),
            ("{}", r#"{"access":{"required":"yes"}}"#, true),
            ("{}", r#"{"access":[]}"#, true),
            (r#"{"access":{"required":true}}"#, "{}", true),
            (r#"{"access":{"required":true}}"#, r#"{"access":{"required":false}}"#, false),
        ] {
            let json = format!(
                r#"{{"ingress":[{{"hostname":"a.x","service":"http://a","originRequest":{own}}},{{"service":"http_status:404"}}],"originRequest":{all}}}"#
            );
            let gates = read(&Configuration::from_json(json.as_bytes()).unwrap());
            let host = Hostname::parse("a.x").unwrap();
            assert_eq!(gates.is_some_and(|gates| gates.include(&host, "/")), expected, "{all} {own}");
        }
    }
}
