//! Who is banned: answers that count against a visitor, bans that grow on repeat, and bans by hand. Bounded in memory.
//!
//! Time is an argument. An IPv6 visitor is the network of his home ([`super::address::visitor`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::address::visitor;
use super::limit::{Ban, Reach};
use crate::ingress::IpPrefix;
use crate::limits::{BAN_NETWORKS_MAX, BANS_MAX, STRIKES_MAX};
use crate::shares;
use crate::snapshot::TunnelId;

/// How long a ban that is over is remembered, so that the next one is longer.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The names that a ban is for: those that both conditions fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The names of this tunnel only; `None` for the names of all tunnels.
    pub tunnel: Option<TunnelId>,
    /// This name only; `None` for all names.
    pub name: Option<Arc<str>>,
}

impl Scope {
    /// All names of all tunnels.
    pub const ALL: Self = Self { tunnel: None, name: None };

    /// The names that a rule bans from when this site gave the answer that counts.
    #[must_use]
    pub fn of(reach: Reach, site: Site<'_>) -> Self {
        match reach {
            Reach::All => Self::ALL,
            Reach::Tunnel => Self { tunnel: site.tunnel, name: None },
            Reach::Name => Self { tunnel: site.tunnel, name: Some(site.name.into()) },
        }
    }

    /// Whether a site is among the names.
    #[must_use]
    pub fn includes(&self, site: Site<'_>) -> bool {
        (self.tunnel.is_none() || self.tunnel == site.tunnel)
            && self.name.as_deref().is_none_or(|name| name == site.name)
    }
}

/// A name, and the tunnel that serves it.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The name; empty for what has none, such as a port.
    pub name: &'a str,
    /// Its tunnel, as far as it is known.
    pub tunnel: Option<TunnelId>,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banned {
    /// Whom it is for; a network was banned by hand.
    pub network: IpPrefix,
    /// The names that it is for.
    pub scope: Scope,
    /// The tunnel whose answers made it; `None`: it was made by hand. Tunnels share the room of the table.
    pub by: Option<TunnelId>,
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
    /// The tunnel whose answers count.
    by: Option<TunnelId>,
}

/// All bans.
#[derive(Debug, Default)]
pub struct Bans {
    /// Of single visitors.
    visitors: HashMap<IpAddr, Vec<Banned>>,
    /// How many those are.
    held: usize,
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

    /// The ban that keeps an address from a site.
    #[must_use]
    pub fn find(&self, address: IpAddr, site: Site<'_>, now: SystemTime) -> Option<&Banned> {
        let fits = |ban: &&Banned| ban.scope.includes(site) && ban.holds(now);
        let own = self.visitors.get(&visitor(address)).and_then(|bans| bans.iter().find(fits));
        own.or_else(|| self.networks.iter().filter(|ban| ban.network.contains(address)).find(fits))
    }

    /// Counts an answer against a visitor, by the rule of the site that gave it. The answer is the ban, if it makes one.
    pub fn strike(
        &mut self,
        address: IpAddr,
        site: Site<'_>,
        rule: &Ban,
        now: SystemTime,
    ) -> Option<&Banned> {
        if rule.allow.includes(address) {
            return None;
        }
        let scope = Scope::of(rule.reach, site);
        let key = (scope.clone(), visitor(address));
        let known = self.strikes.get(&key).copied();
        let running = known.filter(|strikes| now < strikes.first + rule.window);
        let strikes = running.unwrap_or(Strikes { first: now, count: 0, by: site.tunnel });
        let strikes = Strikes { count: strikes.count + 1, ..strikes };
        if strikes.count < rule.count {
            self.make_room_for_strikes(now, rule.window);
            self.strikes.insert(key, strikes);
            return None;
        }
        self.strikes.remove(&key);
        self.ban_visitor(visitor(address), scope, site, rule, now)
    }

