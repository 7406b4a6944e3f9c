//! What the cache says about an answer: `Cache-Status` (RFC 9211), and nginx's words for logs and `X-Cache-Status`.

use std::fmt;

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// From the cache, fresh.
    Hit,
    /// Not in the cache.
    Miss,
    /// In the cache, and no longer fresh: fetched anew.
    Expired,
    /// In the cache, and no longer fresh; its origin cannot be asked.
    Stale,
    /// In the cache, and no longer fresh; a new one is on its way.
    Updating,
    /// In the cache, and confirmed by its origin.
    Revalidated,
    /// The cache was not asked.
    Bypass,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Hit, Self::Miss, Self::Expired, Self::Stale, Self::Updating, Self::Revalidated, Self::Bypass];

    /// nginx's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Expired => "EXPIRED",
            Self::Stale => "STALE",
            Self::Updating => "UPDATING",
            Self::Revalidated => "REVALIDATED",
            Self::Bypass => "BYPASS",
        }
    }
}

/// Everything that is said.
#[derive(Clone, Copy, Debug)]
pub struct CacheStatus {
    /// How the answer came about.
    pub outcome: Outcome,
    /// Seconds that it is fresh yet; negative: since when it is not.
    pub ttl: Option<i64>,
    /// The status of the origin, if it was asked.
    pub forwarded_status: Option<u16>,
    /// Whether it was kept.
    pub stored: bool,
    /// Whether another request had asked for the same already.
    pub collapsed: bool,
    /// Why it was not kept, or what happened.
    pub detail: Option<&'static str>,
}

impl CacheStatus {
    /// Just an outcome.
    #[must_use]
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome, ttl: None, forwarded_status: None, stored: false, collapsed: false, detail: None }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.outcome {
            Outcome::Hit | Outcome::Stale | Outcome::Updating => "adit; hit",
            Outcome::Miss => "adit; fwd=uri-miss",
            Outcome::Expired | Outcome::Revalidated => "adit; fwd=stale",
            Outcome::Bypass => "adit; fwd=bypass",
        })?;
        if let Some(status) = self.forwarded_status {
            write!(f, "; fwd-status={status}")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, "; ttl={ttl}")?;
        }
        f.write_str(if self.stored { "; stored" } else { "" })?;
        f.write_str(if self.collapsed { "; collapsed" } else { "" })?;
        self.detail.map_or(Ok(()), |detail| write!(f, "; detail={detail}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_written_as_the_rfc_says() {
        let hit = CacheStatus { ttl: Some(376), ..CacheStatus::of(Outcome::Hit) };
        assert_eq!(hit.to_string(), "adit; hit; ttl=376");
        let miss = CacheStatus {
            forwarded_status: Some(200),
            stored: true,
            collapsed: true,
            ..CacheStatus::of(Outcome::Miss)
        };
        assert_eq!(miss.to_string(), "adit; fwd=uri-miss; fwd-status=200; stored; collapsed");
        let refused = CacheStatus { detail: Some("private"), ..CacheStatus::of(Outcome::Bypass) };
        assert_eq!(refused.to_string(), "adit; fwd=bypass; detail=private");
    }
}
