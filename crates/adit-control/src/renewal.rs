//! Certificates that come by themselves: which are wanted, when they are asked for, and where they are kept.
//!
//! A thread of its own looks at the names that are served and at the clock. A failing authority costs nothing but new
//! certificates: those that are there stay in force until their end, and other authorities are asked.

mod kept;
mod shown;
mod wanted;

use std::collections::{BTreeMap, HashMap, btree_map};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use adit_certs::schedule::{Guard, pause_after, renew_at};
use adit_certs::{KeyKind, Loaded, OrderError, Session, Wanted};
use adit_config::edge::{Acme, Authority, Rfc2136, TsigAlgorithm};
use adit_dns::{Algorithm, TxtRecords};
use adit_policy::host::{HostPattern, Hostname};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use kept::Kept;
use shown::Showing;
pub use shown::Shown;
use wanted::{Wish, wishes};

/// The longest pause between two looks at names and clock.
const LOOK: Duration = Duration::from_secs(2);
/// Orders under way at once.
const SIDE_BY_SIDE: usize = 4;
/// Seconds between two orders for the same certificate.
const AT_LEAST: i64 = 3600;
/// Seconds after which a window that was not given is asked for again.
const WINDOW_AGAIN: i64 = 6 * 3600;

/// What is done with certificates, and where the names come from.
pub trait Door: Send + Sync {
    /// The names that are served and whose TLS is ended here.
    fn names(&self) -> Vec<HostPattern>;

    /// Shows these proofs, and no others.
    fn show(&self, shown: Shown);

    /// The certificates have changed ([`Renewal::loaded`]).
    fn install(&self);

    /// An order has come to an end.
    fn ordered(&self, authority: &str, succeeded: bool);
}

/// What is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The authorities and the ways of proof.
    pub acme: Acme,
    /// The edge's domain.
    pub domain: Hostname,
    /// Names that have certificates from files.
    pub covered: Vec<HostPattern>,
}

/// How a certificate is doing.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its kind of key.
    pub key: KeyKind,
    /// End of its validity, in Unix seconds; `None` while there is none.
    pub not_after: Option<i64>,
    /// When it is renewed, in Unix seconds.
    pub renew_at: Option<i64>,
    /// Who gave it.
    pub authority: Option<String>,
    /// Failures since the last success.
    pub failures: u32,
    /// What the last failure was.
    pub last_error: Option<String>,
    /// When it is tried again, in Unix seconds.
    pub next_try: Option<i64>,
}

/// A certificate that is wanted.
#[derive(Debug, Default)]
struct Entry {
    loaded: Option<Loaded>,
    authority: String,
    renew_at: i64,
    window_at: i64,
    failures: u32,
    next_try: i64,
    last_error: Option<String>,
    /// Chosen once for each certificate, so that its moment does not move with each look.
    random: u64,
}

/// The running renewal. It ends with this.
pub struct Renewal {
    shared: Arc<Shared>,
}

struct Shared {
    kept: Kept,
    door: Arc<dyn Door>,
    settings: Mutex<Arc<InForce>>,
    entries: Mutex<BTreeMap<Wish, Entry>>,
    sessions: tokio::sync::Mutex<HashMap<String, Session>>,
    guards: Mutex<HashMap<String, Guard>>,
    wake: Notify,
    ended: std::sync::atomic::AtomicBool,
}

/// Settings with what follows from them.
struct InForce {
    settings: Settings,
    showing: Showing,
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.shared.ended.store(true, std::sync::atomic::Ordering::Relaxed);
        self.shared.wake.notify_one();
    }
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal").finish_non_exhaustive()
    }
}

