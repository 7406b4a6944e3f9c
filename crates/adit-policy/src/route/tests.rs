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
    let (table, refusals) = RouteTable::build(&snapshot, &claimants, &Owners::default());
    assert_eq!(found(&table, "a.x"), Some((1, vec![11, 12])));
    assert_eq!(found(&table, "c.b.x"), Some((1, vec![11])));
    assert_eq!(found(&table, "c.x"), None);
    assert_eq!(found(&table, "x"), None);
    assert!(refusals.is_empty());
}

#[test]
fn a_claim_outside_of_the_grant_is_refused() {
    let snapshot = snapshot(&[&["*.x", "b.y"]]);
    let (table, refusals) =
        RouteTable::build(&snapshot, &[says(1, 11, &["a.x", "a.y", "x", "*.z"], false)], &Owners::default());
    assert_eq!(refused(&refusals), ["a.y not granted", "x not granted", "*.z not granted"]);
    assert_eq!(found(&table, "a.y"), None);
    assert!(refusals[0].to_string().starts_with("`a.y` is not granted to tunnel"));
}

#[test]
fn of_a_claim_wider_than_the_grant_the_granted_part_is_routed() {
    let snapshot = snapshot(&[&["a.x", "*.b.x"]]);
    let (table, refusals) = RouteTable::build(&snapshot, &[says(1, 11, &["*.x"], false)], &Owners::default());
    assert_eq!(found(&table, "a.x"), Some((1, vec![11])));
    assert_eq!(found(&table, "c.b.x"), Some((1, vec![11])));
    assert_eq!(found(&table, "c.x"), None);
    assert!(refusals.is_empty());
}

#[test]
fn the_earlier_tunnel_keeps_a_contested_name() {
    let snapshot = snapshot(&[&["*.x"], &["*.x"]]);
    let claimants = [says(2, 21, &["a.x"], false), says(1, 11, &["a.x", "b.x"], false)];
    let (table, refusals) = RouteTable::build(&snapshot, &claimants, &Owners::default());
    assert_eq!(found(&table, "a.x"), Some((2, vec![21])));
    assert_eq!(found(&table, "b.x"), Some((1, vec![11])));
    assert_eq!(refused(&refusals), ["a.x taken by 2"]);
}

#[test]
fn the_narrower_grant_beats_the_earlier_claim() {
    let snapshot = snapshot(&[&["*.x"], &["*.m.x", "b.x"]]);
    let claimants = [says(1, 11, &["a.m.x", "*.m.x", "b.x", "*.x"], false), silent(2, 21)];
    let (table, refusals) = RouteTable::build(&snapshot, &claimants, &Owners::default());
    assert_eq!(found(&table, "a.m.x"), Some((2, vec![21])));
    assert_eq!(found(&table, "b.x"), Some((2, vec![21])));
    assert_eq!(found(&table, "c.x"), Some((1, vec![11])));
    assert_eq!(refused(&refusals), ["a.m.x taken by 2", "*.m.x taken by 2", "b.x taken by 2"]);
}

#[test]
fn a_granted_exact_name_is_always_known() {
    let snapshot = snapshot(&[&["a.x"], &["b.x"]]);
    let (table, _) = RouteTable::build(&snapshot, &[says(2, 21, &["c.x"], false)], &Owners::default());
    assert_eq!(found(&table, "a.x"), Some((1, vec![])));
    assert_eq!(found(&table, "b.x"), Some((2, vec![])));
    assert_eq!(found(&table, "c.x"), None);
}

#[test]
fn a_granted_wildcard_is_known_unless_the_claims_say_otherwise() {
    let snapshot = snapshot(&[&["*.x"]]);
    let find =
        |claimants: &[Claimant]| found(&RouteTable::build(&snapshot, claimants, &Owners::default()).0, "a.x");
    assert_eq!(find(&[]), Some((1, vec![])), "never seen");
    assert_eq!(find(&[silent(1, 11)]), Some((1, vec![11])), "has not said");
    assert_eq!(find(&[says(1, 11, &[], true)]), Some((1, vec![11])), "serves everything");
    assert_eq!(find(&[says(1, 11, &["b.x"], false)]), None, "serves something else");
}

