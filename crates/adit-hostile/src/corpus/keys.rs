//! Cache keys: one client's request never shapes the answer that another one gets.

use super::Case;
use crate::case::{Corpus, Site};

const CORPUS: Corpus = Corpus("cache keys");

fn ask(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n")
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    [queries(), cookies(), steering(), bodies()].concat()
}

fn query(site: Site, first: &str, second: &str) -> Case {
    let name = format!("{}: {first} then {second}", site.label());
    CORPUS
        .not_shared(name, ask(&format!("/{{id}}{first}"), ""), ask(&format!("/{{id}}{second}"), ""))
        .at(site)
}

/// The query, or a part of it, that is not in the key.
fn queries() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "?st=forged",
        "?forged",
        "?%66orged",
        "?forged=1",
        "?a=1&b=forged",
        "??forged",
        "?a;b=forged",
        "?a=%0d%0aforged",
    ]
    .into_iter()
    .map(|first| query(Site::KeysStatic, first, ""))
    .collect();
    for (first, second) in [
        ("?%70age=forged", ""),
        ("?p%61ge=forged", ""),
        ("?PAGE=forged", ""),
        ("?x=1;page=forged", ""),
        ("?x=forged;page=9", "?page=9"),
        ("?page=9;x=forged", "?page=9"),
        ("?page=9&x=forged", "?page=9"),
        ("?x=forged&page=9", "?page=9"),
        ("?page=9&page=forged", "?page=9"),
        ("?page=forged&page=9", "?page=9"),
        ("?page=9&%70age=forged", "?page=9"),
        ("?%70age=forged&page=9", "?page=9"),
        ("?page[]=forged", ""),
        ("?page%5b%5d=forged", ""),
        ("?page=9&page[]=forged", "?page=9"),
        ("?page[0]=forged", ""),
        ("?page.x=forged", ""),
        ("?page+=forged", ""),
        ("?page%20=forged", ""),
        ("?+page=forged", ""),
        ("?%20page=forged", ""),
        ("?page%00=forged", ""),
        ("?&page=9&forged", "?page=9"),
        ("?page=9?x=forged", "?page=9"),
        ("?page==9&x=forged", "?page==9"),
        ("?a&page=9&b=forged&c", "?page=9"),
        ("??page=forged", ""),
        ("?forged", ""),
    ] {
        cases.push(query(Site::KeysPage, first, second));
    }
    for (first, second) in [
        ("?utm_source=forged", ""),
        ("?a=1&utm_source=forged", "?a=1"),
        ("?utm_source=forged&a=1", "?a=1"),
        ("?utm_source=x;id=forged", "?utm_source=x"),
        ("?utm_source=x;id=forged", ""),
        ("?utm_source=x%26id=forged", ""),
        ("?%75tm_source=forged", ""),
        ("?utm%5fsource=forged", ""),
        ("?utm_source=1&utm_source=forged", "?utm_source=1"),
        ("?utm_source[]=forged", ""),
        ("?utm.source=forged", ""),
        ("?utm+source=forged", ""),
        ("?utm_source=forged?x=1", ""),
    ] {
        cases.push(query(Site::KeysNot, first, second));
    }
    cases
}

/// Cookies beside, inside and around the one in the key.
fn cookies() -> Vec<Case> {
    let mut cases = Vec::new();
    for (first, second) in [
        ("Cookie: lang=de; lang=forged\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: lang=forged; lang=de\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: lang=de\r\nCookie: lang=forged\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: lang=forged\r\nCookie: lang=de\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: lang=de; sid=forged\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: sid=forged\r\n", ""),
        ("Cookie: forged\r\n", ""),
        ("Cookie: Lang=forged\r\n", ""),
        ("Cookie: LANG=forged\r\n", ""),
        ("Cookie: lang =forged\r\n", ""),
        ("Cookie:  lang = forged\r\n", ""),
        ("Cookie: %6cang=forged\r\n", ""),
        ("Cookie: \"lang\"=forged\r\n", ""),
        ("Cookie: a=\"x; lang=forged; y\"\r\n", ""),
        ("Cookie: a=b, lang=forged\r\n", ""),
        ("Cookie: a=b,lang=forged; lang=de\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: $Version=1; lang=de; $Path=\"forged\"\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: =forged; lang=de\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: lang\r\nCookie: =forged\r\n", ""),
        ("Cookie: lang=de;lang=forged\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: lang=de;\tlang=forged\r\n", "Cookie: lang=de\r\n"),
        ("Cookie: ;;lang=forged;;lang=de\r\n", "Cookie: lang=de\r\n"),
    ] {
        let name = format!("keys-cookie: {} then {}", first.escape_debug(), second.escape_debug());
        cases.push(CORPUS.not_shared(name, ask("/{id}", first), ask("/{id}", second)).at(Site::KeysCookie));
    }
    let (first, second) = (ask("/{id}", "Cookie: sid=forged\r\n"), ask("/{id}", ""));
    cases.push(CORPUS.not_shared("keys-static: a cookie", first, second).at(Site::KeysStatic));
    cases
}

/// Fields that steer origins and stand in no key.
fn steering() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Host",
        "X-Forwarded-Host",
        "X-Forwarded-Scheme",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Server",
        "X-Original-Host",
        "X-HTTP-Host-Override",
        "Forwarded",
        "X-Url-Scheme",
        "X-Real-IP",
        "X-Forwarded-For",
        "X_Original_URL",
        "X_HTTP_Method_Override",
        "x-original-url",
        "x_rewrite_url",
        "X_Forwarded_Host",
        "X_Host",
    ] {
        for site in [Site::KeysStatic, Site::KeysPlain] {
            let first = ask("/{id}", &format!("{name}: forged\r\n"));
            let case = CORPUS.not_shared(format!("{}: {name}", site.label()), first, ask("/{id}", ""));
            cases.push(case.at(site));
        }
    }
    // What is one person's is not everybody's.
    let first = ask("/{id}", "Authorization: forged\r\n");
    cases.push(CORPUS.not_shared("keys-static: Authorization", first, ask("/{id}", "")).at(Site::KeysStatic));
    for (name, first, second) in [
        ("/%66orged then /forged", "/%66orged-{id}", "/x-{id}"),
        ("a path that resolves to another", "/x-{id}/../forged-{id}", "/x-{id}"),
        ("an encoded slash", "/x-{id}%2fforged", "/x-{id}"),
        ("a semicolon", "/x-{id};forged", "/x-{id}"),
        ("a NUL", "/x-{id}%00forged", "/x-{id}"),
        ("a backslash", "/x-{id}\\..\\x-{id}?forged", "/x-{id}"),
        ("doubled slashes", "//x-{id}?forged", "/x-{id}"),
    ] {
        cases.push(
            CORPUS
                .not_shared(format!("keys-static: {name}"), ask(first, ""), ask(second, ""))
                .at(Site::KeysStatic),
        );
    }
    cases
}

/// A body on a GET, and hosts that are the same name.
fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for site in [Site::KeysStatic, Site::KeysPlain] {
        let first = ask("/{id}", "Content-Length: 6\r\n") + "forged";
        cases.push(
            CORPUS
                .not_shared(format!("{}: a GET with a body", site.label()), first, ask("/{id}", ""))
                .at(site),
        );
        let first = ask("/{id}", "Transfer-Encoding: chunked\r\n") + "6\r\nforged\r\n0\r\n\r\n";
        cases.push(
            CORPUS
                .not_shared(format!("{}: a GET with a chunked body", site.label()), first, ask("/{id}", ""))
                .at(site),
        );
    }
    cases
}