impl Renewal {
    /// Starts it. What was kept in `data` is in force at once.
    ///
    /// # Errors
    /// When the folders or the thread cannot be made, or a key file of the settings cannot be read.
    pub fn start(data: &Path, settings: Settings, door: Arc<dyn Door>) -> Result<Self, String> {
        let kept = Kept::open(data).map_err(|error| format!("{}: {error}", data.display()))?;
        let in_force = in_force(settings, &door)?;
        let shared = Arc::new(Shared {
            kept,
            door,
            settings: Mutex::new(Arc::new(in_force)),
            entries: Mutex::default(),
            sessions: tokio::sync::Mutex::default(),
            guards: Mutex::default(),
            wake: Notify::new(),
            ended: std::sync::atomic::AtomicBool::new(false),
        });
        shared.look(now());
        let running = shared.clone();
        let thread = std::thread::Builder::new().name("certificates".to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        thread.spawn(move || runtime.block_on(running.run())).map_err(|error| error.to_string())?;
        Ok(Self { shared })
    }

    /// Puts other settings in force.
    ///
    /// # Errors
    /// When a key file cannot be read; the old settings stay in force then.
    pub fn reconfigure(&self, settings: Settings) -> Result<(), String> {
        let in_force = in_force(settings, &self.shared.door)?;
        *lock(&self.shared.settings) = Arc::new(in_force);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// The certificates that are there.
    #[must_use]
    pub fn loaded(&self) -> Vec<Loaded> {
        lock(&self.shared.entries).values().filter_map(|entry| entry.loaded.clone()).collect()
    }

    /// How all of them are doing.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let entries = lock(&self.shared.entries);
        entries.iter().map(|((name, key), entry)| entry.status(name, *key)).collect()
    }
}

impl Entry {
    fn status(&self, name: &str, key: KeyKind) -> Status {
        Status {
            name: name.to_owned(),
            key,
            not_after: self.loaded.as_ref().map(|loaded| loaded.not_after),
            renew_at: self.loaded.as_ref().map(|_| self.renew_at),
            authority: Some(self.authority.clone()).filter(|name| !name.is_empty()),
            failures: self.failures,
            last_error: self.last_error.clone(),
            next_try: (self.failures > 0).then_some(self.next_try),
        }
    }

    /// Takes a certificate in.
    fn hold(&mut self, loaded: Loaded, authority: String) {
        self.random = Uuid::new_v4().as_u64_pair().0;
        self.renew_at = renew_at(loaded.not_before, loaded.not_after, None, self.random);
        (self.loaded, self.authority) = (Some(loaded), authority);
        (self.window_at, self.failures, self.next_try, self.last_error) = (0, 0, 0, None);
    }

    /// When it is to be asked for.
    fn due(&self) -> i64 {
        let wanted = if self.loaded.is_some() { self.renew_at } else { 0 };
        wanted.max(self.next_try)
    }
}

impl Shared {
    async fn run(&self) {
        while !self.ended.load(std::sync::atomic::Ordering::Relaxed) {
            self.look(now());
            self.ask_for_windows().await;
            let due: Vec<Wish> = {
                let (entries, now) = (lock(&self.entries), now());
                entries.iter().filter(|(_, entry)| entry.due() <= now).map(|(wish, _)| wish.clone()).collect()
            };
            stream::iter(&due).for_each_concurrent(SIDE_BY_SIDE, |wish| self.renew(wish)).await;
            if due.is_empty() {
                // Which of the two it was does not matter.
                drop(timeout(LOOK, self.wake.notified()).await);
            }
        }
    }

    fn in_force(&self) -> Arc<InForce> {
        lock(&self.settings).clone()
    }

    /// Compares what is wanted with what is there.
    fn look(&self, now: i64) {
        let in_force = self.in_force();
        let Settings { acme, domain, covered } = &in_force.settings;
        let wanted = wishes(&self.door.names(), covered, domain, acme);
        let mut entries = lock(&self.entries);
        let mut changed = false;
        // One that has a certificate keeps it while its tunnel is away; without one there is nothing to keep.
        entries.retain(|wish, entry| wanted.contains(wish) || entry.loaded.is_some());
        for wish in wanted {
            if let btree_map::Entry::Vacant(place) = entries.entry(wish) {
                let entry = self.begin(place.key(), now);
                changed |= entry.loaded.is_some();
                place.insert(entry);
            }
        }
        drop(entries);
        if changed {
            self.door.install();
        }
    }

