//! What a connector accepts of rules that its edge pushes (`accept-rules`). The edge may be somebody else's, or have been
//! taken over: it decides only inside of what the connector's own side allows.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::dialled::{allows, destination, is_special};
use super::{Ingress, IpRule, OriginRequest, ProxyType, Rule, Service, TlsEnd};

/// The limits of rules that the edge pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptRules {
    /// The services that a rule may lead to.
    pub services: Vec<ServicePattern>,
    /// Files that a rule may name (`caPool`, `tlsCertificate`, `tlsKey`).
    pub files: Vec<PathBuf>,
    /// Where `bastion`, `socks-proxy` and the edge's ports may go at most. Without an allowing rule, nowhere.
    pub ip_rules: Vec<IpRule>,
}

/// A pattern of services: a service in which the host, the port, the scheme or the last part of a socket's path may be `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePattern {
    /// `SCHEME://HOST:PORT`.
    Url {
        /// `http` or `https` for both spellings of each, another scheme, or `None` for every scheme.
        scheme: Option<String>,
        /// The host.
        host: HostPart,
        /// The port; `None` for every port.
        port: Option<u16>,
    },
    /// `unix:PATH`, with or without TLS. A last part of `*` is one name of any kind.
    Unix(PathBuf),
    /// `bastion`.
    Bastion,
    /// `socks-proxy`.
    SocksProxy,
}

/// The host of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPart {
    /// `*`.
    Any,
    /// `*.domain`, of any depth; the domain is in lower case.
    Under(String),
    /// This one, in lower case.
    Exact(String),
}

/// A text that is no pattern of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a service such as `http://localhost:*`, `https://*.lan:443`, `tcp://10.0.0.5:22` or `unix:/run/app/*`"
)]
pub struct ServicePatternError;

/// Why rules of the edge are not accepted. Rules are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// A rule leads to a service that is not allowed.
    #[error("rule #{number} leads to `{service}`, which `accept-rules` of this connector does not allow")]
    Service {
        /// The rule.
        number: usize,
        /// Its service.
        service: String,
    },
    /// A rule names a file that is not allowed.
    #[error("rule #{number} names the file {path}, which `accept-rules` of this connector does not allow")]
    File {
        /// The rule.
        number: usize,
        /// The file.
        path: String,
    },
    /// A rule has keys of tokens fetched from where it is not allowed.
    #[error(
        "rule #{number} has the signing keys of tokens fetched from `{url}`, which `accept-rules` of this connector does not allow"
    )]
    Keys {
        /// The rule.
        number: usize,
        /// The issuer or its keys.
        url: String,
    },
    /// The edge opens a private network.
    #[error(
        "`warp-routing.ipRules` of the edge reach into this network, and `accept-rules` of this connector has no `ipRules`"
    )]
    Network,
}

/// What connections of accepted rules may reach: the dialled address is judged, whatever name led there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// A special address that the connector's own side names as it is.
    named: Option<IpAddr>,
    ip_rules: Vec<IpRule>,
}

impl Default for AcceptRules {
    /// What holds for a connector that says nothing about it: every service with an address, and nothing that reaches
    /// beyond one.
    fn default() -> Self {
        let anything = ServicePattern::Url { scheme: None, host: HostPart::Any, port: None };
        Self { services: vec![anything], files: Vec::new(), ip_rules: Vec::new() }
    }
}

impl AcceptRules {
    /// Returns the rules with the limits of what they may reach.
    ///
    /// # Errors
    /// [`NotAccepted`] names the first rule that goes beyond the limits: then none of them is taken.
    pub fn accept(&self, mut ingress: Ingress) -> Result<Ingress, NotAccepted> {
        for (index, rule) in ingress.rules.iter_mut().enumerate() {
            self.check(index + 1, rule)?;
            let ceiling = Arc::new(self.ceiling(rule));
            if let Some(access) = &mut rule.origin.access {
                access.ceiling = Some(Arc::default());
            }
            rule.origin.ceiling = Some(ceiling);
        }
        if ingress.warp.is_open() && !self.ip_rules.iter().any(|rule| rule.allow) {
            return Err(NotAccepted::Network);
        }
        ingress.warp.ceiling = Some(Arc::new(Ceiling { named: None, ip_rules: self.ip_rules.clone() }));
        Ok(ingress)
    }

