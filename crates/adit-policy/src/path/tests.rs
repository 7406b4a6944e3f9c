//! Which spellings have one reading, and that every origin's own reading of a path is among those that are tried.

use proptest::prelude::*;

use super::origins;
use super::*;

#[test]
fn the_normal_form_decodes_what_does_not_steer() {
    let cases = [
        ("/", "/", true),
        ("/a/b.css", "/a/b.css", true),
        ("/wp-admin/", "/wp-admin/", true),
        ("/.well-known/..x/.../a.", "/.well-known/..x/.../a.", true),
        ("/user/%6Cogin", "/user/login", true),
        ("/a%20b/~%7e", "/a b/~~", true),
        ("/m%C3%BCller", "/müller", true),
        ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,=", true),
        ("/a//b", "/a//b", false),
        ("//", "//", false),
        ("/a/./b/", "/a/./b/", false),
        ("/x/../y", "/x/../y", false),
        ("/x/..", "/x/..", false),
        ("/x/%2e%2E/y", "/x/../y", false),
        ("/a%2fb", "/a%2Fb", false),
        ("/a%5Cb", "/a%5Cb", false),
        ("/a\\b", "/a\\b", false),
        ("/a;v=1", "/a;v=1", false),
        ("/a%3Bv", "/a%3Bv", false),
        ("/100%25", "/100%25", false),
        ("/100%", "/100%", false),
        ("/a%23b%3f", "/a%23b%3F", false),
        ("/nul%00%7f", "/nul%00%7F", false),
        ("/%ff", "/\u{fffd}", true),
        ("/%c0%ae", "/\u{fffd}\u{fffd}", false),
        ("/%EF%BC%8F", "/\u{ff0f}", false),
        ("*", "*", false),
    ];
    for (raw, text, single) in cases {
        let path = RequestPath::of(raw);
        assert_eq!((path.text(), path.has_one_reading()), (text, single), "{raw}");
    }
    assert!(matches!(RequestPath::of("/a/b").text, Cow::Borrowed(_)), "nothing is allocated");
}

#[test]
fn what_is_no_path_is_refused() {
    for raw in
        ["", "a", "abc/def", "?x", "http://a.example/", "*x", "/a b", "/a\tb", "/\u{7f}", "/a\0", "\\x"]
    {
        assert_eq!(RequestPath::parse(raw).err(), Some(PathRefusal::Malformed), "{raw:?}");
    }
    for raw in ["/", "*", "/ü", "/a%00b", "//x", "/a\\b"] {
        assert!(RequestPath::parse(raw).is_ok(), "{raw:?}");
    }
}

/// Whether a rule for `^/admin` decides all readings of a path alike; `None` where it does not.
fn is_admin(raw: &str) -> Option<bool> {
    RequestPath::of(raw).decide(|text| text.starts_with("/admin")).ok()
}

#[test]
fn a_rule_that_tells_the_readings_apart_refuses() {
    let apart = [
        "//admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin",
        "/./admin",
        "/x/..%2fadmin",
        "/x/..%2Fadmin",
        "/x%2f..%2fadmin",
        "/x/..;/admin",
        "/x/..;v=1/admin",
        "/;v/admin",
        "/x/..%3b/admin",
        "/%2fadmin",
        "/\\admin",
        "/%5cadmin",
        "/x/..\\admin",
        "/x\\..\\admin",
        "/x/..%5cadmin",
        "/x/%252e%252e/admin",
        "/x/..%252fadmin",
        "/%25252561dmin",
        "/%%36%31dmin",
        "/x%2f%%32%65./../admin",
        "/x/%c0%ae%c0%ae/admin",
        "/x/%e0%80%ae%e0%80%ae/admin",
        "/x/%f0%80%80%ae./admin",
        "/x/..%c0%afadmin",
        "/x/..%c1%9cadmin",
        "/x/..%c0%2fadmin",
        "/x/..%u002fadmin",
        "/x/..%uff0fadmin",
        "/x/%EF%BC%8E%EF%BC%8E/admin",
        "/x/../\u{ff0f}/../admin",
        "/%00admin",
        "/%0aadmin",
        "/adm%09in",
        "//x.example/admin",
        "/\\x.example/admin",
        "/admin/../x",
        "/admin/..%2fx",
        "/admin\\..\\x",
        "/admin%00/../x",
        "/admin/..;/x",
        "/admin/%2e%2e%3bx/../../y",
        "/x/a//../../admin",
        "/x//../admin",
    ];
    for raw in apart {
        assert_eq!(is_admin(raw), None, "{raw}");
    }
}

#[test]
fn a_rule_that_does_not_tell_them_apart_lets_pass() {
    for raw in [
        "/wp-admin/",
        "/a//b",
        "/a%2Fb",
        "/@scope%2fname",
        "/a;v=1",
        "/a%20b",
        "/m%C3%BCller",
        "/x/../y",
        "/100%25",
        "/100%",
        "/c%23",
        "/a%00b",
        "/a\\b",
        "*",
    ] {
        assert_eq!(is_admin(raw), Some(false), "{raw}");
    }
    for raw in
        ["/admin", "/%61dmin", "/admin//x", "/admin/a%2Fb", "/admin;v=1", "/admin/x/../y", "/admin/%00"]
    {
        assert_eq!(is_admin(raw), Some(true), "{raw}");
    }
}

#[test]
fn a_path_with_too_many_readings_is_refused_and_costs_little() {
    let steering = "/a;b%2f..%5c%3b%252f%00%23%3f//";
    let undecided = |raw: &str| RequestPath::of(raw).decide(|_| ()).err();
    assert_eq!(undecided(&steering.repeat(3)), Some(PathRefusal::Ambiguous));
    assert_eq!(undecided(&format!("/{}//x", "a".repeat(70_000))), Some(PathRefusal::Ambiguous));
    assert_eq!(undecided(&format!("/{}//x", "a".repeat(8_000))), None);
    let tried = std::cell::Cell::new(0);
    let decided = RequestPath::of(&steering.repeat(100)).decide(|_| tried.set(tried.get() + 1));
    assert!(decided.is_err() && tried.get() <= PATH_READINGS_MAX, "{}", tried.get());
}

/// Paths in which much steers.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "/", "/", "\\\\", "\\.", "\\.\\.", ";", "%2e", "%2E", "%2f", "%2F", "%5c", "%3b", "%25", "%252e",
        "%00", "%", "a", "b", "%61", "admin", "public"
    ];
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_forwarded_is_decided_alike_by_every_origin_s_reading(raw in hostile(), rule in "(\\^/(public|admin|a)/?|b\\$|/a|min)") {
        let rule = Regex::new(&rule).unwrap();
        let path = RequestPath::of(&raw);
        if let Ok(decided) = path.decide(|text| rule.is_match(text)) {
            for (name, read) in origins::ALL {
                prop_assert_eq!(rule.is_match(&read(&raw)), decided, "{} reads {:?}", name, read(&raw));
            }
        }
    }

    #[test]
    fn one_reading_is_what_every_origin_reads(raw in hostile()) {
        let path = RequestPath::of(&raw);
        if path.has_one_reading() {
            for (name, read) in origins::ALL {
                prop_assert_eq!(&read(&raw), path.text(), "{}", name);
            }
        }
    }

    #[test]
    fn no_path_makes_it_panic(raw in "(/|%|[0-9a-f]|\\PC){0,40}") {
        drop(RequestPath::parse(&raw));
        let path = RequestPath::of(&raw);
        prop_assert!(path.decide(str::len).is_ok() || !path.has_one_reading());
    }
}