    fn begin(&self, wish: &Wish, now: i64) -> Entry {
        let mut entry = Entry::default();
        match self.kept.certificate(wish, now) {
            Some(Ok((loaded, authority))) => entry.hold(loaded, authority),
            // One file costs one certificate, and another one is asked for.
            Some(Err(error)) => {
                tracing::warn!(%error, "kept certificate cannot be used; asking for a new one")
            }
            None => {}
        }
        entry
    }

    /// Asks authorities when they would like to be asked (RFC 9773).
    async fn ask_for_windows(&self) {
        let (now, in_force) = (now(), self.in_force());
        let asked: Vec<(Wish, Loaded, String)> = {
            let entries = lock(&self.entries);
            let due = entries.iter().filter(|(_, entry)| entry.window_at <= now);
            due.filter_map(|(wish, entry)| {
                Some((wish.clone(), entry.loaded.clone()?, entry.authority.clone()))
            })
            .collect()
        };
        for (wish, loaded, authority) in asked {
            let window = self.window(&in_force.settings.acme, &loaded, &authority).await;
            if let Some(entry) = lock(&self.entries).get_mut(&wish) {
                let (window, again) = window.map_or((None, WINDOW_AGAIN), |(window, again)| {
                    (Some(window), i64::try_from(again).unwrap_or(WINDOW_AGAIN).clamp(60, 4 * WINDOW_AGAIN))
                });
                entry.window_at = now + again;
                entry.renew_at = renew_at(loaded.not_before, loaded.not_after, window, entry.random);
            }
        }
    }

    async fn window(&self, acme: &Acme, loaded: &Loaded, authority: &str) -> Option<((i64, i64), u64)> {
        let authority = acme.authorities.iter().find(|known| known.name == authority)?;
        let session = self.session(acme, authority).await.ok()?;
        session.renewal_window(loaded.key.cert.first()?).await
    }

    /// Asks one authority after the other.
    async fn renew(&self, wish: &Wish) {
        let in_force = self.in_force();
        let (failures, replaces, giver) = {
            let entries = lock(&self.entries);
            let Some(entry) = entries.get(wish) else { return };
            let leaf = entry.loaded.as_ref().and_then(|loaded| loaded.key.cert.first().cloned());
            (entry.failures, leaf, entry.authority.clone())
        };
        let mut challenges = in_force.settings.acme.challenges.clone();
        // A way that did not work is not the first one the next time.
        let count = challenges.len().max(1);
        challenges.rotate_left(failures as usize % count);
        let (mut limited, mut errors) = (false, Vec::new());
        for authority in &in_force.settings.acme.authorities {
            let replaces = replaces.as_ref().filter(|_| giver == authority.name);
            let wanted = Wanted { name: &wish.0, challenges: &challenges, key: wish.1, replaces };
            let ordered = self.order(&in_force, authority, wish, &wanted).await;
            self.door.ordered(&authority.name, ordered.is_ok());
            match ordered {
                Ok(()) => return self.door.install(),
                Err(error) => {
                    limited |= matches!(error, OrderError::RateLimited(_));
                    tracing::warn!(name = wish.0, authority = authority.name, %error, "no certificate");
                    errors.push(format!("{}: {error}", authority.name));
                }
            }
        }
        self.failed(wish, limited, errors.join("; "));
    }

