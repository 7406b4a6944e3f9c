//! From the command line, the environment and the file to the settings of a connector: the flag wins, then the
//! environment, then the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_config::connector::{ConnectorFile, EdgeIpVersion, Protocol as FileProtocol, remote};
use adit_config::diagnostic::Diagnostic;
use adit_connector::consent::Consent;
use adit_connector::remote::Remote;
use adit_connector::session::{Family, Settings, Transport};
use adit_http::trust::TrustPool;
use adit_policy::ingress::Ingress;
use adit_tunnel::Protocol;
use adit_wire::configuration::Configuration;
use adit_wire::credentials::Credentials;
use adit_wire::features;
use adit_wire::secret::Secret;
use adit_wire::token;

use crate::VERSION;
use crate::cli::ConnectArgs;
use crate::failure::Failure;

/// Connections of a connector, as cloudflared has.
const CONNECTIONS: u8 = 4;
/// Grace period, as cloudflared has.
const GRACE: Duration = Duration::from_secs(30);
/// Largest pause between attempts, as a power of two seconds, as cloudflared has.
const RETRIES: u32 = 5;
/// Nine hours.
const RETRIES_MAX: u32 = 15;
/// Where cloudflared looks for its files.
const SEARCH: [&str; 5] = [
    "~/.cloudflared",
    "~/.cloudflare-warp",
    "~/cloudflare-warp",
    "/etc/cloudflared",
    "/usr/local/etc/cloudflared",
];

/// The file that is named, or the first that is found, or none; with the flags over it, and what it warns of.
pub(super) fn configuration(args: &ConnectArgs) -> Result<Loaded, Failure> {
    let path = args.config.clone().or_else(find_configuration);
    let (mut file, warnings) =
        ConnectorFile::load_with(path.as_deref(), &args.flags.0).map_err(Failure::input)?;
    if let Some(path) = &path {
        file = beside(file, path);
    }
    if args.tunnel.is_some() {
        file.tunnel.clone_from(&args.tunnel);
    }
    Ok(Loaded { file, path, warnings })
}

/// A configuration and where it comes from.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) file: ConnectorFile,
    pub(super) path: Option<PathBuf>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// What this side says about rules: its own, and what it accepts of an edge's.
pub(super) fn consent(file: &ConnectorFile) -> Consent {
    Consent {
        own: file.own_rules(),
        warp: file.own_warp(),
        accept: (!file.takes_no_rules).then(|| file.accept_rules.clone()),
    }
}

/// Paths of the file are taken from the working folder, as cloudflared does; what is not there is looked for beside the
/// file.
fn beside(mut file: ConnectorFile, config: &Path) -> ConnectorFile {
    let folder = config.parent().unwrap_or_else(|| Path::new(""));
    for path in [&mut file.credentials_file, &mut file.token_file, &mut file.cacert].into_iter().flatten() {
        let neighbour = folder.join(&*path);
        if !path.exists() && neighbour.exists() {
            *path = neighbour;
        }
    }
    file
}

fn find_configuration() -> Option<PathBuf> {
    folders()
        .flat_map(|folder| ["config.yml", "config.yaml"].map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

fn folders() -> impl Iterator<Item = PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    SEARCH.iter().map(move |folder| match folder.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(folder),
    })
}

