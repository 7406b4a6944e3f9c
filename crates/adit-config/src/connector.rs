//! cloudflared's `config.yml`: what the private side serves, and how it reaches its edge.
//!
//! Relative paths stay as they are: cloudflared takes them from the working directory.

mod accept;
mod flags;
pub mod local_json;
mod origin_request;
pub mod overlay;
pub mod remote;
mod rules;
mod settings;
mod single;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_policy::ingress::{AcceptRules, Ingress, OriginRequest, OriginRequestPatch, Service, WarpRouting};
use adit_wire::configuration::Configuration;
use adit_wire::secret::Secret;

use crate::diagnostic::{Diagnostic, Findings, Report};
use crate::edge::Acme;
use crate::sections::{Guarded, SectionLost, Sections};
use crate::source::Source;
use crate::yaml::{self, Kind, Node, Table};

pub(crate) use rules::NO_RULES;
pub use settings::{EdgeIpVersion, Protocol};
pub use single::service_of_url;

/// The file, checked. Flags of the command line and the environment come on top of it.
#[derive(Clone, Debug, Default)]
pub struct ConnectorFile {
    /// Id or name of the tunnel.
    pub tunnel: Option<String>,
    /// cloudflared's credentials file.
    pub credentials_file: Option<PathBuf>,
    /// The rules. `None`: the file has none, see [`ConnectorFile::ingress_or_single`].
    pub ingress: Option<Ingress>,
    /// Whether the file has an empty list of rules: a wish to have none, whatever an edge pushes.
    pub wants_no_rules: bool,
    /// What is accepted of an edge's rules. Ours.
    pub accept_rules: AcceptRules,
    /// Whether nothing is accepted of them (`accept-rules: false`).
    pub takes_no_rules: bool,
    /// Settings for all rules (`originRequest` at the top).
    pub origin_request: OriginRequest,
    /// The one service without rules (`url`, `hello-world`, `bastion`, `unix-socket`).
    pub single: Option<Service>,
    /// Settings of that one service (`no-tls-verify`, `http-host-header` …).
    pub single_origin: OriginRequestPatch,
    /// Settings of private-network routing.
    pub warp_routing: WarpRouting,
    /// Addresses of the edge, `host:port`.
    pub edge: Vec<String>,
    /// File of certificate authorities, in place of the system's.
    pub cacert: Option<PathBuf>,
    /// Where certificates come from that this connector ends TLS with (`tlsCertificate: acme`). Ours.
    pub acme: Option<Acme>,
    /// Folder of those certificates; `data` beside the file. Ours.
    pub data_dir: Option<PathBuf>,
    /// Transport to the edge.
    pub protocol: Option<Protocol>,
    /// Connections side by side.
    pub ha_connections: Option<u8>,
    /// Address of the local endpoints, `host:port`.
    pub metrics: Option<String>,
    /// How long running requests may take once the connector is told to stop. At most 3 minutes.
    pub grace_period: Option<Duration>,
    /// Cap of the exponent of the back-off.
    pub retries: Option<u32>,
    /// How loud the log is.
    pub loglevel: Option<String>,
    /// How loud the log of the transport is.
    pub transport_loglevel: Option<String>,
    /// File of the log.
    pub logfile: Option<PathBuf>,
    /// IP versions to reach the edge with.
    pub edge_ip_version: Option<EdgeIpVersion>,
    /// Local address to reach the edge from.
    pub edge_bind_address: Option<IpAddr>,
    /// The tunnel's token.
    pub token: Option<Secret>,
    /// File of the tunnel's token.
    pub token_file: Option<PathBuf>,
    /// The text of a credentials file.
    pub credentials_contents: Option<Secret>,
    /// Tags of the connector: names and values.
    pub tags: Vec<(String, String)>,
    /// Flags that cloudflared reports to its edge, as they are in the file.
    pub reported_flags: BTreeMap<String, String>,
    /// Flags that are valid, kept as they are written, for whom they concern.
    pub other: BTreeMap<String, String>,
    sections: Sections,
}

/// Sections that do not vanish by accident.
const GUARDED: [Guarded; 4] = [
    (&["ingress", "url", "hello-world", "bastion", "unix-socket"], "[]"),
    (&["originRequest"], "{}"),
    (&["warp-routing"], "{}"),
    (&["accept-rules"], "{}"),
];

/// Keys of the file that only we have.
const OURS: [&str; 3] = ["accept-rules", "acme", "data-dir"];

impl ConnectorFile {
    /// Reads a text.
    ///
    /// # Errors
    /// A report of everything that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<Diagnostic>), Report> {
        read(&Source::new(path, text)?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A report of everything that is wrong.
    pub fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), Report> {
        read(&Source::read(path)?)
    }

    /// The rules; else one rule for the one service; else 503 for everything.
    #[must_use]
    pub fn ingress_or_single(&self) -> Ingress {
        let ingress = match (&self.ingress, &self.single) {
            (Some(ingress), _) => ingress.clone(),
            (None, Some(service)) => {
                Ingress::single(service.clone(), self.single_origin.apply(&OriginRequest::default()))
            }
            (None, None) => Ingress::default_503(),
        };
        ingress.with_warp(self.warp_routing.clone())
    }