    async fn order(
        &self,
        in_force: &InForce,
        authority: &Authority,
        wish: &Wish,
        wanted: &Wanted<'_>,
    ) -> Result<(), OrderError> {
        if !lock(&self.guards).entry(authority.name.clone()).or_default().may(now()) {
            let text = format!("{} orders within an hour; waiting, to stay within its limits", Guard::ORDERS);
            return Err(OrderError::RateLimited(text));
        }
        let session = self.session(&in_force.settings.acme, authority).await?;
        let ordered = session.order(wanted, &in_force.showing).await;
        if matches!(ordered, Err(OrderError::NoAccount(_))) {
            self.sessions.lock().await.remove(&authority.name);
            self.kept.forget_account(&authority.name);
        }
        let pem = ordered?;
        let kept = self.kept.keep(wish, &authority.name, &pem);
        kept.map_err(|error| OrderError::Local(format!("{}: {error}", self.kept.path(wish).display())))?;
        let loaded = self.kept.certificate(wish, now());
        let (loaded, giver) = match loaded {
            Some(loaded) => loaded.map_err(|error| OrderError::Authority(error.to_string()))?,
            None => return Err(OrderError::Local("the certificate that was kept is gone".to_owned())),
        };
        let not_after = loaded.not_after;
        let mut entries = lock(&self.entries);
        let entry = entries.entry(wish.clone()).or_default();
        entry.hold(loaded, giver);
        // Where the clocks disagree, a new certificate is old at once; the authority is not to blame.
        entry.next_try = now() + AT_LEAST;
        drop(entries);
        let days = (not_after - now()) / (24 * 3600);
        tracing::info!(name = wish.0, authority = authority.name, days, "certificate is in force");
        Ok(())
    }

    fn failed(&self, wish: &Wish, limited: bool, error: String) {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(wish) else { return };
        entry.failures += 1;
        let pause = pause_after(entry.failures, limited, Uuid::new_v4().as_u64_pair().0);
        entry.next_try = now() + i64::try_from(pause.as_secs()).unwrap_or(i64::MAX / 2);
        entry.last_error = Some(error);
    }

    /// The account with an authority: open, kept, or new.
    async fn session(&self, acme: &Acme, authority: &Authority) -> Result<Session, OrderError> {
        let mut sessions = self.sessions.lock().await;
        if let Some(session) = sessions.get(&authority.name) {
            return Ok(session.clone());
        }
        let session = match self.kept.account(&authority.name) {
            Some(credentials) => Session::restore(authority, &credentials).await?,
            None => self.create(acme, authority).await?,
        };
        sessions.insert(authority.name.clone(), session.clone());
        Ok(session)
    }

    async fn create(&self, acme: &Acme, authority: &Authority) -> Result<Session, OrderError> {
        let external = match &authority.external_account {
            Some(account) => Some(read_secret(&account.key_file).map_err(OrderError::Local)?),
            None => None,
        };
        let external = external.as_ref().map(|key| key.as_str());
        let (session, credentials) = Session::create(authority, acme.email.as_deref(), external).await?;
        let kept = self.kept.keep_account(&authority.name, &credentials);
        kept.map_err(|error| OrderError::Local(format!("the account cannot be kept: {error}")))?;
        Ok(session)
    }
}

fn in_force(settings: Settings, door: &Arc<dyn Door>) -> Result<InForce, String> {
    let dns = settings.acme.dns.as_ref().map(name_server).transpose()?;
    Ok(InForce { settings, showing: Showing::new(door.clone(), dns) })
}

fn name_server(dns: &Rfc2136) -> Result<Arc<dyn TxtRecords>, String> {
    let key = read_secret(&dns.key_file)?;
    let algorithm = match dns.algorithm {
        TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
        TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
        TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
    };
    let server = adit_dns::Rfc2136::new(&dns.server, dns.zone.as_deref(), &dns.key_name, &key, algorithm);
    server.map(|server| Arc::new(server) as Arc<dyn TxtRecords>).map_err(|error| error.to_string())
}

fn read_secret(path: &Path) -> Result<zeroize::Zeroizing<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(zeroize::Zeroizing::new(text))
}

fn now() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs().cast_signed()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
