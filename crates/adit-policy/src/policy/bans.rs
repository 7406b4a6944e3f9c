//! Who is banned: answers that count against a visitor, bans that grow on repeat, and bans by hand. Bounded in memory.
//!
//! Time is an argument. An IPv6 visitor is the network of his home ([`super::address::visitor`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::address::visitor;
use super::limit::Ban;
use crate::ingress::IpPrefix;
use crate::limits::{BAN_NETWORKS_MAX, BANS_MAX, STRIKES_MAX};

/// How long a ban that is over is remembered, so that the next one is longer.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The names that a ban is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of them.
    All,
    /// One.
    Name(Arc<str>),
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banned {
    /// Whom it is for; a network was banned by hand.
    pub network: IpPrefix,
    /// The names that it is for.
    pub scope: Scope,
    /// When it began.
    pub since: SystemTime,
    /// When it is over; `None`: never.
    pub until: Option<SystemTime>,
    /// How often this visitor was banned.
    pub times: u32,
    /// Why, for people.
    pub reason: String,
}

impl Banned {
    /// Whether it is in force.
    #[must_use]
    pub fn holds(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn is_forgotten(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until + REMEMBERED <= now)
    }
}

#[derive(Clone, Copy, Debug)]
struct Strikes {
    first: SystemTime,
    count: u32,
}

/// All bans.
#[derive(Debug, Default)]
pub struct Bans {
    /// Of single visitors.
    visitors: HashMap<IpAddr, Vec<Banned>>,
    /// Of networks, by hand.
    networks: Vec<Banned>,
    strikes: HashMap<(Scope, IpAddr), Strikes>,
}

