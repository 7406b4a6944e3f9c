//! Whose rules judge a request: what connectors say about requests for their names, each in its own order.
//!
//! Connectors of one tunnel may have different rules, as while they are replaced one after the other. The policy that holds
//! is that of the rule that answers: so a request is judged by the rules of some connectors, and goes to one of these.

use std::collections::HashMap;
use std::sync::Arc;

use adit_policy::ingress::RuleOrder;
use adit_policy::path::{PathRefusal, RequestPath};
use adit_policy::policy::rules::{RuleList, RulePolicies};
use adit_policy::policy::{Policy, Settings};
use adit_policy::route::{Claimant, Route};
use adit_policy::snapshot::{Snapshot, Tunnel, TunnelId};
use uuid::Uuid;

use super::View;
use crate::context::RequestContext;
use crate::upstream::Rerouted;

/// What a connector says about its rules.
#[derive(Clone, Debug, Default)]
pub struct Word {
    /// How requests are to be treated, rule by rule.
    pub rules: Arc<RuleList>,
    /// Which rule gets a request.
    pub order: Arc<RuleOrder>,
}

/// Connectors of one tunnel that have the same rules.
#[derive(Debug)]
pub(crate) struct Speaker {
    connectors: Vec<Uuid>,
    /// What the rules say; `None` for nothing.
    policies: Option<RulePolicies>,
}

impl Speaker {
    /// Whether a connector is one of them.
    pub(super) fn includes(&self, connector: Uuid) -> bool {
        self.connectors.contains(&connector)
    }

    fn serves(&self, route: &Route) -> bool {
        route.connectors.is_empty()
            || self.connectors.iter().any(|connector| route.connectors.contains(connector))
    }
}

/// What each connector said.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<Uuid, Word>);

impl Words {
    pub(super) fn hear(&mut self, connector: Uuid, word: Word) {
        self.0.insert(connector, word);
    }

    /// Forgets those who claim nothing any more.
    pub(super) fn keep(&mut self, claimants: &[Claimant]) {
        self.0.retain(|connector, _| claimants.iter().any(|claimant| claimant.connector == *connector));
    }

    /// The connectors of each tunnel by what they say, in order of arrival. Tunnels of whom nobody says anything are left out.
    pub(super) fn speakers(
        &self,
        snapshot: &Snapshot,
        claimants: &[Claimant],
    ) -> HashMap<TunnelId, Vec<Arc<Speaker>>> {
        let of_tunnel = |tunnel: &Tunnel| {
            let groups = self.groups(tunnel, claimants);
            if groups.iter().all(|(_, rules)| rules.is_none()) {
                return None;
            }
            let speaker = |(connectors, rules): (Vec<Uuid>, Option<Arc<RuleList>>)| {
                let policies =
                    rules.map(|rules| RulePolicies::of(snapshot.defaults(), rules, snapshot.layers()));
                Arc::new(Speaker { connectors, policies })
            };
            Some((tunnel.id, groups.into_iter().map(speaker).collect()))
        };
        snapshot.tunnels().iter().filter_map(of_tunnel).collect()
    }

    /// Who says the same. Who told its rules is judged by them. The rules that the edge holds for a tunnel are those of all
    /// others; without any, one that has said nothing yet is taken to have the rules of the one that spoke last.
    fn groups(&self, tunnel: &Tunnel, claimants: &[Claimant]) -> Vec<(Vec<Uuid>, Option<Arc<RuleList>>)> {
        let own = claimants.iter().filter(|claimant| claimant.tunnel == tunnel.id);
        let told = |claimant: &Claimant| Some(&self.0.get(&claimant.connector)?.rules);
        let held = tunnel.held.as_ref().map(|held| &held.rules);
        let of_others = held.or_else(|| own.clone().rev().find_map(told));
        let mut groups: Vec<(Vec<Uuid>, Option<Arc<RuleList>>)> = Vec::new();
        for claimant @ Claimant { connector, .. } in own {
            let rules = told(claimant).or(of_others).filter(|rules| !rules.is_silent()).cloned();
            match groups.iter_mut().find(|(_, known)| *known == rules) {
                Some((connectors, _)) => connectors.push(*connector),
                None => groups.push((vec![*connector], rules)),
            }
        }
        groups
    }