/// The settings of the sessions.
///
/// # Errors
/// When no edge is named, or the credentials or the trust cannot be read.
pub(super) fn settings(file: &ConnectorFile) -> Result<Settings, Failure> {
    if file.edge.is_empty() {
        return Err(Failure::input(
            "no edge to connect to; add `edge: [HOST:7844]` to the configuration, or --edge HOST:7844",
        ));
    }
    let transport = match file.protocol.unwrap_or(FileProtocol::Auto) {
        FileProtocol::Auto => Transport::Auto,
        FileProtocol::Quic => Transport::Only(Protocol::Quic),
        FileProtocol::Http2 => Transport::Only(Protocol::Http2),
    };
    let family = match file.edge_ip_version.unwrap_or_default() {
        EdgeIpVersion::Auto => None,
        EdgeIpVersion::V4 => Some(Family::V4),
        EdgeIpVersion::V6 => Some(Family::V6),
    };
    let post_quantum = file.other.get("post-quantum").is_some_and(|word| word == "true");
    let trusted = trusted(file.cacert.as_deref())?;
    let tls = adit_tunnel::tls::connector(|provider| trusted.server_verifier(provider), post_quantum);
    Ok(Settings {
        edges: file.edge.iter().map(|edge| with_port(edge)).collect(),
        credentials: credentials(file)?,
        connections: file.ha_connections.unwrap_or(CONNECTIONS).max(1),
        transport,
        tls: tls.map_err(Failure::broke)?,
        bind: file.edge_bind_address,
        family,
        pause_max: Duration::from_secs(1 << file.retries.unwrap_or(RETRIES).min(RETRIES_MAX)),
        post_quantum,
        datagram_v3: file
            .other
            .get("features")
            .is_some_and(|list| list.split(',').any(|feature| feature.trim() == features::DATAGRAM_V3)),
        grace: file.grace_period.unwrap_or(GRACE),
        version: format!("adit {VERSION}"),
        remote: Remote::new(Box::new(pushed)),
    })
}

/// The tunnel port is cloudflared's, unless another one is named.
fn with_port(edge: &str) -> String {
    let has_port = edge.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port { edge.to_owned() } else { format!("{edge}:7844") }
}

/// Whether it is said, or can be found, whose tunnel it is.
pub(super) fn has_credentials(file: &ConnectorFile) -> bool {
    let named = file.token.is_some()
        || file.token_file.is_some()
        || file.credentials_contents.is_some()
        || file.credentials_file.is_some();
    named || file.tunnel.is_some()
}

/// A token beats a credentials file (cloudflared's order).
fn credentials(file: &ConnectorFile) -> Result<Credentials, Failure> {
    let text_of = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
    if let Some(secret) = &file.token {
        return token::decode(&text_of(secret))
            .map_err(|error| Failure::input(format!("the token is not one: {error}")));
    }
    if let Some(path) = &file.token_file {
        let text = read(path)?;
        return token::decode(&text).map_err(|error| Failure::input(format!("{}: {error}", path.display())));
    }
    if let Some(secret) = &file.credentials_contents {
        return Credentials::from_json(secret.expose())
            .map_err(|error| Failure::input(format!("`credentials-contents`: {error}")));
    }
    let path = file.credentials_file.clone().or_else(|| find_credentials(file.tunnel.as_deref()?));
    let Some(path) = path else {
        return Err(Failure::input("no credentials; name a `credentials-file`, or use --token-file"));
    };
    let text = read(&path)?;
    Credentials::from_json(text.as_bytes())
        .map_err(|error| Failure::input(format!("{}: {error}", path.display())))
}

/// `UUID.json` where cloudflared puts it.
fn find_credentials(tunnel: &str) -> Option<PathBuf> {
    folders().map(|folder| folder.join(format!("{tunnel}.json"))).find(|path| path.is_file())
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::input(format!("{}: {error}", path.display())))
}

/// The certificates of the named file, or the system's roots.
///
/// # Errors
/// When there is none in the file.
pub(crate) fn trusted(cacert: Option<&Path>) -> Result<TrustPool, Failure> {
    let Some(path) = cacert else { return Ok(TrustPool::system()) };
    let mut pool = TrustPool::default();
    pool.add_file(path).map_err(Failure::input)?;
    Ok(pool)
}

/// Rules from a configuration that the edge pushed.
fn pushed(json: &[u8]) -> Result<Ingress, String> {
    let configuration = Configuration::from_json(json).map_err(|error| error.to_string())?;
    remote::ingress(&configuration)
}
