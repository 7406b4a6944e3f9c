//! The table of routes: the rules as cases, and the search against a slow reference.

use proptest::prelude::*;

use super::*;
use crate::grant::Grant;
use crate::host::Hostname;
use crate::snapshot::{HttpMode, Tunnel, TunnelSecret};

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

fn patterns(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| pattern(text)).collect()
}

fn id(number: u128) -> TunnelId {
    TunnelId(Uuid::from_u128(number))
}

/// Tunnels 1, 2 … with these grants.
fn snapshot(grants: &[&[&str]]) -> Snapshot {
    let grants = grants.iter().map(|texts| patterns(texts)).collect();
    snapshot_of(grants)
}

fn snapshot_of(grants: Vec<Vec<HostPattern>>) -> Snapshot {
    let tunnels = (1..).zip(grants).map(|(number, grant)| Tunnel {
        id: id(number),
        name: format!("t{number}"),
        secret: TunnelSecret::default(),
        account_tag: None,
        held: None,
        grant: Grant::new(grant),
    });
    Snapshot::new(Hostname::parse("x").unwrap(), HttpMode::Redirect, tunnels.collect())
}

fn says(tunnel: u128, connector: u128, hosts: &[&str], catch_all: bool) -> Claimant {
    let claims = Some(Claims::new(patterns(hosts), catch_all));
    Claimant { tunnel: id(tunnel), connector: Uuid::from_u128(connector), claims }
}

fn silent(tunnel: u128, connector: u128) -> Claimant {
    Claimant { tunnel: id(tunnel), connector: Uuid::from_u128(connector), claims: None }
}

/// The tunnel and the connectors that a host leads to.
fn found(table: &RouteTable, host: &str) -> Option<(u128, Vec<u128>)> {
    let route = table.find(host)?;
    Some((route.tunnel.0.as_u128(), route.connectors.iter().map(Uuid::as_u128).collect()))
}

fn refused(refusals: &[Refusal]) -> Vec<String> {
    let text = |refusal: &Refusal| match refusal {
        Refusal::NotGranted { pattern, .. } => format!("{pattern} not granted"),
        Refusal::Taken { pattern, holder, .. } => format!("{pattern} taken by {}", holder.0.as_u128()),
    };
    refusals.iter().map(text).collect()
}

#[test]
fn a_granted_claim_is_a_route_to_those_who_claim() {
    let snapshot = snapshot(&[&["*.x"]]);
    let claimants = [says(1, 11, &["a.x", "*.b.x"], false), says(1, 12, &["a.x"], false)];
    let (table, refusals) = RouteTable::build(&snapshot, &claimants);
    assert_eq!(found(&table, "a.x"), Some((1, vec![11, 12])));
    assert_eq!(found(&table, "c.b.x"), Some((1, vec![11])));
    assert_eq!(found(&table, "c.x"), None);
    assert_eq!(found(&table, "x"), None);
    assert!(refusals.is_empty());
}

#[test]
fn a_claim_outside_of_the_grant_is_refused() {
    let snapshot = snapshot(&[&["*.x", "b.y"]]);
    let (table, refusals) = RouteTable::build(&snapshot, &[says(1, 11, &["a.x", "a.y", "x", "*.z"], false)]);
    assert_eq!(refused(&refusals), ["a.y not granted", "x not granted", "*.z not granted"]);
    assert_eq!(found(&table, "a.y"), None);
    assert!(refusals[0].to_string().starts_with("`a.y` is not granted to tunnel"));
}

#[test]
fn of_a_claim_wider_than_the_grant_the_granted_part_is_routed() {
    let snapshot = snapshot(&[&["a.x", "*.b.x"]]);
    let (table, refusals) = RouteTable::build(&snapshot, &[says(1, 11, &["*.x"], false)]);
    assert_eq!(found(&table, "a.x"), Some((1, vec![11])));
    assert_eq!(found(&table, "c.b.x"), Some((1, vec![11])));
    assert_eq!(found(&table, "c.x"), None);
    assert!(refusals.is_empty());
}

#[test]
fn the_earlier_tunnel_keeps_a_contested_name() {
    let snapshot = snapshot(&[&["*.x"], &["*.x"]]);
    let claimants = [says(2, 21, &["a.x"], false), says(1, 11, &["a.x", "b.x"], false)];
    let (table, refusals) = RouteTable::build(&snapshot, &claimants);
    assert_eq!(found(&table, "a.x"), Some((2, vec![21])));
    assert_eq!(found(&table, "b.x"), Some((1, vec![11])));
    assert_eq!(refused(&refusals), ["a.x taken by 2"]);
}

