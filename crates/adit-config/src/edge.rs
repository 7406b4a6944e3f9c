//! `edge.yml`: what the public side serves, and for whom.

pub(crate) mod acme;
mod cache;
mod doors;
mod hostnames;
mod limits;
mod listen;
mod ports;
mod quick;
mod secret_file;
mod trusted;
mod tunnels;

use std::path::{Path, PathBuf};

use adit_policy::host::Hostname;
use adit_policy::host_policy::HostPolicies;
use adit_policy::policy::{Layer, Layers};
use adit_policy::quick::QuickTunnels;
use adit_policy::snapshot::{HttpMode, Snapshot, Tunnel};
use adit_policy::trust::Trust;

use crate::diagnostic::{Diagnostic, Findings, Report};
use crate::policy::Files;
use crate::sections::{Guarded, SectionLost, Sections};
use crate::source::Source;
use crate::yaml::{self, Node, Span, Table};

pub use acme::{Acme, Authority, CertificateKey, Challenge, ExternalAccount, Rfc2136, TsigAlgorithm};
pub use cache::CacheRoom;
pub use doors::CrowdsecEntry;
pub use limits::LimitsEntry;
pub use listen::Listen;
pub use ports::PortEntry;
pub use tunnels::{TunnelAddition, TunnelEntry};

/// The file, checked.
#[derive(Clone, Debug)]
pub struct EdgeFile {
    /// Host names live under it.
    pub domain: Hostname,
    /// Addresses to listen at.
    pub listen: Listen,
    /// What the plain HTTP listener does.
    pub http_mode: HttpMode,
    /// Certificates for the HTTPS listener.
    pub certificates: Vec<CertificateFiles>,
    /// Tunnels of the file. Those that a command created are stored elsewhere ([`crate::stored`]).
    pub tunnels: Vec<TunnelEntry>,
    /// What the file adds to tunnels that are stored elsewhere.
    pub additions: Vec<TunnelAddition>,
    /// Ports that lead into tunnels without HTTP.
    pub ports: Vec<PortEntry>,
    /// Who gets quick tunnels.
    pub quick_tunnels: Option<QuickTunnels>,
    /// Directory of the edge's state.
    pub data_dir: PathBuf,
    /// Where certificates come from by themselves.
    pub acme: Option<Acme>,
    /// Whether visitors may come by HTTP/3.
    pub http3: bool,
    /// How TLS is done for names.
    pub hosts: HostPolicies,
    /// How requests for all names are treated.
    pub defaults: Layer,
    /// How those for some names are.
    pub hostnames: Layers,
    /// Proxies whose word about visitors counts.
    pub trusted: Option<Trust>,
    /// Room for what is kept.
    pub cache: CacheRoom,
    /// How many connections and requests there may be at the same time.
    pub limits: LimitsEntry,
    /// Files of addresses that are kept out.
    pub deny_lists: Vec<PathBuf>,
    /// Where more of them come from.
    pub crowdsec: Option<CrowdsecEntry>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    sections: Sections,
    source: Source,
}

/// A certificate with its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificate chain in PEM, the host's own first.
    pub cert: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
    /// Where the entry stands in the file.
    pub span: Span,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// To standard output.
    #[default]
    Stdout,
    /// To a file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// Sections that do not vanish by accident.
const GUARDED: [Guarded; 7] = [
    (&["tunnels"], "{}"),
    (&["hostnames"], "{}"),
    (&["defaults"], "{}"),
    (&["ports"], "[]"),
    (&["certificates"], "[]"),
    (&["deny-lists"], "[]"),
    (&["trusted"], "[]"),
];

impl EdgeFile {
    /// Reads the text alone. Secrets are not read, so the tunnels accept nobody yet.
    ///
    /// # Errors
    /// A report of everything that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<Diagnostic>), Report> {
        read(&Source::new(path, text)?, Files::Leave)
    }

    /// Reads the file and the secrets that it names, and looks whether the certificates are there.
    ///
    /// # Errors
    /// A report of everything that is wrong.
    pub fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), Report> {
        read(&Source::read(path)?, Files::Read)
    }

    /// The immutable whole for the data path, of this file alone.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let tunnels = self.tunnels.iter().map(TunnelEntry::tunnel).collect();
        self.snapshot_of(tunnels)
    }

    /// Where the file stands.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Whether this file may take the place of the one before: nothing that was there has vanished without a word.
    ///
    /// # Errors
    /// The section that has.
    pub fn follow(&self, before: &Self) -> Result<(), SectionLost> {
        self.sections.follow(&before.sections, &GUARDED)
    }

    pub(crate) fn snapshot_of(&self, tunnels: Vec<Tunnel>) -> Snapshot {
        let ports = self.ports.iter().map(|entry| entry.port.clone()).collect();
        Snapshot::new(self.domain.clone(), self.http_mode, tunnels)
            .with_ports(ports)
            .with_quick(self.quick_tunnels.clone())
            .with_hosts(self.hosts.clone())
            .with_layers(self.defaults.clone(), self.hostnames.clone())
            .with_trust(self.trusted.clone())
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }
}

fn read(source: &Source, files: Files) -> Result<(EdgeFile, Vec<Diagnostic>), Report> {
    let mut findings = Findings::new(source);
    let file = yaml::parse(&mut findings).and_then(|root| decode(&root, files, &mut findings));
    findings.finish(file)
}

