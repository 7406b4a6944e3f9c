//! Whose request it is: Host, absolute targets and `:authority` (RFC 9110, section 7.2; RFC 9112, section 3.2).

use super::Case;
use crate::case::{Corpus, Site, Step, fields, get};

const CORPUS: Corpus = Corpus("hosts");

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    [strange(), fields_of_one(), targets(), spellings_of_a_guarded_name(), authorities()].concat()
}

/// Hosts that are nobody's, or that can be read in two ways.
const STRANGE: [(&str, &str); 44] = [
    ("a user", "user@{host}"),
    ("a user with a password", "user:pass@{host}"),
    ("the name as a user", "{host}@forged.example"),
    ("the name as a user with a port", "{host}:443@forged.example"),
    ("an empty user", "@{host}"),
    ("empty", ""),
    ("a dot", "."),
    ("an asterisk", "*"),
    ("a wildcard", "*.example.test"),
    ("a dot before it", ".{host}"),
    ("two dots behind it", "{host}.."),
    ("an empty label", "a..{host}"),
    ("a scheme", "http://{host}"),
    ("two slashes", "//{host}"),
    ("a path", "{host}/x"),
    ("a query", "{host}?x"),
    ("a fragment", "{host}#x"),
    ("a backslash", "{host}\\x"),
    ("a semicolon", "{host};x"),
    ("a list", "{host},forged.example"),
    ("a list with a space", "{host}, forged.example"),
    ("two names", "{host} forged.example"),
    ("another name first", "forged.example {host}"),
    ("an encoded dot", "app%2e{host}"),
    ("an encoded NUL", "{host}%00"),
    ("an encoded NUL and a name", "{host}%00.forged.example"),
    ("an encoded line end", "{host}%0d%0aX:y"),
    ("two ports", "{host}:80:80"),
    ("a negative port", "{host}:-1"),
    ("a port with a plus", "{host}:+80"),
    ("a port with a space", "{host}: 80"),
    ("a port that is no number", "{host}:http"),
    ("a port over 65535", "{host}:65536"),
    ("a port over 32 bits", "{host}:4294967376"),
    ("a port and a name", "{host}:80.forged.example"),
    ("a port with a user", "{host}:80@forged.example"),
    ("an IPv6 address", "[::1]"),
    ("an open bracket", "[{host}"),
    ("brackets around it", "[{host}]"),
    ("an IPv6 zone", "[fe80::1%25lo]"),
    ("an IPv4 address", "127.0.0.1"),
    ("localhost", "localhost"),
    ("quotes", "\"{host}\""),
    ("another published name of nobody", "forged.example"),
];

