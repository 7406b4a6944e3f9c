//! Requests of HTTP/2 and HTTP/3 that no request of HTTP/1.1 means (RFC 9113, section 8; RFC 9114, section 4).

use super::Case;
use crate::case::{Corpus, Protocol, Step, data, fields, get, head};

const CORPUS: Corpus = Corpus("downgrade");

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "{host}");
const PATH: (&str, &str) = (":path", "/{id}");

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    [pseudo(), values(), names(), of_a_connection(), lengths(), trailers(), connect()].concat()
}

/// Pseudo-fields that are missing, late, twice or unknown.
fn pseudo() -> Vec<Case> {
    let all = [METHOD, SCHEME, AUTHORITY, PATH];
    let with = |more: &[(&str, &str)]| fields(&[&all[..], more].concat());
    let mut cases = Vec::new();
    for (index, (name, _)) in all.iter().enumerate() {
        let mut left = all.to_vec();
        left.remove(index);
        cases.push(CORPUS.refused_steps(format!("no {name}"), vec![fields(&left)]));
        let twice = with(&[all[index]]);
        cases.push(CORPUS.refused_steps(format!("{name} twice, the same"), vec![twice]));
        let late = [&left[..], &[("accept", "*/*"), all[index]]].concat();
        cases.push(CORPUS.refused_steps(format!("{name} behind a field"), vec![fields(&late)]));
    }
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "forged.example"),
        (":path", "/forged-{id}"),
        (":status", "200"),
        (":protocol", "websocket"),
        (":unknown", "x"),
        (":", "x"),
        (":Method", "GET"),
        (":path ", "/x"),
    ] {
        cases.push(CORPUS.refused_steps(format!("{name} {value} besides"), vec![with(&[(name, value)])]));
        let late = with(&[("accept", "*/*"), (name, value)]);
        cases.push(CORPUS.refused_steps(format!("{name} {value} behind a field"), vec![late]));
    }
    cases.push(CORPUS.refused_steps("no field at all", vec![fields(&[])]));
    cases
}

/// Values of pseudo-fields that would be something else in a request line.
fn values() -> Vec<Case> {
    let mut cases = Vec::new();
    let one = |name: &str, value: &str| {
        let all = [METHOD, SCHEME, AUTHORITY, PATH];
        let replaced =
            all.map(
                |(known, good)| {
                    if known == name { (known, value.to_owned()) } else { (known, good.to_owned()) }
                },
            );
        let replaced: Vec<(&str, &str)> =
            replaced.iter().map(|(name, value)| (*name, value.as_str())).collect();
        CORPUS.refused_steps(format!("{name} `{}`", value.escape_debug()), vec![fields(&replaced)])
    };
    for value in [
        "",
        "G T",
        "GET ",
        " GET",
        "GET /forged-{id} HTTP/1.1\r\nX:",
        "GET\t",
        "GE:T",
        "GET\r\n",
        "(GET)",
        "GET,POST",
    ] {
        cases.push(one(":method", value));
    }
    for value in ["", "ftp", "file", "javascript", "https://forged.example/", "https ", "http\r\nX: y", "://"]
    {
        cases.push(one(":scheme", value));
    }
    for value in [
        "",
        "x",
        "x/{id}",
        "?{id}",
        "*",
        "http://{host}/{id}",
        " /{id}",
        "\\{id}",
        ".",
        "@forged.example/{id}",
        ":80/{id}",
    ] {
        cases.push(one(":path", value));
    }
    cases
}

/// Names in upper case.
fn names() -> Vec<Case> {
    ["Accept", "aCCEPT", "X-Any", "Host", "Content-Length", "Cookie", "X_Any", "Transfer-Encoding"]
        .into_iter()
        .map(|name| CORPUS.refused_steps(format!("name {name}"), vec![get("/{id}", &[(name, "0")])]))
        .chain([CORPUS.refused_steps("an empty name", vec![get("/{id}", &[("", "x")])])])
        .collect()
}

/// Fields that HTTP/1.1 has for a connection (RFC 9113, section 8.2.2).
fn of_a_connection() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("connection", "close"),
        ("connection", "keep-alive, x-any"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
    ] {
        let name_of = format!("{name}: {value}");
        cases.push(CORPUS.refused_steps(name_of.clone(), vec![get("/{id}", &[(name, value)])]));
        let body = vec![head("POST", "/{id}", &[(name, value)]), data("5\r\nhello\r\n0\r\n\r\n")];
        cases.push(CORPUS.refused_steps(format!("{name_of} with a body"), body));
    }
    for name in ["http2-settings", "transfer_encoding", "content_length", "proxy_connection", "keep_alive"] {
        let steps = vec![head("POST", "/{id}", &[(name, "forged")]), data("hello")];
        cases.push(CORPUS.at_most_steps(format!("{name} with a body"), steps, "POST", "/{id}").body("hello"));
    }
    cases
}