#[test]
fn the_default_needs_a_grant_of_everything_and_a_last_rule_that_serves() {
    let everything = snapshot(&[&["*"]]);
    let find = |claimants: &[Claimant]| {
        found(&RouteTable::build(&everything, claimants, &Owners::default()).0, "a.x")
    };
    assert_eq!(find(&[]), None);
    assert_eq!(find(&[silent(1, 11)]), None);
    assert_eq!(find(&[says(1, 11, &["*"], false)]), None);
    assert_eq!(find(&[says(1, 11, &[], true)]), Some((1, vec![11])));
    assert_eq!(find(&[says(1, 11, &["a.x"], false)]), Some((1, vec![11])));

    let less = snapshot(&[&["*.y"]]);
    assert_eq!(
        found(&RouteTable::build(&less, &[says(1, 11, &[], true)], &Owners::default()).0, "a.x"),
        None
    );
}

#[test]
fn the_second_default_is_refused() {
    let snapshot = snapshot(&[&["*"], &["*"]]);
    let claimants = [says(2, 21, &[], true), says(1, 11, &["a.x"], true)];
    let (table, refusals) = RouteTable::build(&snapshot, &claimants, &Owners::default());
    assert_eq!(found(&table, "b.x"), Some((2, vec![21])));
    assert_eq!(found(&table, "a.x"), Some((1, vec![11])));
    assert_eq!(refused(&refusals), ["* taken by 2"]);
}

#[test]
fn a_rule_for_the_name_beats_a_rule_for_everything_between_replicas() {
    let snapshot = snapshot(&[&["*.x", "b.x"]]);
    let claimants = [says(1, 11, &[], true), says(1, 12, &["a.x"], true), says(1, 13, &["b.x"], false)];
    let (table, _) = RouteTable::build(&snapshot, &claimants, &Owners::default());
    assert_eq!(found(&table, "a.x"), Some((1, vec![12])));
    assert_eq!(found(&table, "b.x"), Some((1, vec![13])));
    assert_eq!(found(&table, "c.x"), Some((1, vec![11, 12])));
}

#[test]
fn the_management_host_is_never_routed() {
    let snapshot = snapshot(&[&["*", MANAGEMENT_HOST]]);
    let (table, refusals) = RouteTable::build(
        &snapshot,
        &[says(1, 11, &[MANAGEMENT_HOST, "*.argotunnel.com"], true)],
        &Owners::default(),
    );
    assert_eq!(found(&table, MANAGEMENT_HOST), None);
    assert_eq!(found(&table, "a.argotunnel.com"), Some((1, vec![11])));
    assert_eq!(refused(&refusals), ["management.argotunnel.com not granted"]);
}

#[test]
fn a_claimant_of_an_unknown_tunnel_counts_for_nothing() {
    let (table, refusals) =
        RouteTable::build(&snapshot(&[]), &[says(1, 11, &["a.x"], true)], &Owners::default());
    assert_eq!((table.routes().len(), refusals.len()), (0, 0));
}

#[test]
fn routes_are_listed_the_narrowest_first() {
    let snapshot = snapshot(&[&["*", "*.b.x", "*.a.x", "z.x", "c.x"]]);
    let (table, _) = RouteTable::build(&snapshot, &[says(1, 11, &[], true)], &Owners::default());
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
        let (table, _) = RouteTable::build(&snapshot_of(grants), &claimants, &Owners::default());
        let host = Hostname::parse(&host).unwrap();
        prop_assert_eq!(table.find(host.as_str()).map(AsRef::as_ref), slow_find(&table, &host));
    }

    #[test]
    fn nobody_gets_a_name_without_a_grant((grants, claimants) in some_world(), host in some_name()) {
        let snapshot = snapshot_of(grants);
        let (table, _) = RouteTable::build(&snapshot, &claimants, &Owners::default());
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
        let (table, _) = RouteTable::build(&snapshot, &claimants, &Owners::default());
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
        let (table, _) = RouteTable::build(&snapshot, &quiet, &Owners::default());
        let best = snapshot.tunnels().iter().filter_map(|tunnel| tunnel.grant.best_match(&host)).max();
        if let Some(route) = table.find(host.as_str()) {
            prop_assert_eq!(snapshot.tunnel(route.tunnel).unwrap().grant.best_match(&host), best);
        }
    }

    #[test]
    fn building_twice_gives_the_same((grants, claimants) in some_world()) {
        let snapshot = snapshot_of(grants);
        let (one, first) = RouteTable::build(&snapshot, &claimants, &Owners::default());
        let (two, second) = RouteTable::build(&snapshot, &claimants, &Owners::default());
        prop_assert_eq!(one.routes(), two.routes());
        prop_assert_eq!(first, second);
    }
}