/// Every part is decoded, also after an error in another part.
fn decode(root: &Node, files: Files, findings: &mut Findings) -> Option<EdgeFile> {
    let mut table = Table::open(root, "the file", findings)?;
    let sections = Sections::of(&table, &GUARDED);
    let domain = table.require("domain", "home.example", findings);
    let domain = domain.and_then(|node| decode_domain(node, findings));
    let listen = listen::decode(table.take("listen"), findings);
    let http_mode = table.take("http-mode").and_then(|node| decode_http_mode(node, findings));
    let certificates = table.take("certificates").map(|node| decode_certificates(node, files, findings));
    let tunnels = table.take("tunnels").map(|node| tunnels::decode(node, files, findings));
    let declared = tunnels.unwrap_or_default();
    let ports = table.take("ports").map(|node| ports::decode(node, findings)).unwrap_or_default();
    let quick_tunnels = table.take("quick-tunnels").and_then(|node| quick::decode(node, findings));
    let data_dir = table.take("data-dir").and_then(|node| yaml::path_text(node, findings));
    let acme = table.take("acme").and_then(|node| acme::decode(node, findings));
    let http3 = table.take("http3").and_then(|node| yaml::boolean(node, findings));
    let (defaults, hostnames) = (table.take("defaults"), table.take("hostnames"));
    let names = hostnames::decode(defaults, hostnames, !ports.is_empty(), files, findings);
    let trusted = table.take("trusted").and_then(|node| trusted::decode(node, findings));
    let cache = cache::decode(table.take("cache"), data_dir.unwrap_or("data"), findings);
    let limits = table.take("limits").and_then(|node| limits::decode(node, findings));
    let deny_lists = table.take("deny-lists").map(|node| doors::decode_lists(node, files, findings));
    let crowdsec = table.take("crowdsec").and_then(|node| doors::decode_crowdsec(node, files, findings));
    let access_log = table.take("access-log").and_then(|node| decode_access_log(node, findings));
    table.finish(findings);
    let source = findings.source().clone();
    Some(EdgeFile {
        domain: domain?,
        listen: listen?,
        http_mode: http_mode.unwrap_or_default(),
        certificates: certificates.unwrap_or_default(),
        tunnels: declared.tunnels,
        additions: declared.additions,
        ports,
        quick_tunnels,
        data_dir: source.resolve(data_dir.unwrap_or("data")),
        acme,
        http3: http3.unwrap_or(true),
        hosts: names.hosts,
        defaults: names.defaults,
        hostnames: names.layers,
        trusted,
        cache: cache?,
        limits: limits.unwrap_or_default(),
        deny_lists: deny_lists.unwrap_or_default(),
        crowdsec,
        access_log: access_log.unwrap_or_default(),
        sections,
        source,
    })
}

fn decode_domain(node: &Node, findings: &mut Findings) -> Option<Hostname> {
    let text = yaml::text(node, findings)?;
    match Hostname::parse(text) {
        Ok(domain) => Some(domain),
        Err(error) => {
            let diagnostic = findings.error(node.span, format!("`{text}` is no domain: {error}"));
            if text.starts_with("*.") {
                diagnostic.help("name the domain itself; wildcards belong into `hostnames` of a tunnel");
            }
            None
        }
    }
}

fn decode_http_mode(node: &Node, findings: &mut Findings) -> Option<HttpMode> {
    yaml::word(node, &[("redirect", HttpMode::Redirect), ("serve", HttpMode::Serve)], findings)
}

fn decode_email(node: &Node, findings: &mut Findings) -> Option<String> {
    let text = yaml::text(node, findings)?;
    let is_address = text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
    if !is_address || text.contains(char::is_whitespace) {
        findings
            .error(node.span, format!("`{text}` is no e-mail address"))
            .help("for example `me@home.example`");
        return None;
    }
    Some(text.to_owned())
}

fn decode_access_log(node: &Node, findings: &mut Findings) -> Option<AccessLog> {
    Some(match yaml::path_text(node, findings)? {
        "stdout" => AccessLog::Stdout,
        "off" | "none" | "false" => AccessLog::Off,
        path => AccessLog::File(findings.source().resolve(path)),
    })
}

fn decode_certificates(node: &Node, files: Files, findings: &mut Findings) -> Vec<CertificateFiles> {
    let entries = yaml::list(node, findings).unwrap_or_default();
    entries.iter().filter_map(|entry| decode_certificate(entry, files, findings)).collect()
}

fn decode_certificate(node: &Node, files: Files, findings: &mut Findings) -> Option<CertificateFiles> {
    let mut table = Table::open(node, "a certificate", findings)?;
    let cert = table.require("cert", "certs/home.example.pem", findings);
    let cert = cert.and_then(|node| decode_pem_path(node, files, findings));
    let key = table.require("key", "certs/home.example.key", findings);
    let key = key.and_then(|node| decode_pem_path(node, files, findings));
    let span = table.span();
    table.finish(findings);
    Some(CertificateFiles { cert: cert?, key: key?, span })
}

fn decode_pem_path(node: &Node, files: Files, findings: &mut Findings) -> Option<PathBuf> {
    let path = yaml::path_text(node, findings)?;
    let path = findings.source().resolve(path);
    if files == Files::Read
        && let Err(error) = std::fs::File::open(&path)
    {
        findings.error(node.span, format!("`{}` cannot be read: {error}", path.display()));
    }
    Some(path)
}