    fn check(&self, number: usize, rule: &Rule) -> Result<(), NotAccepted> {
        if let Some(service) = rule.services().find(|service| !self.allows(service, &rule.origin)) {
            return Err(NotAccepted::Service { number, service: service.to_string() });
        }
        if let Some(path) = files(&rule.origin).find(|path| !self.files.iter().any(|file| file == *path)) {
            return Err(NotAccepted::File { number, path: path.display().to_string() });
        }
        let Some(access) = &rule.origin.access else { return Ok(()) };
        let keys = access.required.then(|| access.issuer()).into_iter().chain(access.keys_url.clone());
        match keys.into_iter().find(|url| !self.allows_url(url)) {
            Some(url) => Err(NotAccepted::Keys { number, url }),
            None => Ok(()),
        }
    }

    /// A status and the built-in page reach nothing.
    fn allows(&self, service: &Service, origin: &OriginRequest) -> bool {
        let has = |wanted: ServicePattern| self.services.contains(&wanted);
        match service {
            Service::Status(_) | Service::HelloWorld => true,
            Service::Bastion => has(ServicePattern::Bastion),
            Service::SocksProxy => has(ServicePattern::SocksProxy),
            _ if origin.bastion_mode && !has(ServicePattern::Bastion) => false,
            _ if origin.proxy_type == ProxyType::Socks && !has(ServicePattern::SocksProxy) => false,
            _ => self.services.iter().any(|pattern| pattern.matches(service)),
        }
    }

    fn allows_url(&self, url: &str) -> bool {
        let Some((scheme, rest)) = url.split_once("://") else { return false };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let service = Service::parse(&format!("{scheme}://{authority}"));
        service.is_ok_and(|service| self.allows(&service, &OriginRequest::default()))
    }

    fn ceiling(&self, rule: &Rule) -> Ceiling {
        let literal = |service: &Service| {
            let (_, host, _) = address_of(service)?;
            let named = self.services.iter().any(|pattern| pattern.names(host));
            host.parse().ok().filter(|_| named).map(destination)
        };
        Ceiling { named: rule.services().find_map(literal), ip_rules: self.ip_rules.clone() }
    }
}

impl Ceiling {
    /// Whether a connection may be made to this address.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        !is_special(address) || self.named == Some(destination(address))
    }

    /// Whether a bastion, a SOCKS client or a port of the edge may go there.
    #[must_use]
    pub fn admits_flow(&self, to: SocketAddr) -> bool {
        self.admits(to.ip()) && allows(&self.ip_rules, to.ip(), to.port())
    }
}

impl ServicePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`ServicePatternError`] for everything else.
    pub fn parse(text: &str) -> Result<Self, ServicePatternError> {
        match text {
            "bastion" => return Ok(Self::Bastion),
            "socks-proxy" => return Ok(Self::SocksProxy),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.strip_prefix("unix+tls:")) {
            let path = PathBuf::from(path);
            let good = path.is_absolute() && is_plain(&path);
            return good.then_some(Self::Unix(path)).ok_or(ServicePatternError);
        }
        url_pattern(text).ok_or(ServicePatternError)
    }

    fn matches(&self, service: &Service) -> bool {
        match (self, service) {
            (Self::Unix(pattern), Service::Unix { path, .. }) => is_path_match(pattern, path),
            (Self::Url { scheme, host, port }, _) => {
                let Some((own, name, number)) = address_of(service) else { return false };
                scheme.as_ref().is_none_or(|scheme| scheme == own)
                    && host.matches(name)
                    && port.is_none_or(|port| number == Some(port))
            }
            _ => false,
        }
    }

    fn names(&self, address: &str) -> bool {
        matches!(self, Self::Url { host: HostPart::Exact(own), .. } if own == address)
    }
}

impl HostPart {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('.').to_ascii_lowercase();
        match text.strip_prefix("*.") {
            _ if text == "*" => Some(Self::Any),
            Some(domain) if is_host(domain) => Some(Self::Under(domain.to_owned())),
            None if is_host(&text) => Some(Self::Exact(text)),
            _ => None,
        }
    }

    fn matches(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Under(domain) => host.strip_suffix(domain.as_str()).is_some_and(|head| head.ends_with('.')),
            Self::Exact(own) => *own == host,
        }
    }
}

