//! Rules, services and settings, in cloudflared's semantics.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::host::Hostname;

fn rule(hostname: &str, path: &str, service: &str) -> Rule {
    Rule {
        edge: None,
        hostname: RuleHost::parse(hostname).unwrap(),
        path: (!path.is_empty()).then(|| path_regex(path).unwrap()),
        service: Service::parse(service).unwrap(),
        more: Vec::new(),
        origin: OriginRequest::default(),
    }
}

fn ingress(rules: &[(&str, &str)]) -> Ingress {
    let mut all: Vec<Rule> = rules.iter().map(|(host, path)| rule(host, path, "http://localhost")).collect();
    all.push(rule("", "", "http_status:404"));
    Ingress::new(all).unwrap()
}

#[test]
fn the_first_match_wins() {
    let rules = ingress(&[
        ("a.example", ""),
        ("*.b.example", ""),
        ("c.example", r"/a|/b$"),
        ("Upper.Example", ""),
        ("bücher.example", ""),
        ("*.bücher.example", ""),
        ("*abc.example", ""),
        ("", "^/only/path"),
        ("p.example", r"^/a b/ü\.png$"),
    ]);
    let cases = [
        ("a.example", "/", 0),
        ("A.example", "/", 9),
        ("x.a.example", "/", 9),
        ("x.b.example", "/", 1),
        ("x.y.b.example", "/", 1),
        ("b.example", "/", 9),
        ("xb.example", "/", 9),
        ("c.example", "/zz/a", 2),
        ("c.example", "/x/b", 2),
        ("c.example", "/b/x", 9),
        ("Upper.Example", "/", 3),
        ("upper.example", "/", 3),
        ("UPPER.EXAMPLE", "/", 9),
        ("bücher.example", "/", 4),
        ("xn--bcher-kva.example", "/", 4),
        ("x.xn--bcher-kva.example", "/", 5),
        ("xabc.example", "/", 9),
        ("*abc.example", "/", 6),
        ("other.example", "/only/path/x", 7),
        ("other.example", "/%6fnly/path", 7),
        ("p.example", "/a%20b/%C3%BC.png", 8),
        ("p.example", "/a b/%ff.png", 9),
        ("", "", 9),
    ];
    for (host, path, expected) in cases {
        assert_eq!(found(&rules, host, path), Ok(Some(expected)), "{host} {path}");
    }
}

fn found(rules: &Ingress, host: &str, path: &str) -> Result<Option<usize>, PathRefusal> {
    Ok(rules.find(host, &RequestPath::of(path))?.map(|(index, _)| index))
}

#[test]
fn a_path_that_two_rules_would_claim_is_refused() {
    let rules = ingress(&[
        ("a.example", "^/public/"),
        ("a.example", ""),
        ("b.example", ""),
        ("c.example", r"\.css$"),
        ("d.example", "^/@scope/name$"),
    ]);
    let order = rules.order();
    let cases = [
        ("a.example", "/public/x", Ok(Some(0))),
        ("a.example", "/public/%78/%C3%BC", Ok(Some(0))),
        ("a.example", "/public//x", Ok(Some(0))),
        ("a.example", "/wp-admin/..//x;v=1", Ok(Some(1))),
        ("a.example", "/public/../admin", Err(PathRefusal::Ambiguous)),
        ("a.example", "/public/%2e%2e/admin", Err(PathRefusal::Ambiguous)),
        ("a.example", "/public/..%2fadmin", Err(PathRefusal::Ambiguous)),
        ("a.example", "/public/..;/admin", Err(PathRefusal::Ambiguous)),
        ("a.example", "//public/x", Err(PathRefusal::Ambiguous)),
        ("b.example", "/public/../admin", Ok(Some(2))),
        ("b.example", "//public/..;/%00/%c0%ae%c0%ae/x", Ok(Some(2))),
        ("c.example", "/account;x.css", Err(PathRefusal::Ambiguous)),
        ("c.example", "/account%3b.css", Err(PathRefusal::Ambiguous)),
        ("c.example", "/a//b.css", Ok(Some(3))),
        ("d.example", "/@scope%2fname", Err(PathRefusal::Ambiguous)),
        ("d.example", "/@other%2fname", Ok(Some(5))),
    ];
    for (host, path, expected) in cases {
        assert_eq!(found(&rules, host, path), expected, "{host} {path}");
        let at_the_edge = order.check(&Hostname::parse(host).unwrap(), &RequestPath::of(path));
        assert_eq!(at_the_edge, expected.map(drop), "{host} {path}");
    }
}

