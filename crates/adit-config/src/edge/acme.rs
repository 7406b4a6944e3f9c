//! `acme`: certificate authorities that give certificates by themselves, and how names are proven to them.

use std::path::PathBuf;

use crate::diagnostic::Findings;
use crate::yaml::{self, Kind, Node, Table};

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// Address of the operator; authorities write to it.
    pub email: Option<String>,
    /// The authorities, in the order in which they are asked.
    pub authorities: Vec<Authority>,
    /// How names are proven, the preferred way first. Wildcards need [`Challenge::Dns01`].
    pub challenges: Vec<Challenge>,
    /// Where TXT records are written.
    pub dns: Option<Rfc2136>,
    /// The kind of the certificates' keys.
    pub key: CertificateKey,
    /// Whether one certificate for `*.parent` stands for the names below it, where DNS-01 is set up.
    pub wildcards: bool,
}

/// A certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its short name, in logs and file names.
    pub name: String,
    /// Its directory (RFC 8555, section 7.1.1).
    pub directory: String,
    /// The root that its own HTTPS is checked with; that of the system if `None`.
    pub ca: Option<PathBuf>,
    /// The kind of certificate to ask for.
    pub profile: Option<String>,
    /// An account that it knows already (section 7.3.4).
    pub external_account: Option<ExternalAccount>,
}

/// An account with an authority outside of ACME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its name.
    pub key_id: String,
    /// The file of its key, in base64url as authorities give it.
    pub key_file: PathBuf,
}

/// A way to prove a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A TXT record (RFC 8555, section 8.4).
    Dns01,
    /// A certificate with a mark, shown on port 443 (RFC 8737).
    TlsAlpn01,
    /// A file on port 80 (RFC 8555, section 8.3).
    Http01,
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateKey {
    /// P-256: small and fast.
    #[default]
    Ecdsa,
    /// RSA with 2048 bits, for clients that know nothing else.
    Rsa,
    /// One certificate of each.
    Both,
}

/// Changes of a zone by dynamic update (RFC 2136), signed by TSIG (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rfc2136 {
    /// The name server, with its port.
    pub server: String,
    /// The zone; found by asking for its SOA if `None`.
    pub zone: Option<String>,
    /// The name of the key.
    pub key_name: String,
    /// The file of the key, in base64.
    pub key_file: PathBuf,
    /// The algorithm of the key.
    pub algorithm: TsigAlgorithm,
}

/// An algorithm of TSIG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC-SHA-256.
    #[default]
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

/// Authorities that have a short name here.
const KNOWN: [(&str, &str); 5] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
    ("zerossl", "https://acme.zerossl.com/v2/DV90"),
    ("google", "https://dv.acme-v02.api.pki.goog/directory"),
    ("sslcom", "https://acme.ssl.com/sslcom-dv-ecc"),
];
/// Those of them that want an account of their own making.
const WITH_ACCOUNT: [&str; 3] = ["zerossl", "google", "sslcom"];

/// Reads `acme`.
pub(crate) fn decode(node: &Node, findings: &mut Findings) -> Option<Acme> {
    let mut table = Table::open(node, "`acme`", findings)?;
    let email = table.take("email").and_then(|node| super::decode_email(node, findings));
    let authorities = table.take("authorities").map(|node| authorities(node, findings));
    let dns = table.take("dns").and_then(|node| rfc2136(node, findings));
    let ways =
        [("dns-01", Challenge::Dns01), ("tls-alpn-01", Challenge::TlsAlpn01), ("http-01", Challenge::Http01)];
    let challenges = table.take("challenges").map(|node| {
        yaml::one_or_many(node)
            .iter()
            .filter_map(|node| yaml::word(node, &ways, findings))
            .collect::<Vec<_>>()
    });
    let keys =
        [("ecdsa", CertificateKey::Ecdsa), ("rsa", CertificateKey::Rsa), ("both", CertificateKey::Both)];
    let key = table.take("key").and_then(|node| yaml::word(node, &keys, findings));
    let wildcards = table.take("wildcards").and_then(|node| yaml::boolean(node, findings));
    if challenges.as_ref().is_some_and(|list| list.contains(&Challenge::Dns01))
        && dns.is_none()
        && !table.has("dns")
    {
        let help = "for example `dns: { provider: rfc2136, server: 192.0.2.53, key-name: adit, key-file: tsig.key }`";
        findings.error(table.key_span("challenges"), "`dns-01` needs `dns`").help(help);
    }
    table.finish(findings);
    let usual = [Challenge::TlsAlpn01, Challenge::Http01];
    let first = dns.is_some().then_some(Challenge::Dns01);
    Some(Acme {
        email,
        authorities: authorities.unwrap_or_else(|| vec![known("letsencrypt")]),
        challenges: challenges.unwrap_or_else(|| first.into_iter().chain(usual).collect()),
        dns,
        key: key.unwrap_or_default(),
        wildcards: wildcards.unwrap_or(true),
    })
}

