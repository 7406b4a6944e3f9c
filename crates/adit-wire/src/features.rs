//! Feature strings: what a connector announces at registration, and what is ours.

use crate::datagram::Version;

/// The edge may push configurations.
pub const ALLOW_REMOTE_CONFIG: &str = "allow_remote_config";
/// Response headers come packed on HTTP/2.
pub const SERIALIZED_HEADERS: &str = "serialized_headers";
/// UDP sessions in datagrams, version 2.
pub const DATAGRAM_V2: &str = "support_datagram_v2";
/// UDP sessions in datagrams, version 3.
pub const DATAGRAM_V3: &str = "support_datagram_v3_2";
/// The end of a QUIC stream ends the request body.
pub const QUIC_EOF: &str = "support_quic_eof";
/// The management host streams logs.
pub const MANAGEMENT_LOGS: &str = "management_logs";
/// Only post-quantum key exchange is allowed.
pub const POST_QUANTUM: &str = "postquantum";

/// The datagrams of a connector that announces these features. Version 2 stays announced beside version 3.
#[must_use]
pub fn datagram_version<S: AsRef<str>>(features: &[S]) -> Version {
    let newer = features.iter().any(|feature| feature.as_ref() == DATAGRAM_V3);
    if newer { Version::V3 } else { Version::V2 }
}

/// What our own two ends can do beyond cloudflared's protocol. cloudflared ignores strings that it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions(u8);

impl Extensions {
    /// Trailers over QUIC, by framed bodies.
    pub const TRAILERS: Self = Self(1);
    /// 1xx answers.
    pub const INTERIM: Self = Self(2);
    /// One direction of a WebSocket may end before the other.
    pub const HALF_CLOSE: Self = Self(4);
    /// The edge closes a drained connection at once, so the connector need not wait for its grace period.
    pub const FAST_DRAIN: Self = Self(8);
    /// Each stream has a window of its own that follows its reader, told in updates (see [`crate::window`]).
    pub const WINDOWS: Self = Self(16);
    /// Everything that this version can do.
    pub const ALL: Self = Self(31);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::TRAILERS, "adit_trailers"),
        (Self::INTERIM, "adit_interim"),
        (Self::HALF_CLOSE, "adit_half_close"),
        (Self::FAST_DRAIN, "adit_fast_drain"),
        (Self::WINDOWS, "adit_windows"),
    ];

    /// Picks our extensions out of a list of features.
    pub fn from_features<'a>(features: impl IntoIterator<Item = &'a str>) -> Self {
        let known =
            |feature: &str| Self::NAMES.iter().find(|(_, name)| *name == feature).map(|(bit, _)| bit.0);
        Self(features.into_iter().filter_map(known).fold(0, |all, bit| all | bit))
    }

    /// The feature strings of this set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, name)| name)
    }

    /// What both can do.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_survive_the_wire_and_strangers() {
        let names: Vec<_> = Extensions::ALL.names().collect();
        assert_eq!(Extensions::from_features(names.iter().copied()), Extensions::ALL);
        let mixed = Extensions::from_features(["support_quic_eof", "adit_trailers", "adit_from_the_future"]);
        assert_eq!(mixed, Extensions::TRAILERS);
        assert!(!mixed.contains(Extensions::ALL));
        assert_eq!(mixed.intersection(Extensions::HALF_CLOSE), Extensions::default());
    }
}