#[test]
fn the_narrower_grant_beats_the_earlier_claim() {
    let snapshot = snapshot(&[&["*.x"], &["*.m.x", "b.x"]]);
    let claimants = [says(1, 11, &["a.m.x", "*.m.x", "b.x", "*.x"], false), silent(2, 21)];
    let (table, refusals) = RouteTable::build(&snapshot, &claimants);
    assert_eq!(found(&table, "a.m.x"), Some((2, vec![21])));
    assert_eq!(found(&table, "b.x"), Some((2, vec![21])));
    assert_eq!(found(&table, "c.x"), Some((1, vec![11])));
    assert_eq!(refused(&refusals), ["a.m.x taken by 2", "*.m.x taken by 2", "b.x taken by 2"]);
}

#[test]
fn a_granted_exact_name_is_always_known() {
    let snapshot = snapshot(&[&["a.x"], &["b.x"]]);
    let (table, _) = RouteTable::build(&snapshot, &[says(2, 21, &["c.x"], false)]);
    assert_eq!(found(&table, "a.x"), Some((1, vec![])));
    assert_eq!(found(&table, "b.x"), Some((2, vec![])));
    assert_eq!(found(&table, "c.x"), None);
}

#[test]
fn a_granted_wildcard_is_known_unless_the_claims_say_otherwise() {
    let snapshot = snapshot(&[&["*.x"]]);
    let find = |claimants: &[Claimant]| found(&RouteTable::build(&snapshot, claimants).0, "a.x");
    assert_eq!(find(&[]), Some((1, vec![])), "never seen");
    assert_eq!(find(&[silent(1, 11)]), Some((1, vec![11])), "has not said");
    assert_eq!(find(&[says(1, 11, &[], true)]), Some((1, vec![11])), "serves everything");
    assert_eq!(find(&[says(1, 11, &["b.x"], false)]), None, "serves something else");
}

#[test]
fn the_default_needs_a_grant_of_everything_and_a_last_rule_that_serves() {
    let everything = snapshot(&[&["*"]]);
    let find = |claimants: &[Claimant]| found(&RouteTable::build(&everything, claimants).0, "a.x");
    assert_eq!(find(&[]), None);
    assert_eq!(find(&[silent(1, 11)]), None);
    assert_eq!(find(&[says(1, 11, &["*"], false)]), None);
    assert_eq!(find(&[says(1, 11, &[], true)]), Some((1, vec![11])));
    assert_eq!(find(&[says(1, 11, &["a.x"], false)]), Some((1, vec![11])));

    let less = snapshot(&[&["*.y"]]);
    assert_eq!(found(&RouteTable::build(&less, &[says(1, 11, &[], true)]).0, "a.x"), None);
}

#[test]
fn the_second_default_is_refused() {
    let snapshot = snapshot(&[&["*"], &["*"]]);
    let claimants = [says(2, 21, &[], true), says(1, 11, &["a.x"], true)];
    let (table, refusals) = RouteTable::build(&snapshot, &claimants);
    assert_eq!(found(&table, "b.x"), Some((2, vec![21])));
    assert_eq!(found(&table, "a.x"), Some((1, vec![11])));
    assert_eq!(refused(&refusals), ["* taken by 2"]);
}

#[test]
fn a_rule_for_the_name_beats_a_rule_for_everything_between_replicas() {
    let snapshot = snapshot(&[&["*.x", "b.x"]]);
    let claimants = [says(1, 11, &[], true), says(1, 12, &["a.x"], true), says(1, 13, &["b.x"], false)];
    let (table, _) = RouteTable::build(&snapshot, &claimants);
    assert_eq!(found(&table, "a.x"), Some((1, vec![12])));
    assert_eq!(found(&table, "b.x"), Some((1, vec![13])));
    assert_eq!(found(&table, "c.x"), Some((1, vec![11, 12])));
}

#[test]
fn the_management_host_is_never_routed() {
    let snapshot = snapshot(&[&["*", MANAGEMENT_HOST]]);
    let (table, refusals) =
        RouteTable::build(&snapshot, &[says(1, 11, &[MANAGEMENT_HOST, "*.argotunnel.com"], true)]);
    assert_eq!(found(&table, MANAGEMENT_HOST), None);
    assert_eq!(found(&table, "a.argotunnel.com"), Some((1, vec![11])));
    assert_eq!(refused(&refusals), ["management.argotunnel.com not granted"]);
}

#[test]
fn a_claimant_of_an_unknown_tunnel_counts_for_nothing() {
    let (table, refusals) = RouteTable::build(&snapshot(&[]), &[says(1, 11, &["a.x"], true)]);
    assert_eq!((table.routes().len(), refusals.len()), (0, 0));
}