#[test]
fn the_edge_refuses_what_rules_that_it_cannot_read_may_tell_apart() {
    let name = Hostname::parse("a.example").unwrap();
    let check = |paths: [KnownPath; 2], path| {
        let order: RuleOrder = paths.into_iter().map(|path| (HostPattern::Any, path)).collect();
        order.check(&name, &RequestPath::of(path))
    };
    let unknown = || [KnownPath::Unknown, KnownPath::Every];
    assert_eq!(check(unknown(), "/a/b"), Ok(()));
    assert_eq!(check(unknown(), "/a//b"), Err(PathRefusal::Ambiguous));
    assert_eq!(check([KnownPath::Every, KnownPath::Unknown], "/a//b"), Ok(()), "it is never asked");
}

#[test]
fn the_last_rule_and_no_other_matches_everything() {
    let error = |rules: Vec<Rule>| Ingress::new(rules).unwrap_err();
    assert_eq!(error(vec![]), IngressError::Empty);
    assert_eq!(error(vec![rule("a.example", "", "bastion")]), IngressError::LastNotCatchAll);
    assert_eq!(error(vec![rule("", "/x", "bastion")]), IngressError::LastNotCatchAll);
    let early =
        error(vec![rule("a.example", "", "bastion"), rule("*", "", "bastion"), rule("", "", "bastion")]);
    assert_eq!(early, IngressError::EarlyCatchAll { number: 2, hostname: String::new() });
    assert!(Ingress::new(vec![rule("*", "/x", "bastion"), rule("*", "", "bastion")]).is_ok());
}

#[test]
fn host_names_of_rules_are_checked() {
    let cases = [
        ("a.*.example", RuleHostError::Wildcard),
        ("a*.example", RuleHostError::Wildcard),
        ("*.*.example", RuleHostError::Wildcard),
        ("a.example:443", RuleHostError::Port),
        ("*.example:443", RuleHostError::Port),
        ("a example", RuleHostError::Host(crate::host::HostError::Character(' '))),
        ("https://a.example", RuleHostError::Host(crate::host::HostError::Url)),
    ];
    for (text, error) in cases {
        assert_eq!(RuleHost::parse(text), Err(error), "{text}");
    }
    assert_eq!(RuleHost::parse(""), Ok(None));
    assert_eq!(RuleHost::parse("*"), Ok(None));
    assert!(RuleHost::parse("*abc.example").unwrap().unwrap().pattern().is_none());
}

