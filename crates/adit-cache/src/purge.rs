//! What does not count any more: a list of purges, each with a number. A response knows the number of the last purge before
//! it came; those after it are compared when it is used. So a purge of a million responses takes no longer than one of one,
//! and none can be missed that is just being stored.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use adit_policy::host::{Authority, HostPattern};
use adit_policy::path::RequestPath;
use arc_swap::ArcSwap;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::meta::Meta;

/// Purges of the operator's that are remembered. Above that they become one of everything.
const REMEMBERED_MAX: usize = 20_000;

/// Purges of one tunnel that are remembered. Above that they become one of all that is the tunnel's: what a tunnel's site calls
/// must not cost another one what is kept of it.
const REMEMBERED_OF_TUNNEL: usize = 1_000;

/// Fields in which an origin names the tags of an answer: Cloudflare's and Fastly's.
pub const TAG_FIELDS: [&str; 2] = ["cache-tag", "surrogate-key"];

/// A purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// What it is about.
    pub what: What,
    /// Whether it makes stale, in place of removing.
    #[serde(default)]
    pub soft: bool,
    /// The id of the tunnel whose answers it is about; `None` for all tunnels.
    #[serde(default)]
    pub tunnel: Option<String>,
}

/// What a purge is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Everything.
    All,
    /// A host.
    Host(String),
    /// `https://host/path?query`, in every form that it is stored in.
    Url(String),
    /// Everything below `https://host/path`.
    Prefix(String),
    /// Everything that its origin has given this tag.
    Tag(String),
}

impl What {
    /// The name, URL or tag; empty for everything.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::All => "",
            Self::Host(text) | Self::Url(text) | Self::Prefix(text) | Self::Tag(text) => text,
        }
    }
}

/// What has become of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts.
    Counts,
    /// It is stale.
    Stale,
    /// It is gone.
    Gone,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    sequence: u64,
    /// Since the epoch.
    at: Duration,
    purge: Purge,
}

/// All purges.
#[derive(Debug)]
pub(crate) struct Purges {
    path: Option<PathBuf>,
    writing: Mutex<()>,
    records: ArcSwap<Vec<Record>>,
    /// The number of the last one.
    last: AtomicU64,
}

impl Purges {
    /// Reads what is remembered. A line that cannot be read is as good as absent: only a crash leaves one, at the end.
    pub(crate) fn open(path: Option<PathBuf>) -> Self {
        let text = path.as_deref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let records: Vec<Record> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = AtomicU64::new(records.iter().map(|record| record.sequence).max().unwrap_or_default());
        Self { path, writing: Mutex::default(), records: ArcSwap::from_pointee(records), last }
    }

    /// The number of the last purge.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Remembers a purge, on disk first.
    pub(crate) fn add(&self, purge: Purge, now: SystemTime, forget_before: SystemTime) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let sequence = self.last() + 1;
        let mut records = self.records.load().as_ref().clone();
        let oldest = at(forget_before);
        // What nobody has used for that long is gone by itself.
        records.retain(|record| record.at >= oldest);
        let tunnel = purge.tunnel.clone();
        let own = records.iter().filter(|record| record.purge.tunnel == tunnel).count();
        let most = if tunnel.is_some() { REMEMBERED_OF_TUNNEL } else { REMEMBERED_MAX };
        let purge = match own >= most {
            true => Purge { what: What::All, soft: false, tunnel: tunnel.clone() },
            false => purge,
        };
        if matches!(purge, Purge { what: What::All, soft: false, .. }) {
            // It is about everything that those before it were about.
            records.retain(|record| tunnel.is_some() && record.purge.tunnel != tunnel);
        }
        records.push(Record { sequence, at: at(now), purge });
        if let Some(path) = &self.path {
            write(path, &records)?;
        }
        self.records.store(Arc::new(records));
        self.last.store(sequence, Ordering::Release);
        Ok(())
    }

    /// Whether the same purge is remembered.
    pub(crate) fn contains(&self, purge: &Purge) -> bool {
        self.records.load().iter().any(|record| record.purge == *purge)
    }

    /// What has become of a response that was looked at last when `checked` was the last purge.
    pub(crate) fn verdict(&self, meta: &Meta, checked: u64) -> Verdict {
        let records = self.records.load();
        let later = records.iter().filter(|record| record.sequence > checked);
        let mut verdict = Verdict::Counts;
        for record in later.filter(|record| record.purge.is_about(meta)) {
            match record.purge.soft {
                true => verdict = Verdict::Stale,
                false => return Verdict::Gone,
            }
        }
        verdict
    }
}

