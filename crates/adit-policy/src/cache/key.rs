//! What tells stored responses apart.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::Hash as _;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::reading::{Ambiguous, cookie, has_cookie, has_parameter, name_of, parameters, plain_name};
use super::rule::{Bypass, KeyShape, QueryKey};
use crate::snapshot::TunnelId;

/// A request as its key sees it.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// The tunnel that answers: nothing that is kept of one is ever another one's.
    pub tunnel: TunnelId,
    /// `https` or `http`.
    pub scheme: &'a str,
    /// The name and path of the policy: where the host does not tell answers apart, this does.
    pub scope: &'a str,
    /// The host in its one form.
    pub host: &'a str,
    /// The path as it is forwarded.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// Its fields.
    pub headers: &'a HeaderMap,
}

/// What tells a request's answer from others, and what of the request belongs to it. What is not in the key is not sent to the
/// origin: two requests with the same text make the same request there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// The text that tells responses apart.
    pub text: String,
    /// The query that is sent, without `?`.
    pub query: Option<Cow<'a, str>>,
    /// The cookies that are in the key, as a value of `Cookie`; empty for none.
    pub cookies: String,
}

/// The key of a request.
///
/// # Errors
/// [`Ambiguous`] where origins may read what the key is made of in several ways.
pub fn key<'a>(request: &Keyed<'a>, shape: &KeyShape) -> Result<Key<'a>, Ambiguous> {
    let mut text = String::with_capacity(request.host.len() + request.path.len() + 64);
    // Writing to a text cannot fail. The store takes what stands before the space as the owner.
    write!(text, "{} {}://", request.tunnel, request.scheme).unwrap_or_default();
    // A host has no space in it, so that a scope is never taken for one.
    match shape.host {
        true => text.push_str(request.host),
        false => write!(text, " {} ", request.scope).unwrap_or_default(),
    }
    if shape.path {
        text.push_str(request.path);
    }
    let query = match request.query {
        Some(query) => kept_query(query, &shape.query)?,
        None => None,
    };
    if let Some(query) = &query {
        text.push('?');
        text.push_str(query);
    }
    for name in &shape.headers {
        write_field(&mut text, request.headers, name);
    }
    let mut cookies = String::new();
    for name in &shape.cookies {
        write_cookie(&mut text, &mut cookies, request.headers, name)?;
    }
    Ok(Key { text, query, cookies })
}

/// The part of a query that is in the key, the parameters in alphabetical order of their names; those of one name stay in theirs.
fn kept_query<'a>(query: &'a str, shape: &QueryKey) -> Result<Option<Cow<'a, str>>, Ambiguous> {
    let (names, wanted) = match shape {
        QueryKey::All => return Ok(Some(query.into())),
        QueryKey::None => return Ok(None),
        QueryKey::Only(names) => (names, true),
        QueryKey::Without(names) => (names, false),
    };
    // Some servers separate parameters with it: what is left out here could hold one that is not.
    if query.contains(';') {
        return Err(Ambiguous);
    }
    let names: Vec<Cow<'_, str>> = names.iter().map(|name| plain_name(name)).collect();
    let named = parameters(query).map(|parameter| (plain_name(name_of(parameter)), parameter));
    let mut kept: Vec<(Cow<'_, str>, &str)> =
        named.filter(|(name, _)| names.contains(name) == wanted).collect();
    kept.sort_by(|one, other| one.0.cmp(&other.0));
    let kept: Vec<&str> = kept.into_iter().map(|(_, parameter)| parameter).collect();
    Ok((!kept.is_empty()).then(|| kept.join("&").into()))
}

/// Each line of a field is a line of the key. No field has a line break in it, so that one cannot be taken for another.
fn write_field(key: &mut String, headers: &HeaderMap, name: &HeaderName) {
    let mut is_absent = true;
    for value in headers.get_all(name) {
        write!(key, "\n{name}:{}", value.as_bytes().escape_ascii()).unwrap_or_default();
        is_absent = false;
    }
    if is_absent {
        write!(key, "\n{name}").unwrap_or_default();
    }
}