    /// The rules that look at paths, by tunnel: those that the edge holds, and those of connectors.
    pub(super) fn orders(
        &self,
        snapshot: &Snapshot,
        claimants: &[Claimant],
    ) -> HashMap<TunnelId, Vec<Arc<RuleOrder>>> {
        let of_tunnel = |tunnel: &Tunnel| Some((tunnel.id, tunnel.held.as_ref()?.order.clone()));
        let held = snapshot.tunnels().iter().filter_map(of_tunnel);
        let own = claimants
            .iter()
            .filter_map(|claimant| Some((claimant.tunnel, self.0.get(&claimant.connector)?.order.clone())));
        let mut orders: HashMap<TunnelId, Vec<Arc<RuleOrder>>> = HashMap::new();
        for (tunnel, order) in held.chain(own).filter(|(_, order)| !order.ignores_paths()) {
            orders.entry(tunnel).or_default().push(order);
        }
        orders
    }
}

impl View {
    /// Whose rules judge a request; `None` where no connector of the tunnel says anything. Connectors with different rules
    /// get their share of the requests each, as long as they have a connection to offer.
    pub(crate) fn speaker(&self, route: &Route, request: &RequestContext) -> Option<&Arc<Speaker>> {
        let speakers = self.speakers.get(&route.tunnel)?.as_slice();
        if let [only] = speakers {
            return Some(only);
        }
        let serving = || speakers.iter().filter(move |speaker| speaker.serves(route));
        let usable = || serving().filter(move |speaker| self.is_usable(route, speaker, request));
        let total: usize = usable().map(|speaker| speaker.connectors.len()).sum();
        let mut turn = request.turn() % total.max(1);
        let chosen = usable().find(|speaker| {
            let is_his = turn < speaker.connectors.len();
            turn = turn.saturating_sub(speaker.connectors.len());
            is_his
        });
        // With nobody there, the one who came last knows best.
        chosen.or_else(|| serving().next_back())
    }

    /// What holds where a rule answers: what that rule says, else what is said about the name.
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if another rule would answer in another reading of the path.
    pub(crate) fn policy<'a>(
        &'a self,
        speaker: Option<&'a Speaker>,
        host: &str,
        path: &RequestPath<'_>,
    ) -> Result<Option<&'a Arc<Policy>>, PathRefusal> {
        let policies = speaker.and_then(|speaker| speaker.policies.as_ref());
        let of_rule = policies.map(|policies| policies.find(host, path)).transpose()?.flatten();
        Ok(of_rule.or_else(|| self.policies.find(host)))
    }

    /// What holds for a request.
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if something else would hold in another reading of the path.
    pub(crate) fn settings(
        &self,
        speaker: Option<&Speaker>,
        host: &str,
        path: &RequestPath<'_>,
    ) -> Result<Arc<Settings>, PathRefusal> {
        let policy = self.policy(speaker, host, path)?;
        let settings = policy.map(|policy| policy.of_request(path)).transpose()?;
        Ok(settings.cloned().unwrap_or_default())
    }

    /// The way to connectors by whose rules a request is judged as it was in an earlier view.
    pub(crate) fn reroute(
        &self,
        route: &Arc<Route>,
        request: &RequestContext,
        is_same: impl Fn(Option<&Speaker>) -> bool,
    ) -> Option<Rerouted> {
        let Some(speakers) = self.speakers.get(&route.tunnel) else {
            return is_same(None).then(|| (route.clone(), None));
        };
        let fits = |speaker: &&Arc<Speaker>| {
            let speaker: &Speaker = speaker;
            speaker.serves(route) && is_same(Some(speaker)) && self.is_usable(route, speaker, request)
        };
        speakers.iter().find(fits).map(|speaker| (route.clone(), Some(speaker.clone())))
    }

    fn is_usable(&self, route: &Route, speaker: &Speaker, request: &RequestContext) -> bool {
        self.pick(route, Some(speaker), request, false, &[]).is_some()
    }
}

#[cfg(test)]
mod tests {
    use adit_policy::grant::Grant;
    use adit_policy::host::{HostPattern, Hostname};
    use adit_policy::ingress::Claims;
    use adit_policy::policy::rules::RuleWord;
    use adit_policy::policy::{Layer, Patch};
    use adit_policy::route::{Owners, RouteTable};
    use adit_policy::snapshot::{Held, HttpMode, Tunnel, TunnelSecret};

    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    fn tunnel(id: u128, grant: &[&str]) -> Tunnel {
        Tunnel {
            id: TunnelId(Uuid::from_u128(id)),
            name: id.to_string(),
            secret: TunnelSecret::new(vec![1; 32]),
            account_tag: None,
            grant: Grant::new(grant.iter().map(|text| pattern(text))),
            held: None,
        }
    }