    /// The rules that are this side's own, with which no edge's are taken.
    #[must_use]
    pub fn own_rules(&self) -> Option<Ingress> {
        let has_own = self.ingress.is_some() || self.single.is_some() || self.wants_no_rules;
        has_own.then(|| self.ingress_or_single())
    }

    /// The private networks that this side opens.
    #[must_use]
    pub fn own_warp(&self) -> Option<WarpRouting> {
        Some(self.warp_routing.clone()).filter(|warp| !warp.ip_rules.is_empty())
    }

    /// Whether this file may take the place of the one before: nothing that was there has vanished without a word.
    ///
    /// # Errors
    /// The section that has.
    pub fn follow(&self, before: &Self) -> Result<(), SectionLost> {
        self.sections.follow(&before.sections, &GUARDED)
    }

    /// What the connector tells its edge. `flags` from elsewhere come on top of those of the file.
    #[must_use]
    pub fn local_configuration(&self, flags: &BTreeMap<String, String>) -> Configuration {
        local_json::local_configuration(self, flags)
    }
}

/// Reads `ingress`, `originRequest` and `warp-routing` of a tunnel whose configuration the edge holds: the same keys as in a connector's
/// file. `None`: there are no rules, or a rule is wrong.
pub(crate) fn held(table: &mut Table<'_>, findings: &mut Findings) -> Option<Ingress> {
    let origin = table.take("originRequest").map(|node| origin_request::decode(node, Form::Held, findings));
    let defaults = origin.flatten().unwrap_or_default().apply(&OriginRequest::default());
    let warp = table.take("warp-routing").map(|node| settings::decode_warp(node, Form::Held, findings));
    let rules = table.take("ingress");
    let ingress = rules.and_then(|node| rules::decode(node, &defaults, Form::Held, findings))?;
    Some(ingress.with_warp(warp.unwrap_or_default()))
}

/// How the same keys are read from a file and from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// cloudflared's file: durations in Go's spelling, unknown keys are warnings, as they are for cloudflared.
    File,
    /// A file of ours: the same, and unknown keys are errors.
    Held,
    /// JSON: durations in seconds, unknown keys are ignored.
    Wire,
}

impl Form {
    /// `ours` are the keys that cloudflared does not know.
    fn finish(self, table: Table<'_>, ours: &[&str], findings: &mut Findings) {
        match self {
            Self::File => table.finish_lenient(ours, findings),
            Self::Held => table.finish(findings),
            Self::Wire => {}
        }
    }

    /// Ends a table that is ours as a whole.
    fn finish_ours(self, table: Table<'_>, findings: &mut Findings) {
        if self != Self::Wire {
            table.finish(findings);
        }
    }

    fn duration(self, node: &Node, findings: &mut Findings) -> Option<Duration> {
        match self {
            Self::File | Self::Held => yaml::duration(node, findings),
            Self::Wire => {
                yaml::integer(node, 0..=u32::MAX, findings).map(|seconds| Duration::from_secs(seconds.into()))
            }
        }
    }
}

fn read(source: &Source) -> Result<(ConnectorFile, Vec<Diagnostic>), Report> {
    let mut findings = Findings::new(source);
    let file = yaml::parse_lenient(&mut findings).and_then(|root| decode(&root, &mut findings));
    findings.finish(file)
}

fn decode(root: &Node, findings: &mut Findings) -> Option<ConnectorFile> {
    if root.is_null() {
        findings.warning(root.span, "the file is empty");
    }
    let mut table = Table::open(root, "the file", findings)?;
    let mut file = ConnectorFile { sections: Sections::of(&table, &GUARDED), ..ConnectorFile::default() };
    let tunnel = yaml::optional_text(table.take("tunnel"), findings);
    file.tunnel = tunnel.filter(|name| !name.is_empty());
    let credentials_file = table.take("credentials-file").and_then(|node| yaml::path_text(node, findings));
    file.credentials_file = credentials_file.map(PathBuf::from);
    decode_rules(&mut table, &mut file, findings);
    if let Some(node) = table.take("accept-rules") {
        file.takes_no_rules = yaml::truth_of(node) == Some(false);
        file.accept_rules = accept::decode(node, findings);
    }
    settings::decode(&mut table, &mut file, findings);
    file.reported_flags = flags::reported(&mut table);
    file.other = flags::others(&mut table, findings);
    let flows = file.other.get("max-active-flows").and_then(|number| number.parse().ok());
    file.warp_routing.max_active_flows = flows.unwrap_or(file.warp_routing.max_active_flows);
    table.finish_lenient(&OURS, findings);
    Some(file)
}

fn decode_rules(table: &mut Table<'_>, file: &mut ConnectorFile, findings: &mut Findings) {
    let origin = table.take("originRequest").map(|node| origin_request::decode(node, Form::File, findings));
    file.origin_request = origin.flatten().unwrap_or_default().apply(&OriginRequest::default());
    let rules = table.take("ingress");
    file.ingress = rules.and_then(|node| rules::decode(node, &file.origin_request, Form::File, findings));
    file.wants_no_rules =
        rules.is_some_and(|node| matches!(&node.kind, Kind::List(rules) if rules.is_empty()));
    if let Some(node) = table.take("warp-routing") {
        file.warp_routing = settings::decode_warp(node, Form::File, findings);
    }
    file.single = single::decode(table, rules.is_some(), findings);
    file.single_origin = single::decode_origin(table, findings);
}
