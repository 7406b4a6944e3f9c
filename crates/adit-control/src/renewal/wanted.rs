//! Which certificates are wanted: a pure function of the names that are served.

use std::collections::BTreeSet;

use adit_certs::KeyKind;
use adit_config::edge::{Acme, CertificateKey};
use adit_policy::host::{HostPattern, Hostname};

/// A certificate that is wanted: its one name, and its kind of key.
pub(super) type Wish = (String, KeyKind);

/// The certificates for `names`, without those that files cover. Where DNS can prove it, one wildcard stands for all names
/// side by side under the edge's domain: fewer orders, and the names stay out of public logs.
pub(super) fn wishes(
    names: &[HostPattern],
    covered: &[HostPattern],
    domain: &Hostname,
    acme: &Acme,
) -> BTreeSet<Wish> {
    let has_dns = acme.dns.is_some();
    let open = names.iter().filter(|pattern| !covered.iter().any(|cover| covers(cover, pattern)));
    let texts = open.filter_map(|pattern| match pattern {
        HostPattern::Any => None,
        HostPattern::Wildcard(_) => has_dns.then(|| pattern.to_string()),
        HostPattern::Exact(name) => Some(match shared(name, domain) {
            Some(parent) if has_dns && acme.wildcards => format!("*.{parent}"),
            _ => name.to_string(),
        }),
    });
    let kinds: &[KeyKind] = match acme.key {
        CertificateKey::Ecdsa => &[KeyKind::Ecdsa],
        CertificateKey::Rsa => &[KeyKind::Rsa],
        CertificateKey::Both => &[KeyKind::Ecdsa, KeyKind::Rsa],
    };
    texts.flat_map(|text| kinds.iter().map(move |kind| (text.clone(), *kind))).collect()
}

/// Whether a certificate for one pattern is good for another: a wildcard covers one label (RFC 9525, section 6.3).
fn covers(cover: &HostPattern, pattern: &HostPattern) -> bool {
    match (cover, pattern) {
        (HostPattern::Wildcard(suffix), HostPattern::Exact(name)) => name.parent().as_ref() == Some(suffix),
        _ => cover == pattern,
    }
}

/// The parent of a name, where it is the edge's own.
fn shared(name: &Hostname, domain: &Hostname) -> Option<Hostname> {
    let parent = name.parent()?;
    let below = HostPattern::Wildcard(domain.clone());
    (parent == *domain || below.matches(&parent)).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_config::edge::EdgeFile;
    use std::path::Path;

    fn names(acme: &str, names: &[&str], covered: &[&str]) -> Vec<String> {
        let text = format!("domain: home.example\nacme: {acme}\n");
        let (file, _) = EdgeFile::parse(&text, Path::new("edge.yml")).unwrap();
        let patterns = |list: &[&str]| -> Vec<HostPattern> {
            list.iter().map(|name| HostPattern::parse(name).unwrap()).collect()
        };
        let wishes = wishes(&patterns(names), &patterns(covered), &file.domain, &file.acme.unwrap());
        wishes.into_iter().map(|(name, kind)| format!("{name} {kind:?}")).collect()
    }

    const DNS: &str = "{ dns: { provider: rfc2136, server: 127.0.0.1, key-name: k, key-file: k } }";

    #[test]
    fn without_dns_each_name_has_its_own() {
        assert_eq!(
            names("{}", &["a.home.example", "*.b.home.example", "x.other.example", "*"], &[]),
            ["a.home.example Ecdsa", "x.other.example Ecdsa"]
        );
        assert_eq!(names("{ key: both }", &["a.b"], &[]), ["a.b Ecdsa", "a.b Rsa"]);
    }

    #[test]
    fn with_dns_neighbours_share_a_wildcard() {
        let many = [
            "a.home.example",
            "b.home.example",
            "c.d.home.example",
            "home.example",
            "x.other.example",
            "*.e.example",
        ];
        assert_eq!(
            names(DNS, &many, &[]),
            [
                "*.d.home.example Ecdsa",
                "*.e.example Ecdsa",
                "*.home.example Ecdsa",
                "home.example Ecdsa",
                "x.other.example Ecdsa"
            ]
        );
        let own = DNS.replace("{ dns", "{ wildcards: false, dns");
        assert_eq!(names(&own, &["a.home.example"], &[]), ["a.home.example Ecdsa"]);
    }

    #[test]
    fn files_come_first() {
        let names =
            names("{}", &["a.home.example", "b.c.home.example", "d.home.example"], &["*.home.example"]);
        assert_eq!(names, ["b.c.home.example Ecdsa"]);
    }
}
