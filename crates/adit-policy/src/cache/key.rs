//! What tells stored responses apart.

use std::hash::Hash as _;

use http::HeaderMap;
use http::header::COOKIE;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::rule::{Bypass, KeyShape, QueryKey};

/// A request as its key sees it.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// `https` or `http`.
    pub scheme: &'a str,
    /// The host in its one form.
    pub host: &'a str,
    /// The path as it is forwarded.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// Its fields.
    pub headers: &'a HeaderMap,
}

/// The text that tells responses apart; two requests with the same text get the same answer.
#[must_use]
pub fn key(request: &Keyed<'_>, shape: &KeyShape) -> String {
    let mut key = String::with_capacity(request.host.len() + request.path.len() + 32);
    key.push_str(request.scheme);
    key.push_str("://");
    if shape.host {
        key.push_str(request.host);
    }
    if shape.path {
        key.push_str(request.path);
    }
    if let Some(query) = request.query {
        write_query(&mut key, query, &shape.query);
    }
    for name in &shape.headers {
        let values =
            request.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        push(&mut key, name.as_str(), &values.collect::<Vec<_>>().join(","));
    }
    for name in &shape.cookies {
        push(&mut key, name, cookies(request.headers, |known| known == name).next().unwrap_or_default());
    }
    key
}

/// No field has a line break in it, so that one cannot be taken for another.
fn push(key: &mut String, name: &str, value: &str) {
    key.push('\n');
    key.push_str(name);
    key.push(':');
    key.push_str(value);
}

fn write_query(key: &mut String, query: &str, shape: &QueryKey) {
    let keeps = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        match shape {
            QueryKey::All => true,
            QueryKey::None => false,
            QueryKey::Only(names) => names.iter().any(|known| known == name),
            QueryKey::Without(names) => !names.iter().any(|known| known == name),
        }
    };
    match shape {
        QueryKey::None => {}
        QueryKey::All => {
            key.push('?');
            key.push_str(query);
        }
        QueryKey::Only(_) | QueryKey::Without(_) => {
            let mut parameters: Vec<&str> = query.split('&').filter(|parameter| keeps(parameter)).collect();
            parameters.sort_unstable();
            if !parameters.is_empty() {
                key.push('?');
                key.push_str(&parameters.join("&"));
            }
        }
    }
}

/// Values of the cookies whose names are wanted.
pub fn cookies(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(name, _)| wanted(name)).map(|(_, value)| value)
}

/// Whether something sends a request past the cache.
#[must_use]
pub fn is_bypassed(request: &Keyed<'_>, conditions: &[Bypass]) -> bool {
    conditions.iter().any(|condition| match condition {
        Bypass::Header(name) => request.headers.contains_key(name),
        Bypass::Cookie(name) => match name.strip_suffix('*') {
            Some(start) => cookies(request.headers, |known| known.starts_with(start)).next().is_some(),
            None => cookies(request.headers, |known| known == name).next().is_some(),
        },
        Bypass::Query(name) => {
            let parameters = request.query.unwrap_or_default().split('&');
            parameters.map(|parameter| parameter.split('=').next()).any(|known| known == Some(name))
        }
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

    fn of(query: Option<&str>, shape: &KeyShape, cookie: &str) -> String {
        let headers = [(COOKIE, cookie.parse().unwrap())].into_iter().collect();
        key(&Keyed { scheme: "https", host: "a.example", path: "/x", query, headers: &headers }, shape)
    }

    #[test]
    fn a_key_has_what_its_shape_says() {
        let all = KeyShape::default();
        assert_eq!(of(Some("b=1&a=2"), &all, ""), "https://a.example/x?b=1&a=2");
        assert_ne!(of(Some(""), &all, ""), of(None, &all, ""));
        let none = KeyShape { query: QueryKey::None, ..all.clone() };
        assert_eq!(of(Some("b=1"), &none, ""), of(None, &none, ""));
        let only = KeyShape { query: QueryKey::Only(vec!["a".into()]), ..all.clone() };
        assert_eq!(of(Some("b=1&a=2"), &only, ""), "https://a.example/x?a=2");
        let without = KeyShape { query: QueryKey::Without(vec!["b".into()]), ..all.clone() };
        assert_eq!(of(Some("c=3&b=1&a=2"), &without, ""), "https://a.example/x?a=2&c=3");
        let cookie = KeyShape { cookies: vec!["lang".into()], ..all };
        assert_eq!(of(None, &cookie, "x=1; lang=de"), "https://a.example/x\nlang:de");
    }

    #[test]
    fn conditions_send_past_the_cache() {
        let headers = [(COOKIE, "wp_session_9=1; a=2".parse().unwrap())].into_iter().collect();
        let request =
            Keyed { scheme: "https", host: "a", path: "/", query: Some("x=1&nocache"), headers: &headers };
        let is = |condition| is_bypassed(&request, &[condition]);
        assert!(is(Bypass::Cookie("wp_session*".into())) && is(Bypass::Cookie("a".into())));
        assert!(is(Bypass::Query("nocache".into())) && is(Bypass::Header(COOKIE)));
        assert!(!is(Bypass::Cookie("wp".into())) && !is(Bypass::Query("no".into())));
    }
}