    fn ban_visitor(
        &mut self,
        address: IpAddr,
        scope: Scope,
        site: Site<'_>,
        rule: &Ban,
        now: SystemTime,
    ) -> Option<&Banned> {
        let reason = format!("{} answers of {} in {} s", rule.count, site.name, rule.window.as_secs());
        self.make_room(now);
        let bans = self.visitors.entry(address).or_default();
        let at = bans.iter().position(|ban| ban.scope == scope);
        let times = at.and_then(|at| bans.get(at)).map_or(0, |ban| ban.times).saturating_add(1);
        let until = Some(now + rule.time_of(times));
        let by = site.tunnel;
        let ban = Banned { network: address.into(), scope, by, since: now, until, times, reason };
        match at {
            Some(at) => drop(bans.remove(at)),
            None => self.held += 1,
        }
        bans.push(ban);
        bans.last()
    }

    /// Bans by hand: an address, or a network. What was there for the same and the same names is replaced.
    ///
    /// # Errors
    /// [`Full`] when there are too many networks.
    pub fn add(&mut self, ban: Banned, now: SystemTime) -> Result<(), Full> {
        self.remove(ban.network, |scope| *scope == ban.scope);
        match single(ban.network) {
            Some(address) => {
                self.make_room(now);
                self.visitors.entry(visitor(address)).or_default().push(ban);
                self.held += 1;
            }
            None if self.networks.len() >= BAN_NETWORKS_MAX => return Err(Full),
            None => self.networks.push(ban),
        }
        Ok(())
    }

    /// Lifts the bans of an address or of a network: all of them, or those from one name. Says how many there were. Strikes
    /// are forgotten too.
    pub fn lift(&mut self, network: IpPrefix, name: Option<&str>) -> usize {
        self.remove(network, |scope| name.is_none() || scope.name.as_deref() == name)
    }

    fn remove(&mut self, network: IpPrefix, is_meant: impl Fn(&Scope) -> bool) -> usize {
        let before = self.count();
        match single(network).map(visitor) {
            Some(address) => {
                self.strikes.retain(|(scope, striker), _| *striker != address || !is_meant(scope));
                if let Some(bans) = self.visitors.get_mut(&address) {
                    self.held -= bans.len();
                    bans.retain(|ban| !is_meant(&ban.scope));
                    self.held += bans.len();
                    if bans.is_empty() {
                        self.visitors.remove(&address);
                    }
                }
            }
            None => self.networks.retain(|ban| ban.network != network || !is_meant(&ban.scope)),
        }
        before - self.count()
    }

    fn count(&self) -> usize {
        self.held + self.networks.len()
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
        self.held = self.visitors.values().map(Vec::len).sum();
        self.networks.retain(|ban| !ban.is_forgotten(now));
        before != self.count()
    }

    /// Under a flood of strikers, what is out of date goes first, then what the tunnels have beyond their fair share of the
    /// table: it must not grow, and one tunnel's flood must not make another one forget.
    fn make_room_for_strikes(&mut self, now: SystemTime, window: Duration) {
        if self.strikes.len() < STRIKES_MAX {
            return;
        }
        self.strikes.retain(|_, strikes| now < strikes.first + window);
        // A quarter at once, so that the next sweep is far away.
        shares::cut(&mut self.strikes, STRIKES_MAX / 4 * 3, |_, strikes| strikes.by);
    }

