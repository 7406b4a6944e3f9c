//! The names themselves, folded and sorted.

use super::Role;

/// Bytes of a folded name that are looked at: one more than the longest entry has, so that a longer name is never taken for
/// an entry that it only begins with.
pub(super) const LONGEST: usize = 40;

/// Fields of the connection and of the message's frame (RFC 9110, sections 6.6, 7.6 and 10.1; RFC 9112; RFC 9113,
/// section 8.2.2).
const FRAMING: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Fields that frameworks and servers read in place of the target: IIS and Symfony (`X-Original-URL`, `X-Rewrite-URL`),
/// Rack (`X-Sendfile-Type`, `X-Accel-Mapping`), Next.js (`X-Invoke-*`, `X-Middleware-Subrequest`), WSGI (`X-Script-Name`).
const ROUTING: [&str; 15] = [
    "x-accel-mapping",
    "x-host",
    "x-http-host-override",
    "x-matched-path",
    "x-middleware-subrequest",
    "x-middleware-subrequest-id",
    "x-now-route-matches",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-script-name",
    "x-sendfile-type",
];

/// Prefixes of the same.
const ROUTING_PREFIXES: [&str; 1] = ["x-invoke-"];

/// Fields that name a client's address, scheme, certificate or identity. The list is that of the proxies and login gates
/// that set them.
const VOUCHING: [&str; 42] = [
    "auth-user",
    "authenticated-user",
    "client-ip",
    "cluster-client-ip",
    "do-connecting-ip",
    "forwarded",
    "forwarded-for",
    "forwarded-for-ip",
    "forwarded-proto",
    "front-end-https",
    "http-client-ip",
    "http-x-forwarded-for",
    "proxy",
    "proxy-client-ip",
    "proxy-user",
    "real-ip",
    "true-client-ip",
    "uber-trace-id",
    "x-anonymous-consumer",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-connecting-ip",
    "x-email",
    "x-endpoint-api-userinfo",
    "x-forwarded",
    "x-groups",
    "x-https",
    "x-jwt-assertion",
    "x-nf-client-connection-ip",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-request-id",
    "x-scheme",
    "x-source-ip",
    "x-true-client-ip",
    "x-url-scheme",
    "x-user",
    "x-userinfo",
    "x-username",
    "z-forwarded-for",
];

/// Prefixes of the same.
const VOUCHING_PREFIXES: [&str; 47] = [
    "akamai-",
    "cf-",
    "client-cert",
    "cloudfront-",
    "fastly-",
    "fly-",
    "mellon-",
    "oidc-",
    "p-access-",
    "remote-",
    "shib-",
    "ssl-",
    "tailscale-",
    "wl-proxy-",
    "x-amzn-mtls-",
    "x-amzn-oidc-",
    "x-appengine-",
    "x-arr-",
    "x-auth-request-",
    "x-authelia-",
    "x-authenticated-",
    "x-authentik-",
    "x-azure-",
    "x-client-cert",
    "x-client-dn",
    "x-client-s-dn",
    "x-client-subject",
    "x-client-verif",
    "x-consumer-",
    "x-credential-",
    "x-envoy-",
    "x-forwarded-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-pomerium-",
    "x-proxy-",
    "x-real-ip-",
    "x-remote-",
    "x-ssl-",
    "x-tailscale-",
    "x-tls-client-",
    "x-token-",
    "x-vercel-ip",
    "x-vouch-",
    "x-webauth-",
];

/// The two letters that entries begin with: for each first letter, the second ones as bits. They tell most names from the table.
const BEGINNINGS: [u32; 26] = {
    let mut beginnings = [0; 26];
    let lists: [&[&str]; 5] = [&FRAMING, &ROUTING, &ROUTING_PREFIXES, &VOUCHING, &VOUCHING_PREFIXES];
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            let name = lists[list][at].as_bytes();
            beginnings[(name[0] - b'a') as usize] |= second(name[1]);
            at += 1;
        }
        list += 1;
    }
    beginnings
};

/// The bit of a second character of a folded name.
const fn second(byte: u8) -> u32 {
    match byte {
        b'a'..=b'z' => 1 << (byte - b'a'),
        _ => 1 << 26,
    }
}

fn may_begin(name: &[u8]) -> bool {
    let &[first, next, ..] = name else { return false };
    let seconds = BEGINNINGS.get(usize::from(first.wrapping_sub(b'a'))).copied().unwrap_or_default();
    seconds & second(next) != 0
}

/// The role of a folded name.
pub(super) fn role(name: &[u8]) -> Option<Role> {
    if !may_begin(name) {
        return None;
    }
    let has = |table: &[&str]| table.binary_search_by(|known| known.as_bytes().cmp(name)).is_ok();
    if has(&FRAMING) {
        Some(Role::Framing)
    } else if has(&VOUCHING) || begins(&VOUCHING_PREFIXES, name) {
        Some(Role::Vouching)
    } else if has(&ROUTING) || begins(&ROUTING_PREFIXES, name) {
        Some(Role::Routing)
    } else {
        None
    }
}

/// Whether the name begins with an entry. The entry before which the name would stand is the only one that it can begin with,
/// because no entry begins with another.
fn begins(prefixes: &[&str], name: &[u8]) -> bool {
    let after = prefixes.partition_point(|prefix| prefix.as_bytes() <= name);
    let candidate = after.checked_sub(1).and_then(|at| prefixes.get(at));
    candidate.is_some_and(|prefix| name.starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_folded_sorted_and_fit_the_room() {
        for list in [&FRAMING[..], &ROUTING, &ROUTING_PREFIXES, &VOUCHING, &VOUCHING_PREFIXES] {
            assert!(list.is_sorted_by(|one, other| one < other), "{list:?}");
            for name in list {
                assert!(name.len() < LONGEST, "{name}");
                assert!(name.bytes().all(|byte| super::super::folded(byte) == byte), "{name}");
            }
        }
        for list in [&ROUTING_PREFIXES[..], &VOUCHING_PREFIXES] {
            for pair in list.windows(2) {
                assert!(!pair[1].starts_with(pair[0]), "{pair:?}: the search finds one of them only");
            }
        }
    }
}
