//! Fields that vouch for an address or a person. Whatever a client says under these names never reaches an origin: in no spelling,
//! in no place.

use super::Case;
use crate::case::{Corpus, Site, data, fields, get, head};

const CORPUS: Corpus = Corpus("identity");

/// Names that applications believe, and one member for each family of names.
const NAMES: [&str; 71] = [
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Ssl",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Client-Cert",
    "X-Forwarded",
    "Forwarded",
    "X-Original-Forwarded-For",
    "X-Real-IP",
    "X-Client-IP",
    "X-Client-Cert",
    "X-Cluster-Client-IP",
    "X-Envoy-External-Address",
    "True-Client-IP",
    "Client-IP",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "Cf-Connecting-IP",
    "Cf-Connecting-IPv6",
    "Cf-Ray",
    "Cf-Visitor",
    "Cf-Ipcountry",
    "Cf-Access-Jwt-Assertion",
    "Cf-Access-Authenticated-User-Email",
    "Cf-Access-Client-Id",
    "Cf-Access-Client-Secret",
    "Cf-Warp-Tag-Any",
    "Remote-User",
    "Remote-Email",
    "Remote-Name",
    "Remote-Groups",
    "Remote-Addr",
    "X-Remote-User",
    "X-Remote-Group",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Access-Token",
    "X-Webauth-User",
    "X-Webauth-Role",
    "X-authentik-username",
    "X-authentik-groups",
    "X-Pomerium-Jwt-Assertion",
    "X-Pomerium-Claim-Email",
    "X-Token-User-Email",
    "X-Token-Subject",
    "X-User",
    "X-Email",
    "Tailscale-User-Login",
    "Tailscale-User-Name",
    "P-Access-Token",
    "P-Access-Token-Id",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Url-Scheme",
    "Proxy",
    "Client-Cert",
    "Ssl-Client-Cert",
    "Ssl-Client-Verify",
    "X-Ssl-Client-S-Dn",
];

fn ask(lines: &str) -> String {
    format!("GET /{{id}} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n")
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    let spelled = NAMES.iter().flat_map(|name| spellings(name));
    spelled.chain(listed()).chain(edited()).collect()
}

fn spellings(name: &str) -> Vec<Case> {
    let folded = name.replace('-', "_");
    let half = name.replacen('-', "_", 1);
    let (lower, lower_folded) = (name.to_ascii_lowercase(), folded.to_ascii_lowercase());
    let mut written = vec![name.to_owned(), name.to_ascii_uppercase()];
    if folded != name {
        // PHP folds points too, and some servers every character that is neither a letter nor a digit.
        written.extend([
            folded.clone(),
            folded.to_ascii_uppercase(),
            name.replace('-', "."),
            name.replace('-', "~"),
        ]);
    }
    if half != folded {
        written.push(half);
    }
    let mut cases: Vec<Case> = written
        .iter()
        .map(|written| {
            CORPUS.at_most(written.clone(), ask(&format!("{written}: forged\r\n")), "GET", "/{id}").body("")
        })
        .collect();
    let listed = format!("{name}: forged\r\nConnection: {lower}\r\n{folded}: forged\r\n");
    cases.push(CORPUS.at_most(format!("{name}, listed in Connection"), ask(&listed), "GET", "/{id}"));
    let twice = format!("{name}: forged\r\n{name}: forged\r\n{folded}: forged\r\n");
    cases.push(CORPUS.at_most(format!("{name}, twice"), ask(&twice), "GET", "/{id}"));
    let body = "5\r\nhello\r\n0\r\n";
    let trailers = format!("{name}: forged\r\n{folded}: forged\r\n");
    let chunked =
        format!("TE: trailers\r\nTrailer: {name}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{trailers}");
    let bytes = format!("POST /{{id}} HTTP/1.1\r\nHost: {{host}}\r\n{chunked}\r\n");
    cases.push(CORPUS.at_most(format!("{name}, in trailers"), bytes, "POST", "/{id}").body("hello"));
    for written in [&lower, &lower_folded] {
        let steps = vec![get("/{id}", &[(written, "forged"), (written, "forged")])];
        cases.push(CORPUS.at_most_steps(written.clone(), steps, "GET", "/{id}"));
        let trailed =
            vec![head("POST", "/{id}", &[("te", "trailers")]), data("hello"), fields(&[(written, "forged")])];
        cases.push(
            CORPUS.at_most_steps(format!("{written}, in trailers"), trailed, "POST", "/{id}").body("hello"),
        );
    }
    cases
}

/// What a client lists in Connection is removed; what the edge says is not the client's to remove.
fn listed() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id"] {
        let lines = format!("Connection: close, {name}, {}\r\n", name.to_ascii_lowercase());
        let mut case =
            CORPUS.at_most(format!("the edge's {name}, listed in Connection"), ask(&lines), "GET", "/{id}");
        if name == "X-Forwarded-For" || name == "X-Real-IP" {
            case = case.field(name, &["{client}"]);
        }
        cases.push(case);
    }
    for (name, value) in [("Content-Length", "5"), ("Host", "")] {
        let bytes = format!(
            "POST /{{id}} HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: 5\r\nConnection: {name}\r\n\r\nhello"
        );
        let title = format!("{name} {value}, listed in Connection");
        cases.push(CORPUS.at_most(title, bytes, "POST", "/{id}").body("hello"));
    }
    cases
}

/// The operator's word about fields holds for every spelling that an origin folds into the same.
fn edited() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["X-Edge", "x-edge", "X_Edge", "x_edge", "X_EDGE"] {
        let bytes = ask(&format!("{name}: forged\r\n"));
        let case = CORPUS.at_most(format!("removed by the operator: {name}"), bytes, "GET", "/{id}");
        cases.push(case.field("x-set", &["operator"]).at(Site::Edited));
    }
    for name in ["X-Set", "x-set", "X_Set", "x_set", "X_SET"] {
        let bytes = ask(&format!("{name}: forged\r\n"));
        let case = CORPUS.at_most(format!("set by the operator: {name}"), bytes, "GET", "/{id}");
        cases.push(case.field("x-set", &["operator"]).at(Site::Edited));
    }
    for name in ["x_edge", "x_set", "x-edge", "x-set"] {
        let steps = vec![get("/{id}", &[(name, "forged")])];
        let case = CORPUS.at_most_steps(format!("the operator's {name}"), steps, "GET", "/{id}");
        cases.push(case.field("x-set", &["operator"]).at(Site::Edited));
    }
    cases
}
