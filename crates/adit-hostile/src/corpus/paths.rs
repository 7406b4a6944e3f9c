//! One reading of a path, from the rule that is chosen to the bytes that arrive: `paths` of the operator, rules of the connector,
//! and its `access`.

use adit_testkit::issuer::Issuer;
use serde_json::json;

use super::Case;
use crate::case::{Corpus, Site, get};

const CORPUS: Corpus = Corpus("paths");

/// All cases.
pub(super) fn cases(issuer: &Issuer) -> Vec<Case> {
    [out_of_public(), into_admin(), out_of_admin(), one_reading(), legal(), tokens(issuer)].concat()
}

/// The same request by every protocol.
fn everywhere(name: &str, target: &str, site: Site) -> Vec<Case> {
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
    let name = format!("{}: {name} {target}", site.label());
    vec![
        CORPUS.refused(name.clone(), bytes).at(site),
        CORPUS.refused_steps(name, vec![get(target, &[])]).at(site),
    ]
}

/// Ways to write "one folder up" that some origin knows, in front of `admin`.
const UP: [&str; 26] = [
    "../",
    "..%2f",
    "..%2F",
    "%2e%2e/",
    "%2E%2E/",
    ".%2e/",
    "%2e./",
    "%2e%2e%2f",
    "..\\",
    "..%5c",
    "..%5C",
    "%2e%2e\\",
    "%2e%2e%5c",
    "..;/",
    "..;x=y/",
    "%2e%2e;/",
    ".;/../",
    "./../",
    ".//../",
    "x/../../",
    "x/..;/../",
    "x%2f../../",
    "..%00/",
    "../;/",
    "..//",
    ".%2e%2f",
];

/// A rule that serves `^/public/` alone.
fn out_of_public() -> Vec<Case> {
    let up = UP.iter().flat_map(|up| everywhere("up", &format!("/public/{up}admin-{{id}}"), Site::Public));
    let others = [
        "/%70ublic/../{id}",
        "//public/../{id}",
        "/x/../admin-{id}",
        "/{id}",
        "/public%2f..%2f{id}",
        "/public;/../{id}",
        "/Public/{id}",
    ];
    up.chain(others.into_iter().flat_map(|target| everywhere("other", target, Site::Public))).collect()
}

/// Ways to write `/admin` that some origin reads as it.
const ADMIN: [&str; 34] = [
    "/admin",
    "/admin/",
    "/admin?x",
    "/admin/{id}",
    "/%61dmin",
    "/%61%64%6d%69%6e/{id}",
    "//admin",
    "///admin/{id}",
    "/./admin",
    "/.//admin",
    "/%2e/admin",
    "/x/../admin",
    "/x/%2e%2e/admin",
    "/x/..%2fadmin",
    "/x/.%2e/admin",
    "/%2fadmin",
    "/%2Fadmin/{id}",
    "/\\admin",
    "/%5cadmin",
    "\\admin",
    "/x\\..\\admin",
    "/x/..\\admin",
    "/x/..%5cadmin",
    "/x/..;/admin",
    "/x/..;a=b/admin/{id}",
    "/;/admin",
    "/;x=y/admin",
    "/.;/admin",
    "/admin;x=y",
    "/admin;/{id}",
    "/admin%2f{id}",
    "/admin%5c{id}",
    "/admin%00",
    "/../admin",
];

fn into_admin() -> Vec<Case> {
    let mut cases = Vec::new();
    for site in [Site::Denied, Site::Split, Site::Gate] {
        cases.extend(ADMIN.iter().flat_map(|target| everywhere("in", target, site)));
    }
    cases
}

/// Targets that begin with `/admin` as they are written, and mean something else to whoever resolves them. One of both would be
/// decided in another way, so neither may be guessed.
fn out_of_admin() -> Vec<Case> {
    let mut cases = Vec::new();
    for site in [Site::Denied, Site::Split, Site::Gate] {
        for up in UP {
            cases.extend(everywhere("out", &format!("/admin/{up}x-{{id}}"), site));
        }
        for target in [
            "/admin\\..\\{id}",
            "/admin%00/../{id}",
            "/admin/../../{id}",
            "/admin%2f..%2f{id}",
            "/admin;/../{id}",
        ] {
            cases.extend(everywhere("out", target, site));
        }
    }
    cases
}

