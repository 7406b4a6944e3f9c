//! Legal requests of many kinds: every one arrives, exactly, and gets its answer. A proxy that is safe because it refuses what
//! people send is of no use.

use super::Case;
use crate::case::{Corpus, Protocol, Step, data, fields, get, head};

const CORPUS: Corpus = Corpus("legal");

fn ask(method: &str, target: &str, lines: &str, body: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n{body}")
}

fn get1(name: &str, lines: &str) -> Case {
    CORPUS.legal(name, ask("GET", "/{id}", lines, ""), "GET", "/{id}").body("")
}

fn post1(name: &str, lines: &str, body: &str) -> Case {
    CORPUS.legal(name, ask("POST", "/{id}", lines, body), "POST", "/{id}")
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    [methods(), names(), values(), cookies(), bodies(), trailers(), lines(), long(), multiplexed()].concat()
}

fn methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in
        ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "PURGE", "QUERY", "M-SEARCH", "get"]
    {
        cases.push(
            CORPUS.legal(format!("method {method}"), ask(method, "/{id}", "", ""), method, "/{id}").body(""),
        );
        let steps = vec![head(method, "/{id}", &[])];
        cases.push(CORPUS.legal_steps(format!("method {method}"), steps, method, "/{id}").body(""));
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let bytes = ask(method, "/{id}", "Content-Length: 5\r\n", "hello");
        cases
            .push(CORPUS.legal(format!("method {method} with a body"), bytes, method, "/{id}").body("hello"));
        let steps = vec![head(method, "/{id}", &[]), data("hello")];
        cases.push(
            CORPUS.legal_steps(format!("method {method} with a body"), steps, method, "/{id}").body("hello"),
        );
    }
    // It is about the server as a whole (RFC 9110, section 9.3.7): the edge answers, and the origin may see nothing else.
    let about_all = [
        CORPUS.legal("OPTIONS *", ask("OPTIONS", "*", "", ""), "OPTIONS", "*").body(""),
        CORPUS.legal_steps("OPTIONS *", vec![head("OPTIONS", "*", &[])], "OPTIONS", "*").body(""),
    ];
    cases.extend(about_all.map(|mut case| {
        if let crate::case::Expect::Exactly(reading) = case.expect {
            case.expect = crate::case::Expect::AtMost(reading);
        }
        case
    }));
    cases
}

/// Names that are no alias of anything.
fn names() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [
        "My_Custom",
        "x_api_key",
        "X-Api-Key",
        "X-CSRF-Token",
        "X_CSRF_Token",
        "csrftoken",
        "User_Agent_Hint",
        "X-Requested-With",
        "X-User-Agent",
        "X-Users",
        "X-Email-Id",
        "X-Forward",
        "X-Realm",
        "Proxied",
        "Remoteness",
        "Cfg",
        "Traceparent",
        "Tus-Resumable",
        "Depth",
        "Destination",
        "SOAPAction",
        "Sec-Fetch-Mode",
        "DNT",
        "Upgrade-Insecure-Requests",
        "X-Custom.Name",
        "x!#$%&'*+-.^_`|~9",
        "_",
        "a",
        "Content-Length-Hint",
        "Host-Name",
        "X-Host-Id",
    ] {
        cases.push(get1(&format!("name {name}"), &format!("{name}: kept\r\n")).field(name, &["kept"]));
        let lower = name.to_ascii_lowercase();
        let steps = vec![get("/{id}", &[(&lower, "kept")])];
        cases.push(
            CORPUS.legal_steps(format!("name {lower}"), steps, "GET", "/{id}").field(&lower, &["kept"]),
        );
    }
    cases
}