/// The address, the scheme in the pattern's spelling first.
fn address_of(service: &Service) -> Option<(&str, &str, Option<u16>)> {
    match service {
        Service::Http { tls, host, port, .. } => {
            Some((if *tls { "https" } else { "http" }, host, Some(*port)))
        }
        Service::Tcp { scheme, host, port } => Some((scheme, host, *port)),
        _ => None,
    }
}

fn url_pattern(text: &str) -> Option<ServicePattern> {
    let (scheme, rest) = text.split_once("://")?;
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host = HostPart::parse(host.trim_start_matches('[').trim_end_matches(']'))?;
    if scheme == "*" {
        let port = port.filter(|port| *port != "*").map(str::parse).transpose().ok()?;
        return Some(ServicePattern::Url { scheme: None, host, port });
    }
    // The service's own reader knows the schemes and their usual ports.
    let number = port.filter(|port| *port != "*");
    let sample = match number {
        Some(number) => format!("{scheme}://a:{number}"),
        None => format!("{scheme}://a"),
    };
    let service = Service::parse(&sample).ok()?;
    let (scheme, _, usual) = address_of(&service)?;
    let port = if port == Some("*") { None } else { Some(usual?) };
    Some(ServicePattern::Url { scheme: Some(scheme.to_owned()), host, port })
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.contains(['*', '/', '?', '#', '@', ' ', '[', ']'])
}

fn is_path_match(pattern: &Path, path: &Path) -> bool {
    if pattern.file_name().is_some_and(|name| name == "*") {
        return is_plain(path) && path.file_name().is_some() && pattern.parent() == path.parent();
    }
    pattern == path
}