    /// What is over goes first, then what tunnels have beyond their fair share, the bans that end soonest before others. What
    /// was banned by hand counts as one more tunnel.
    fn make_room(&mut self, now: SystemTime) {
        if self.held < BANS_MAX {
            return;
        }
        self.sweep(now);
        if self.held < BANS_MAX {
            return;
        }
        let mut all: Vec<Banned> = self.visitors.drain().flat_map(|(_, bans)| bans).collect();
        // Those without an end stay longest.
        all.sort_unstable_by_key(|ban| std::cmp::Reverse((ban.until.is_none(), ban.until)));
        shares::cut_list(&mut all, BANS_MAX / 8 * 7, |ban| ban.by);
        self.held = all.len();
        for ban in all {
            if let Some(address) = single(ban.network) {
                self.visitors.entry(visitor(address)).or_default().push(ban);
            }
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

    fn rule(reach: Reach) -> Ban {
        Ban {
            statuses: vec![StatusRange::One(401)],
            count: 3,
            window: seconds(600),
            time: seconds(3600),
            time_max: seconds(86_400),
            allow: Addresses::of(&[parse("10.0.0.0/8").unwrap()]),
            reach,
        }
    }

    const A: u128 = 1;
    const B: u128 = 2;

    fn site(name: &str, tunnel: u128) -> Site<'_> {
        Site { name, tunnel: Some(TunnelId(uuid::Uuid::from_u128(tunnel))) }
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
        times.iter().filter(|time| bans.strike(ip(address), site("a", A), rule, at(**time)).is_some()).count()
    }

    #[test]
    fn three_in_a_window_ban_and_the_next_ban_is_longer() {
        let mut bans = Bans::default();
        assert_eq!(
            strikes(&mut bans, "192.0.2.1", &rule(Reach::All), &[0, 500, 601]),
            0,
            "the window has passed"
        );
        assert_eq!(strikes(&mut bans, "192.0.2.1", &rule(Reach::All), &[602, 603]), 1);
        let found = |bans: &Bans, time| bans.find(ip("192.0.2.1"), site("b", A), at(time)).is_some();
        assert!(found(&bans, 604) && found(&bans, 4202) && !found(&bans, 4203), "an hour, for every name");
        assert_eq!(strikes(&mut bans, "192.0.2.1", &rule(Reach::All), &[5000, 5001, 5002]), 1);
        assert!(found(&bans, 12_201) && !found(&bans, 12_202), "two hours");
        assert_eq!(bans.find(ip("192.0.2.1"), site("b", A), at(6000)).unwrap().times, 2);
        assert!(bans.find(ip("192.0.2.2"), site("b", A), at(604)).is_none());
    }

    #[test]
    fn some_are_never_banned_and_some_bans_are_for_one_name() {
        let mut bans = Bans::default();
        assert_eq!(strikes(&mut bans, "10.1.1.1", &rule(Reach::All), &[0, 1, 2, 3]), 0);
        assert_eq!(strikes(&mut bans, "192.0.2.1", &rule(Reach::Name), &[0, 1, 2]), 1);
        assert!(bans.find(ip("192.0.2.1"), site("a", A), at(3)).is_some());
        assert!(bans.find(ip("192.0.2.1"), site("b", A), at(3)).is_none());
    }

    #[test]
    fn a_home_is_banned_as_one() {
        let mut bans = Bans::default();
        for host in ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:9::3"] {
            let _ban = bans.strike(ip(host), site("a", A), &rule(Reach::All), at(0));
        }
        assert!(bans.find(ip("2001:db8:1:2::99"), site("a", A), at(1)).is_some());
        assert!(bans.find(ip("2001:db8:1:3::1"), site("a", A), at(1)).is_none());
    }