#[test]
fn services_are_read_and_written() {
    let cases = [
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://localhost", "https://localhost"),
        ("ws://localhost", "http://localhost"),
        ("wss://[::1]:8443", "https://[::1]:8443"),
        ("HTTP://localhost", "http://localhost"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix+tls:x", "unix+tls:x"),
        ("tcp://localhost", "tcp://localhost:7864"),
        ("ssh://localhost", "ssh://localhost:22"),
        ("rdp://[::1]", "rdp://[::1]:3389"),
        ("smb://h:1", "smb://h:1"),
        ("ftp://h", "ftp://h"),
        ("ftp://h:21", "ftp://h:21"),
        ("bastion", "bastion"),
        ("socks-proxy", "socks-proxy"),
        ("hello_world", "hello_world"),
        ("hello-world", "hello_world"),
        ("http_status:404", "http_status:404"),
        ("http_status:999", "http_status:999"),
    ];
    for (text, expected) in cases {
        assert_eq!(Service::parse(text).unwrap().to_string(), expected, "{text}");
    }
    let Service::Http { tls, host, port, authority } = Service::parse("https://[::1]").unwrap() else {
        panic!()
    };
    assert_eq!((tls, host.as_str(), port, authority.as_str()), (true, "::1", 443, "[::1]"));
    let Service::Http { host, .. } = Service::parse("http://svc.cluster.local.:3000").unwrap() else {
        panic!()
    };
    assert_eq!(host, "svc.cluster.local.");
}

#[test]
fn bad_services_say_what_is_wrong() {
    let text = |text: &str| text.to_owned();
    let cases = [
        ("", ServiceError::Empty),
        ("localhost", ServiceError::NotAnAddress(text("localhost"))),
        ("localhost:8080", ServiceError::NotAnAddress(text("localhost:8080"))),
        ("http://", ServiceError::NotAnAddress(text("http://"))),
        ("http:///x", ServiceError::NotAnAddress(text("http:///x"))),
        ("http://:80", ServiceError::NotAnAddress(text("http://:80"))),
        ("1http://a", ServiceError::NotAnAddress(text("1http://a"))),
        ("http://a/", ServiceError::Path(text("http://a/"))),
        ("http://a/b", ServiceError::Path(text("http://a/b"))),
        ("http://a?b", ServiceError::Extra(text("http://a?b"))),
        ("http://u:p@a", ServiceError::Extra(text("http://u:p@a"))),
        ("http://a:0", ServiceError::Port(text("http://a:0"))),
        ("http://a:65536", ServiceError::Port(text("http://a:65536"))),
        ("http://a:b", ServiceError::Port(text("http://a:b"))),
        ("http_status:99", ServiceError::Status(text("99"))),
        ("http_status:1000", ServiceError::Status(text("1000"))),
        ("http_status:", ServiceError::Status(String::new())),
        ("unix:", ServiceError::SocketPath),
    ];
    for (text, error) in cases {
        assert_eq!(Service::parse(text), Err(error), "{text}");
    }
}

#[test]
fn suggestions_are_services() {
    let cases = [
        ("localhost:8080", Some("http://localhost:8080")),
        ("localhost:8080/api", Some("http://localhost:8080")),
        ("http://a/b?c", Some("http://a")),
        ("https://u:p@a:1/x", Some("https://a:1")),
        ("/run/x.sock", Some("unix:/run/x.sock")),
        ("http_status:99", None),
        ("unix:", None),
        ("http://", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(Service::suggest(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn claims_are_the_names_of_the_rules() {
    let mut rules =
        ingress(&[("a.example", "/x"), ("a.example", ""), ("*.b.example", ""), ("bücher.example", "")]);
    let names = |claims: &Claims| claims.hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&rules.claims()), ["a.example", "*.b.example", "xn--bcher-kva.example"]);
    assert!(!rules.claims().catch_all);
    rules.rules.last_mut().unwrap().service = Service::HelloWorld;
    assert!(rules.claims().catch_all);
    assert_eq!(names(&ingress(&[("", "/x"), ("*abc.example", "")]).claims()), ["*"]);
    assert!(!Ingress::default_503().claims().catch_all);
}

#[test]
fn claims_from_the_wire_are_the_same() {
    let rules = [
        (Some("a.example"), Some("/x"), "http://localhost"),
        (Some("a.example"), None, "http://localhost"),
        (Some("not a name"), None, "http://localhost"),
        (Some("*"), Some("/y"), "http://localhost"),
        (Some(""), Some(""), "http://localhost"),
    ];
    let claims = Claims::of_rules(rules);
    assert_eq!(claims, Claims::new(["a.example", "*"].map(|text| HostPattern::parse(text).unwrap()), true));
    assert!(!Claims::of_rules([(None, None, "http_status:404")]).catch_all);
    assert!(!Claims::of_rules([(Some("a.example"), None, "http://localhost")]).catch_all);
    assert_eq!(Claims::of_rules([]), Claims::default());
}

#[test]
fn settings_come_from_the_rule_then_the_top_then_the_default() {
    let top = OriginRequestPatch {
        connect_timeout: Some(Duration::from_secs(3)),
        http_host_header: Some("top".to_owned()),
        no_tls_verify: Some(true),
        ..OriginRequestPatch::default()
    };
    let own = OriginRequestPatch {
        connect_timeout: Some(Duration::from_secs(1)),
        http_host_header: Some(String::new()),
        ip_rules: Some(Vec::new()),
        ..OriginRequestPatch::default()
    };
    let top = top.apply(&OriginRequest::default());
    let both = own.apply(&top);
    assert_eq!(both.connect_timeout, Duration::from_secs(1));
    assert_eq!(top.http_host_header.as_deref(), Some("top"));
    assert_eq!(both.http_host_header, None);
    assert!(both.no_tls_verify);
    assert_eq!(both.keep_alive_timeout, Duration::from_secs(90));
    assert_eq!(OriginRequestPatch::default().apply(&top), top);
}

#[test]
fn ip_rules_decide_in_order_and_deny_by_default() {
    let rule = |prefix: &str, ports: &[u16], allow| IpRule {
        prefix: prefix.parse().unwrap(),
        ports: ports.to_vec(),
        allow,
    };
    let origin = OriginRequest {
        ip_rules: vec![
            rule("10.1.0.0/16", &[], false),
            rule("10.0.0.0/8", &[80, 443], true),
            rule("2001:db8::/32", &[], true),
            rule("::1/128", &[22], true),
        ],
        ..OriginRequest::default()
    };
    let allows =
        |address: &str, port| origin.allows(std::net::SocketAddr::new(address.parse().unwrap(), port));
    assert!(allows("10.2.3.4", 80));
    assert!(allows("::ffff:10.2.3.4", 80));
    assert!(allows("2001:db8:1::1", 1));
    assert!(allows("::1", 22));
    for (address, port) in
        [("10.1.2.3", 80), ("10.2.3.4", 22), ("192.0.2.1", 80), ("2001:db9::", 80), ("::1", 23)]
    {
        assert!(!allows(address, port), "{address} {port}");
    }
    assert!(!OriginRequest::default().allows("127.0.0.1:80".parse().unwrap()));
}

#[test]
fn networks_are_read_and_written() {
    let cases = [
        ("192.168.1.2/16", Some("192.168.0.0/16")),
        ("0.0.0.0/0", Some("0.0.0.0/0")),
        ("::/0", Some("::/0")),
        ("::1/128", Some("::1/128")),
        // All of IPv4, as in Go: addresses are compared in their canonical form.
        ("::ffff:1.2.3.4/96", Some("0.0.0.0/0")),
        ("::ffff:10.1.2.3/104", Some("10.0.0.0/8")),
        ("1.2.3.4/33", None),
        ("::/129", None),
        ("1.2.3.4", None),
        ("a/8", None),
        ("1.2.3.4/-1", None),
        ("", None),
    ];
    for (text, expected) in cases {
        let read = text.parse::<IpPrefix>().ok().map(|prefix| prefix.to_string());
        assert_eq!(read.as_deref(), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_request_and_no_text_makes_it_panic(host in ".{0,30}", path in ".{0,30}", text in ".{0,30}") {
        let rules = ingress(&[("a.example", "/[a-z]+$"), ("*.b.example", "")]);
        let found = rules.find(&host, &RequestPath::of(&path));
        prop_assert!(found.is_ok_and(|found| found.is_some()) || !RequestPath::of(&path).has_one_reading());
        if let Some(meant) = Service::suggest(&text) {
            prop_assert!(Service::parse(&meant).is_ok());
        }
        drop((Service::parse(&text), RuleHost::parse(&text), path_regex(&text), text.parse::<IpPrefix>()));
    }

    #[test]
    fn a_service_reads_what_it_writes(text in "(http|https|ws|tcp|ftp)://[a-z]{1,5}(:[1-9][0-9]{0,3})?") {
        let service = Service::parse(&text).unwrap();
        prop_assert_eq!(Service::parse(&service.to_string()).unwrap(), service);
    }
}
