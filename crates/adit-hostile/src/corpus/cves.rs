//! Faults that other proxies and their libraries had in 2025 and 2026, as cases of our own: each is written from what the fault
//! was, under its number.

use super::Case;
use crate::case::{After, Corpus, Protocol, Site, Step, data, fields, get, head};

const CORPUS: Corpus = Corpus("CVEs of 2025-26");

const HIDDEN: &str = "GET /forged-{id} HTTP/1.1\r\nHost: {host}\r\n\r\n";

fn post(lines: &str, body: &str) -> String {
    format!("POST /{{id}} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n{body}")
}

fn ask(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n")
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    [chunks(), framing(), upgrades(), paths(), hosts(), vouching(), caches(), multiplexed()].concat()
}

/// Chunk lines that two readers end in different places.
fn chunks() -> Vec<Case> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    [
        (
            "CVE-2025-22871 Go net/http: a chunk's size line ends with LF",
            format!("5\nhello\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "CVE-2025-58056 Netty: LF in an extension ends the size line",
            format!("5;x\nhello\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "CVE-2025-55315 Kestrel: LF in an extension is part of it",
            format!("2;\nxx\r\nxy\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "CVE-2025-55315 Kestrel: CR in an extension is part of it",
            format!("2;\rxx\r\nxy\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "CVE-2025-43859 h11: any two bytes end a chunk's data",
            format!("5\r\nhelloXX2d\r\nxx\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "CVE-2026-2332 Jetty: a quoted extension that never closes",
            format!("1;ext=\"val\r\nX\r\n0\r\n\r\n{HIDDEN}\""),
        ),
    ]
    .into_iter()
    .map(|(name, body)| CORPUS.broken(name, post(chunked, &body), After::Closes))
    .map(tolerant_of_open_quotes)
    .chain([quoted()])
    .collect()
}

/// RFC 9112, section 7.1.1, lets a recipient ignore extensions that it does not know. A line ends at CR LF also inside of a quote:
/// then one request of `X` arrives, and what hides behind it is a second one, which the same client sent in the open.
fn tolerant_of_open_quotes(case: Case) -> Case {
    if !case.name.contains("Jetty") {
        return case;
    }
    let bytes = post("Transfer-Encoding: chunked\r\nConnection: close\r\n", "1;ext=\"val\r\nX\r\n0\r\n\r\n");
    let bytes = format!("{bytes}{HIDDEN}");
    CORPUS.at_most(case.name, bytes, "POST", "/{id}").body("X")
}

/// The same for a line end in the middle of a quoted extension.
fn quoted() -> Case {
    let body = format!("1;x=\"a\r\nX\r\n0\r\n\r\n{HIDDEN}\"\r\nX\r\n0\r\n\r\n");
    let bytes = post("Transfer-Encoding: chunked\r\nConnection: close\r\n", &body);
    CORPUS.at_most("CVE-2026-33870 Netty: a line end in a quoted extension", bytes, "POST", "/{id}").body("X")
}

/// Lengths and codings that two readers understand in different ways.
fn framing() -> Vec<Case> {
    let old =
        |lines: &str, body: &str| format!("POST /{{id}} HTTP/1.0\r\nHost: {{host}}\r\n{lines}\r\n{body}");
    let whole = format!("0\r\n\r\n{HIDDEN}");
    let keep = "Connection: keep-alive\r\n";
    let both = format!("Transfer-Encoding: identity, chunked\r\nContent-Length: {}\r\n", whole.len());
    vec![
        CORPUS.refused(
            "CVE-2026-2835 Pingora: HTTP/1.0 with Transfer-Encoding",
            old(&format!("{keep}Transfer-Encoding: chunked\r\n"), &whole),
        ),
        CORPUS.refused("CVE-2026-2835 Pingora: a list of codings beside a length", post(&both, &whole)),
        CORPUS.refused(
            "CVE-2026-2835 Pingora: two lines of codings",
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", &whole),
        ),
        CORPUS.refused(
            "pingora#945: a length beside chunks",
            post("Content-Length: 13\r\nTransfer-Encoding: chunked\r\n", &whole),
        ),
        CORPUS.refused(
            "CVE-2023-40225 HAProxy, still common: an empty length",
            post("Content-Length:\r\nContent-Length: 5\r\n", "hello"),
        ),
    ]
}

/// Bytes of a protocol that was never switched to.
fn upgrades() -> Vec<Case> {
    let upgrade = "Connection: Upgrade\r\nUpgrade: ";
    let mut cases = vec![
        CORPUS.at_most(
            "CVE-2026-2833 Pingora: a request behind an upgrade that is refused",
            ask("/{id}", &format!("{upgrade}forged-protocol\r\n")) + HIDDEN,
            "GET",
            "/{id}",
        ),
        CORPUS.at_most(
            "CVE-2026-73548 Envoy: payload before a WebSocket is accepted",
            ask("/{id}", &format!("{upgrade}websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")) + HIDDEN,
            "GET",
            "/{id}",
        ),
        CORPUS.at_most(
            "CVE-2026-88008 Traefik: an upgrade to h2c",
            ask("/{id}", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
            "GET",
            "/{id}",
        ),
        CORPUS.refused(
            "CVE-2025-64763 Envoy: early data behind CONNECT",
            format!("CONNECT {{host}}:443 HTTP/1.1\r\nHost: {{host}}:443\r\n\r\n{HIDDEN}"),
        ),
    ];
    let body = format!("{upgrade}websocket\r\nContent-Length: {}\r\n", "GET /forged HTTP/1.1\r\n\r\n".len());
    let name = "CVE-2026-58055 nghttpx: an upgrade with a length and a body";
    let case = CORPUS.at_most(name, post(&body, "GET /forged HTTP/1.1\r\n\r\n"), "POST", "/{id}");
    cases.push(case.field("upgrade", &[]));
    // What follows in the same connection of the client is its own next request, unless the connection has changed its protocol.
    // So these clients close right away, and only the first request may arrive.
    for case in &mut cases[..2] {
        if let crate::case::Sent::Bytes(bytes, _) = &mut case.sent {
            let text =
                String::from_utf8_lossy(bytes).replace("Connection: Upgrade", "Connection: close, Upgrade");
            *bytes = text.into_bytes();
        }
    }
    cases
}

/// Paths that a rule and an origin read in different ways.
fn paths() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, target, site) in [
        ("CVE-2025-32431 Traefik: dot segments out of a prefix", "/public/../admin-{id}", Site::Public),
        ("CVE-2025-47952 Traefik: encoded dot segments", "/public/%2e%2e/admin-{id}", Site::Public),
        (
            "CVE-2026-48020 Traefik: a prefix is stripped before dots are",
            "/public/../admin/{id}",
            Site::Public,
        ),
        ("CVE-2025-66490 Traefik: an encoded slash", "/admin%2F{id}", Site::Split),
        ("CVE-2025-66490 Traefik: an encoded backslash", "/admin%5C{id}", Site::Denied),
        ("CVE-2025-66490 Traefik: an encoded NUL", "/admin%00", Site::Split),
        ("CVE-2025-66490 Traefik: an encoded semicolon", "/admin%3b/{id}", Site::Split),
        ("CVE-2026-27587 Caddy: escapes in another case", "/%61dMin/../admin/{id}", Site::Split),
        ("CVE-2026-27585 Caddy: a backslash", "/x\\..\\admin", Site::Denied),
        ("GHSA-qrp7-cvwr-j2c6 Caddy: an encoded backslash", "/x%5c..%5cadmin", Site::Denied),
        (
            "GHSA-m8m5-v4jf-3wcm Caddy: an encoded slash out of a prefix",
            "/public/..%2fadmin/{id}",
            Site::Public,
        ),
        ("CVE-2026-73511 Envoy: parameters of a dot segment", "/x/..;/admin", Site::Split),
        ("CVE-2026-73511 Envoy: parameters of a dot segment, denied", "/public;/..;x/admin", Site::Denied),
        ("CVE-2026-34908 UniFi: a public prefix, then up", "/public/..%2f..%2fadmin/{id}", Site::Public),
        ("CVE-2025-54576 oauth2-proxy: the query is no path", "/admin/{id}?x=/public/", Site::Split),
        ("CVE-2026-41059 oauth2-proxy: a fragment is no path", "/admin/{id}#/public/", Site::Split),
        ("CVE-2026-41059 oauth2-proxy: an encoded fragment", "/admin/{id}%23/public/", Site::Split),
    ] {
        cases.push(CORPUS.refused(name, ask(target, "")).at(site));
        cases.push(CORPUS.refused_steps(name, vec![get(target, &[])]).at(site));
    }
    cases
}

/// Names that a rule and a route read in different ways.
fn hosts() -> Vec<Case> {
    let at = |name: &str, host: &str| {
        CORPUS.refused(name, format!("GET /{{id}} HTTP/1.1\r\nHost: {host}\r\n\r\n")).at(Site::Door)
    };
    vec![
        at("CVE-2026-27588 Caddy: the host in upper case", "{HOST}"),
        at("GHSA of 2026, several: the host with a trailing dot", "{host}."),
        at("the host with an empty port", "{host}:"),
    ]
}

/// Fields that vouch for somebody.
fn vouching() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, field) in [
        ("CVE-2025-64484 oauth2-proxy: an alias with underscores", "X_Forwarded_Email"),
        ("CVE-2026-35051 Traefik: a forwarding field nobody rebuilds", "X-Forwarded-Prefix"),
        ("CVE-2026-39858 Traefik: an alias of the scheme", "X_Forwarded_Proto"),
        ("GHSA-7r4p-vjf4-gxv4 Caddy: an identity field that the gate leaves", "Remote-User"),
        ("GHSA-f59h-q822-g45g Caddy: an identity field with underscores", "Remote_Groups"),
        ("CVE-2026-40575 oauth2-proxy: the path of somebody else's proxy", "X-Forwarded-Uri"),
        ("CVE-2016-5385, still common: Proxy becomes HTTP_PROXY", "Proxy"),
    ] {
        let bytes = ask("/{id}", &format!("{field}: forged\r\n"));
        cases.push(CORPUS.at_most(name, bytes, "GET", "/{id}").body(""));
        let lower = field.to_ascii_lowercase();
        let steps = vec![get("/{id}", &[(&lower, "forged")])];
        cases.push(CORPUS.at_most_steps(name, steps, "GET", "/{id}"));
    }
    for (name, token) in [
        ("GHSA-92mv-8f8w-wq52 Traefik: Connection lists the edge's fields", "X-Forwarded-For, X-Real-Ip"),
        ("GHSA-92mv-8f8w-wq52 Traefik: the same in lower case", "x-forwarded-for, x-real-ip"),
    ] {
        let bytes = ask("/{id}", &format!("Connection: close, {token}\r\n"));
        let case = CORPUS.at_most(name, bytes, "GET", "/{id}").field("x-forwarded-for", &["{client}"]);
        cases.push(case.field("x-real-ip", &["{client}"]));
    }
    // A monitor's User-Agent opens nothing.
    for agent in ["GoogleHC/1.0", "kube-probe/1.30", "ELB-HealthChecker/2.0"] {
        let bytes = ask("/admin/{id}", &format!("User-Agent: {agent}\r\n"));
        cases.push(
            CORPUS
                .refused(format!("GHSA-5hvv-m4w4-gf6v oauth2-proxy: User-Agent {agent}"), bytes)
                .at(Site::Gate),
        );
    }
    let bytes = ask(
        "/admin/{id}",
        "X-Role: user\r\nX-Role: admin\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    );
    cases.push(CORPUS.refused("CVE-2026-26308 Envoy: a field twice", bytes).at(Site::Gate));
    cases
}

/// Kept answers.
fn caches() -> Vec<Case> {
    let first =
        format!("{}{}", ask("/{id}", ""), post("Content-Length: 6\r\n", "forged").replace("POST", "GET"));
    let hit = format!(
        "{}{}{HIDDEN}",
        ask("/{id}", ""),
        ask("/{id}", &format!("Content-Length: {}\r\n", HIDDEN.len()))
    );
    vec![
        CORPUS
            .not_shared("CVE-2026-2836 Pingora: the body is not in the key", first, ask("/{id}", ""))
            .at(Site::KeysPlain),
        // `HIDDEN` is the body of a request that the cache answers: it must be taken off the connection, not read as a request.
        CORPUS
            .not_shared(
                "CVE-2025-4366 Pingora: the body of a hit stays on the connection",
                hit,
                ask("/{id}", ""),
            )
            .at(Site::KeysPlain),
    ]
}

/// HTTP/2 and HTTP/3.
fn multiplexed() -> Vec<Case> {
    let connect =
        [(":method", "CONNECT"), (":authority", "{host}"), (":scheme", "https"), (":path", "/{id}")];
    let length = HIDDEN.len().to_string();
    let posted = |more: &[(&str, &str)]| head("POST", "/{id}", more);
    let split = [":method GET", "x"];
    let smuggled = format!("{}\r\n\r\n{HIDDEN}", split.join(" "));
    vec![
        CORPUS.broken_steps(
            "CVE-2026-33555 HAProxy: a bare FIN before the length is reached",
            vec![posted(&[("content-length", &length)]), Step::Pause, Step::End],
        ),
        CORPUS
            .broken_steps(
                "CVE-2026-33555 HAProxy: a bare FIN after a part",
                vec![posted(&[("content-length", "50")]), data("hello"), Step::Pause, Step::End],
            )
            .only(Protocol::Http3),
        CORPUS.refused_steps(
            "GHSA-3ccp-42pg-hgv6 Traefik: CONNECT with a body over a pooled connection",
            vec![fields(&connect[..2]), data(HIDDEN)],
        ),
        CORPUS.refused_steps(
            "GHSA-3ccp-42pg-hgv6 Traefik: CONNECT with a path and a body",
            vec![fields(&connect), data(HIDDEN)],
        ),
        CORPUS.broken_steps(
            "CVE-2026-73513 Envoy: trailers without the end of the stream",
            vec![posted(&[]), data("hello"), fields(&[("x", "y")]), Step::Pause, data("more"), Step::Leave],
        ),
        CORPUS.refused_steps("CVE-2026-73547 Envoy: a request without a path", vec![fields(&connect[..3])]),
        CORPUS
            .at_most_steps(
                "CVE-2026-42926 nginx: frames in a body",
                vec![posted(&[]), data("\0\0\0\u{1}\u{5}\0\0\0\u{1}"), data(&smuggled)],
                "POST",
                "/{id}",
            )
            .body(format!("\0\0\0\u{1}\u{5}\0\0\0\u{1}{smuggled}")),
        CORPUS
            .legal_steps(
                "RUSTSEC-2026-0258 h2: empty DATA frames are no fault",
                vec![posted(&[]), data(""), data("hello"), data(""), data("")],
                "POST",
                "/{id}",
            )
            .body("hello"),
        CORPUS
            .legal_steps(
                "haproxy#3426: HTTP/3 without a length",
                vec![posted(&[]), data("hello"), Step::Pause, data("!")],
                "POST",
                "/{id}",
            )
            .body("hello!"),
    ]
}