/// What happens at an edge with two tunnels that have the same grant, step by step.
struct Scene {
    snapshot: Snapshot,
    claimants: Vec<Claimant>,
    owners: Owners,
}

impl Scene {
    fn new(grants: &[&[&str]]) -> Self {
        Self { snapshot: snapshot(grants), claimants: Vec::new(), owners: Owners::default() }
    }

    /// A connector says what it serves, in place of what it said before.
    fn says(&mut self, tunnel: u128, connector: u128, hosts: &[&str]) {
        self.hear(says(tunnel, connector, hosts, false));
    }

    fn hear(&mut self, word: Claimant) {
        let at = self.claimants.iter().position(|known| known.connector == word.connector);
        let before = at.map(|at| self.claimants[at].clone());
        match at {
            Some(at) => self.claimants[at] = word.clone(),
            None => self.claimants.push(word.clone()),
        }
        let speaker = (word.tunnel, word.connector);
        self.owners.hear(&self.snapshot, speaker, before.as_ref(), &self.claimants);
        self.holder("");
    }

    fn leaves(&mut self, connector: u128) {
        self.claimants.retain(|claimant| claimant.connector.as_u128() != connector);
        self.holder("");
    }

    /// A connector is found to be dead, shortly after another one has come.
    fn is_cut_off(&mut self, connector: u128, successor: u128) {
        let gone =
            self.claimants.iter().find(|known| known.connector.as_u128() == connector).unwrap().clone();
        self.claimants.retain(|known| *known != gone);
        self.owners.succeed(&self.snapshot, &gone, Uuid::from_u128(successor), &self.claimants);
        self.holder("");
    }

    /// Who has a name now.
    fn holder(&mut self, host: &str) -> Option<u128> {
        let (table, _) = RouteTable::build(&self.snapshot, &self.claimants, &self.owners);
        self.owners.note(&self.snapshot, &table, &self.claimants);
        found(&table, host).map(|(tunnel, _)| tunnel)
    }
}

#[test]
fn an_owner_that_restarts_keeps_its_name() {
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["a.x"]);
    scene.says(2, 21, &["a.x", "b.x"]);
    scene.leaves(11);
    assert_eq!((scene.holder("a.x"), scene.holder("b.x")), (Some(1), Some(2)));
    // The edge restarts as well, and the other one is there first.
    scene.claimants.clear();
    scene.says(2, 22, &["a.x"]);
    assert_eq!(scene.holder("a.x"), Some(1));
    assert_eq!(scene.owners.find(&pattern("b.x")), None, "it does not name that one any longer");
    scene.says(1, 12, &["a.x"]);
    let (table, refusals) = RouteTable::build(&scene.snapshot, &scene.claimants, &scene.owners);
    assert_eq!(found(&table, "a.x"), Some((1, vec![12])));
    assert_eq!(refused(&refusals), ["a.x taken by 1"]);
    assert!(refusals[0].to_string().contains("adit tunnel release"));
}

#[test]
fn a_name_is_released_by_the_owner_s_own_rules() {
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["a.x", "b.x"]);
    scene.says(2, 21, &["a.x", "b.x"]);
    // By a reload …
    scene.says(1, 11, &["b.x"]);
    assert_eq!((scene.holder("a.x"), scene.holder("b.x")), (Some(2), Some(1)));
    // … or by a restart with other rules.
    scene.leaves(11);
    scene.says(1, 12, &["c.x"]);
    assert_eq!(scene.holder("b.x"), Some(2));
    scene.says(1, 12, &["a.x", "b.x"]);
    assert_eq!(
        (scene.holder("a.x"), scene.holder("b.x")),
        (Some(2), Some(2)),
        "now they are the other one's"
    );
}

#[test]
fn connectors_with_other_rules_do_not_release_what_one_of_them_names() {
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["a.x"]);
    scene.says(1, 12, &["b.x"]);
    scene.says(2, 21, &["a.x", "b.x"]);
    scene.leaves(11);
    assert_eq!(scene.holder("a.x"), Some(1), "a replica that does not name it is connected");
    scene.leaves(12);
    scene.says(1, 13, &["b.x"]);
    assert_eq!(scene.holder("a.x"), Some(1), "and comes back first");
    scene.says(1, 14, &["a.x"]);
    scene.says(1, 14, &["c.x"]);
    assert_eq!(scene.holder("a.x"), Some(2), "the one that names it says so");
}

