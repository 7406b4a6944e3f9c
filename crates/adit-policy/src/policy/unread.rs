//! What of a policy holds where the edge carries bytes that it cannot read: for passthrough names, and for ports.

use super::limit::LimitKey;
use super::{Layer, Patch};

/// The keys that hold there: they ask for nothing but the address of the client.
const HOLDING: [&str; 5] = ["allow", "deny", "deny-mode", "rate-limit", "concurrency"];

/// What is said about a name that an edge cannot do what its connector asks for.
pub(super) const CLOSED: &str = "This site is closed. Its operator finds the reason in the log.";

impl Layer {
    /// Returns the keys that cannot hold where the edge does not read requests: they look at requests or responses. A limit
    /// that counts by a field of requests is one of them.
    #[must_use]
    pub fn keys_for_requests(&self) -> Vec<&'static str> {
        let Self { base, paths } = self;
        let counts_by_field = [
            ("rate-limit", base.rate_limit.iter().flatten().map(|limit| &limit.key).next()),
            ("concurrency", base.concurrency.iter().flatten().map(|limit| &limit.key).next()),
        ];
        let fields = counts_by_field.into_iter().filter(|(_, key)| key.is_some_and(reads_requests));
        let mut keys: Vec<&'static str> =
            base.keys_in_use().into_iter().filter(|key| !HOLDING.contains(key)).collect();
        keys.extend(fields.map(|(name, _)| name));
        if paths.iter().any(|path| path.patch != Patch::default()) {
            keys.push("paths");
        }
        keys
    }
}

fn reads_requests(key: &LimitKey) -> bool {
    match key {
        LimitKey::Address | LimitKey::All => false,
        LimitKey::Header(_) | LimitKey::Cookie(_) | LimitKey::Identity => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ingress::path_regex;
    use crate::policy::address::Addresses;
    use crate::policy::limit::{Concurrency, Rate, RateLimit};
    use crate::policy::{Expression, PathLayer};

    fn keys(patch: Patch) -> Vec<&'static str> {
        Layer { base: patch, paths: Vec::new() }.keys_for_requests()
    }

    #[test]
    fn only_what_looks_at_addresses_holds_for_bytes() {
        let limit = |key: LimitKey| {
            let rate = Rate { count: 1, per: Duration::from_secs(1) };
            Some(Some(RateLimit { rate, burst: 0, key }))
        };
        let open = Some(Some(Addresses::default()));
        assert!(keys(Patch { allow: open.clone(), deny: open, ..Patch::default() }).is_empty());
        assert!(keys(Patch { rate_limit: limit(LimitKey::Address), ..Patch::default() }).is_empty());
        assert_eq!(keys(Patch { rate_limit: limit(LimitKey::Identity), ..Patch::default() }), ["rate-limit"]);
        let concurrency = Some(Some(Concurrency { requests: 1, key: LimitKey::Cookie("a".to_owned()) }));
        assert_eq!(keys(Patch { concurrency, ..Patch::default() }), ["concurrency"]);
        assert_eq!(keys(Patch { body_limit: Some(Some(1)), ..Patch::default() }), ["body-limit"]);
        assert!(
            keys(Patch { body_limit: Some(None), ..Patch::default() }).is_empty(),
            "off asks for nothing"
        );
        let path = Expression(path_regex("^/admin").unwrap());
        let patch = Patch { deny: Some(Some(Addresses::default())), ..Patch::default() };
        let paths = vec![PathLayer { path, patch }];
        assert_eq!(Layer { base: Patch::default(), paths }.keys_for_requests(), ["paths"]);
    }
}