    /// Says something about each pattern, with a mark that tells it from others.
    fn loud(patterns: &[&str], mark: u64) -> Word {
        let layer =
            Layer { base: Patch { body_limit: Some(Some(mark)), ..Patch::default() }, paths: Vec::new() };
        let layer = Some(Arc::new(layer));
        let rule = |text: &&str| RuleWord { hosts: pattern(text), path: None, layer: layer.clone() };
        Word { rules: Arc::new(RuleList::new(patterns.iter().map(rule))), ..Word::default() }
    }

    #[test]
    fn a_word_is_about_the_names_of_its_own_tunnel() {
        let tunnels = vec![tunnel(1, &["*.x", "*"]), tunnel(2, &["v.x", "*.deep.x", "w.example"])];
        let snapshot = Snapshot::new(Hostname::parse("x").unwrap(), HttpMode::Redirect, tunnels);
        let claimant = |id: u128, hosts: &[&str]| Claimant {
            tunnel: TunnelId(Uuid::from_u128(id)),
            connector: Uuid::from_u128(id),
            claims: Some(Claims::new(hosts.iter().map(|text| pattern(text)), true)),
        };
        let claimants = [claimant(1, &["*.x"]), claimant(2, &["v.x", "*.deep.x"])];
        let (routes, _) = RouteTable::build(&snapshot, &claimants, &Owners::default());
        let mut words = Words::default();
        words.hear(Uuid::from_u128(1), loud(&["*.x", "*"], 1));
        let speakers = words.speakers(&snapshot, &claimants);
        for (host, heard) in [
            ("e.x", true),
            ("other.example", true),
            ("v.x", false),
            ("a.deep.x", false),
            ("w.example", false),
        ] {
            let route = routes.find(host).unwrap();
            let path = RequestPath::of("/");
            let mut policies = speakers.get(&route.tunnel).into_iter().flatten();
            let said = policies.any(|speaker| {
                let policies = speaker.policies.as_ref();
                policies.is_some_and(|policies| policies.find(host, &path).unwrap().is_some())
            });
            assert_eq!(said, heard, "{host}");
        }
    }

    /// The marks of those by whose rules each connector's requests are judged.
    fn marks(words: &Words, held: Option<Word>, connectors: &[u128]) -> Vec<Option<u64>> {
        let mut tunnel = tunnel(1, &["*"]);
        tunnel.held = held.map(|Word { rules, order }| Held {
            json: b"{}".as_slice().into(),
            claims: Claims::default(),
            rules,
            order,
        });
        let id = tunnel.id;
        let snapshot = Snapshot::new(Hostname::parse("x").unwrap(), HttpMode::Redirect, vec![tunnel]);
        let claimant =
            |number: &u128| Claimant { tunnel: id, connector: Uuid::from_u128(*number), claims: None };
        let claimants: Vec<Claimant> = connectors.iter().map(claimant).collect();
        let speakers = words.speakers(&snapshot, &claimants);
        let mark = |number: &u128| {
            let his = |speaker: &&Arc<Speaker>| speaker.includes(Uuid::from_u128(*number));
            let policies = speakers.get(&id)?.iter().find(his)?.policies.as_ref()?;
            policies.find("e.x", &RequestPath::of("/")).unwrap()?.base.body_limit
        };
        connectors.iter().map(mark).collect()
    }

    #[test]
    fn own_rules_come_before_held_ones() {
        let mut words = Words::default();
        words.hear(Uuid::from_u128(1), loud(&["*"], 1));
        words.hear(Uuid::from_u128(2), Word::default());
        let held = loud(&["*"], 9);
        assert_eq!(marks(&words, Some(held), &[1, 2, 3]), [Some(1), None, Some(9)]);
    }

    #[test]
    fn one_that_has_not_told_its_rules_yet_is_judged_as_the_last_that_did() {
        let mut words = Words::default();
        assert_eq!(marks(&words, None, &[1]), [None]);
        words.hear(Uuid::from_u128(1), loud(&["*"], 1));
        words.hear(Uuid::from_u128(2), loud(&["*"], 2));
        assert_eq!(marks(&words, None, &[1, 2, 3]), [Some(1), Some(2), Some(2)]);
    }
}
