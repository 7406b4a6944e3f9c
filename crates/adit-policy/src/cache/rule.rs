//! What an operator says about caching a name or a path.

use std::time::Duration;

use http::{HeaderName, StatusCode};

/// How long a stale answer stands in where nothing else is said: a house may be away for a long holiday.
pub const STALE_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a request waits for another one that fetches the same (nginx: `proxy_cache_lock_timeout`).
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the largest answer that is kept where nothing else is said.
pub const OBJECT_MAX: u64 = 1 << 30;

/// Which statuses a time is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusRange {
    /// One.
    One(u16),
    /// A hundred, such as `4xx`.
    Class(u16),
    /// All.
    Any,
}

impl StatusRange {
    /// Whether a status is in it.
    #[must_use]
    pub fn includes(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => status / 100 == class,
            Self::Any => true,
        }
    }
}

/// What of an origin's word does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    /// `Cache-Control`, `Expires` and their kin, of the origin and of visitors.
    pub cache_control: bool,
    /// `Set-Cookie`: it is taken off, and the rest is kept.
    pub set_cookie: bool,
}

/// When a stale answer is better than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Nobody at home, or the origin fails.
    pub error: bool,
    /// The origin is silent for too long.
    pub timeout: bool,
    /// A new one is on its way.
    pub updating: bool,
    /// For so long after it ceased to be fresh.
    pub for_at_most: Duration,
}

impl Default for Stale {
    fn default() -> Self {
        Self { error: true, timeout: true, updating: false, for_at_most: STALE_FOR }
    }
}

/// Which part of a query tells answers apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueryKey {
    /// All of it.
    #[default]
    All,
    /// Nothing.
    None,
    /// These parameters.
    Only(Vec<String>),
    /// All but these.
    Without(Vec<String>),
}

/// What tells answers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyShape {
    /// The host name.
    pub host: bool,
    /// The path.
    pub path: bool,
    /// The query.
    pub query: QueryKey,
    /// Fields of the request.
    pub headers: Vec<HeaderName>,
    /// Cookies of the request.
    pub cookies: Vec<String>,
}

impl Default for KeyShape {
    fn default() -> Self {
        Self { host: true, path: true, query: QueryKey::All, headers: Vec::new(), cookies: Vec::new() }
    }
}

/// What sends a request past the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// It has this field.
    Header(HeaderName),
    /// It has this cookie; `*` at the end stands for any ending.
    Cookie(String),
    /// It has this parameter in its query.
    Query(String),
}

/// The rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRule {
    /// How long answers are fresh that do not say so themselves; the first one that fits counts.
    pub ttl: Vec<(StatusRange, Duration)>,
    /// What of the origin's word does not count.
    pub ignore: Ignore,
    /// What tells answers apart.
    pub key: KeyShape,
    /// What is not looked up and not kept.
    pub bypass: Vec<Bypass>,
    /// When a stale answer is better than none.
    pub stale: Stale,
    /// Bytes of the largest answer that is kept.
    pub max_size: u64,
    /// How long a request waits for another one that fetches the same.
    pub lock_timeout: Duration,
    /// Whether answers say `X-Cache-Status`, beside `Cache-Status`.
    pub status_header: bool,
    /// Bytes in which large answers are fetched and kept; `None`: whole.
    pub slice: Option<u64>,
}

impl Default for CacheRule {
    fn default() -> Self {
        Self {
            ttl: Vec::new(),
            ignore: Ignore::default(),
            key: KeyShape::default(),
            bypass: Vec::new(),
            stale: Stale::default(),
            max_size: OBJECT_MAX,
            lock_timeout: LOCK_TIMEOUT,
            status_header: true,
            slice: None,
        }
    }
}

/// Ready-made rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A site of files: everything for a day, whatever its server says.
    Static,
    /// Files of a dynamic site whose names change with their content.
    Assets,
    /// What its server allows, and nothing else.
    Api,
}

impl CacheRule {
    /// A ready-made rule.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let key = KeyShape { query: QueryKey::None, ..KeyShape::default() };
        let ignore = Ignore { cache_control: true, set_cookie: true };
        let stale = Stale { updating: true, ..Stale::default() };
        match preset {
            Preset::Static => {
                let ttl = vec![
                    (StatusRange::One(200), DAY),
                    (StatusRange::One(301), DAY),
                    (StatusRange::One(404), Duration::from_secs(60)),
                ];
                Self { ttl, ignore, key, stale, ..Self::default() }
            }
            Preset::Assets => {
                Self { ttl: vec![(StatusRange::One(200), 7 * DAY)], ignore, key, stale, ..Self::default() }
            }
            Preset::Api => Self { stale, ..Self::default() },
        }
    }

    /// The time that the rule gives a status.
    #[must_use]
    pub fn ttl_of(&self, status: StatusCode) -> Option<Duration> {
        let fitting = self.ttl.iter().find(|(range, _)| range.includes(status.as_u16()));
        fitting.map(|(_, time)| *time)
    }
}