#[test]
fn one_that_was_killed_and_came_back_with_other_rules_releases_what_it_named() {
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["a.x"]);
    scene.says(2, 21, &["a.x"]);
    // The dead one is still taken for alive.
    scene.says(1, 12, &["b.x"]);
    assert_eq!(scene.holder("a.x"), Some(1));
    scene.is_cut_off(11, 12);
    assert_eq!(scene.holder("a.x"), Some(2));
    // Where there was a replica with other rules before, one that comes back first says nothing.
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["a.x"]);
    scene.says(1, 12, &["b.x"]);
    scene.says(2, 21, &["a.x"]);
    scene.says(1, 13, &["b.x"]);
    scene.leaves(12);
    scene.is_cut_off(11, 13);
    assert_eq!(scene.holder("a.x"), Some(1));
}

#[test]
fn a_replica_that_changes_later_releases_nothing_before_the_last_one() {
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["a.x"]);
    scene.says(1, 12, &["a.x"]);
    scene.says(2, 21, &["a.x"]);
    scene.says(1, 11, &[]);
    assert_eq!(scene.holder("a.x"), Some(1));
    scene.says(1, 12, &[]);
    assert_eq!(scene.holder("a.x"), Some(2));
}

#[test]
fn the_operator_releases_a_name() {
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["a.x"]);
    scene.says(2, 21, &["a.x"]);
    let release = |scene: &mut Scene, tunnel, name| {
        scene.owners.release(&scene.snapshot, id(tunnel), &pattern(name), &scene.claimants)
    };
    assert!(!release(&mut scene, 2, "a.x") && !release(&mut scene, 1, "b.x"));
    assert!(release(&mut scene, 1, "a.x"));
    assert_eq!(scene.holder("a.x"), Some(2), "although the first one still claims it");
    scene.claimants.clear();
    scene.says(1, 12, &["a.x"]);
    assert_eq!(scene.holder("a.x"), Some(2));
    assert!(release(&mut scene, 2, "a.x"));
    assert_eq!(scene.holder("a.x"), Some(1), "nobody else is there");
}

#[test]
fn a_change_of_grants_releases_and_the_narrower_grant_wins() {
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["a.x", "b.m.x"]);
    scene.says(2, 21, &["a.x", "b.m.x"]);
    scene.snapshot = snapshot(&[&["*.x"], &["*.x", "*.m.x"]]);
    scene.owners.renew(&scene.snapshot.clone());
    assert_eq!((scene.holder("a.x"), scene.holder("b.m.x")), (Some(1), Some(2)));
    scene.snapshot = snapshot(&[&["*.y"], &["*.x"]]);
    scene.owners.renew(&scene.snapshot.clone());
    assert_eq!(scene.holder("a.x"), Some(2));
    scene.snapshot = snapshot(&[&["*.x"]]);
    scene.owners.renew(&scene.snapshot.clone());
    assert!(scene.owners.of_tunnel(id(2)).is_empty(), "deleted");
}

#[test]
fn the_silence_before_the_first_word_owns_and_releases_nothing() {
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.says(1, 11, &["*.x"]);
    scene.says(1, 12, &["a.x"]);
    scene.claimants.clear();
    scene.hear(silent(1, 13));
    scene.says(1, 13, &["a.x"]);
    scene.says(2, 21, &["*.x"]);
    assert_eq!(scene.holder("b.x"), Some(1), "the one that names it is away");
    let mut scene = Scene::new(&[&["*.x"], &["*.x"]]);
    scene.hear(silent(1, 11));
    assert!(scene.owners.list().is_empty());
}

#[test]
fn names_that_are_granted_by_themselves_need_no_owner_and_the_table_is_bounded() {
    let mut scene = Scene::new(&[&["a.x", "*.y"]]);
    scene.says(1, 11, &["a.x"]);
    assert!(scene.owners.list().is_empty());
    // A connector that names nothing keeps what the other one named and left.
    scene.says(1, 12, &[]);
    let names = |from: usize| -> Vec<String> {
        (from..from + crate::limits::CLAIMED_HOSTS_MAX).map(|number| format!("{number}.y")).collect()
    };
    for (connector, from) in [(13, 0), (14, 50_000)] {
        let names = names(from);
        let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
        scene.says(1, connector, &hosts);
        scene.says(1, 12, &[]);
        scene.leaves(connector);
    }
    assert_eq!(scene.owners.list().len(), crate::limits::OWNED_NAMES_MAX);
}