fn write_cookie(
    key: &mut String,
    sent: &mut String,
    headers: &HeaderMap,
    name: &str,
) -> Result<(), Ambiguous> {
    match cookie(headers, name)? {
        None => write!(key, "\n{name}").unwrap_or_default(),
        Some(value) => {
            write!(key, "\n{name}:{value}").unwrap_or_default();
            let separator = if sent.is_empty() { "" } else { "; " };
            write!(sent, "{separator}{name}={value}").unwrap_or_default();
        }
    }
    Ok(())
}

/// Values of the cookies whose names are wanted.
pub fn cookies(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(name, _)| wanted(name)).map(|(_, value)| value)
}

/// Whether something sends a request past the cache, in any reading of it.
#[must_use]
pub fn is_bypassed(request: &Keyed<'_>, conditions: &[Bypass]) -> bool {
    conditions.iter().any(|condition| match condition {
        Bypass::Header(name) => request.headers.contains_key(name),
        Bypass::Cookie(name) => match name.strip_suffix('*') {
            Some(start) => {
                let start = plain_name(start);
                has_cookie(request.headers, |known| known.starts_with(&*start))
            }
            None => {
                let name = plain_name(name);
                has_cookie(request.headers, |known| known == name)
            }
        },
        Bypass::Query(name) => request.query.is_some_and(|query| has_parameter(query, name)),
    })
}

