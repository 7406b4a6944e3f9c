//! Second stage: may this visitor come at all, and with this? Leaves `Permitted`. Nothing is asked of a tunnel before.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use adit_policy::ingress::IpPrefix;
use adit_policy::policy::Settings;
use adit_policy::policy::address::Addresses;
use adit_policy::policy::bans::{Banned, Bans, Full, Site};
use adit_policy::policy::limit::{Ban, DenyMode};
use adit_policy::snapshot::TunnelId;
use arc_swap::ArcSwap;
use http::{Method, StatusCode};
use tokio::sync::watch;

use crate::context::RequestContext;
use crate::registry::View;
use crate::rescue::Problem;
use crate::route::Routed;

/// What passes the gate, guard and limit: a request, or a stream that the edge does not read.
pub(crate) trait Arrival {
    /// Who sent it, and how it came.
    fn request(&self) -> &RequestContext;

    /// What it sees of the world.
    fn view(&self) -> &View;

    /// How it is treated.
    fn settings(&self) -> &Settings;

    /// The host that it is for; `None` for a port, which has no name.
    fn host(&self) -> Option<&str>;

    /// The tunnel that it is for.
    fn tunnel(&self) -> TunnelId;

    /// Its name, if it has one, and its tunnel.
    fn site(&self) -> Site<'_> {
        Site { name: self.host().unwrap_or_default(), tunnel: Some(self.tunnel()) }
    }

    /// What limits count it under.
    fn counted_as(&self) -> &str;
}

/// The proof that a visitor may come.
pub(crate) struct Permitted<A = Routed>(A);

impl<A> Permitted<A> {
    /// The request or stream, for the next stage.
    pub(crate) fn into_arrival(self) -> A {
        self.0
    }
}

impl<A> Deref for Permitted<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.0
    }
}

/// Lets a request pass, or says why not.
///
/// # Errors
/// Those of [`permit`], and [`Problem::Method`] for a method that is not let through.
pub(crate) fn guard(routed: Routed, method: &Method) -> Result<Permitted, Problem> {
    let permitted = permit(routed)?;
    match &permitted.settings().methods {
        Some(methods) if !methods.contains(method) => Err(Problem::Method(methods.clone())),
        _ => Ok(permitted),
    }
}

/// Lets a request or a stream pass, or says why not. There is no other way to make a [`Permitted`].
///
/// # Errors
/// [`Problem::Banned`], [`Problem::Denied`] or [`Problem::Dropped`] for an address that may not come,
/// [`Problem::ShutOff`] and [`Problem::Maintenance`] for a name out of service.
pub(crate) fn permit<A: Arrival>(arrival: A) -> Result<Permitted<A>, Problem> {
    let (edge, client, settings) = (arrival.request().edge(), arrival.request().client, arrival.settings());
    if edge.doors.is_blocked(client.ip, arrival.site()) {
        edge.metrics.denied("banned");
        return Err(refusal(settings, Problem::Banned));
    }
    let shutoff = arrival.view().snapshot.shutoff();
    if arrival.host().map_or_else(|| shutoff.is_everything(), |host| shutoff.includes(host)) {
        return Err(Problem::ShutOff);
    }
    let is_denied = settings.deny.as_ref().is_some_and(|deny| deny.includes(client.ip));
    if is_denied || settings.allow.as_ref().is_some_and(|allow| !allow.includes(client.ip)) {
        edge.metrics.denied("denied");
        return Err(refusal(settings, Problem::Denied));
    }
    if let Some(text) = &settings.maintenance {
        return Err(Problem::Maintenance(text.clone()));
    }
    Ok(Permitted(arrival))
}

fn refusal(settings: &Settings, problem: Problem) -> Problem {
    match settings.deny_mode {
        DenyMode::Answer => problem,
        DenyMode::Drop => Problem::Dropped,
    }
}

/// Whom the edge keeps out: bans, and lists from elsewhere.
#[derive(Debug)]
pub struct Doors {
    bans: RwLock<Bans>,
    lists: ArcSwap<Vec<List>>,
    changed: watch::Sender<u64>,
}

/// Addresses that somebody else says to keep out.
#[derive(Clone, Debug)]
pub struct List {
    /// Where it comes from, for people.
    pub name: String,
    /// The addresses.
    pub addresses: Addresses,
}

impl Default for Doors {
    fn default() -> Self {
        Self { bans: RwLock::default(), lists: ArcSwap::default(), changed: watch::Sender::new(0) }
    }
}

impl Doors {
    /// Whether an address is kept from a site.
    #[must_use]
    pub fn is_blocked(&self, address: IpAddr, site: Site<'_>) -> bool {
        self.lists.load().iter().any(|list| list.addresses.includes(address)) || self.is_banned(address, site)
    }

    fn is_banned(&self, address: IpAddr, site: Site<'_>) -> bool {
        let bans = self.read();
        !bans.is_empty() && bans.find(address, site, SystemTime::now()).is_some()
    }

    /// Counts an answer against a visitor, where the rule says so. Whether it has made a ban.
    pub(crate) fn note(&self, client: IpAddr, site: Site<'_>, rule: &Ban, status: StatusCode) -> bool {
        if !rule.counts(status.as_u16()) {
            return false;
        }
        let mut bans = self.write();
        let Some(ban) = bans.strike(client, site, rule, SystemTime::now()) else { return false };
        tracing::info!(address = %client, times = ban.times, reason = ban.reason, "banned");
        drop(bans);
        self.tell();
        true
    }

    /// Bans by hand.
    ///
    /// # Errors
    /// [`Full`] when there are too many networks.
    pub fn ban(&self, ban: Banned) -> Result<(), Full> {
        self.write().add(ban, SystemTime::now())?;
        self.tell();
        Ok(())
    }

    /// Lifts the bans of a network: all of them, or those from one name. Says how many.
    pub fn lift(&self, network: IpPrefix, name: Option<&str>) -> usize {
        let lifted = self.write().lift(network, name);
        self.tell();
        lifted
    }

    /// All bans, in force or remembered.
    #[must_use]
    pub fn list(&self) -> Vec<Banned> {
        self.read().list()
    }

    /// Drops what is over and forgotten.
    pub fn sweep(&self) {
        if self.write().sweep(SystemTime::now()) {
            self.tell();
        }
    }

    /// Puts lists from elsewhere in force, in place of those before.
    pub fn set_lists(&self, lists: Vec<List>) {
        self.lists.store(lists.into());
    }

    /// Tells when a ban came or went.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|generation| *generation += 1);
    }

    fn read(&self) -> RwLockReadGuard<'_, Bans> {
        self.bans.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Bans> {
        self.bans.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use adit_policy::policy::Patch;
    use adit_policy::policy::address::parse;

    use super::*;
    use crate::context::fixture::{routed, snapshot, worker};

    #[test]
    fn only_who_may_come_leaves_the_second_stage() {
        let allow = Addresses::of(&[parse("192.0.2.0/24").unwrap()]);
        let worker = worker(snapshot(Patch { allow: Some(Some(allow)), ..Patch::default() }));
        let ask = |ip, method| guard(routed(&worker, ip, "http://a.x.example/").unwrap(), method);
        assert_eq!(ask("192.0.2.1", &Method::GET).unwrap().host().as_str(), "a.x.example");
        assert!(matches!(ask("198.51.100.1", &Method::GET), Err(Problem::Denied)));
        assert!(guard(routed(&worker, "198.51.100.1", "http://b.x.example/").unwrap(), &Method::GET).is_ok());
    }
}
