//! Paths and hosts: what is forwarded is read alike by everybody behind the edge.

use adit_policy::host::{Authority, HostPattern, Hostname};
use adit_policy::ingress::{Ingress, OriginRequest, Rule, RuleHost, Service};
use adit_policy::path::RequestPath;
use regex::Regex;

#[path = "../../adit-policy/src/path/origins.rs"]
mod origins;

/// Expressions as they stand in rules.
const RULES: [&str; 8] =
    ["^/admin", "^/public/", r"\.(css|js)$", "^/a$", "/b|/c$", "^/[^/]*$", r"\.\.", "^/user/(login|sign_up)"];

/// A line with the number of a rule, and a path: where it is forwarded, every known reader of paths meets the rule, or none does.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (number, raw) = text.split_once('\n').unwrap_or(("0", text));
    let rule = RULES[number.parse::<usize>().unwrap_or_default() % RULES.len()];
    let Ok(rule) = Regex::new(rule) else { return };
    let Ok(path) = RequestPath::parse(raw) else { return };
    let Ok(decided) = path.decide(|text| rule.is_match(text)) else {
        assert!(!path.has_one_reading());
        return;
    };
    for (name, read) in origins::ALL {
        let reading = read(raw);
        assert_eq!(rule.is_match(&reading), decided, "{name} reads {reading:?}");
        assert!(!path.has_one_reading() || reading == path.text(), "{name} reads {reading:?}");
    }
}

/// What a request names as its host: the normal form is read by everybody as that name, in every rule.
pub fn authority(data: &[u8]) {
    let Ok(authority) = Authority::parse(data) else { return };
    let forwarded = authority.to_string();
    assert_eq!(Authority::parse(forwarded.as_bytes()), Ok(authority.clone()));
    assert!(authority.is_written(forwarded.as_bytes()));
    assert_eq!(authority.is_written(data), forwarded.as_bytes() == data);
    let Ok(host) = Hostname::from_authority(data) else { panic!("it was read before") };
    assert_eq!(host.as_str(), authority.host());
    // Brackets are the only difference: Go takes them off where a port follows.
    let read = without_port_as_go(&forwarded);
    assert!(read == host.as_str() || host.as_str() == format!("[{read}]"));
    for text in ["admin.x", "*.x", "a.admin.x", "*"] {
        let pattern = HostPattern::parse(text).map(|pattern| pattern.matches(&host));
        assert_eq!(pattern, Ok(matches_as_cloudflared(text, read)), "{text}");
        assert_eq!(pattern, Ok(is_first(text, host.as_str())), "{text}");
    }
}

/// `net.SplitHostPort`; a text without a port is a host.
fn without_port_as_go(text: &str) -> &str {
    let Some((host, _)) = text.rsplit_once(':') else { return text };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner,
        None if !host.starts_with('[') && !host.contains(':') => host,
        None => text,
    }
}

/// `matchHost` of cloudflared (`ingress/ingress.go`).
fn matches_as_cloudflared(rule: &str, host: &str) -> bool {
    let suffix = rule.strip_prefix('*').filter(|suffix| suffix.starts_with('.'));
    rule == "*" || rule == host || suffix.is_some_and(|suffix| host.ends_with(suffix))
}

/// Whether our connector takes the rule of a name, before its last one.
fn is_first(name: &str, host: &str) -> bool {
    let rule = |name: &str| Rule {
        hostname: RuleHost::parse(name).ok().flatten(),
        path: Regex::new("/").ok().filter(|_| !name.is_empty()),
        service: Service::HelloWorld,
        more: Vec::new(),
        origin: OriginRequest::default(),
        edge: None,
    };
    let rules = Ingress::new(vec![rule(name), rule("")]).ok();
    let found = rules.and_then(|rules| Some(rules.find(host, &RequestPath::of("/")).ok()??.0));
    found == Some(0)
}