/// Targets with one careful reading that is not what a rule looks for. They may pass, as they are.
fn one_reading() -> Vec<Case> {
    let mut cases = Vec::new();
    for site in [Site::Denied, Site::Split, Site::Gate] {
        for target in [
            "/ADMIN-{id}",
            "/%2561dmin-{id}",
            "/x/%252e%252e/admin-{id}",
            "/x%252f..%252fadmin-{id}",
            "/x?/../admin-{id}",
            "/x?y=/../admin-{id}",
            "/..admin-{id}",
            "/...%2fadmin-{id}",
            "/.../admin-{id}",
            "/administrator-{id}/../%",
            "/%c0%ae%c0%ae/admin-{id}",
            "/%uff0e%uff0e/admin-{id}",
            "/x/%",
            "/x/%g0{id}",
            "/x/%0{id}",
            "/x/%00{id}",
            "/x/%0d%0aX:%20forged-{id}",
        ] {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
            let name = format!("{}: one reading {target}", site.label());
            cases.push(CORPUS.at_most(name.clone(), bytes, "GET", target).at(site));
            cases.push(CORPUS.at_most_steps(name, vec![get(target, &[])], "GET", target).at(site));
        }
    }
    cases
}

/// What cloudflared and Traefik have broken: it arrives as it was sent, whatever the rules are.
fn legal() -> Vec<Case> {
    let mut cases = Vec::new();
    for site in [Site::App, Site::Denied, Site::Split, Site::Gate, Site::Public] {
        for path in [
            "wp-admin/{id}",
            "a//b-{id}",
            "a%2Fb-{id}",
            "a%2fb-{id}",
            "@scope%2fname-{id}",
            "@scope/name-{id}",
            "m%C3%BCller-{id}",
            "a%20b-{id}",
            "a+b-{id}",
            "100%25-{id}",
            "x;y=1-{id}",
            "a,b;c=d/e-{id}",
            "~user/{id}",
            "a:b-{id}",
            "$(x)!*'-{id}",
            "{id}.tar.gz",
            ".well-known/{id}",
            "..{id}",
            "{id}/..x/...",
            "{id}/%7B%22a%22%3A1%7D",
            "{id}?a=/../b&c=%2e%2e",
            "{id}?",
            "{id}?a=b?c&d=e%26f&g=%C3%A4",
            "{id}//",
            "https%3A%2F%2Fexample.test%2F{id}",
            "https:/example.test/{id}",
        ] {
            let target = if site == Site::Public { format!("/public/{path}") } else { format!("/{path}") };
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
            let name = format!("{}: legal {target}", site.label());
            cases.push(CORPUS.legal(name.clone(), bytes, "GET", &target).at(site));
            cases.push(CORPUS.legal_steps(name, vec![get(&target, &[])], "GET", &target).at(site));
        }
    }
    cases
}

/// With a token, what is guarded is served; with somebody else's, it is not.
fn tokens(issuer: &Issuer) -> Vec<Case> {
    let token = |audience: &str| format!("Bearer {}", issuer.token(audience, &json!({})));
    let (good, stranger) = (token("app"), token("other"));
    let forged = format!("Bearer {}", issuer.forged("app"));
    let mut cases = Vec::new();
    for site in [Site::Gate, Site::Door] {
        let bytes = |value: &str| {
            format!("GET /admin/{{id}} HTTP/1.1\r\nHost: {{host}}\r\nAuthorization: {value}\r\n\r\n")
        };
        let name = |what: &str| format!("{}: token {what}", site.label());
        cases.push(CORPUS.legal(name("good"), bytes(&good), "GET", "/admin/{id}").at(site));
        let steps = vec![get("/admin/{id}", &[("authorization", &good)])];
        cases.push(CORPUS.legal_steps(name("good"), steps, "GET", "/admin/{id}").at(site));
        for (what, value) in [
            ("for another audience", &stranger),
            ("of another key", &forged),
            ("empty", &"Bearer ".to_owned()),
        ] {
            cases.push(CORPUS.refused(name(what), bytes(value)).at(site));
            cases.push(
                CORPUS
                    .refused_steps(name(what), vec![get("/admin/{id}", &[("authorization", value)])])
                    .at(site),
            );
        }
    }
    cases
}