impl Bans {
    /// Whether there is nobody to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visitors.is_empty() && self.networks.is_empty()
    }

    /// The ban that keeps an address from a name.
    #[must_use]
    pub fn find(&self, address: IpAddr, name: &str, now: SystemTime) -> Option<&Banned> {
        let fits = |ban: &&Banned| {
            let scope = match &ban.scope {
                Scope::All => true,
                Scope::Name(known) => **known == *name,
            };
            scope && ban.holds(now)
        };
        let own = self.visitors.get(&visitor(address)).and_then(|bans| bans.iter().find(fits));
        own.or_else(|| self.networks.iter().filter(|ban| ban.network.contains(address)).find(fits))
    }

    /// Counts an answer against a visitor, by the rule of the name that gave it. The answer is the ban, if it makes one.
    pub fn strike(&mut self, address: IpAddr, name: &str, rule: &Ban, now: SystemTime) -> Option<&Banned> {
        if rule.allow.includes(address) {
            return None;
        }
        let scope = if rule.shared { Scope::All } else { Scope::Name(name.into()) };
        let key = (scope.clone(), visitor(address));
        let known = self.strikes.get(&key).copied();
        let running = known.filter(|strikes| now < strikes.first + rule.window);
        let strikes = running.unwrap_or(Strikes { first: now, count: 0 });
        let strikes = Strikes { count: strikes.count + 1, ..strikes };
        if strikes.count < rule.count {
            self.make_room_for_strikes(now, rule.window);
            self.strikes.insert(key, strikes);
            return None;
        }
        self.strikes.remove(&key);
        let reason = format!("{} answers of {name} in {} s", rule.count, rule.window.as_secs());
        self.ban_visitor(visitor(address), scope, rule, now, reason)
    }

    fn ban_visitor(
        &mut self,
        address: IpAddr,
        scope: Scope,
        rule: &Ban,
        now: SystemTime,
        reason: String,
    ) -> Option<&Banned> {
        self.make_room(now);
        let bans = self.visitors.entry(address).or_default();
        let at = bans.iter().position(|ban| ban.scope == scope);
        let times = at.and_then(|at| bans.get(at)).map_or(0, |ban| ban.times).saturating_add(1);
        let until = Some(now + rule.time_of(times));
        let ban = Banned { network: address.into(), scope, since: now, until, times, reason };
        if let Some(at) = at {
            bans.remove(at);
        }
        bans.push(ban);
        bans.last()
    }

    /// Bans by hand: an address, or a network. What was there for the same and the same names is replaced.
    ///
    /// # Errors
    /// [`Full`] when there are too many networks.
    pub fn add(&mut self, ban: Banned, now: SystemTime) -> Result<(), Full> {
        self.remove(ban.network, Some(&ban.scope));
        match single(ban.network) {
            Some(address) => {
                self.make_room(now);
                self.visitors.entry(visitor(address)).or_default().push(ban);
            }
            None if self.networks.len() >= BAN_NETWORKS_MAX => return Err(Full),
            None => self.networks.push(ban),
        }
        Ok(())
    }

    /// Lifts the bans of an address or of a network, of some names or of all. Says how many there were. Its strikes are
    /// forgotten too.
    pub fn remove(&mut self, network: IpPrefix, scope: Option<&Scope>) -> usize {
        let before = self.count();
        let keeps = |ban: &Banned| scope.is_some_and(|scope| ban.scope != *scope);
        match single(network).map(visitor) {
            Some(address) => {
                self.strikes
                    .retain(|(of, striker), _| *striker != address || scope.is_some_and(|scope| scope != of));
                if let Some(bans) = self.visitors.get_mut(&address) {
                    bans.retain(keeps);
                }
                self.visitors.retain(|_, bans| !bans.is_empty());
            }
            None => self.networks.retain(|ban| ban.network != network || keeps(ban)),
        }
        before - self.count()
    }

    fn count(&self) -> usize {
        self.visitors.values().map(Vec::len).sum::<usize>() + self.networks.len()
    }

    /// All that are in force or remembered, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Banned> {
        let mut all: Vec<Banned> = self.visitors.values().flatten().chain(&self.networks).cloned().collect();
        all.sort_by_key(|ban| ban.since);
        all
    }

    /// Drops what is over and forgotten. Says whether something was.
    pub fn sweep(&mut self, now: SystemTime) -> bool {
        let before = self.count();
        for bans in self.visitors.values_mut() {
            bans.retain(|ban| !ban.is_forgotten(now));
        }
        self.visitors.retain(|_, bans| !bans.is_empty());
        self.networks.retain(|ban| !ban.is_forgotten(now));
        before != self.count()
    }

    /// Under a flood of strikers, what is out of date goes first, then somebody: the table must not grow.
    fn make_room_for_strikes(&mut self, now: SystemTime, window: Duration) {
        if self.strikes.len() < STRIKES_MAX {
            return;
        }
        self.strikes.retain(|_, strikes| now < strikes.first + window);
        // Half of it, so that the next sweep is far away.
        let mut index = 0;
        if self.strikes.len() >= STRIKES_MAX / 2 {
            self.strikes.retain(|_, _| {
                index += 1;
                index % 2 == 0
            });
        }
    }

    fn make_room(&mut self, now: SystemTime) {
        if self.visitors.len() < BANS_MAX {
            return;
        }
        self.sweep(now);
        if self.visitors.len() >= BANS_MAX {
            let mut ends: Vec<Option<SystemTime>> =
                self.visitors.values().flatten().map(|ban| ban.until).collect();
            ends.sort_unstable();
            // Those that end soonest are given up, an eighth at once.
            let limit = ends.get(ends.len() / 8).copied().flatten();
            self.visitors.retain(|_, bans| bans.iter().any(|ban| ban.until.is_none() || ban.until > limit));
        }
    }
}

/// There are too many bans of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {BAN_NETWORKS_MAX} bans of networks already; a deny list holds more")]
pub struct Full;