fn values() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, field, value) in [
        ("a range", "Range", "bytes=0-99,200-"),
        ("a condition", "If-None-Match", "W/\"a\", \"b,c\""),
        ("a date", "If-Modified-Since", "Thu, 26 Nov 2026 01:00:00 GMT"),
        ("basic credentials", "Authorization", "Basic dXNlcjpwYXNz"),
        ("bearer credentials", "Authorization", "Bearer a.b-c_d~e+f/g=="),
        ("a preference", "Accept", "text/html;q=0.9, */*;q=0.1"),
        ("quotes and commas", "X-Any", "a=\"b, c; d=\\\"e\\\"\", f"),
        ("a tab inside", "X-Any", "a\tb"),
        ("spaces inside", "X-Any", "a  b   c"),
        ("an empty value", "X-Any", ""),
        ("JSON", "X-Any", "{\"a\":[1,2],\"b\":\"c\"}"),
        ("a URL", "Referer", "https://a.example/b?c=d#e"),
        ("a colon", "X-Any", "a: b: c"),
        ("UTF-8", "X-Any", "Käse ☃"),
        ("a language", "Accept-Language", "de-DE, en;q=0.5"),
        ("a length in words", "X-Any", "Content-Length: 5"),
        ("percent signs", "X-Any", "%0d%0a%00"),
        ("a user agent", "User-Agent", "Mozilla/5.0 (X11; Linux x86_64) a/1.0"),
        ("an origin", "Origin", "null"),
    ] {
        let lines = format!("{field}: {value}\r\n");
        cases.push(get1(&format!("value: {name}"), &lines).field(field, &[value]));
        let lower = field.to_ascii_lowercase();
        let steps = vec![get("/{id}", &[(&lower, value)])];
        cases.push(
            CORPUS.legal_steps(format!("value: {name}"), steps, "GET", "/{id}").field(&lower, &[value]),
        );
    }
    cases.push(get1("a field twice", "X-Any: a\r\nX-Other: b\r\nX-Any: c\r\n").field("x-any", &["a", "c"]));
    cases.push(get1("white space around a value", "X-Any: \t a b \t \r\n").field("x-any", &["a b"]));
    cases.push(get1("no space behind a colon", "X-Any:a\r\n").field("x-any", &["a"]));
    let latin = [&b"GET /{id} HTTP/1.1\r\nHost: {host}\r\nX-Any: caf\xe9\r\n\r\n"[..]].concat();
    let mut latin = CORPUS.legal("value: Latin-1", latin, "GET", "/{id}");
    if let crate::case::Expect::Exactly(reading) = &mut latin.expect {
        reading.fields.push(("x-any".to_owned(), vec![b"caf\xe9".to_vec()]));
    }
    cases.push(latin);
    cases
}

fn cookies() -> Vec<Case> {
    let crumbs = |crumbs: &[&str], joined: &str, name: &str| {
        let lines: String = crumbs.iter().map(|crumb| format!("Cookie: {crumb}\r\n")).collect();
        let pairs: Vec<(&str, &str)> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        let steps =
            CORPUS.legal_steps(format!("cookies: {name}"), vec![get("/{id}", &pairs)], "GET", "/{id}");
        [
            get1(&format!("cookies: {name}"), &lines).field("cookie", &[joined]),
            steps.field("cookie", &[joined]),
        ]
    };
    [
        crumbs(&["a=1"], "a=1", "one"),
        crumbs(&["a=1; b=2"], "a=1; b=2", "two in one line"),
        crumbs(&["a=1", "sessionid=xyz"], "a=1; sessionid=xyz", "two crumbs"),
        crumbs(&["a=1", "b=2; c=3", "d=\"4\""], "a=1; b=2; c=3; d=\"4\"", "three crumbs"),
        crumbs(&["a=b=c; d; e="], "a=b=c; d; e=", "odd ones"),
        crumbs(&["a_b=1; A-B=2"], "a_b=1; A-B=2", "names with underscores"),
    ]
    .concat()
}

