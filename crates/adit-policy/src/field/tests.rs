//! Names that steer and names that do not, in every spelling.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn headers(names: &[&str]) -> HeaderMap {
    let pair =
        |name: &&str| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
    names.iter().map(pair).collect()
}

#[test]
fn every_steering_field_is_known() {
    let cases: [(Role, &[&str]); 3] = [
        (
            Role::Framing,
            &["Content-Length", "Transfer-Encoding", "TE", "Trailer", "Host", "Expect", "Upgrade"],
        ),
        (Role::Routing, &["X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Host", "X-Invoke-Path"]),
        (
            Role::Vouching,
            &[
                "X-Forwarded-For",
                "X-Forwarded-Anything",
                "X-Forwarded",
                "Forwarded",
                "Forwarded-For",
                "X-Real-IP",
                "Client-IP",
                "True-Client-IP",
                "X-Client-IP",
                "X-Cluster-Client-IP",
                "Fastly-Client-IP",
                "Cf-Connecting-IP",
                "Cf-Access-Jwt-Assertion",
                "Cf-Cloudflared-Proxy-Src",
                "Uber-Trace-Id",
                "Fly-Client-IP",
                "Remote-User",
                "X-Remote-User",
                "X-Auth-Request-Email",
                "X-Authentik-Username",
                "X-WEBAUTH-USER",
                "X-Pomerium-Jwt-Assertion",
                "X-Token-User-Email",
                "X-User",
                "X-Email",
                "Tailscale-User-Login",
                "P-Access-Token",
                "X-Url-Scheme",
                "Proxy",
                "Client-Cert",
                "Client-Cert-Chain",
                "SSL-Client-S-DN",
                "X-SSL-Client-Verify",
                "X-Client-Cert",
                "X-Ms-Client-Principal-Name",
                "X-Goog-Authenticated-User-Email",
                "X-Amzn-Oidc-Identity",
                "OIDC-CLAIM-sub",
            ],
        ),
    ];
    for (expected, names) in cases {
        for name in names {
            assert_eq!(role(name.as_bytes()), Some(expected), "{name}");
            assert!(!is_lookalike(name.as_bytes()), "{name}");
        }
    }
}

#[test]
fn data_of_applications_passes() {
    for name in [
        "Accept",
        "Accept-Encoding",
        "Authorization",
        "Cookie",
        "Content-Type",
        "Content-Length-Hint",
        "My_Custom",
        "X_Api_Key",
        "X-Requested-With",
        "X-User-Id",
        "X-Auth-Token",
        "X-Client-Info",
        "X-Client-Version",
        "X-Token",
        "X-Hostname",
        "X-Http-Method-Override",
        "X-Csrf-Token",
        "Sec-Fetch-Mode",
        "Cache-Control",
        "Content-Encoding",
        "Max-Forwards",
        "Origin",
        "Proxy-Status",
        "Depth",
        "Destination",
        "Traceparent",
        "X-Plex-Token",
        "X-Emby-Authorization",
    ] {
        assert_eq!(role(name.as_bytes()), None, "{name}");
    }
}

#[test]
fn lookalikes_are_removed_in_every_spelling_and_counted() {
    let mut map = headers(&[
        "transfer_encoding",
        "content_length",
        "content.length",
        "content!length",
        "x_original_url",
        "x_forwarded-for",
        "remote_user",
        "x.real.ip",
        "content-length",
        "x-forwarded-for",
        "my_custom",
        "accept",
    ]);
    assert_eq!(strip_lookalikes(&mut map), 8);
    assert_eq!(map, headers(&["content-length", "x-forwarded-for", "my_custom", "accept"]));
    strip_claims(&mut map);
    assert_eq!(map, headers(&["content-length", "my_custom", "accept"]), "framing is another's to judge");
}

#[test]
fn a_rule_about_a_field_takes_its_spellings_too() {
    let edge = HeaderName::from_static("x-edge");
    let mut map = headers(&["x_edge", "x-edge", "x.edge", "x-edges", "xedge"]);
    strip_like(&mut map, std::iter::once(&edge));
    assert_eq!(map, headers(&["x-edges", "xedge"]));
    let mut map = headers(&["x_http_method_override", "x-http-method", "x-http"]);
    strip_method_overrides(&mut map);
    assert_eq!(map, headers(&["x-http"]));
}

#[test]
fn a_length_has_one_spelling() {
    for (value, expected) in [
        ("0", Some(0)),
        ("5", Some(5)),
        ("9223372036854775807", Some(i64::MAX as u64)),
        ("9223372036854775808", None),
        ("9223372036854775813", None),
        ("18446744073709551621", None),
        ("", None),
        ("00", None),
        ("005", None),
        ("+5", None),
        ("-5", None),
        (" 5", None),
        ("5 ", None),
        ("5, 5", None),
        ("5,", None),
        ("0x5", None),
        ("5.0", None),
        ("5_0", None),
    ] {
        assert_eq!(parse_length(value.as_bytes()), expected, "{value:?}");
    }
    let mut map = HeaderMap::new();
    assert_eq!(content_length(&map), Ok(None));
    map.append("content-length", HeaderValue::from_static("5"));
    assert_eq!(content_length(&map), Ok(Some(5)));
    map.append("content-length", HeaderValue::from_static("5"));
    assert_eq!(content_length(&map), Err(AmbiguousLength));
}

proptest! {
    /// Spelling never changes what a name is, and a name of the table with something added is not in it by accident.
    #[test]
    fn spelling_changes_nothing(name in "[a-z]{1,6}(-[a-z]{1,6}){0,3}", seed in any::<u64>()) {
        let respelt: Vec<u8> = name
            .bytes()
            .enumerate()
            .map(|(at, byte)| match (byte, seed >> (at % 64) & 1) {
                (b'-', 1) => b'_',
                (byte, 1) => byte.to_ascii_uppercase(),
                (byte, _) => byte,
            })
            .collect();
        prop_assert!(is_same(name.as_bytes(), &respelt));
        prop_assert_eq!(role(name.as_bytes()), role(&respelt));
        prop_assert_eq!(is_lookalike(&respelt), respelt.contains(&b'_') && role(name.as_bytes()).is_some());
    }
}

#[test]
fn what_is_not_looked_up_has_no_role() {
    for name in DATA {
        assert_eq!(role(name.as_bytes()), None, "{name}");
        assert!(!is_folded(name.as_bytes()), "{name}");
    }
}
