//! How words are laid over one another.

use super::limit::Reach;
use super::*;

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

fn limit(bytes: u64) -> Patch {
    Patch { body_limit: Some(Some(bytes)), ..Patch::default() }
}

fn layer(base: Patch, paths: &[(&str, Patch)]) -> Layer {
    let path = |(path, patch): &(&str, Patch)| PathLayer {
        path: Expression(Regex::new(path).unwrap()),
        patch: patch.clone(),
    };
    Layer { base, paths: paths.iter().map(path).collect() }
}

#[test]
fn the_operators_word_wins_and_paths_count_within_their_voice() {
    let defaults = layer(limit(1), &[]);
    let connector = layer(Patch::default(), &[("^/upload", limit(2)), ("^/big", limit(3))]);
    let operator = layer(Patch::default(), &[("^/big", limit(4))]);
    let policy = Policy::of(
        "a",
        &[(Voice::Defaults, &defaults), (Voice::Connector, &connector), (Voice::Hostnames, &operator)],
    );
    let at = |path: &str| policy.find(path).body_limit;
    assert_eq!([at("/"), at("/upload/x"), at("/big")], [Some(1), Some(2), Some(4)]);
    // What the operator says about the whole name is above what the connector says about a path.
    let strict = layer(limit(9), &[]);
    let policy = Policy::of("a", &[(Voice::Connector, &connector), (Voice::Hostnames, &strict)]);
    assert_eq!(policy.find("/upload").body_limit, Some(9));
    assert_eq!(policy.find("/upload").said, [("body-limit", Voice::Hostnames)]);
    assert_ne!(policy.find("/upload").scope, policy.find("/").scope, "counted apart");
}

#[test]
fn a_name_gets_the_word_about_itself_or_about_the_wildcard_above() {
    let mut hostnames = Layers::default();
    hostnames.add(&pattern("*.apps.example"), layer(limit(2), &[]));
    hostnames.add(&pattern("b.apps.example"), layer(Patch::default(), &[]));
    let policies = Policies::of(&layer(limit(1), &[]), &hostnames);
    let limit = |host: &str| policies.find(host).unwrap().base.body_limit;
    assert_eq!(limit("other.example"), Some(1));
    assert_eq!(limit("a.apps.example"), Some(2));
    assert_eq!(limit("b.apps.example"), Some(1), "its own entry says nothing, so the defaults hold");
}

#[test]
fn a_connector_bans_from_its_own_tunnel_at_most() {
    let ban = |reach| {
        let statuses = vec![crate::cache::rule::StatusRange::Any];
        let time = std::time::Duration::from_secs(1);
        let allow = address::Addresses::default();
        let ban = limit::Ban { statuses, count: 1, window: time, time, time_max: time, allow, reach };
        layer(Patch { ban: Some(Some(Arc::new(ban))), ..Patch::default() }, &[])
    };
    let quiet = layer(limit(1), &[]);
    for (voices, expected) in [
        (vec![(Voice::Connector, Reach::All)], Reach::Tunnel),
        (vec![(Voice::Connector, Reach::Name)], Reach::Name),
        (vec![(Voice::Defaults, Reach::All)], Reach::All),
        (vec![(Voice::Hostnames, Reach::All)], Reach::All),
        (vec![(Voice::Defaults, Reach::All), (Voice::Connector, Reach::All)], Reach::Tunnel),
        (vec![(Voice::Connector, Reach::All), (Voice::Hostnames, Reach::All)], Reach::All),
    ] {
        let said: Vec<(Voice, Layer)> = voices.iter().map(|(voice, reach)| (*voice, ban(*reach))).collect();
        let mut layers: Vec<(Voice, &Layer)> = said.iter().map(|(voice, layer)| (*voice, layer)).collect();
        layers.push((Voice::Hostnames, &quiet));
        let policy = Policy::of("a", &layers);
        assert_eq!(policy.base.ban.as_ref().unwrap().reach, expected, "{voices:?}");
    }
}