fn strange() -> Vec<Case> {
    let one = |(name, host): (&str, &str)| {
        CORPUS.refused(format!("Host: {name}"), format!("GET /{{id}} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    let mut cases: Vec<Case> = STRANGE.into_iter().map(one).collect();
    for (name, bytes) in [("a byte over 0x7f", &b"\xff"[..]), ("Latin-1", b"\xe4"), ("UTF-8", "ä".as_bytes())]
    {
        let bytes = [&b"GET /{id} HTTP/1.1\r\nHost: "[..], bytes, b"{host}\r\n\r\n"].concat();
        cases.push(CORPUS.refused(format!("Host: {name}"), bytes));
    }
    cases
}

/// None, two, and look-alikes.
fn fields_of_one() -> Vec<Case> {
    let line = "GET /{id} HTTP/1.1\r\n";
    let refused = [
        ("no Host", String::new()),
        ("two Hosts, the same", "Host: {host}\r\nHost: {host}\r\n".to_owned()),
        ("two Hosts, another second", "Host: {host}\r\nHost: forged.example\r\n".to_owned()),
        ("two Hosts, another first", "Host: forged.example\r\nHost: {host}\r\n".to_owned()),
        ("two Hosts, one empty", "Host: {host}\r\nHost:\r\n".to_owned()),
        (
            "two Hosts, one far away",
            format!("Host: {{host}}\r\n{}hOST: forged.example\r\n", "X: y\r\n".repeat(40)),
        ),
        ("a space before the colon", "Host : {host}\r\n".to_owned()),
        ("a folded Host", "Host:\r\n {host}\r\n".to_owned()),
        ("a Host that is folded later", "Host: {host}\r\n .forged.example\r\n".to_owned()),
    ];
    let mut cases: Vec<Case> =
        refused.into_iter().map(|(name, lines)| CORPUS.refused(name, format!("{line}{lines}\r\n"))).collect();
    for name in [
        "X-Host",
        "X-Forwarded-Host",
        "X_Forwarded_Host",
        "X-Forwarded-Server",
        "X-HTTP-Host-Override",
        "Forwarded",
        "X-Original-Host",
    ] {
        let bytes = format!("{line}Host: {{host}}\r\n{name}: forged.example\r\n\r\n");
        cases.push(CORPUS.at_most(format!("another host in {name}"), bytes, "GET", "/{id}").body(""));
    }
    cases
}

/// Targets that name a host themselves.
fn targets() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, target) in [
        ("absolute, another host", "http://forged.example/{id}"),
        ("absolute, a user", "http://user@{host}/{id}"),
        ("absolute, the host as a user", "http://{host}@forged.example/{id}"),
        ("absolute, no host", "http:///{id}"),
        ("absolute, an empty user", "http://@{host}/{id}"),
        ("absolute, another scheme", "ftp://{host}/{id}"),
        ("absolute, file", "file:///{id}"),
        ("absolute, no slashes", "http:{host}/{id}"),
        ("absolute, one slash", "http:/{host}/{id}"),
        ("absolute, backslashes", "http:\\\\{host}\\{id}"),
        ("authority on a GET", "{host}:80"),
        ("a name without a slash", "{id}"),
        ("an asterisk on a GET", "*"),
        ("an empty target", ""),
        ("a query alone", "?{id}"),
        ("a dot segment alone", "../{id}"),
    ] {
        cases.push(
            CORPUS.refused(
                format!("target: {name}"),
                format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n\r\n"),
            ),
        );
    }
    // Without its fragment it is an ordinary target (see `controls`).
    let fragment = "GET http://{host}/{id}#x HTTP/1.1\r\nHost: {host}\r\n\r\n";
    cases.push(CORPUS.at_most("target: absolute, a fragment", fragment, "GET", "/{id}"));
    let connect = "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n";
    cases.push(CORPUS.refused("target: CONNECT", connect));
    cases.push(CORPUS.refused("target: CONNECT elsewhere", connect.replace("{host}", "forged.example")));
    let hidden = format!("{connect}GET /forged-{{id}} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
    cases.push(CORPUS.refused("target: CONNECT with a request behind it", hidden));
    cases
}

/// Every spelling of a name whose connector asks for a token, with a rule behind it that asks for none.
fn spellings_of_a_guarded_name() -> Vec<Case> {
    let at_door = |case: Case| case.at(Site::Door);
    let spellings = [
        ("plain", "{host}"),
        ("a trailing dot", "{host}."),
        ("a trailing dot and a port", "{host}.:443"),
        ("a port", "{host}:443"),
        ("another port", "{host}:8443"),
        ("port 80", "{host}:80"),
        ("an empty port", "{host}:"),
        ("a port with zeros", "{host}:0443"),
        ("a port with many zeros", "{host}:00000000443"),
        ("an encoded letter", "%64oor.LANE"),
        ("two trailing dots", "{host}.."),
        ("a soft hyphen", "do\u{ad}or.LANE"),
        ("full width", "\u{ff44}oor.LANE"),
        ("an ideographic full stop", "door\u{3002}LANE"),
        ("a zero-width joiner", "door\u{200d}.LANE"),
        ("brackets", "[{host}]"),
    ];
    let mut cases = Vec::new();
    for (name, host) in spellings {
        let host = host.replace("LANE", "{lane}");
        let bytes = format!("GET /{{id}} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        cases.push(at_door(CORPUS.refused(format!("guarded name: {name}"), bytes)));
        let steps = vec![fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", &host),
            (":path", "/{id}"),
        ])];
        cases.push(at_door(CORPUS.refused_steps(format!("guarded name: {name}"), steps)));
    }
    for (name, host) in [("upper case", "{HOST}"), ("one letter in upper case", "{Host}")] {
        let bytes = format!("GET /{{id}} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        cases.push(at_door(CORPUS.refused(format!("guarded name: {name}"), bytes)));
        let steps = vec![fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", host),
            (":path", "/{id}"),
        ])];
        cases.push(at_door(CORPUS.refused_steps(format!("guarded name: {name}"), steps)));
    }
    // These are other names, which the wildcard rule serves; nobody may take them for the guarded one.
    for (name, host) in [("an underscore", "door_.{lane}"), ("punycode of ASCII", "xn--door-.{lane}")] {
        let bytes = format!("GET /{{id}} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let case = CORPUS.at_most(format!("another name: {name}"), bytes, "GET", "/{id}");
        cases.push(at_door(case.field("host", &[host])));
    }
    let absolute = "GET http://{host}./{id} HTTP/1.1\r\nHost: {host}.\r\n\r\n";
    cases.push(at_door(CORPUS.refused("guarded name: absolute with a trailing dot", absolute)));
    cases
}

/// The same over HTTP/2 and HTTP/3.
fn authorities() -> Vec<Case> {
    let head = |authority: &str, more: &[(&str, &str)]| -> Vec<Step> {
        let pseudo =
            [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/{id}")];
        vec![fields(&[&pseudo[..], more].concat())]
    };
    let mut cases: Vec<Case> = STRANGE
        .into_iter()
        .map(|(name, host)| CORPUS.refused_steps(format!(":authority: {name}"), head(host, &[])))
        .collect();
    for (name, more) in [
        ("another host", &[("host", "forged.example")][..]),
        ("a host with a user", &[("host", "user@{host}")]),
        ("a host with a port", &[("host", "{host}:444")]),
        ("an empty host", &[("host", "")]),
        ("two hosts", &[("host", "{host}"), ("host", "{host}")]),
        ("two hosts, another second", &[("host", "{host}"), ("host", "forged.example")]),
    ] {
        cases.push(CORPUS.refused_steps(format!(":authority beside {name}"), head("{host}", more)));
    }
    let without = |more: &[(&str, &str)]| {
        vec![fields(&[&[(":method", "GET"), (":scheme", "https"), (":path", "/{id}")][..], more].concat())]
    };
    cases.push(CORPUS.refused_steps("neither :authority nor host", without(&[])));
    cases.push(CORPUS.refused_steps("host alone, of somebody else", without(&[("host", "forged.example")])));
    cases.push(CORPUS.refused_steps("host alone, twice", without(&[("host", "{host}"), ("host", "{host}")])));
    let forged = [("x-forwarded-host", "forged.example"), ("forwarded", "host=forged.example")];
    cases.push(CORPUS.at_most_steps(
        "another host in forwarding fields",
        vec![get("/{id}", &forged)],
        "GET",
        "/{id}",
    ));
    cases
}
