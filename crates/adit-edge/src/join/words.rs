//! What a connector says about requests, as it comes over the wire.

use std::sync::Arc;

use adit_policy::host::HostPattern;
use adit_policy::host_policy::TlsMode;
use adit_policy::ingress::{KnownPath, RuleOrder, path_regex};
use adit_policy::limits::PATH_EXPRESSIONS_MAX;
use adit_policy::policy::rules::{RuleList, RuleWord};
use adit_policy::policy::{Expression, Layer, Patch};
use adit_policy::snapshot::{Snapshot, TunnelId};
use adit_wire::configuration::{Configuration, IngressRule};

use crate::PolicyReader;
use crate::registry::Word;

/// What visitors read where the edge cannot tell what its connector wants: to serve without a policy could open what is closed.
const UNREAD: &str = "The policy of this site could not be read. Its operator finds the reason in the log.";

/// Reads it. What cannot be read closes the names that it is about, and is told.
pub(super) fn read(configuration: &Configuration, reader: PolicyReader) -> (Word, Vec<String>) {
    let (rules, complaints) = rules(configuration, reader);
    (Word { rules: Arc::new(rules), order: Arc::new(order(configuration)) }, complaints)
}

/// Which rule gets a request. Beyond the limit, and where an expression is not understood, it is known that the rule looks at
/// paths and no more.
fn order(configuration: &Configuration) -> RuleOrder {
    let mut left = PATH_EXPRESSIONS_MAX;
    let mut known = |text: &str| {
        let regex = if left > 0 { path_regex(text).ok() } else { None };
        left = left.saturating_sub(1);
        regex.map_or(KnownPath::Unknown, KnownPath::Matching)
    };
    let of_rule = |rule: &IngressRule| {
        let pattern = HostPattern::parse(hostname(rule)).ok()?;
        let path = rule.path.as_deref().filter(|path| !path.is_empty());
        Some((pattern, path.map_or(KnownPath::Every, &mut known)))
    };
    configuration.ingress.iter().filter_map(of_rule).collect()
}

fn rules(configuration: &Configuration, reader: PolicyReader) -> (RuleList, Vec<String>) {
    let rules = &configuration.ingress;
    // A stock cloudflared says nothing.
    if rules.iter().all(|rule| rule.edge.is_none()) {
        return (RuleList::default(), Vec::new());
    }
    let mut said = Vec::new();
    let mut complaints = Vec::new();
    let mut expressions = 0;
    for (number, rule) in (1..).zip(rules) {
        let Ok(hosts) = HostPattern::parse(hostname(rule)) else { continue };
        let text = rule.path.as_deref().filter(|path| !path.is_empty());
        let path = text.map(path_regex).transpose();
        let layer = match &path {
            Ok(_) => rule.edge.as_ref().map(reader),
            Err(why) => Some(Err(format!("its path: {why}"))),
        };
        expressions += usize::from(text.is_some());
        expressions += layer.iter().flatten().map(|layer| layer.paths.len()).sum::<usize>();
        if expressions > PATH_EXPRESSIONS_MAX {
            let everything = RuleWord { hosts: HostPattern::Any, path: None, layer: Some(closed()) };
            let why = format!("there are more than {PATH_EXPRESSIONS_MAX} paths, so all names are closed");
            return (RuleList::new([everything]), vec![why]);
        }
        if let Some(Err(why)) = &layer {
            complaints
                .push(format!("`edge` of rule #{number} cannot be read, so its names are closed: {why}"));
        }
        let layer = layer.map(|layer| layer.map_or_else(|_| closed(), Arc::new));
        // Whose path cannot be read may answer every path.
        said.push(RuleWord { hosts, path: path.unwrap_or_default().map(Expression), layer });
    }
    (RuleList::new(said), complaints)
}