/// Content-Length against what is sent (RFC 9113, section 8.1.1).
fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "0",
        "4",
        "6",
        "500",
        "-5",
        "+5",
        "005",
        "5,5",
        "5 ",
        "0x5",
        "",
        "five",
        "9223372036854775813",
        "18446744073709551621",
    ] {
        let steps = vec![head("POST", "/{id}", &[("content-length", value)]), data("hello")];
        // A body that turns out longer or shorter may have begun; it never ends.
        cases.push(CORPUS.broken_steps(format!("content-length `{value}` and five bytes"), steps));
        let parts =
            vec![head("POST", "/{id}", &[("content-length", value)]), data("hel"), Step::Pause, data("lo")];
        cases.push(
            CORPUS.broken_steps(format!("content-length `{value}` and five bytes in two frames"), parts),
        );
    }
    for value in ["1", "5"] {
        let steps = vec![get("/{id}", &[("content-length", value)])];
        cases.push(CORPUS.broken_steps(format!("content-length `{value}` and no body"), steps));
        let steps = vec![head("POST", "/{id}", &[("content-length", value)]), Step::End];
        cases.push(CORPUS.broken_steps(format!("content-length `{value}` and an empty end"), steps));
    }
    for (name, more) in [
        ("two, the second wrong", [("content-length", "5"), ("content-length", "6")]),
        ("two, the first wrong", [("content-length", "6"), ("content-length", "5")]),
    ] {
        let steps = vec![head("POST", "/{id}", &more), data("hello")];
        cases.push(CORPUS.broken_steps(format!("content-length: {name}"), steps));
    }
    for te in [&[][..], &[("te", "trailers")]] {
        let more = [&[("content-length", "9")], te].concat();
        let steps = vec![head("POST", "/{id}", &more), data("hello"), fields(&[("x-sum", "1")])];
        cases.push(
            CORPUS.broken_steps(format!("content-length 9, five bytes and trailers, {} te", te.len()), steps),
        );
    }
    let hidden = "0\r\n\r\nGET /forged-{id} HTTP/1.1\r\nHost: {host}\r\n\r\n";
    let steps = vec![head("POST", "/{id}", &[("content-length", "0")]), data(hidden)];
    cases.push(CORPUS.broken_steps("content-length 0 and a request as the body", steps));
    cases
}

/// Trailers with what belongs to the head.
fn trailers() -> Vec<Case> {
    let post = |trailers: &[(&str, &str)], te: &[(&str, &str)]| {
        vec![head("POST", "/{id}", te), data("hello"), fields(trailers)]
    };
    let mut cases = Vec::new();
    for (how, te) in [("", &[][..]), (", asked for", &[("te", "trailers")])] {
        for (name, value) in MALFORMED_TRAILERS {
            let title = format!("trailer `{name}: {}`{how}", value.escape_debug());
            cases.push(CORPUS.broken_steps(title, post(&[(name, value)], te)));
        }
        for (name, value) in PSEUDO_TRAILERS {
            let title = format!("trailer `{name}: {value}`{how}");
            cases.push(CORPUS.broken_steps(title.clone(), post(&[(name, value)], te)).only(Protocol::Http3));
            // The library for HTTP/2 drops them before anybody sees them, where RFC 9113, section 8.1, wants the stream to end. The
            // origin must not see more than the request without them.
            let dropped =
                CORPUS.at_most_steps(title, post(&[(name, value)], te), "POST", "/{id}").body("hello");
            cases.push(dropped.only(Protocol::Http2));
        }
    }
    for (name, value) in DROPPED_TRAILERS {
        for (how, te) in [("", &[][..]), (", asked for", &[("te", "trailers")])] {
            let case = CORPUS.at_most_steps(
                format!("trailer `{name}`{how}"),
                post(&[(name, value)], te),
                "POST",
                "/{id}",
            );
            cases.push(case.body("hello"));
        }
    }
    cases
}

/// Pseudo-fields in trailers (RFC 9113, section 8.1; RFC 9114, section 4.3).
const PSEUDO_TRAILERS: [(&str, &str); 7] = [
    (":method", "GET"),
    (":path", "/forged-{id}"),
    (":authority", "forged.example"),
    (":scheme", "http"),
    (":status", "200"),
    (":protocol", "websocket"),
    (":unknown", "x"),
];
/// Trailers that make the request malformed.
const MALFORMED_TRAILERS: [(&str, &str); 7] = [
    ("X-Upper", "x"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("x", "a\r\nforged: forged"),
    ("x y", "z"),
    ("x", "a\0"),
    ("", "x"),
];
/// Trailers that are dropped; the request may arrive.
const DROPPED_TRAILERS: [(&str, &str); 11] = [
    ("content-length", "5"),
    ("content-length", "500"),
    ("host", "forged.example"),
    ("authorization", "forged"),
    ("cookie", "a=forged"),
    ("x-forwarded-for", "forged"),
    ("cf-access-jwt-assertion", "forged"),
    ("remote-user", "forged"),
    ("content_length", "5"),
    ("transfer_encoding", "chunked"),
    ("trailer", "x"),
];

/// CONNECT, which no name here serves.
fn connect() -> Vec<Case> {
    let hidden = "GET /forged-{id} HTTP/1.1\r\nHost: {host}\r\n\r\n";
    let connect = [(":method", "CONNECT"), AUTHORITY];
    let with = |more: &[(&str, &str)]| fields(&[&connect[..], more].concat());
    vec![
        CORPUS.refused_steps("CONNECT", vec![with(&[])]),
        CORPUS.refused_steps("CONNECT with a request as its bytes", vec![with(&[]), data(hidden)]),
        CORPUS.refused_steps(
            "CONNECT elsewhere",
            vec![fields(&[(":method", "CONNECT"), (":authority", "forged.example:80")])],
        ),
        CORPUS.refused_steps("CONNECT with a path", vec![with(&[SCHEME, PATH]), data(hidden)]),
        CORPUS.refused_steps("CONNECT with a scheme", vec![with(&[SCHEME])]),
        CORPUS.refused_steps("CONNECT without an authority", vec![fields(&[(":method", "CONNECT")])]),
        CORPUS.refused_steps(
            "CONNECT for a protocol of nobody",
            vec![with(&[SCHEME, PATH, (":protocol", "forged")]), data(hidden)],
        ),
        CORPUS.refused_steps("CONNECT for an empty protocol", vec![with(&[SCHEME, PATH, (":protocol", "")])]),
    ]
}
