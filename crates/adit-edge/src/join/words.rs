//! What a connector says about requests, as it comes over the wire.

use std::sync::Arc;

use adit_policy::host::HostPattern;
use adit_policy::ingress::{KnownPath, RuleOrder, path_regex};
use adit_policy::limits::PATH_EXPRESSIONS_MAX;
use adit_policy::policy::{Layer, Layers, Patch};
use adit_wire::configuration::{Configuration, IngressRule};

use crate::PolicyReader;
use crate::registry::Word;

/// What visitors read where the edge cannot tell what its connector wants: to serve without a policy could open what is closed.
const UNREAD: &str = "The policy of this site could not be read. Its operator finds the reason in the log.";

/// Reads it. What cannot be read closes the names that it is about, and is told.
pub(super) fn read(configuration: &Configuration, reader: PolicyReader) -> (Word, Vec<String>) {
    let (layers, complaints) = layers(configuration, reader);
    (Word { layers, order: Arc::new(order(configuration)) }, complaints)
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

fn layers(configuration: &Configuration, reader: PolicyReader) -> (Layers, Vec<String>) {
    let rules = &configuration.ingress;
    // A stock cloudflared says nothing.
    if rules.iter().all(|rule| rule.edge.is_none()) {
        return (Layers::default(), Vec::new());
    }
    let mut said = Vec::new();
    let mut complaints = Vec::new();
    let mut expressions = 0;
    for (number, rule) in (1..).zip(rules) {
        let Ok(pattern) = HostPattern::parse(hostname(rule)) else { continue };
        let text = rule.path.as_deref().filter(|path| !path.is_empty());
        let path = text.and_then(|path| path_regex(path).ok());
        if text.is_some() && path.is_none() {
            continue;
        }
        let layer = rule.edge.as_ref().map(reader);
        expressions += usize::from(path.is_some());
        expressions += layer.iter().flatten().map(|layer| layer.paths.len()).sum::<usize>();
        if expressions > PATH_EXPRESSIONS_MAX {
            let everything = Layers::of_rules([(HostPattern::Any, None, Some(closed()))]);
            let why = format!("there are more than {PATH_EXPRESSIONS_MAX} paths, so all names are closed");
            return (everything, vec![why]);
        }
        if let Some(Err(why)) = &layer {
            complaints
                .push(format!("`edge` of rule #{number} cannot be read, so its names are closed: {why}"));
        }
        said.push((pattern, path, layer.map(|layer| layer.unwrap_or_else(|_| closed()))));
    }
    (Layers::of_rules(said), complaints)
}

fn hostname(rule: &IngressRule) -> &str {
    rule.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or("*")
}

fn closed() -> Layer {
    Layer { base: Patch { maintenance: Some(Some(UNREAD.into())), ..Patch::default() }, paths: Vec::new() }
}

#[cfg(test)]
mod tests {
    use adit_policy::policy::Policies;
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

    fn policies(rules: &Value) -> (Policies, Vec<String>) {
        let json = json!({ "ingress": rules }).to_string();
        let (word, complaints) = read(&Configuration::from_json(json.as_bytes()).unwrap(), reader);
        (Policies::of(&Layer::default(), &word.layers, &Layers::default()), complaints)
    }

    #[test]
    fn what_cannot_be_read_is_closed_and_told() {
        let (policies, complaints) = policies(&json!([
            { "hostname": "a.example", "service": "http://a", "edge": true },
            { "hostname": "b.example", "service": "http://b", "edge": 5 },
            { "service": "http://c" },
        ]));
        let base = |host| policies.find(host).unwrap().base.clone();
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
        assert!(policies.find("a.example").unwrap().base.maintenance.is_some());
        assert_eq!(complaints.len(), 1);
    }
}