fn bodies() -> Vec<Case> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let large = "x".repeat(100_000);
    let chunks: String = (0..50).map(|number| format!("2;n={number}\r\nab\r\n")).collect();
    vec![
        post1("body: with a length", "Content-Length: 5\r\n", "hello").body("hello"),
        post1("body: empty", "Content-Length: 0\r\n", "").body(""),
        post1("body: none on a POST", "", "").body(""),
        post1("body: one chunk", chunked, "5\r\nhello\r\n0\r\n\r\n").body("hello"),
        post1("body: no chunk but the last", chunked, "0\r\n\r\n").body(""),
        post1("body: chunks", chunked, "1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n").body("hello"),
        post1("body: upper-case size", chunked, "A\r\n0123456789\r\n0\r\n\r\n").body("0123456789"),
        post1("body: lower-case size", chunked, "a\r\n0123456789\r\n0\r\n\r\n").body("0123456789"),
        post1("body: zeros before a size", chunked, "0005\r\nhello\r\n000\r\n\r\n").body("hello"),
        post1("body: an extension", chunked, "5;a\r\nhello\r\n0\r\n\r\n").body("hello"),
        post1("body: an extension with a value", chunked, "5;a=b\r\nhello\r\n0;c=d\r\n\r\n").body("hello"),
        post1("body: a quoted extension", chunked, "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n").body("hello"),
        post1("body: two extensions", chunked, "5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\n").body("hello"),
        post1("body: many chunks", chunked, &format!("{chunks}0\r\n\r\n")).body("ab".repeat(50)),
        post1("body: TE in upper case", "TRANSFER-ENCODING: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n")
            .body("hello"),
        post1("body: white space around TE", "Transfer-Encoding:  chunked \t\r\n", "0\r\n\r\n").body(""),
        post1("body: line ends in it", "Content-Length: 10\r\n", "\r\n\r\n0\r\n\r\n\n")
            .body("\r\n\r\n0\r\n\r\n\n".get(..10).unwrap_or_default()),
        post1("body: a request in it", "Content-Length: 18\r\n", "GET / HTTP/1.1\r\n\r\n")
            .body("GET / HTTP/1.1\r\n\r\n"),
        post1("body: large", &format!("Content-Length: {}\r\n", large.len()), &large).body(large.as_str()),
        post1("body: Expect", "Content-Length: 5\r\nExpect: 100-continue\r\n", "hello").body("hello"),
        post1("body: Expect in upper case", "Content-Length: 5\r\nExpect: 100-Continue\r\n", "hello")
            .body("hello"),
        post1(
            "body: Expect with chunks",
            &format!("{chunked}Expect: 100-continue\r\n"),
            "5\r\nhello\r\n0\r\n\r\n",
        )
        .body("hello"),
        post1("body: encoded", "Content-Encoding: gzip\r\nContent-Length: 5\r\n", "hello")
            .body("hello")
            .field("content-encoding", &["gzip"]),
        CORPUS
            .legal("body: on a GET", ask("GET", "/{id}", "Content-Length: 5\r\n", "hello"), "GET", "/{id}")
            .body("hello"),
    ]
}

fn trailers() -> Vec<Case> {
    let body = "5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n";
    let lines = "Transfer-Encoding: chunked\r\n";
    let mut cases = vec![
        post1(
            "trailers: announced and asked for",
            &format!("TE: trailers\r\nTrailer: X-Checksum\r\n{lines}"),
            body,
        ),
        post1("trailers: announced", &format!("Trailer: X-Checksum\r\n{lines}"), body),
        post1("trailers: asked for", &format!("TE: trailers\r\n{lines}"), body),
        post1("trailers: neither", lines, body),
    ];
    for (how, te) in
        [("", &[][..]), (", asked for", &[("te", "trailers")]), (", announced", &[("trailer", "x-checksum")])]
    {
        let steps = vec![head("POST", "/{id}", te), data("hello"), fields(&[("x-checksum", "abc")])];
        cases.push(CORPUS.legal_steps(format!("trailers{how}"), steps, "POST", "/{id}"));
    }
    cases.into_iter().map(|case| case.body("hello").trailer("x-checksum", "abc")).collect()
}

/// Heads that are written in other ways than most clients do.
fn lines() -> Vec<Case> {
    let host = |name: &str, line: &str| {
        CORPUS.legal(name, format!("GET /{{id}} HTTP/1.1\r\n{line}\r\n\r\n"), "GET", "/{id}")
    };
    vec![
        host("Host in lower case", "host: {host}"),
        host("Host in upper case", "HOST: {host}"),
        host("Host without a space", "Host:{host}"),
        host("Host with white space around it", "Host: \t{host} \t"),
        host("Host behind other fields", "X-Any: a\r\nAccept: */*\r\nHost: {host}"),
        host("Host with a port", "Host: {host}:8443").field("host", &["{host}:8443"]),
        host("Host in another case", "Host: {HOST}").any_host(),
        host("Connection: close", "Host: {host}\r\nConnection: close"),
        host("Connection: keep-alive", "Host: {host}\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5"),
        host("a field that Connection lists is gone", "Host: {host}\r\nConnection: X-Hop\r\nX-Hop: a")
            .field("x-hop", &[]),
        host("an empty line before the request", "Host: {host}").with_start("\r\n"),
        CORPUS
            .legal(
                "absolute target",
                "GET http://{host}/{id} HTTP/1.1\r\nHost: {host}\r\n\r\n",
                "GET",
                "/{id}",
            )
            .only(Protocol::Plain),
        CORPUS.legal("HTTP/1.0", "GET /{id} HTTP/1.0\r\nHost: {host}\r\n\r\n", "GET", "/{id}"),
        CORPUS
            .legal(
                "HTTP/1.0 with a body",
                "POST /{id} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello",
                "POST",
                "/{id}",
            )
            .body("hello"),
        CORPUS.legal(
            "HTTP/1.0 keep-alive",
            "GET /{id} HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n\r\n",
            "GET",
            "/{id}",
        ),
    ]
}

