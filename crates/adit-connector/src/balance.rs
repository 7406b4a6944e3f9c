//! The rules in force, and what all workers know of their origins: who is up, and who has how much to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adit_policy::ingress::{HealthCheck, Ingress, Rule, order};

/// An origin that could not be connected to is asked last for this long (nginx: `fail_timeout`).
const REST: Duration = Duration::from_secs(10);

/// The rules in force.
#[derive(Debug)]
pub struct InForce {
    /// The rules.
    pub ingress: Ingress,
    /// Rule by rule; `None` where there is one origin.
    spreads: Vec<Option<Arc<Spread>>>,
}

/// The origins of one rule, as all workers share them.
#[derive(Debug)]
pub(crate) struct Spread {
    turn: AtomicUsize,
    pub(crate) members: Vec<Arc<Member>>,
}

/// One of several origins.
#[derive(Debug)]
pub(crate) struct Member {
    /// The service, as text.
    pub(crate) name: String,
    running: AtomicUsize,
    /// What the checks say.
    up: AtomicBool,
    /// Checks in a row that say otherwise.
    against: AtomicU32,
    born: Instant,
    /// Milliseconds after birth until which it is asked last.
    resting_until: AtomicU64,
}

impl InForce {
    /// Rules with fresh knowledge.
    pub(crate) fn new(ingress: Ingress) -> Self {
        Self::after(ingress, &Self { ingress: Ingress::default_503(), spreads: Vec::new() })
    }

    /// Rules that take over what is known of the same origins.
    pub(crate) fn after(ingress: Ingress, before: &Self) -> Self {
        let spreads = ingress.rules.iter().map(|rule| Spread::of(rule, before)).collect();
        Self { ingress, spreads }
    }

    fn member(&self, name: &str) -> Option<Arc<Member>> {
        let mut members = self.spreads.iter().flatten().flat_map(|spread| &spread.members);
        members.find(|member| member.name == name).cloned()
    }

    pub(crate) fn spread(&self, rule: usize) -> Option<&Arc<Spread>> {
        self.spreads.get(rule)?.as_ref()
    }
}

impl Spread {
    fn of(rule: &Rule, before: &InForce) -> Option<Arc<Self>> {
        if rule.more.is_empty() {
            return None;
        }
        let member = |name: String| before.member(&name).unwrap_or_else(|| Arc::new(Member::new(name)));
        let members = rule.services().map(|service| member(service.to_string())).collect();
        Some(Arc::new(Self { turn: AtomicUsize::new(0), members }))
    }

    /// Positions of the origins in the order in which they are asked for one request.
    pub(crate) fn order(&self, rule: &Rule, visitor: &[u8]) -> Vec<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = |index: usize| self.members.get(index);
        let running = |index| at(index).map_or(0, |member| member.running.load(Ordering::Relaxed));
        let up = |index| at(index).is_some_and(|member| member.is_up());
        order(rule.origin.balance, self.members.len(), turn, visitor, running, up)
    }
}

impl Member {
    fn new(name: String) -> Self {
        Self {
            name,
            running: AtomicUsize::new(0),
            up: AtomicBool::new(true),
            against: AtomicU32::new(0),
            born: Instant::now(),
            resting_until: AtomicU64::new(0),
        }
    }

    /// Whether it is among the first to be asked.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed) && self.age() >= self.resting_until.load(Ordering::Relaxed)
    }

    /// It could not be connected to.
    pub(crate) fn rest(&self) {
        let until = self.age() + u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
        self.resting_until.store(until, Ordering::Relaxed);
    }

    /// Takes the outcome of a check. Whether that changes what is thought of it.
    pub(crate) fn checked(&self, good: bool, check: &HealthCheck) -> bool {
        let up = self.up.load(Ordering::Relaxed);
        if good == up {
            self.against.store(0, Ordering::Relaxed);
            return false;
        }
        let against = self.against.fetch_add(1, Ordering::Relaxed) + 1;
        let enough = if up { check.fall } else { check.rise };
        if against < enough {
            return false;
        }
        self.against.store(0, Ordering::Relaxed);
        self.up.store(good, Ordering::Relaxed);
        if good {
            self.resting_until.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Counts a request for as long as it runs.
    pub(crate) fn begin(self: &Arc<Self>) -> Asked {
        self.running.fetch_add(1, Ordering::Relaxed);
        Asked(self.clone())
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request that runs at an origin.
pub(crate) struct Asked(Arc<Member>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use adit_policy::ingress::{OriginRequest, Service};

    use super::*;

    fn rules(services: &[&str]) -> Ingress {
        let mut services = services.iter().map(|text| Service::parse(text).unwrap());
        let mut ingress = Ingress::single(services.next().unwrap(), OriginRequest::default());
        ingress.rules[0].more = services.collect();
        ingress
    }

    #[test]
    fn checks_in_a_row_decide() {
        let member = Member::new("a".to_owned());
        let check = HealthCheck { fall: 2, rise: 2, ..HealthCheck::default() };
        assert!(!member.checked(false, &check) && member.is_up());
        assert!(!member.checked(true, &check), "one good check in between starts the count anew");
        assert!(!member.checked(false, &check) && member.checked(false, &check) && !member.is_up());
        assert!(!member.checked(true, &check) && member.checked(true, &check) && member.is_up());
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let first = InForce::new(rules(&["http://a:1", "http://b:1"]));
        first.spread(0).unwrap().members[1].rest();
        let next = InForce::after(rules(&["http://c:1", "http://b:1"]), &first);
        let up: Vec<bool> = next.spread(0).unwrap().members.iter().map(|member| member.is_up()).collect();
        assert_eq!(up, [true, false]);
        assert!(InForce::new(rules(&["http://a:1"])).spread(0).is_none(), "one origin needs no spreading");
    }

    #[test]
    fn running_requests_are_counted() {
        let in_force = InForce::new(rules(&["http://a:1", "http://b:1"]));
        let mut rule = in_force.ingress.rules[0].clone();
        rule.origin.balance = adit_policy::ingress::Balance::LeastRequests;
        let spread = in_force.spread(0).unwrap();
        let asked = spread.members[1].begin();
        assert_eq!([spread.order(&rule, b"")[0], spread.order(&rule, b"")[0]], [0, 0]);
        drop(asked);
        let _other = spread.members[0].begin();
        assert_eq!(spread.order(&rule, b"")[0], 1);
    }
}