fn write(path: &Path, records: &[Record]) -> io::Result<()> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, record)?;
        text.push(b'\n');
    }
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

impl Purge {
    fn is_about(&self, meta: &Meta) -> bool {
        let place = &meta.place;
        if self.tunnel.as_ref().is_some_and(|tunnel| *tunnel != place.tunnel.to_string()) {
            return false;
        }
        match &self.what {
            What::All => true,
            What::Host(host) => covers(host, &place.host),
            What::Url(url) => split(url).is_some_and(|(host, target)| {
                host.host() == place.host && normal(target) == normal(&place.target)
            }),
            What::Prefix(url) => split(url).is_some_and(|(host, path)| {
                host.host() == place.host && normal(&place.target).starts_with(&*normal(path))
            }),
            What::Tag(tag) => meta.head().is_some_and(|head| tags(&head.headers).any(|known| known == tag)),
        }
    }
}

/// Host and target of a URL, whose scheme may be absent.
fn split(url: &str) -> Option<(Authority<'_>, &str)> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(at)?;
    Some((Authority::parse(host.as_bytes()).ok()?, if target.is_empty() { "/" } else { target }))
}

/// A target with its path in the normal form: a purge finds what is stored under another spelling of the same path.
fn normal(target: &str) -> Cow<'_, str> {
    let path = target.split('?').next().unwrap_or_default();
    match path.contains('%') {
        true => {
            let query = target.strip_prefix(path).unwrap_or_default();
            format!("{}{query}", RequestPath::of(path).text()).into()
        }
        false => target.into(),
    }
}

fn covers(pattern: &str, host: &str) -> bool {
    match HostPattern::parse(pattern) {
        Ok(HostPattern::Any) => true,
        Ok(HostPattern::Exact(name)) => name.as_str() == host,
        Ok(HostPattern::Wildcard(suffix)) => {
            host.strip_suffix(suffix.as_str()).is_some_and(|head| head.ends_with('.'))
        }
        Err(_) => false,
    }
}

