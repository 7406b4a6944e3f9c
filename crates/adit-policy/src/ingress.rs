//! The connector's rules: host and path to a service, first match wins (cloudflared: `ingress/ingress.go`).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use regex::Regex;

use crate::host::HostPattern;
use crate::origin_request::OriginRequest;
use crate::service::Service;

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The hosts meant; `None` for all.
    pub hostname: Option<RuleHost>,
    /// Searched in the decoded path, anywhere; `None` for all.
    pub path: Option<Regex>,
    /// Where requests go.
    pub service: Service,
    /// How they go there.
    pub origin: OriginRequest,
}

/// A rule's host: as written, and in punycode if that differs. Compared as is: the edge sends lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleHost {
    written: String,
    pattern: HostPattern,
}

impl RuleHost {
    /// A host as written in a file, with its meaning.
    #[must_use]
    pub fn new(written: &str, pattern: HostPattern) -> Self {
        Self { written: written.to_owned(), pattern }
    }

    /// The text of the file.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// What it claims at the edge.
    #[must_use]
    pub fn pattern(&self) -> &HostPattern {
        &self.pattern
    }

    fn matches(&self, host: &str) -> bool {
        if matches_text(&self.written, host) {
            return true;
        }
        match &self.pattern {
            HostPattern::Any => true,
            HostPattern::Wildcard(parent) => is_suffix(parent.as_str(), host),
            HostPattern::Exact(name) => name.as_str() == host,
        }
    }
}

fn matches_text(written: &str, host: &str) -> bool {
    match written.strip_prefix("*.") {
        Some(parent) => is_suffix(parent, host),
        None => written == host,
    }
}

/// Whether `host` ends in a dot and `parent`.
fn is_suffix(parent: &str, host: &str) -> bool {
    host.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

/// All rules of a connector. The last one takes everything.
#[derive(Clone, Debug)]
pub struct Ingress {
    rules: Vec<Rule>,
}

/// What a connector says that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The hosts of its rules.
    pub hosts: Vec<HostPattern>,
    /// Whether its last rule is a real service, which would answer for any host.
    pub catch_all: bool,
}

impl Ingress {
    /// Rules that a configuration has checked: the last one has neither host nor path.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// One service for everything.
    #[must_use]
    pub fn single(service: Service, origin: OriginRequest) -> Self {
        Self { rules: vec![Rule { hostname: None, path: None, service, origin }] }
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule that matches, with its index. `host` may have a port; `path` is as the visitor sent it, without
    /// the query.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<(usize, &Rule)> {
        let host = strip_port(host);
        let mut decoded = None;
        self.rules.iter().enumerate().find(|(_, rule)| {
            rule.hostname.as_ref().is_none_or(|pattern| pattern.matches(host))
                && rule.path.as_ref().is_none_or(|regex| regex.is_match(decoded.get_or_insert_with(|| decode(path))))
        })
    }

    /// What the edge is told.
    #[must_use]
    pub fn claims(&self) -> Claims {
        let hosts = self.rules.iter().filter_map(|rule| rule.hostname.as_ref()).map(|host| host.pattern.clone());
        let catch_all = self.rules.last().is_some_and(|rule| !rule.service.is_status());
        Claims { hosts: hosts.collect(), catch_all }
    }
}

fn strip_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Go matches on the decoded path. Paths without `%` need no work.
fn decode(path: &str) -> Cow<'_, str> {
    if path.contains('%') { percent_decode_str(path).decode_utf8_lossy() } else { Cow::Borrowed(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: Option<&str>, path: Option<&str>, status: u16) -> Rule {
        Rule {
            hostname: host.map(|host| RuleHost::new(host, HostPattern::parse(host).unwrap())),
            path: path.map(|path| Regex::new(path).unwrap()),
            service: Service::Status(status),
            origin: OriginRequest::default(),
        }
    }

    #[test]
    fn the_first_match_wins_as_in_cloudflared() {
        let ingress = Ingress::new(vec![
            rule(Some("a.example"), Some("/a|/b$"), 201),
            rule(Some("a.example"), None, 202),
            rule(Some("*.w.example"), None, 203),
            rule(Some("bücher.example"), None, 204),
            rule(None, None, 404),
        ]);
        for (host, path, status) in [
            ("a.example", "/zz/a", 201),
            ("a.example:8443", "/zz/b", 201),
            ("a.example", "/b/c", 202),
            ("a.example", "/%61", 201),
            ("A.example", "/a", 404),
            ("x.y.w.example", "/", 203),
            ("w.example", "/", 404),
            ("xn--bcher-kva.example", "/", 204),
            ("bücher.example", "/", 204),
            ("other", "/", 404),
        ] {
            let (_, rule) = ingress.find(host, path).unwrap();
            assert_eq!(rule.service, Service::Status(status), "{host}{path}");
        }
    }

    #[test]
    fn claims_name_the_hosts_and_the_last_service() {
        let ingress = Ingress::new(vec![rule(Some("a.example"), None, 200), rule(None, None, 404)]);
        let claims = ingress.claims();
        assert_eq!(claims, Claims { hosts: vec![HostPattern::parse("a.example").unwrap()], catch_all: false });
        let real = Ingress::single(Service::HelloWorld, OriginRequest::default());
        assert!(real.claims().catch_all);
    }
}