/// What is said about passthrough names and cannot hold there, since this edge does not read their requests.
pub(super) fn beyond_us(snapshot: &Snapshot, tunnel: TunnelId, rules: &RuleList) -> Vec<String> {
    let Some(tunnel) = snapshot.tunnel(tunnel) else { return Vec::new() };
    let hosts = snapshot.hosts();
    let is_passed = |pattern: &&HostPattern| {
        hosts.of_pattern(pattern).is_some_and(|policy| policy.tls == TlsMode::Passthrough)
    };
    let any = HostPattern::Any;
    let default = Some(&any).filter(|_| hosts.default_policy().tls == TlsMode::Passthrough);
    let passed: Vec<&HostPattern> = hosts.patterns().iter().filter(is_passed).chain(default).collect();
    let has = |pattern: &HostPattern, other: &HostPattern| pattern.intersection(other).is_some();
    let mut complaints = Vec::new();
    for (number, rule) in (1..).zip(rules.rules()) {
        let keys = rule.layer.as_ref().map(|layer| layer.keys_for_requests()).unwrap_or_default();
        let mut granted =
            tunnel.grant.patterns().iter().filter_map(|granted| granted.intersection(&rule.hosts));
        if !keys.is_empty() && granted.any(|own| passed.iter().any(|passed| has(own, passed))) {
            let keys = keys.join("`, `");
            complaints.push(format!(
                "`edge` of rule #{number} says `{keys}`, which cannot hold for passthrough names: those that it answers are closed"
            ));
        }
    }
    complaints
}

fn hostname(rule: &IngressRule) -> &str {
    rule.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or("*")
}

fn closed() -> Arc<Layer> {
    let base = Patch { maintenance: Some(Some(UNREAD.into())), ..Patch::default() };
    Arc::new(Layer { base, paths: Vec::new() })
}

#[cfg(test)]
mod tests {
    use adit_policy::path::RequestPath;
    use adit_policy::policy::rules::RulePolicies;
    use adit_policy::policy::{Layers, Policy};
    use serde_json::{Value, json};

    use super::*;

    /// Understands `true`.
    fn reader(word: &Value) -> Result<Layer, String> {
        match word.as_bool() {
            Some(true) => {
                Ok(Layer { base: Patch { body_limit: Some(Some(1)), ..Patch::default() }, paths: Vec::new() })
            }
            _ => Err("nonsense".to_owned()),
        }
    }

    fn policies(rules: &Value) -> (RulePolicies, Vec<String>) {
        let json = json!({ "ingress": rules }).to_string();
        let (word, complaints) = read(&Configuration::from_json(json.as_bytes()).unwrap(), reader);
        (RulePolicies::of(&Layer::default(), word.rules, &Layers::default()), complaints)
    }

    fn found<'p>(policies: &'p RulePolicies, host: &str) -> Option<&'p Arc<Policy>> {
        policies.find(host, &RequestPath::of("/")).unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_closed_and_told() {
        let (policies, complaints) = policies(&json!([
            { "hostname": "a.example", "service": "http://a", "edge": true },
            { "hostname": "b.example", "service": "http://b", "edge": 5 },
            { "service": "http://c" },
        ]));
        let base = |host| found(&policies, host).map(|policy| policy.base.clone()).unwrap_or_default();
        assert_eq!(base("a.example").body_limit, Some(1));
        assert!(base("b.example").maintenance.is_some() && base("c.example").maintenance.is_none());
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("rule #2") && complaints[0].contains("nonsense"), "{complaints:?}");
    }

    #[test]
    fn too_many_paths_close_everything() {
        let rule = |number: usize| json!({ "hostname": "a.example", "path": format!("/{number}"), "service": "http://a", "edge": true });
        let rules: Vec<Value> = (0..=PATH_EXPRESSIONS_MAX).map(rule).collect();
        let (policies, complaints) = policies(&rules.into());
        assert!(found(&policies, "b.example").unwrap().base.maintenance.is_some());
        assert_eq!(complaints.len(), 1);
    }
}
