//! Control bytes and whatever else has no place in a method, a target, a field's name or its value (RFC 9110, section 5.5).

use super::Case;
use crate::case::{Corpus, Step};
use crate::read::Field;

const CORPUS: Corpus = Corpus("control bytes");

/// What no part of a head may hold: CR and LF have cases of their own over HTTP/1.1, where they end lines.
fn controls() -> impl Iterator<Item = u8> {
    (0..0x20).chain([0x7f]).filter(|byte| *byte != b'\t')
}

fn line(parts: [&[u8]; 3]) -> Vec<u8> {
    let [method, target, field] = parts;
    [method, b" ", target, b" HTTP/1.1\r\nHost: {host}\r\n", field, b"\r\n\r\n"].concat()
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    [http1(), names(), targets(), multiplexed()].concat()
}

fn http1() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in controls() {
        let value = line([b"GET", b"/{id}", &[b"X: a", &[byte][..], b"b"].concat()]);
        // A CR LF cannot be told from the end of a line; each alone is refused.
        cases.push(CORPUS.refused(format!("value with {byte:#04x}"), value));
        let target = line([b"GET", &[b"/{id}", &[byte][..], b"x"].concat(), b"X: y"]);
        cases.push(CORPUS.refused(format!("target with {byte:#04x}"), target));
        let method = line([&[b"GE", &[byte][..], b"T"].concat(), b"/{id}", b"X: y"]);
        cases.push(CORPUS.refused(format!("method with {byte:#04x}"), method));
        let query = line([b"GET", &[b"/{id}?a", &[byte][..], b"=x"].concat(), b"X: y"]);
        cases.push(CORPUS.refused(format!("query with {byte:#04x}"), query));
        let name = line([b"GET", b"/{id}", &[b"X", &[byte][..], b"Y: z"].concat()]);
        cases.push(CORPUS.refused(format!("name with {byte:#04x}"), name));
    }
    for byte in [b'\0', 0x01, 0x0b, 0x0c, 0x1f, 0x7f] {
        let host = [b"GET /{id} HTTP/1.1\r\nHost: {host}", &[byte][..], b"\r\n\r\n"].concat();
        cases.push(CORPUS.refused(format!("Host with {byte:#04x}"), host));
    }
    cases
}

/// Every byte that is no token in a name.
fn names() -> Vec<Case> {
    let bytes = b"\"(),/;<=>?@[\\]{}\t\x80\xa0\xff".iter();
    bytes
        .map(|byte| {
            let field = [b"X", &[*byte][..], b"Y: z"].concat();
            CORPUS.refused(format!("name with {byte:#04x}"), line([b"GET", b"/{id}", &field]))
        })
        .collect()
}

/// Bytes of a target that no URL has (RFC 3986). They may pass as they are: nobody reads them in another way.
fn targets() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in b"\"<>^`{|}" {
        let target = [b"/{id}", &[*byte][..], b"x"].concat();
        let text = String::from_utf8_lossy(&target).into_owned();
        let bytes = line([b"GET", &target, b"X: y"]);
        cases.push(CORPUS.at_most(format!("target with {byte:#04x}"), bytes, "GET", &text));
    }
    // A fragment is no part of the target (RFC 9110, section 7.1). The library for HTTP cuts it off before anything is decided, so
    // rules and origin read the same target without it, or nothing.
    for (name, target, left) in [("target", "/{id}#x", "/{id}"), ("query", "/{id}?a#x", "/{id}?a")] {
        let bytes = line([b"GET", target.as_bytes(), b"X: y"]);
        cases.push(CORPUS.at_most(format!("{name} with a fragment"), bytes, "GET", left));
        let steps = head(target.as_bytes(), &[]);
        cases.push(CORPUS.at_most_steps(format!("{name} with a fragment"), steps, "GET", left));
    }
    cases
}

fn head(target: &[u8], more: &[(&[u8], &[u8])]) -> Vec<Step> {
    let pseudo: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"{host}"), (b":path", target)];
    let fields: Vec<Field> =
        pseudo.iter().chain(more).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    vec![Step::Fields(fields)]
}

/// Over HTTP/2 and HTTP/3 any byte can be sent.
fn multiplexed() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in controls() {
        let value = [b"a", &[byte][..], b"b"].concat();
        cases
            .push(CORPUS.refused_steps(format!("value with {byte:#04x}"), head(b"/{id}", &[(b"x", &value)])));
        let name = [b"x", &[byte][..], b"y"].concat();
        cases.push(CORPUS.refused_steps(format!("name with {byte:#04x}"), head(b"/{id}", &[(&name, b"z")])));
        let path = [b"/{id}", &[byte][..], b"x"].concat();
        cases.push(CORPUS.refused_steps(format!(":path with {byte:#04x}"), head(&path, &[])));
    }
    for (name, value) in [
        ("a line end and a field", &b"a\r\nx-forged: forged"[..]),
        ("a LF and a field", b"a\nx-forged: forged"),
        ("a line end and a request", b"a\r\n\r\nGET /forged-{id} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        ("a line end at its end", b"a\r\n"),
        ("a line end and framing", b"a\r\nTransfer-Encoding: chunked"),
    ] {
        cases.push(CORPUS.refused_steps(format!("value with {name}"), head(b"/{id}", &[(b"x", value)])));
        let cookie: [(&[u8], &[u8]); 2] = [(b"cookie", b"a=1"), (b"cookie", value)];
        cases.push(CORPUS.refused_steps(format!("cookie with {name}"), head(b"/{id}", &cookie)));
    }
    for (name, path) in [
        ("a line end and a field", &b"/{id} HTTP/1.1\r\nX-Forged: forged\r\nX: "[..]),
        ("a space and a version", b"/{id} HTTP/1.1"),
        ("a space", b"/{id} x"),
    ] {
        cases.push(CORPUS.refused_steps(format!(":path with {name}"), head(path, &[])));
    }
    for byte in b"\"(),/;<=>?@[\\]{}\t \x80\xff" {
        let name = [b"x", &[*byte][..], b"y"].concat();
        cases.push(CORPUS.refused_steps(format!("name with {byte:#04x}"), head(b"/{id}", &[(&name, b"z")])));
    }
    // White space around a value is not part of it (RFC 9113, section 8.2.1): malformed, or one reading without it.
    for value in [&b" a"[..], b"a ", b"\ta", b"a\t"] {
        let name = format!("value `{}`", value.escape_ascii());
        cases.push(
            CORPUS.at_most_steps(name, head(b"/{id}", &[(b"x", value)]), "GET", "/{id}").field("x", &["a"]),
        );
    }
    cases
}