/// The number of a key, the same in every run. Two keys may have the same one, so whoever finds something by it compares the
/// text as well.
#[must_use]
pub fn number(key: &str) -> u128 {
    let mut hasher = SipHasher13::new();
    key.hash(&mut hasher);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: TunnelId = TunnelId(uuid::Uuid::from_u128(1));

    fn keyed<'a>(query: Option<&'a str>, headers: &'a HeaderMap) -> Keyed<'a> {
        let (scheme, scope, host, path) = ("https", "*.example ^/x", "a.example", "/x");
        Keyed { tunnel: TUNNEL, scheme, scope, host, path, query, headers }
    }

    fn of(query: Option<&str>, shape: &KeyShape, cookie: &'static str) -> Result<String, Ambiguous> {
        let headers = [(COOKIE, http::HeaderValue::from_static(cookie))].into_iter().collect();
        let text = key(&keyed(query, &headers), shape)?.text;
        let owner = format!("{TUNNEL} ");
        assert!(text.starts_with(&owner), "{text}");
        Ok(text.replacen(&owner, "", 1))
    }

    #[test]
    fn a_key_has_what_its_shape_says() {
        let all = KeyShape::default();
        let text = |text: &str| Ok(text.to_owned());
        assert_eq!(of(Some("b=1&a=2"), &all, ""), text("https://a.example/x?b=1&a=2"));
        assert_ne!(of(Some(""), &all, ""), of(None, &all, ""));
        let none = KeyShape { query: QueryKey::None, ..all.clone() };
        assert_eq!(of(Some("b=1"), &none, ""), of(None, &none, ""));
        let only = KeyShape { query: QueryKey::Only(vec!["a".into()]), ..all.clone() };
        assert_eq!(of(Some("b=1&a=2"), &only, ""), text("https://a.example/x?a=2"));
        let without = KeyShape { query: QueryKey::Without(vec!["b".into()]), ..all.clone() };
        assert_eq!(of(Some("c=3&b=1&a=2"), &without, ""), text("https://a.example/x?a=2&c=3"));
        let cookie = KeyShape { cookies: vec!["lang".into()], ..all.clone() };
        assert_eq!(of(None, &cookie, "x=1; lang=de"), text("https://a.example/x\nlang:de"));
        let path = KeyShape { host: false, ..all };
        assert_eq!(of(None, &path, ""), text("https:// *.example ^/x /x"));
    }

    #[test]
    fn what_is_not_in_the_key_is_not_sent() {
        let only = QueryKey::Only(vec!["page".into()]);
        let without = QueryKey::Without(vec!["utm_source".into()]);
        let sent = |text: &str| Ok((!text.is_empty()).then(|| text.to_owned()));
        for (shape, query, expected) in [
            (&QueryKey::None, "st=404", sent("")),
            (&QueryKey::None, "a;b", sent("")),
            (&QueryKey::All, "b&a=1;c=%zz", sent("b&a=1;c=%zz")),
            (&only, "page=1", sent("page=1")),
            (&only, "x=1&page=1&y", sent("page=1")),
            (&only, "x=1", sent("")),
            // Other spellings are in the key as they are written.
            (&only, "%70age=evil", sent("%70age=evil")),
            (&only, "page[]=1&PAGE=2", sent("page[]=1&PAGE=2")),
            (&only, "page=2&page=1", sent("page=2&page=1")),
            (&only, "page=2&x&%70age=1", sent("page=2&%70age=1")),
            (&only, "x=1;page=9", Err(Ambiguous)),
            (&only, "page=1;x", Err(Ambiguous)),
            (&without, "utm_source=x&id=1", sent("id=1")),
            (&without, "id=1&%75tm_source=x", sent("id=1")),
            (&without, "id=1&UTM.source[]=x&a=%26utm_source", sent("a=%26utm_source&id=1")),
            (&without, "utm_source=x;id=evil", Err(Ambiguous)),
            (&without, "utm_source%26id=evil", sent("utm_source%26id=evil")),
        ] {
            let kept = kept_query(query, shape).map(|kept| kept.map(Cow::into_owned));
            assert_eq!(kept, expected, "{shape:?} {query}");
        }
        let shape = KeyShape { cookies: vec!["lang".into(), "theme".into()], ..KeyShape::default() };
        let headers = [(COOKIE, "session=mine; theme=dark; lang=de".parse().unwrap())].into_iter().collect();
        assert_eq!(key(&keyed(None, &headers), &shape).unwrap().cookies, "lang=de; theme=dark");
    }

    #[test]
    fn different_fields_are_different_keys() {
        let name = HeaderName::from_static("x-a");
        let shape =
            KeyShape { headers: vec![name.clone()], cookies: vec!["c".into()], ..KeyShape::default() };
        let of = |values: &[&[u8]], cookie: Option<&str>| {
            let mut headers: HeaderMap = HeaderMap::new();
            for value in values {
                headers.append(name.clone(), http::HeaderValue::from_bytes(value).unwrap());
            }
            if let Some(cookie) = cookie {
                headers.append(COOKIE, cookie.parse().unwrap());
            }
            key(&keyed(None, &headers), &shape).unwrap().text
        };
        let keys = [
            of(&[], None),
            of(&[b""], None),
            of(&[b"a,b"], None),
            of(&[b"a", b"b"], None),
            of(&[b"\xff"], None),
            of(&[b"\xfe"], None),
            of(&[b"\\xff"], None),
            of(&[], Some("c=")),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| other != one), "{one}");
        }
    }

    #[test]
    fn conditions_send_past_the_cache() {
        let headers = [(COOKIE, "wp_session_9=1; a=2; B%61d=3".parse().unwrap())].into_iter().collect();
        let request = keyed(Some("x=1&nocache;%6fther"), &headers);
        let is = |condition| is_bypassed(&request, &[condition]);
        assert!(is(Bypass::Cookie("wp_session*".into())) && is(Bypass::Cookie("a".into())));
        assert!(is(Bypass::Query("nocache".into())) && is(Bypass::Header(COOKIE)));
        assert!(is(Bypass::Query("other".into())) && is(Bypass::Cookie("bad".into())));
        assert!(!is(Bypass::Cookie("wp".into())) && !is(Bypass::Query("no".into())));
    }
}
