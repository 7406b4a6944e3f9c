//! What a changing request makes stale (RFC 9111, section 4.4).

use http::header::{CONTENT_LOCATION, HeaderMap, LOCATION};
use http::{Method, StatusCode};

/// Whether what is stored under the target of a request is out of date by its answer.
#[must_use]
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

/// Paths, with their queries, that an answer names beside the target: of the same host only.
#[must_use]
pub fn also(host: &str, answer: &HeaderMap) -> Vec<String> {
    let named = [LOCATION, CONTENT_LOCATION];
    let values = named.iter().filter_map(|name| answer.get(name)?.to_str().ok());
    values.filter_map(|value| same_host(host, value)).collect()
}

fn same_host(host: &str, reference: &str) -> Option<String> {
    let after_scheme = ["https://", "http://"].iter().find_map(|scheme| reference.strip_prefix(scheme));
    let after_scheme = after_scheme.or_else(|| reference.strip_prefix("//"));
    let path = match after_scheme {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(end)?;
            let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
            name.eq_ignore_ascii_case(host).then_some(path)?
        }
        None => reference,
    };
    let path = path.split('#').next().unwrap_or_default();
    path.starts_with('/').then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_successful_changes_of_the_same_host_count() {
        assert!(
            invalidates(&Method::POST, StatusCode::OK) && invalidates(&Method::DELETE, StatusCode::FOUND)
        );
        assert!(!invalidates(&Method::POST, StatusCode::INTERNAL_SERVER_ERROR));
        assert!(!invalidates(&Method::GET, StatusCode::OK));
        for (reference, expected) in [
            ("/a?b#c", Some("/a?b")),
            ("https://h.example:8443/x", Some("/x")),
            ("//H.example/x", Some("/x")),
            ("https://other.example/x", None),
            ("relative", None),
        ] {
            assert_eq!(same_host("h.example", reference).as_deref(), expected, "{reference}");
        }
    }
}