    #[test]
    fn bans_by_hand_are_added_and_lifted() {
        let mut bans = Bans::default();
        let ban = |network: &str, until| Banned {
            network: parse(network).unwrap(),
            scope: Scope::ALL,
            by: None,
            since: at(0),
            until,
            times: 1,
            reason: "by hand".to_owned(),
        };
        bans.add(ban("198.51.100.0/24", None), at(0)).unwrap();
        bans.add(ban("192.0.2.1", Some(at(10))), at(0)).unwrap();
        bans.add(ban("192.0.2.1", Some(at(20))), at(0)).unwrap();
        assert_eq!(bans.list().len(), 2, "the second one replaced the first");
        assert!(bans.find(ip("198.51.100.77"), site("a", A), at(1_000_000_000)).is_some());
        assert!(bans.find(ip("192.0.2.1"), site("a", A), at(15)).is_some());
        assert_eq!(bans.lift(parse("198.51.100.0/24").unwrap(), None), 1);
        assert_eq!(bans.lift(parse("192.0.2.1").unwrap(), None), 1);
        assert_eq!(bans.lift(parse("192.0.2.1").unwrap(), None), 0);
        assert!(bans.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_is_bounded() {
        let mut bans = Bans::default();
        let once = Ban { count: 1, ..rule(Reach::All) };
        for number in 0..(BANS_MAX as u32 * 2) {
            let address = IpAddr::V4(number.into());
            let _ban = bans.strike(address, site("a", A), &once, at(number.into()));
        }
        assert!(bans.list().len() <= BANS_MAX);
        for number in 0..(STRIKES_MAX as u32 * 2) {
            let _ban =
                bans.strike(IpAddr::V4((number + (11 << 24)).into()), site("a", A), &rule(Reach::All), at(0));
        }
        assert!(bans.strikes.len() <= STRIKES_MAX);
    }

    #[test]
    fn what_is_over_is_forgotten_after_a_day() {
        let mut bans = Bans::default();
        strikes(&mut bans, "192.0.2.1", &rule(Reach::All), &[0, 1, 2]);
        assert!(!bans.sweep(at(3602 + 86_399)));
        assert!(bans.sweep(at(3602 + 86_400)));
        assert!(bans.is_empty());
    }

    #[test]
    fn a_ban_holds_as_far_as_its_rule_reaches() {
        // Banned by `a` of tunnel A: is the address kept from these?
        for (reach, expected) in [
            (Reach::Name, [true, false, false, false]),
            (Reach::Tunnel, [true, true, false, false]),
            (Reach::All, [true, true, true, true]),
        ] {
            let mut bans = Bans::default();
            assert_eq!(strikes(&mut bans, "192.0.2.1", &rule(reach), &[0, 1, 2]), 1);
            let sites = [site("a", A), site("b", A), site("a", B), site("b", B)];
            let kept = sites.map(|site| bans.find(ip("192.0.2.1"), site, at(3)).is_some());
            assert_eq!(kept, expected, "{reach:?}");
        }
    }

    #[test]
    fn strikes_of_one_tunnel_do_not_count_for_another_one() {
        let mut bans = Bans::default();
        for (tunnel, time) in [(A, 0), (B, 1), (A, 2), (B, 3)] {
            let struck = bans.strike(ip("192.0.2.1"), site("a", tunnel), &rule(Reach::Tunnel), at(time));
            assert!(struck.is_none());
        }
        assert!(bans.strike(ip("192.0.2.1"), site("a", B), &rule(Reach::Tunnel), at(4)).is_some());
        assert!(bans.find(ip("192.0.2.1"), site("a", A), at(5)).is_none());
    }

    #[test]
    fn the_flood_of_one_tunnel_costs_another_one_nothing() {
        let mut bans = Bans::default();
        let once = Ban { count: 1, ..rule(Reach::Name) };
        let address = |number: u32| IpAddr::V4(number.into());
        for number in 0..100 {
            let _ban = bans.strike(address(number), site("b", B), &rule(Reach::Tunnel), at(0));
            let _ban = bans.strike(address(number), site("c", B), &once, at(0));
        }
        // One address at many names, and many addresses, with bans that last longer than those of the other one.
        let long = Ban { time: seconds(80_000), ..once };
        let names: Vec<String> = (0..1000).map(|number| format!("{number}.a")).collect();
        for number in 0..(BANS_MAX as u32 + 5000) {
            let name = names.get(number as usize).map_or("a", String::as_str);
            let address = if number < 1000 { address(7) } else { address(number + (11 << 24)) };
            let _ban = bans.strike(address, site(name, A), &long, at(1));
            let _ban = bans.strike(address, site("a", A), &rule(Reach::Name), at(1));
        }
        assert!(bans.list().len() <= BANS_MAX && bans.strikes.len() <= STRIKES_MAX);
        assert_eq!(bans.list().len(), bans.held);
        let of_b = bans.list().iter().filter(|ban| ban.scope.tunnel == site("", B).tunnel).count();
        assert_eq!(of_b, 100);
        assert!(bans.strike(address(50), site("b", B), &rule(Reach::Tunnel), at(2)).is_none(), "two");
        assert!(bans.strike(address(50), site("b", B), &rule(Reach::Tunnel), at(3)).is_some(), "three");
    }
}
