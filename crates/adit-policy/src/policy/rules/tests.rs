//! The edge finds the rule that the connector finds, and what that rule says holds.

use proptest::prelude::*;

use super::*;
use crate::ingress::{Ingress, OriginRequest, Rule, RuleHost, Service, path_regex};
use crate::policy::{Patch, Policies};

/// A layer with a mark that tells it from others.
fn marked(mark: u64) -> Arc<Layer> {
    Arc::new(Layer { base: limit(mark), paths: Vec::new() })
}

fn limit(mark: u64) -> Patch {
    Patch { body_limit: Some(Some(mark)), ..Patch::default() }
}

fn rule(host: &str, path: &str, mark: Option<u64>) -> RuleWord {
    let path = (!path.is_empty()).then(|| Expression(path_regex(path).unwrap()));
    RuleWord { hosts: HostPattern::parse(host).unwrap(), path, layer: mark.map(marked) }
}

fn list(rules: &[(&str, &str, Option<u64>)]) -> Arc<RuleList> {
    Arc::new(RuleList::new(rules.iter().map(|(host, path, mark)| rule(host, path, *mark))))
}

/// The mark that holds for a request.
fn mark(policies: &RulePolicies, names: &Policies, host: &str, path: &str) -> Option<u64> {
    let policy = policies.find(host, &RequestPath::of(path)).unwrap().or_else(|| names.find(host))?;
    policy.find(path).body_limit
}

#[test]
fn the_first_rule_that_answers_speaks() {
    let rules = list(&[
        ("*.x.example", "^/admin", Some(1)),
        ("h.x.example", "", Some(2)),
        ("*", "^/metrics", Some(3)),
        ("*.x.example", "", None),
        ("y.example", "^/a", Some(4)),
        ("*", "", Some(5)),
    ]);
    let mut hostnames = Layers::default();
    hostnames.add(&HostPattern::parse("w.x.example").unwrap(), Layer { base: limit(9), paths: Vec::new() });
    let defaults = Layer { base: limit(7), paths: Vec::new() };
    let names = Policies::of(&defaults, &hostnames);
    let policies = RulePolicies::of(&defaults, rules, &hostnames);
    for (host, path, expected) in [
        ("h.x.example", "/admin", 1),
        ("h.x.example", "/", 2),
        ("h.x.example", "/metrics", 2),
        ("k.x.example", "/metrics", 3),
        ("k.x.example", "/", 7),
        ("a.b.x.example", "/admin/x", 1),
        ("x.example", "/admin", 5),
        ("y.example", "/a", 4),
        ("y.example", "/metrics", 3),
        ("z.example", "/", 5),
        ("w.x.example", "/admin", 9),
        ("w.x.example", "/", 9),
    ] {
        assert_eq!(mark(&policies, &names, host, path), Some(expected), "{host}{path}");
    }
}

#[test]
fn paths_beside_a_rule_hold_where_that_rule_answers() {
    let path = |text: &str, mark| {
        let patch = limit(mark);
        super::super::PathLayer { path: Expression(path_regex(text).unwrap()), patch }
    };
    let whole = Layer { base: limit(1), paths: vec![path("^/upload", 2)] };
    let rules = [
        rule("h.example", "^/api", None),
        RuleWord { layer: Some(Arc::new(whole)), ..rule("h.example", "", None) },
    ];
    let policies = RulePolicies::of(&Layer::default(), Arc::new(RuleList::new(rules)), &Layers::default());
    let names = Policies::of(&Layer::default(), &Layers::default());
    for (path, expected) in [("/", Some(1)), ("/upload", Some(2)), ("/api", None), ("/api/upload", None)] {
        assert_eq!(mark(&policies, &names, "h.example", path), expected, "{path}");
    }
}

#[test]
fn rules_have_counters_of_their_own() {
    let rules =
        list(&[("*.x.example", "^/a", Some(1)), ("h.x.example", "", Some(1)), ("*.x.example", "", Some(1))]);
    let policies = RulePolicies::of(&Layer::default(), rules, &Layers::default());
    let scope = |host: &str, path: &str| {
        policies.find(host, &RequestPath::of(path)).unwrap().unwrap().base.scope.to_string()
    };
    assert_eq!(scope("h.x.example", "/a"), "*.x.example ^/a");
    assert_eq!(scope("h.x.example", "/"), "h.x.example");
    assert_eq!(scope("k.x.example", "/"), "*.x.example");
}

const HOSTS: [&str; 9] = [
    "*",
    "*.x.example",
    "*.a.x.example",
    "h.x.example",
    "h.a.x.example",
    "x.example",
    "*.example",
    "y.test",
    "*.h.x.example",
];
const PATHS: [&str; 8] = ["", "", "^/admin", "admin", "^/$", "^/a.*b$", "%", "/$"];
const NAMES: [&str; 7] =
    ["h.x.example", "h.a.x.example", "x.example", "y.test", "other.test", "k.h.x.example", "q.example"];
const TARGETS: [&str; 14] = [
    "/",
    "/admin",
    "/admin/",
    "/a/b",
    "/x/admin",
    "/a%20b",
    "/ab",
    "/m%C3%BCller",
    "/@scope%2Fname",
    "/x/../admin",
    "/x%2f..%2Fadmin",
    "//admin",
    "/admin;v=1",
    "/%2561dmin",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The edge and the connector read the same list: they must come to the same rule.
    #[test]
    fn the_edge_finds_the_rule_that_the_connector_finds(
        picked in prop::collection::vec((0..HOSTS.len(), 0..PATHS.len(), any::<bool>()), 0..9),
        host in 0..NAMES.len(),
        target in 0..TARGETS.len(),
    ) {
        let (host, target) = (NAMES[host], TARGETS[target]);
        let mut rules: Vec<Rule> = picked
            .iter()
            .map(|(host, path, speaks)| ingress_rule(HOSTS[*host], PATHS[*path], *speaks))
            .filter(|rule| !rule.is_catch_all())
            .collect();
        rules.push(ingress_rule("*", "", true));
        let ingress = Ingress::new(rules).unwrap();
        let path = RequestPath::of(target);
        let answers = ingress.find(host, &path).map(|found| found.map(|(number, _)| number));
        let words = ingress.words();
        let judged = words.find(host, &path).map(|found| found.map(|(number, _)| number));
        prop_assert_eq!(judged, answers, "{} {}", host, target);
    }
}

fn ingress_rule(host: &str, path: &str, speaks: bool) -> Rule {
    let layer = Layer { base: limit(1), paths: Vec::new() };
    let word = crate::ingress::EdgeWord { json: String::new(), layer };
    Rule {
        hostname: RuleHost::parse(host).unwrap(),
        path: (!path.is_empty()).then(|| path_regex(path).unwrap()),
        service: Service::Status(404),
        more: Vec::new(),
        origin: OriginRequest::default(),
        edge: speaks.then(|| Arc::new(word)),
    }
}
