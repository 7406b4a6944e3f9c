//! How often, how much at once, how long; and who is banned for what.

use std::fmt;
use std::time::Duration;

use http::HeaderName;

use super::address::Addresses;
use crate::cache::rule::StatusRange;

/// How often a visitor may ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// The steady pace.
    pub rate: Rate,
    /// Requests beyond it that are answered at once.
    pub burst: u32,
    /// Who is counted.
    pub key: LimitKey,
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many; at least one.
    pub count: u32,
    /// In which time; at least a second.
    pub per: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "min",
            3600 => "h",
            _ => "d",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// Who is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// An address; of IPv6 the network of a home (64 bits).
    #[default]
    Address,
    /// The value of a field. Who has none is counted by address.
    Header(HeaderName),
    /// The value of a cookie. Who has none is counted by address.
    Cookie(String),
    /// Who has proven himself; others by address.
    Identity,
    /// Everybody together.
    All,
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header({name})"),
            Self::Cookie(name) => write!(f, "cookie({name})"),
            Self::Identity => f.write_str("identity"),
            Self::All => f.write_str("all"),
        }
    }
}

/// How much a visitor may ask at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// So many requests.
    pub requests: u32,
    /// Who is counted.
    pub key: LimitKey,
}

/// Who is banned for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Answers that count against a visitor.
    pub statuses: Vec<StatusRange>,
    /// So many of them …
    pub count: u32,
    /// … in this time …
    pub window: Duration,
    /// … ban him for so long. Each time that he is banned again it is twice as long …
    pub time: Duration,
    /// … but never longer than this.
    pub time_max: Duration,
    /// Addresses that are never banned.
    pub allow: Addresses,
    /// The names that the ban is for.
    pub reach: Reach,
}

/// The names that a ban is for, seen from the one whose answers counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// That name alone (`shared: false`).
    Name,
    /// The names of the same tunnel.
    #[default]
    Tunnel,
    /// The names of all tunnels (`shared: true`). Only the operator of the edge can say so.
    All,
}

/// What those get who may not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DenyMode {
    /// A page with 403.
    #[default]
    Answer,
    /// Nothing: the connection is closed.
    Drop,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request to the first byte of the answer. `None`: as long as the connector waits.
    pub answer: Option<Duration>,
    /// Silence between two parts of the answer. `None`: for ever.
    pub idle: Option<Duration>,
}

impl Ban {
    /// How long a ban lasts that is somebody's `times`th, from 1.
    #[must_use]
    pub fn time_of(&self, times: u32) -> Duration {
        let factor = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
        self.time.saturating_mul(factor).min(self.time_max.max(self.time))
    }

    /// Whether an answer counts.
    #[must_use]
    pub fn counts(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| range.includes(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_grows_to_its_limit() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let ban = Ban {
            statuses: vec![StatusRange::One(401), StatusRange::Class(5)],
            count: 5,
            window: Duration::from_secs(600),
            time: hours(1),
            time_max: hours(24),
            allow: Addresses::default(),
            reach: Reach::Tunnel,
        };
        let times: Vec<Duration> = [1, 2, 5, 6, 60].map(|times| ban.time_of(times)).to_vec();
        assert_eq!(times, [hours(1), hours(2), hours(16), hours(24), hours(24)]);
        assert!(ban.counts(401) && ban.counts(503) && !ban.counts(404));
    }
}
