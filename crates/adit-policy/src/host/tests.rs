//! Names and patterns: what is accepted, what is refused, what covers what.

use proptest::prelude::*;

use super::*;

#[test]
fn names_from_configuration_become_canonical() {
    let cases = [
        ("a.example", Ok("a.example")),
        ("A.Example", Ok("a.example")),
        ("a.example.", Ok("a.example")),
        ("bücher.example", Ok("xn--bcher-kva.example")),
        ("BÜCHER.example", Ok("xn--bcher-kva.example")),
        ("localhost", Ok("localhost")),
        ("my_app.example", Ok("my_app.example")),
        ("10.0.0.1", Ok("10.0.0.1")),
        ("", Err(HostError::Empty)),
        (".", Err(HostError::Empty)),
        ("a..b", Err(HostError::EmptyLabel)),
        (".a", Err(HostError::EmptyLabel)),
        ("a.b..", Err(HostError::EmptyLabel)),
        ("-a.b", Err(HostError::Hyphen)),
        ("a-.b", Err(HostError::Hyphen)),
        ("a b", Err(HostError::Character(' '))),
        ("a.b:443", Err(HostError::Port)),
        ("[::1]", Err(HostError::Port)),
        ("http://a.b", Err(HostError::Url)),
        ("a.b/c", Err(HostError::Url)),
        ("u@a.b", Err(HostError::UserInfo)),
        ("a.*.b", Err(HostError::Wildcard)),
        ("a\0b", Err(HostError::Character('\0'))),
    ];
    for (text, expected) in cases {
        assert_eq!(
            Hostname::parse(text).as_ref().map(Hostname::as_str).map_err(|error| *error),
            expected,
            "{text:?}"
        );
    }
    assert_eq!(Hostname::parse(&"a".repeat(64)), Err(HostError::LabelTooLong));
    assert!(Hostname::parse(&format!("{}b", "a.".repeat(126))).is_ok());
    assert_eq!(Hostname::parse(&format!("{}bb", "a.".repeat(126))), Err(HostError::TooLong));
}

#[test]
fn names_from_requests_lose_their_port() {
    let cases: &[(&[u8], Result<&str, HostError>)] = &[
        (b"A.Example:443", Ok("a.example")),
        (b"a.example.", Ok("a.example")),
        (b"a.example.:443", Ok("a.example")),
        (b"a.example:", Ok("a.example")),
        (b"127.0.0.1:80", Ok("127.0.0.1")),
        (b"[2001:DB8::1]:443", Ok("[2001:db8::1]")),
        (b"[::1]", Ok("[::1]")),
        (b"-a.example", Ok("-a.example")),
        (b"", Err(HostError::Empty)),
        (b":443", Err(HostError::Empty)),
        (b"a:b", Err(HostError::BadPort)),
        (b"a:1:2", Err(HostError::BadPort)),
        (b"a:65536", Err(HostError::BadPort)),
        (b"::1", Err(HostError::BadPort)),
        (b"u:p@a.example", Err(HostError::BadPort)),
        (b"u@a.example", Err(HostError::UserInfo)),
        (b"a.example\r\nx: y", Err(HostError::BadPort)),
        (b"a.example\r\n", Err(HostError::Character('\r'))),
        (b"a example", Err(HostError::Character(' '))),
        (b"a.example/", Err(HostError::Character('/'))),
        (b"a%2eexample", Err(HostError::Character('%'))),
        (b"*.example", Err(HostError::Wildcard)),
        (b"b\xc3\xbccher.example", Err(HostError::Character('ü'))),
        (b"\xff", Err(HostError::Character('\u{fffd}'))),
        (b"[::1", Err(HostError::BadAddress)),
        (b"[a]", Err(HostError::BadAddress)),
        (b"[::1]x", Err(HostError::BadPort)),
    ];
    for (text, expected) in cases {
        let actual = Hostname::from_authority(text);
        let actual = actual.as_ref().map(Hostname::as_str).map_err(|error| *error);
        assert_eq!(actual, *expected, "{}", text.escape_ascii());
    }
    assert_eq!(Hostname::from_authority(&[b'a'; 300]), Err(HostError::TooLong));
}

