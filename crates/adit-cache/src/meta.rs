//! What is known of a stored response beside its body, and its form on disk.

use std::time::{Duration, SystemTime};

use adit_policy::cache::freshness::Life;
use adit_policy::cache::vary::Selecting;
use adit_policy::snapshot::TunnelId;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is known of it.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The text that tells it from all others; what is found by a number is compared with it.
    pub key: String,
    /// Whose it is, for purging.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// When its head came.
    pub came: SystemTime,
    /// The purges before it are not about it.
    pub sequence: u64,
}

/// Whose it is, and its host and target in the form that people name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tunnel whose answer it is.
    pub tunnel: TunnelId,
    /// The host.
    pub host: String,
    /// Path and query, as they were asked for.
    pub target: String,
}

/// What is stored under a key.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A response.
    Response(Head),
    /// That responses under this key vary, and with what.
    Varies(Selecting),
}

/// The head of a response, and what follows from it.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its life.
    pub life: Life,
    /// Of a part: the first byte, the one after the last, and the length of the whole.
    pub part: Option<(u64, u64, u64)>,
}

/// The form on disk. A new form gets a new number in [`crate::file`].
#[derive(Serialize, Deserialize)]
struct Written {
    key: String,
    tunnel: u128,
    host: String,
    target: String,
    came: Duration,
    sequence: u64,
    kind: WrittenKind,
}

#[derive(Serialize, Deserialize)]
enum WrittenKind {
    Response {
        status: u16,
        headers: Vec<(String, Vec<u8>)>,
        life: WrittenLife,
        part: Option<(u64, u64, u64)>,
    },
    Varies(Vec<String>),
}

#[derive(Serialize, Deserialize)]
struct WrittenLife {
    fresh_for: Duration,
    age_at_start: Duration,
    while_revalidate: Option<Duration>,
    if_error: Option<Duration>,
    must_revalidate: bool,
    always_ask: bool,
}

impl Meta {
    /// The bytes for disk; `None` if they cannot be made.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let written = Written {
            key: self.key.clone(),
            tunnel: self.place.tunnel.0.as_u128(),
            host: self.place.host.clone(),
            target: self.place.target.clone(),
            came: self.came.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            sequence: self.sequence,
            kind: match &self.kind {
                Kind::Response(head) => written_head(head),
                Kind::Varies(with) => {
                    WrittenKind::Varies(with.names.iter().map(|name| name.as_str().to_owned()).collect())
                }
            },
        };
        postcard::to_allocvec(&written).ok()
    }

    /// Reads what [`Meta::encode`] wrote; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let written: Written = postcard::from_bytes(bytes).ok()?;
        let kind = match written.kind {
            WrittenKind::Varies(names) => {
                let names = names.iter().map(|name| name.parse()).collect::<Result<_, _>>().ok()?;
                Kind::Varies(Selecting { names })
            }
            WrittenKind::Response { status, headers, life, part } => Kind::Response(Head {
                status: StatusCode::from_u16(status).ok()?,
                headers: read_headers(headers)?,
                life: read_life(&life),
                part,
            }),
        };
        Some(Self {
            key: written.key,
            place: Place {
                tunnel: TunnelId(Uuid::from_u128(written.tunnel)),
                host: written.host,
                target: written.target,
            },
            kind,
            came: SystemTime::UNIX_EPOCH.checked_add(written.came)?,
            sequence: written.sequence,
        })
    }

    /// Bytes that it takes in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        let fields = match &self.kind {
            Kind::Response(head) => {
                head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum()
            }
            Kind::Varies(with) => with.names.len() * 64,
        };
        self.key.len() + self.place.host.len() + self.place.target.len() + fields + 512
    }

    /// The response, if it is one.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        match &self.kind {
            Kind::Response(head) => Some(head),
            Kind::Varies(_) => None,
        }
    }
}

fn written_head(head: &Head) -> WrittenKind {
    let fields = head.headers.iter();
    let life = &head.life;
    WrittenKind::Response {
        status: head.status.as_u16(),
        headers: fields.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect(),
        life: WrittenLife {
            fresh_for: life.fresh_for,
            age_at_start: life.age_at_start,
            while_revalidate: life.while_revalidate,
            if_error: life.if_error,
            must_revalidate: life.must_revalidate,
            always_ask: life.always_ask,
        },
        part: head.part,
    }
}

fn read_headers(fields: Vec<(String, Vec<u8>)>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    Some(headers)
}

fn read_life(life: &WrittenLife) -> Life {
    Life {
        fresh_for: life.fresh_for,
        age_at_start: life.age_at_start,
        while_revalidate: life.while_revalidate,
        if_error: life.if_error,
        must_revalidate: life.must_revalidate,
        always_ask: life.always_ask,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A response with a name.
    pub(crate) fn response(host: &str, target: &str) -> Meta {
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("text/plain"));
        headers.append("cache-tag", HeaderValue::from_static("red, blue"));
        let life = Life { fresh_for: Duration::from_secs(60), ..Life::default() };
        Meta {
            key: format!("https://{host}{target}"),
            place: Place {
                tunnel: TunnelId(Uuid::from_u128(1)),
                host: host.to_owned(),
                target: target.to_owned(),
            },
            kind: Kind::Response(Head { status: StatusCode::OK, headers, life, part: None }),
            came: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            sequence: 0,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let meta = response("a.example", "/x?y");
        let read = Meta::decode(&meta.encode().unwrap()).unwrap();
        assert_eq!((&read.key, &read.place, read.came), (&meta.key, &meta.place, meta.came));
        let (read, meta) = (read.head().unwrap(), meta.head().unwrap());
        assert_eq!((read.status, &read.headers, read.life), (meta.status, &meta.headers, meta.life));
        assert!(Meta::decode(b"nonsense").is_none());
        assert!(Meta::decode(&[]).is_none());
    }
}