/// Near the limits of a head: 64 KiB and 100 fields.
fn long() -> Vec<Case> {
    let value = "v".repeat(8_000);
    let many: String = (0..60).map(|number| format!("X-Many-{number}: a\r\n")).collect();
    let target = format!("/{{id}}?{}", "q".repeat(8_000));
    let pairs: Vec<(String, &str)> = (0..60).map(|number| (format!("x-many-{number}"), "a")).collect();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let cookie = "c".repeat(30_000);
    vec![
        get1("long: a value", &format!("X-Long: {value}\r\n")).field("x-long", &[&value]),
        get1("long: cookies", &format!("Cookie: a={cookie}\r\n")).field("cookie", &[&format!("a={cookie}")]),
        get1("long: many fields", &many).field("x-many-59", &["a"]),
        CORPUS.legal("long: a target", ask("GET", &target, "", ""), "GET", &target),
        CORPUS
            .legal_steps("long: a value", vec![get("/{id}", &[("x-long", &value)])], "GET", "/{id}")
            .field("x-long", &[&value]),
        CORPUS
            .legal_steps("long: many fields", vec![get("/{id}", &pairs)], "GET", "/{id}")
            .field("x-many-59", &["a"]),
        CORPUS.legal_steps("long: a target", vec![get(&target, &[])], "GET", &target),
    ]
}

/// What only HTTP/2 and HTTP/3 have.
fn multiplexed() -> Vec<Case> {
    let post = |name: &str, more: &[(&str, &str)], rest: &[Step]| {
        let steps = [&[head("POST", "/{id}", more)][..], rest].concat();
        CORPUS.legal_steps(name, steps, "POST", "/{id}")
    };
    let authority = |authority: &str, more: &[(&str, &str)]| {
        let pseudo =
            [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/{id}")];
        vec![fields(&[&pseudo[..], more].concat())]
    };
    let host =
        vec![fields(&[(":method", "GET"), (":scheme", "https"), (":path", "/{id}"), ("host", "{host}")])];
    let order = vec![fields(&[
        (":path", "/{id}"),
        (":authority", "{host}"),
        (":scheme", "https"),
        (":method", "GET"),
    ])];
    let large = "x".repeat(10_000);
    let frames: Vec<Step> = (0..5).map(|_| data(&large)).collect();
    vec![
        post("frames: one", &[], &[data("hello")]).body("hello"),
        post("frames: with a length", &[("content-length", "5")], &[data("hello")]).body("hello"),
        post(
            "frames: several with a length",
            &[("content-length", "5")],
            &[data("he"), Step::Pause, data("llo")],
        )
        .body("hello"),
        post("frames: an end of its own", &[], &[data("hello"), Step::Pause, Step::End]).body("hello"),
        post("frames: no body, length 0", &[("content-length", "0")], &[]).body(""),
        post("frames: an empty body", &[], &[Step::End]).body(""),
        post("frames: large", &[], &frames).body(large.repeat(5)),
        post("frames: Expect", &[("expect", "100-continue")], &[data("hello")]).body("hello"),
        CORPUS.legal_steps("pseudo-fields in another order", order, "GET", "/{id}"),
        CORPUS.legal_steps(
            "host beside :authority",
            authority("{host}", &[("host", "{host}")]),
            "GET",
            "/{id}",
        ),
        CORPUS.legal_steps("host alone", host, "GET", "/{id}"),
        CORPUS
            .legal_steps(":authority with a port", authority("{host}:8443", &[]), "GET", "/{id}")
            .field("host", &["{host}:8443"]),
        CORPUS.legal_steps(":authority in another case", authority("{HOST}", &[]), "GET", "/{id}").any_host(),
        CORPUS.legal_steps(
            "te: trailers on a GET",
            vec![get("/{id}", &[("te", "trailers")])],
            "GET",
            "/{id}",
        ),
        CORPUS
            .legal_steps("a priority", vec![get("/{id}", &[("priority", "u=1, i")])], "GET", "/{id}")
            .field("priority", &["u=1, i"]),
    ]
}
