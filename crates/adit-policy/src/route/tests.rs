//! Tables of grants and claims, and the hosts that they answer for.

use proptest::prelude::*;

use super::*;
use crate::grant::Grant;
use crate::snapshot::HttpMode;

fn patterns(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect()
}

fn id(number: u128) -> TunnelId {
    TunnelId(Uuid::from_u128(number))
}

/// Tunnels 1, 2, … with these grants.
fn snapshot(grants: &[&[&str]]) -> Snapshot {
    let tunnel = |(index, grant): (usize, &&[&str])| Tunnel {
        id: id(index as u128 + 1),
        name: format!("t{index}"),
        secrets: Vec::new(),
        grant: Grant::new(patterns(grant)),
    };
    Snapshot::new(
        Hostname::parse("edge.example").unwrap(),
        HttpMode::Redirect,
        grants.iter().enumerate().map(tunnel).collect(),
    )
}

fn says(tunnel: u128, hosts: &[&str], catch_all: bool) -> Claimant {
    let claims = Claims { hosts: patterns(hosts), catch_all };
    Claimant { tunnel: id(tunnel), connector: Uuid::from_u128(tunnel * 10), claims: Some(claims) }
}

fn silent(tunnel: u128) -> Claimant {
    Claimant { tunnel: id(tunnel), connector: Uuid::from_u128(tunnel * 10), claims: None }
}

fn answers(grants: &[&[&str]], claimants: &[Claimant], hosts: &[(&str, Option<u128>)]) -> Vec<Refusal> {
    let (table, refusals) = RouteTable::build(&snapshot(grants), claimants);
    for (host, tunnel) in hosts {
        assert_eq!(table.find(host).map(|route| route.tunnel), tunnel.map(id), "{host}");
    }
    refusals
}

#[test]
fn an_exact_grant_is_known_while_home_is_away() {
    answers(&[&["a.x"]], &[], &[("a.x", Some(1)), ("b.x", None)]);
    answers(&[&["a.x"]], &[says(1, &["b.x"], false)], &[("a.x", Some(1)), ("b.x", None)]);
}

#[test]
fn a_wildcard_grant_is_known_until_a_connector_says_more() {
    answers(&[&["*.x"]], &[], &[("a.x", Some(1)), ("x", None)]);
    answers(&[&["*.x"]], &[silent(1)], &[("a.x", Some(1))]);
    answers(&[&["*.x"]], &[says(1, &["a.x"], false)], &[("a.x", Some(1)), ("b.x", None)]);
    answers(&[&["*.x"]], &[says(1, &["a.x"], true)], &[("b.x", Some(1))]);
}

#[test]
fn a_claim_outside_of_the_grant_is_refused_by_name() {
    let refusals = answers(&[&["a.x"]], &[says(1, &["a.x", "b.x"], false)], &[("b.x", None)]);
    assert_eq!(refusals.len(), 1);
    assert!(refusals[0].to_string().starts_with("b.x is not granted"), "{}", refusals[0]);
}

#[test]
fn a_claim_wider_than_the_grant_gets_the_granted_part() {
    let refusals = answers(&[&["a.x"]], &[says(1, &["*.x"], false)], &[("a.x", Some(1)), ("b.x", None)]);
    assert!(refusals.is_empty());
}

#[test]
fn the_earlier_claimant_keeps_a_contested_name() {
    let grants: &[&[&str]] = &[&["*.x"], &["*.x"]];
    let refusals = answers(grants, &[says(2, &["a.x"], false), says(1, &["a.x"], false)], &[("a.x", Some(2))]);
    assert_eq!(refusals.len(), 1);
    assert!(refusals[0].to_string().contains("served by another tunnel"), "{}", refusals[0]);
    assert_eq!(refusals[0].connector().0, id(1));
}

#[test]
fn the_more_specific_name_wins() {
    let grants: &[&[&str]] = &[&["*.x"], &["*.y.x"], &["a.y.x"]];
    let claimants = [says(1, &["*.x"], false), says(2, &["*.y.x"], false), says(3, &["a.y.x"], false)];
    answers(grants, &claimants, &[("a.y.x", Some(3)), ("b.y.x", Some(2)), ("b.x", Some(1)), ("c.b.y.x", Some(2))]);
}

#[test]
fn the_default_needs_the_grant_and_a_real_last_service() {
    answers(&[&["*"]], &[], &[("anything", None)]);
    answers(&[&["*"]], &[silent(1)], &[("anything", None)]);
    answers(&[&["*"]], &[says(1, &["a.x"], false)], &[("a.x", Some(1)), ("b.x", None)]);
    answers(&[&["*"]], &[says(1, &[], true)], &[("b.x", Some(1))]);
    answers(&[&["a.x"]], &[says(1, &[], true)], &[("a.x", Some(1)), ("b.x", None)]);
    answers(&[&["*"], &["*.x"]], &[says(1, &[], true), says(2, &["b.x"], false)], &[("b.x", Some(2)), ("c", Some(1))]);
}

#[test]
fn the_management_host_is_never_routed() {
    let host = "management.argotunnel.com";
    answers(&[&["*", host]], &[says(1, &[host], true)], &[(host, None), ("a.argotunnel.com", Some(1))]);
    answers(&[&["*.argotunnel.com"]], &[silent(1)], &[(host, None)]);
}

#[test]
fn replicas_share_a_name() {
    let mut second = says(1, &["a.x"], false);
    second.connector = Uuid::from_u128(99);
    let (table, _) = RouteTable::build(&snapshot(&[&["a.x"]]), &[says(1, &["a.x"], false), second]);
    assert_eq!(table.find("a.x").unwrap().connectors.len(), 2);
}

proptest! {
    /// The table agrees with a slow reading of the rules: the longest granted pattern among those claimed.
    #[test]
    fn the_table_agrees_with_a_slow_reading(
        claims in prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 0..6),
        host in "[ab](\\.[ab]){0,3}",
    ) {
        let texts: Vec<&str> = claims.iter().map(String::as_str).collect();
        let (table, _) = RouteTable::build(&snapshot(&[&["*"]]), &[says(1, &texts, false)]);
        let name = Hostname::parse(&host).unwrap();
        let expected = patterns(&texts).into_iter().filter(|pattern| pattern.matches(&name)).max_by_key(|pattern| {
            (matches!(pattern, HostPattern::Exact(_)), pattern.to_string().len())
        });
        prop_assert_eq!(table.find(&host).map(|route| route.pattern.clone()), expected);
    }
}