/// The tags of a response: between commas or spaces.
fn tags(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines =
        TAG_FIELDS.iter().flat_map(|name| headers.get_all(*name)).filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split([',', ' '])).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::tests::response;

    fn purge(what: What) -> Purge {
        Purge { what, soft: false, tunnel: None }
    }

    #[test]
    fn a_purge_is_about_what_it_names() {
        let meta = response("a.b.example", "/docs/x?y");
        for (what, expected) in [
            (What::All, true),
            (What::Host("a.b.example".into()), true),
            (What::Host("*.b.example".into()), true),
            (What::Host("b.example".into()), false),
            (What::Url("https://a.b.example/docs/x?y".into()), true),
            (What::Url("A.b.example:8443/docs/x?y".into()), true),
            (What::Url("https://a.b.example/docs/x".into()), false),
            (What::Prefix("https://a.b.example/docs/".into()), true),
            (What::Prefix("https://a.b.example".into()), true),
            (What::Prefix("https://b.example/docs/".into()), false),
            (What::Url("https://A.B.example./%64ocs/x?y".into()), true),
            (What::Url("https://a.b.example/docs/x?%79".into()), false),
            (What::Prefix("https://a.b.example:/%64ocs/".into()), true),
            (What::Tag("red".into()), true),
            (What::Tag("re".into()), false),
        ] {
            assert_eq!(purge(what.clone()).is_about(&meta), expected, "{what:?}");
        }
        let own = meta.place.tunnel.to_string();
        for what in [What::All, What::Host("a.b.example".into()), What::Tag("blue".into())] {
            let of = |tunnel: &str| Purge { tunnel: Some(tunnel.into()), ..purge(what.clone()) };
            assert!(of(&own).is_about(&meta) && !of("").is_about(&meta), "{what:?}");
            assert!(!of("00000000-0000-0000-0000-000000000002").is_about(&meta), "another tunnel's");
        }
        let spelled = response("a.b.example", "/%64ocs/m%c3%bcller");
        for url in ["https://a.b.example/docs/m%C3%BCller", "https://a.b.example/docs/müller"] {
            assert!(purge(What::Url(url.into())).is_about(&spelled), "{url}");
        }
        assert!(purge(What::Prefix("a.b.example/docs/".into())).is_about(&spelled));
    }

    #[test]
    fn what_came_later_counts_and_it_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let (now, epoch) = (SystemTime::now(), SystemTime::UNIX_EPOCH);
        let purges = Purges::open(Some(path.clone()));
        let meta = response("a", "/");
        purges.add(Purge { soft: true, ..purge(What::Host("a".into())) }, now, epoch).unwrap();
        assert_eq!((purges.verdict(&meta, 0), purges.verdict(&meta, 1)), (Verdict::Stale, Verdict::Counts));
        purges.add(purge(What::Tag("red".into())), now, epoch).unwrap();
        let again = Purges::open(Some(path.clone()));
        assert_eq!((again.verdict(&meta, 0), again.verdict(&meta, 2)), (Verdict::Gone, Verdict::Counts));
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"sequence\": 3, \"at\"").unwrap();
        assert_eq!(Purges::open(Some(path)).last(), 2, "a torn line");
    }

    #[test]
    fn too_many_purges_become_one() {
        let purges = Purges::open(None);
        let (now, epoch) = (SystemTime::now(), SystemTime::UNIX_EPOCH);
        purges.records.store(Arc::new(
            (1..=REMEMBERED_MAX as u64)
                .map(|sequence| Record {
                    sequence,
                    at: Duration::from_secs(9),
                    purge: purge(What::Host("x".into())),
                })
                .collect(),
        ));
        purges.last.store(REMEMBERED_MAX as u64, Ordering::Release);
        purges.add(purge(What::Host("y".into())), now, epoch).unwrap();
        assert_eq!(purges.records.load().len(), 1);
        assert_eq!(purges.verdict(&response("a", "/"), 5), Verdict::Gone);
    }

    #[test]
    fn too_many_purges_of_one_tunnel_become_one_of_that_tunnel() {
        let purges = Purges::open(None);
        let (now, epoch) = (SystemTime::now(), SystemTime::UNIX_EPOCH);
        let of = |tunnel: u128, what: What| Purge {
            tunnel: Some(uuid::Uuid::from_u128(tunnel).to_string()),
            ..purge(what)
        };
        purges.add(purge(What::Host("z".into())), now, epoch).unwrap();
        for number in 0..=REMEMBERED_OF_TUNNEL {
            purges.add(of(2, What::Tag(number.to_string())), now, epoch).unwrap();
        }
        assert_eq!(purges.records.load().len(), 2, "the operator's, and one");
        // The response is of tunnel 1.
        assert_eq!(purges.verdict(&response("a", "/"), 0), Verdict::Counts);
        purges.add(of(1, What::All), now, epoch).unwrap();
        assert_eq!(purges.verdict(&response("a", "/"), 0), Verdict::Gone);
        purges.add(purge(What::All), now, epoch).unwrap();
        assert_eq!(purges.records.load().len(), 1, "everything");
    }
}