fn known(name: &str) -> Authority {
    let found = KNOWN.iter().find(|(known, _)| *known == name);
    let directory = found.map_or(name, |(_, directory)| directory).to_owned();
    Authority { name: name.to_owned(), directory, ca: None, profile: None, external_account: None }
}

fn authorities(node: &Node, findings: &mut Findings) -> Vec<Authority> {
    let nodes = yaml::one_or_many(node);
    if nodes.is_empty() {
        findings.error(node.span, "there is no authority").help("leave the key out for Let's Encrypt");
    }
    nodes.iter().filter_map(|node| authority(node, findings)).collect()
}

fn authority(node: &Node, findings: &mut Findings) -> Option<Authority> {
    if !matches!(node.kind, Kind::Map(_)) {
        let authority = named(node, findings)?;
        need_account(&authority, node, findings);
        return Some(authority);
    }
    let mut table = Table::open(node, "an authority", findings)?;
    let directory = table.require("directory", "letsencrypt", findings);
    let mut authority = directory.and_then(|node| named(node, findings));
    let ca = table.take("ca").and_then(|node| yaml::path_text(node, findings));
    let ca = ca.map(|path| findings.source().resolve(path));
    let profile = yaml::optional_text(table.take("profile"), findings);
    let external_account = table.take("external-account").and_then(|node| external_account(node, findings));
    table.finish(findings);
    if let Some(authority) = &mut authority {
        (authority.ca, authority.profile, authority.external_account) = (ca, profile, external_account);
        need_account(authority, node, findings);
    }
    authority
}

/// A known name, or the URL of a directory.
fn named(node: &Node, findings: &mut Findings) -> Option<Authority> {
    let text = yaml::text(node, findings)?;
    if KNOWN.iter().any(|(name, _)| *name == text) {
        return Some(known(text));
    }
    let host =
        text.strip_prefix("https://").and_then(|rest| rest.split('/').next()).filter(|host| !host.is_empty());
    let Some(host) = host else {
        let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
        let help = format!("known: {}; any other by the URL of its directory, `https://…`", names.join(", "));
        findings.error(node.span, format!("`{text}` is no certificate authority")).help(help);
        return None;
    };
    Some(Authority { name: host.replace(':', "-"), directory: text.to_owned(), ..known("") })
}

fn need_account(authority: &Authority, node: &Node, findings: &mut Findings) {
    if authority.external_account.is_none() && WITH_ACCOUNT.contains(&authority.name.as_str()) {
        let help = format!(
            "write `{{ directory: {}, external-account: {{ key-id: …, key-file: … }} }}`",
            authority.name
        );
        findings.error(node.span, format!("`{}` wants an external account", authority.name)).help(help);
    }
}

fn external_account(node: &Node, findings: &mut Findings) -> Option<ExternalAccount> {
    let mut table = Table::open(node, "`external-account`", findings)?;
    let key_id = yaml::optional_text(table.require("key-id", "kid-1", findings), findings);
    let key_file = key_file(&mut table, "eab.key", findings);
    table.finish(findings);
    Some(ExternalAccount { key_id: key_id?, key_file: key_file? })
}

fn key_file(table: &mut Table<'_>, example: &str, findings: &mut Findings) -> Option<PathBuf> {
    let node = table.require("key-file", example, findings)?;
    let path = yaml::path_text(node, findings)?;
    Some(findings.source().resolve(path))
}

fn rfc2136(node: &Node, findings: &mut Findings) -> Option<Rfc2136> {
    let mut table = Table::open(node, "`dns`", findings)?;
    let provider = table.require("provider", "rfc2136", findings);
    let provider = provider.and_then(|node| yaml::word(node, &[("rfc2136", ())], findings));
    let server = yaml::optional_text(table.require("server", "192.0.2.53", findings), findings);
    let zone = yaml::optional_text(table.take("zone"), findings);
    let key_name = yaml::optional_text(table.require("key-name", "adit", findings), findings);
    let key_file = key_file(&mut table, "tsig.key", findings);
    let algorithms = [
        ("hmac-sha256", TsigAlgorithm::HmacSha256),
        ("hmac-sha384", TsigAlgorithm::HmacSha384),
        ("hmac-sha512", TsigAlgorithm::HmacSha512),
    ];
    let algorithm = table.take("algorithm").and_then(|node| yaml::word(node, &algorithms, findings));
    table.finish(findings);
    provider?;
    Some(Rfc2136 {
        server: with_port(server?),
        zone,
        key_name: key_name?,
        key_file: key_file?,
        algorithm: algorithm.unwrap_or_default(),
    })
}

/// DNS has port 53.
fn with_port(server: String) -> String {
    let has_port = server.parse::<std::net::SocketAddr>().is_ok()
        || server.parse::<std::net::Ipv6Addr>().is_err() && server.contains(':');
    match server.parse::<std::net::Ipv6Addr>() {
        _ if has_port => server,
        Ok(address) => format!("[{address}]:53"),
        Err(_) => format!("{server}:53"),
    }
}