/// Without `.` and `..`, which may lead out of a folder.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn files(origin: &OriginRequest) -> impl Iterator<Item = &PathBuf> {
    let end = match &origin.tls_end {
        Some(TlsEnd::Files { certificate, key }) => [Some(certificate), Some(key)],
        Some(TlsEnd::Acme) | None => [None, None],
    };
    origin.ca_pool.iter().chain(end.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::Access;

    fn pushed(service: &str) -> Ingress {
        Ingress::single(Service::parse(service).unwrap(), OriginRequest::default())
    }

    fn only(patterns: &[&str]) -> AcceptRules {
        let services = patterns.iter().map(|text| ServicePattern::parse(text).unwrap()).collect();
        AcceptRules { services, ..AcceptRules::default() }
    }

    #[test]
    fn without_a_word_services_with_an_address_are_accepted() {
        let usual = AcceptRules::default();
        for (service, accepted) in [
            ("http://localhost:8080", true),
            ("https://nas.lan", true),
            ("ssh://localhost:22", true),
            ("hello_world", true),
            ("http_status:404", true),
            ("unix:/var/run/docker.sock", false),
            ("unix+tls:/run/app.sock", false),
            ("bastion", false),
            ("socks-proxy", false),
        ] {
            assert_eq!(usual.accept(pushed(service)).is_ok(), accepted, "{service}");
        }
    }

    #[test]
    fn patterns_match_scheme_host_and_port() {
        for (pattern, service, accepted) in [
            ("http://localhost:*", "http://localhost:3000", true),
            ("http://localhost:*", "http://LOCALHOST.:3000", true),
            ("http://localhost:*", "ws://localhost:3000", true),
            ("http://localhost:*", "https://localhost:3000", false),
            ("http://localhost:*", "tcp://localhost:3000", false),
            ("http://localhost:*", "http://localhost.evil.example:3000", false),
            ("http://localhost:*", "http://127.0.0.1:3000", false),
            ("http://localhost", "http://localhost:80", true),
            ("http://localhost", "http://localhost:81", false),
            ("https://*.lan", "https://nas.home.lan:443", true),
            ("https://*.lan", "https://lan:443", false),
            ("https://*.lan", "https://evillan:443", false),
            ("*://[::1]:22", "ssh://[::1]", true),
            ("*://10.0.0.5:*", "rdp://10.0.0.5", true),
            ("ssh://*", "ssh://10.0.0.5", true),
            ("unix:/run/app.sock", "unix+tls:/run/app.sock", true),
            ("unix:/run/app/*", "unix:/run/app/a.sock", true),
            ("unix:/run/app/*", "unix:/run/app/../docker.sock", false),
            ("unix:/run/app/*", "unix:/run/app/sub/a.sock", false),
            ("unix:/run/app/*", "unix:/run/docker.sock", false),
            ("bastion", "bastion", true),
            ("socks-proxy", "bastion", false),
        ] {
            assert_eq!(only(&[pattern]).accept(pushed(service)).is_ok(), accepted, "{pattern}: {service}");
        }
    }

    #[test]
    fn nonsense_is_no_pattern() {
        for text in [
            "",
            "localhost:8080",
            "http://",
            "http://a/b",
            "unix:run/a",
            "unix:/run/../*",
            "http://a*:1",
            "x",
        ] {
            assert_eq!(ServicePattern::parse(text), Err(ServicePatternError), "{text}");
        }
    }

    #[test]
    fn ways_round_by_settings_are_closed() {
        let accepts = |change: fn(&mut OriginRequest)| {
            let mut ingress = pushed("http://localhost:80");
            change(&mut ingress.rules[0].origin);
            AcceptRules::default().accept(ingress).is_ok()
        };
        assert!(accepts(|origin| origin.no_tls_verify = true));
        assert!(!accepts(|origin| origin.bastion_mode = true));
        assert!(!accepts(|origin| origin.proxy_type = ProxyType::Socks));
        assert!(!accepts(|origin| origin.ca_pool = Some("/etc/shadow".into())));
        assert!(!accepts(|origin| {
            let file = PathBuf::from("/etc/ssl/private/key.pem");
            origin.tls_end = Some(TlsEnd::Files { certificate: file.clone(), key: file });
        }));
        let mut several = pushed("http://localhost:80");
        several.rules[0].more = vec![Service::parse("unix:/run/docker.sock").unwrap()];
        assert!(AcceptRules::default().accept(several).is_err());
        let mut network = pushed("http://localhost:80");
        let everywhere = IpRule { prefix: "0.0.0.0/0".parse().unwrap(), ports: Vec::new(), allow: true };
        network.warp.ip_rules = vec![everywhere];
        assert_eq!(AcceptRules::default().accept(network).unwrap_err(), NotAccepted::Network);
    }

    #[test]
    fn keys_of_tokens_come_from_accepted_services_only() {
        let with = |issuer: &str, accept: &AcceptRules| {
            let mut ingress = pushed("http://localhost:80");
            let access = Access { required: true, issuer: Some(issuer.to_owned()), ..Access::default() };
            ingress.rules[0].origin.access = Some(access);
            accept.accept(ingress)
        };
        assert!(with("https://id.example/realm", &only(&["http://localhost"])).is_err());
        let accepted = with("https://id.example/realm", &AcceptRules::default()).unwrap();
        let ceiling = accepted.rules[0].origin.access.as_ref().unwrap().ceiling.as_ref().unwrap();
        assert!(!ceiling.admits("169.254.169.254".parse().unwrap()));
    }

    #[test]
    fn special_addresses_are_dialled_only_where_they_are_named() {
        let metadata: IpAddr = "169.254.169.254".parse().unwrap();
        let ceiling = |accept: &AcceptRules, service: &str| {
            accept.accept(pushed(service)).unwrap().rules[0].origin.ceiling.clone().unwrap()
        };
        for service in ["http://169.254.169.254", "http://innocent.example", "http://[::ffff:a9fe:a9fe]"] {
            assert!(!ceiling(&AcceptRules::default(), service).admits(metadata), "{service}");
        }
        let named = only(&["http://169.254.169.254"]);
        assert!(ceiling(&named, "http://169.254.169.254").admits(metadata));
        assert!(!ceiling(&named, "http://169.254.169.254").admits("169.254.1.1".parse().unwrap()));
    }

    #[test]
    fn flows_stay_within_both_lists() {
        let rule = |prefix: &str| IpRule { prefix: prefix.parse().unwrap(), ports: Vec::new(), allow: true };
        let accept = AcceptRules { ip_rules: vec![rule("10.0.0.0/8")], ..AcceptRules::default() };
        let mut ingress = pushed("http://localhost:80");
        ingress.warp.ip_rules = vec![rule("0.0.0.0/0")];
        let warp = accept.accept(ingress).unwrap().warp;
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(warp.allows(to("10.0.0.1:22")) && !warp.allows(to("192.168.0.1:22")));
        assert!(!warp.allows(to("127.0.0.1:22")) && !warp.allows(to("0.0.0.0:22")));
    }
}