/// The one address of a network that has no more; of IPv6, a home counts as one.
fn single(network: IpPrefix) -> Option<IpAddr> {
    let (first, last) = network.bounds();
    (visitor(first) == visitor(last)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::super::address::{Addresses, parse};
    use super::*;
    use crate::cache::rule::StatusRange;

    fn rule(shared: bool) -> Ban {
        Ban {
            statuses: vec![StatusRange::One(401)],
            count: 3,
            window: seconds(600),
            time: seconds(3600),
            time_max: seconds(86_400),
            allow: Addresses::of(&[parse("10.0.0.0/8").unwrap()]),
            shared,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + seconds(1_000_000 + number)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn strikes(bans: &mut Bans, address: &str, rule: &Ban, times: &[u64]) -> usize {
        let name = "a";
        times.iter().filter(|time| bans.strike(ip(address), name, rule, at(**time)).is_some()).count()
    }

    #[test]
    fn three_in_a_window_ban_and_the_next_ban_is_longer() {
        let mut bans = Bans::default();
        assert_eq!(strikes(&mut bans, "192.0.2.1", &rule(true), &[0, 500, 601]), 0, "the window has passed");
        assert_eq!(strikes(&mut bans, "192.0.2.1", &rule(true), &[602, 603]), 1);
        let found = |bans: &Bans, time| bans.find(ip("192.0.2.1"), "b", at(time)).is_some();
        assert!(found(&bans, 604) && found(&bans, 4202) && !found(&bans, 4203), "an hour, for every name");
        assert_eq!(strikes(&mut bans, "192.0.2.1", &rule(true), &[5000, 5001, 5002]), 1);
        assert!(found(&bans, 12_201) && !found(&bans, 12_202), "two hours");
        assert_eq!(bans.find(ip("192.0.2.1"), "b", at(6000)).unwrap().times, 2);
        assert!(bans.find(ip("192.0.2.2"), "b", at(604)).is_none());
    }

    #[test]
    fn some_are_never_banned_and_some_bans_are_for_one_name() {
        let mut bans = Bans::default();
        assert_eq!(strikes(&mut bans, "10.1.1.1", &rule(true), &[0, 1, 2, 3]), 0);
        assert_eq!(strikes(&mut bans, "192.0.2.1", &rule(false), &[0, 1, 2]), 1);
        assert!(bans.find(ip("192.0.2.1"), "a", at(3)).is_some());
        assert!(bans.find(ip("192.0.2.1"), "b", at(3)).is_none());
    }

    #[test]
    fn a_home_is_banned_as_one() {
        let mut bans = Bans::default();
        let name = "a";
        for host in ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:9::3"] {
            let _ban = bans.strike(ip(host), name, &rule(true), at(0));
        }
        assert!(bans.find(ip("2001:db8:1:2::99"), "a", at(1)).is_some());
        assert!(bans.find(ip("2001:db8:1:3::1"), "a", at(1)).is_none());
    }

    #[test]
    fn bans_by_hand_are_added_and_lifted() {
        let mut bans = Bans::default();
        let ban = |network: &str, until| Banned {
            network: parse(network).unwrap(),
            scope: Scope::All,
            since: at(0),
            until,
            times: 1,
            reason: "by hand".to_owned(),
        };
        bans.add(ban("198.51.100.0/24", None), at(0)).unwrap();
        bans.add(ban("192.0.2.1", Some(at(10))), at(0)).unwrap();
        bans.add(ban("192.0.2.1", Some(at(20))), at(0)).unwrap();
        assert_eq!(bans.list().len(), 2, "the second one replaced the first");
        assert!(bans.find(ip("198.51.100.77"), "a", at(1_000_000_000)).is_some());
        assert!(bans.find(ip("192.0.2.1"), "a", at(15)).is_some());
        assert_eq!(bans.remove(parse("198.51.100.0/24").unwrap(), None), 1);
        assert_eq!(bans.remove(parse("192.0.2.1").unwrap(), None), 1);
        assert_eq!(bans.remove(parse("192.0.2.1").unwrap(), None), 0);
        assert!(bans.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_is_bounded() {
        let mut bans = Bans::default();
        let name = "a";
        let once = Ban { count: 1, ..rule(true) };
        for number in 0..(BANS_MAX as u32 * 2) {
            let address = IpAddr::V4(number.into());
            let _ban = bans.strike(address, name, &once, at(number.into()));
        }
        assert!(bans.list().len() <= BANS_MAX);
        for number in 0..(STRIKES_MAX as u32 * 2) {
            let _ban = bans.strike(IpAddr::V4((number + (11 << 24)).into()), name, &rule(true), at(0));
        }
        assert!(bans.strikes.len() <= STRIKES_MAX);
    }

    #[test]
    fn what_is_over_is_forgotten_after_a_day() {
        let mut bans = Bans::default();
        strikes(&mut bans, "192.0.2.1", &rule(true), &[0, 1, 2]);
        assert!(!bans.sweep(at(3602 + 86_399)));
        assert!(bans.sweep(at(3602 + 86_400)));
        assert!(bans.is_empty());
    }
}