#[test]
fn patterns_are_read_and_written() {
    for text in ["*", "*.a.b", "a.b", "*.b"] {
        assert_eq!(HostPattern::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(HostPattern::parse("*.Bücher.example").unwrap().to_string(), "*.xn--bcher-kva.example");
    let cases = [
        ("a.*.b", HostError::Wildcard),
        ("*abc.com", HostError::Wildcard),
        ("*.*.b", HostError::Wildcard),
        ("**", HostError::Wildcard),
        ("*.", HostError::Empty),
        ("a.b:443", HostError::Port),
        ("*.a.b:443", HostError::Port),
        ("", HostError::Empty),
    ];
    for (text, error) in cases {
        assert_eq!(HostPattern::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_wildcard_matches_below_and_not_the_parent() {
    let cases = [
        ("*.a.b", "x.a.b", true),
        ("*.a.b", "x.y.a.b", true),
        ("*.a.b", "a.b", false),
        ("*.a.b", "xa.b", false),
        ("*.a.b", "x.a.b.c", false),
        ("*", "anything", true),
        ("a.b", "a.b", true),
        ("a.b", "x.a.b", false),
    ];
    for (pattern, host, expected) in cases {
        let pattern = HostPattern::parse(pattern).unwrap();
        assert_eq!(pattern.matches(&Hostname::parse(host).unwrap()), expected, "{pattern} {host}");
    }
}

/// Few labels, so that patterns meet often.
fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "aa"], 1..4).prop_map(|labels| labels.join("."))
}

fn pattern() -> impl Strategy<Value = HostPattern> {
    let exact = name().prop_map(|name| HostPattern::parse(&name).unwrap());
    let wildcard = name().prop_map(|name| HostPattern::parse(&format!("*.{name}")).unwrap());
    prop_oneof![1 => Just(HostPattern::Any), 4 => exact, 4 => wildcard]
}

proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in ".{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        drop((HostPattern::parse(&text), Hostname::from_authority(&bytes)));
    }

    #[test]
    fn a_canonical_name_stays_as_it_is(text in "[a-zA-Z0-9._üß:-]{1,30}") {
        if let Ok(name) = Hostname::parse(&text) {
            prop_assert_eq!(&Hostname::parse(name.as_str()).unwrap(), &name);
            prop_assert_eq!(&Hostname::from_authority(name.as_str().as_bytes()).unwrap(), &name);
        }
    }

    #[test]
    fn what_covers_matches_all_that_the_other_matches(wide in pattern(), narrow in pattern(), host in name()) {
        let host = Hostname::parse(&host).unwrap();
        if wide.covers(&narrow) && narrow.matches(&host) {
            prop_assert!(wide.matches(&host));
            prop_assert!(wide.specificity() <= narrow.specificity());
        }
    }

    #[test]
    fn an_intersection_is_what_both_match(one in pattern(), other in pattern(), host in name()) {
        let host = Hostname::parse(&host).unwrap();
        let both = one.matches(&host) && other.matches(&host);
        prop_assert_eq!(one.intersection(&other).is_some_and(|common| common.matches(&host)), both);
    }
}

#[test]
fn every_spelling_of_a_host_has_one_normal_form() {
    let cases = [
        ("a.example", "a.example"),
        ("A.Example.", "a.example"),
        ("a.example:", "a.example"),
        ("a.example.:", "a.example"),
        ("a.example:08443", "a.example:8443"),
        ("A.EXAMPLE.:443", "a.example:443"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[2001:0DB8:0:0::1]:443", "[2001:db8::1]:443"),
        ("[::1]:", "[::1]"),
        ("[::FFFF:1.2.3.4]", "[::ffff:1.2.3.4]"),
    ];
    for (written, expected) in cases {
        let authority = Authority::parse(written.as_bytes()).unwrap();
        assert_eq!(authority.to_string(), expected, "{written}");
        assert_eq!(Authority::parse(expected.as_bytes()).unwrap(), authority, "{written}");
        assert!(expected.starts_with(authority.host()));
        assert_eq!(authority.is_written(written.as_bytes()), written == expected, "{written}");
        assert!(authority.is_written(expected.as_bytes()), "{expected}");
    }
    for written in [
        "a.example..",
        "a.example:80:",
        "a.example:+80",
        "[::1%25eth0]",
        "[::1].",
        "a.example,b.example",
        "u@a.example",
        " a.example",
    ] {
        assert!(Authority::parse(written.as_bytes()).is_err(), "{written}");
    }
}