#[test]
fn routes_are_listed_the_narrowest_first() {
    let snapshot = snapshot(&[&["*", "*.b.x", "*.a.x", "z.x", "c.x"]]);
    let (table, _) = RouteTable::build(&snapshot, &[says(1, 11, &[], true)]);
    let listed: Vec<String> = table.routes().iter().map(|route| route.pattern.to_string()).collect();
    assert_eq!(listed, ["c.x", "z.x", "*.a.x", "*.b.x", "*"]);
}

fn some_name() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b"], 1..4).prop_map(|labels| labels.join("."))
}

fn some_pattern() -> impl Strategy<Value = HostPattern> {
    let exact = some_name().prop_map(|name| pattern(&name));
    let wildcard = some_name().prop_map(|name| pattern(&format!("*.{name}")));
    prop_oneof![1 => Just(HostPattern::Any), 4 => exact, 4 => wildcard]
}

fn some_patterns() -> impl Strategy<Value = Vec<HostPattern>> {
    proptest::collection::vec(some_pattern(), 0..4)
}

/// Up to three tunnels, and up to five connectors of tunnels that may not exist.
fn some_world() -> impl Strategy<Value = (Vec<Vec<HostPattern>>, Vec<Claimant>)> {
    let claims = proptest::option::of((some_patterns(), any::<bool>()));
    let claimant = (1..5_u128, claims).prop_map(|(tunnel, claims)| (tunnel, claims));
    let worlds =
        (proptest::collection::vec(some_patterns(), 0..4), proptest::collection::vec(claimant, 0..5));
    worlds.prop_map(|(grants, claimants)| {
        let claimants = (10..).zip(claimants).map(|(number, (tunnel, claims))| Claimant {
            tunnel: id(tunnel),
            connector: Uuid::from_u128(number),
            claims: claims.map(|(hosts, catch_all)| Claims::new(hosts, catch_all)),
        });
        (grants, claimants.collect())
    })
}

/// The narrowest of all routes that match.
fn slow_find<'t>(table: &'t RouteTable, host: &Hostname) -> Option<&'t Route> {
    let matching = table.routes().into_iter().filter(|route| route.pattern.matches(host));
    matching.max_by_key(|route| route.pattern.specificity())
}

proptest! {
    #[test]
    fn the_search_finds_the_narrowest_route((grants, claimants) in some_world(), host in some_name()) {
        let (table, _) = RouteTable::build(&snapshot_of(grants), &claimants);
        let host = Hostname::parse(&host).unwrap();
        prop_assert_eq!(table.find(host.as_str()).map(AsRef::as_ref), slow_find(&table, &host));
    }

    #[test]
    fn nobody_gets_a_name_without_a_grant((grants, claimants) in some_world(), host in some_name()) {
        let snapshot = snapshot_of(grants);
        let (table, _) = RouteTable::build(&snapshot, &claimants);
        let host = Hostname::parse(&host).unwrap();
        if let Some(route) = table.find(host.as_str()) {
            let tunnel = snapshot.tunnel(route.tunnel).unwrap();
            prop_assert!(tunnel.grant.best_match(&host).is_some());
            prop_assert!(tunnel.grant.covers(&route.pattern));
        }
    }

    #[test]
    fn a_granted_exact_name_is_known_whatever_is_claimed((grants, claimants) in some_world()) {
        let snapshot = snapshot_of(grants);
        let (table, _) = RouteTable::build(&snapshot, &claimants);
        for tunnel in snapshot.tunnels() {
            for pattern in tunnel.grant.patterns() {
                if let HostPattern::Exact(name) = pattern {
                    let route = table.find(name.as_str()).unwrap();
                    let holder = snapshot.tunnel(route.tunnel).unwrap();
                    prop_assert!(holder.grant.patterns().contains(pattern));
                }
            }
        }
    }

    #[test]
    fn a_grant_wider_than_another_takes_nothing_from_it((grants, claimants) in some_world(), host in some_name()) {
        let snapshot = snapshot_of(grants);
        let host = Hostname::parse(&host).unwrap();
        let quiet: Vec<Claimant> = claimants.iter().map(|c| Claimant { claims: None, ..*c }).collect();
        let (table, _) = RouteTable::build(&snapshot, &quiet);
        let best = snapshot.tunnels().iter().filter_map(|tunnel| tunnel.grant.best_match(&host)).max();
        if let Some(route) = table.find(host.as_str()) {
            prop_assert_eq!(snapshot.tunnel(route.tunnel).unwrap().grant.best_match(&host), best);
        }
    }

    #[test]
    fn building_twice_gives_the_same((grants, claimants) in some_world()) {
        let snapshot = snapshot_of(grants);
        let (one, first) = RouteTable::build(&snapshot, &claimants);
        let (two, second) = RouteTable::build(&snapshot, &claimants);
        prop_assert_eq!(one.routes(), two.routes());
        prop_assert_eq!(first, second);
    }
}
