//! `adit connect`: a connector, from cloudflared's configuration, credentials or token.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adit_config::connector::{ConnectorFile, Protocol as FileProtocol, remote};
use adit_connector::remote::Remote;
use adit_connector::session::{Sessions, Settings, Transport};
use adit_connector::{Connector, endpoints};
use adit_control::watch::{Watch, watch};
use adit_lifecycle::drain::{self, DrainTrigger};
use adit_lifecycle::signal::Signals;
use adit_lifecycle::workers::{Workers, default_count};
use adit_telemetry::metrics::ConnectorMetrics;
use adit_tunnel::Protocol;
use adit_tunnel::tls::ConnectorTls;
use adit_wire::configuration::Configuration;
use adit_wire::credentials::Credentials;
use adit_wire::token;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch as channel;

use crate::VERSION;
use crate::cli::ConnectArgs;
use crate::edge::block_on;
use crate::failure::Failure;
use crate::local::{self, Local};

/// Connections of a connector, as cloudflared has.
const CONNECTIONS: u8 = 4;
/// Grace period, as cloudflared has.
const GRACE: Duration = Duration::from_secs(30);
/// Where cloudflared looks for its files.
const SEARCH: [&str; 5] = [
    "~/.cloudflared",
    "~/.cloudflare-warp",
    "~/cloudflare-warp",
    "/etc/cloudflared",
    "/usr/local/etc/cloudflared",
];

/// A running connector. [`stop`](Running::stop) drains it.
#[derive(Debug)]
pub struct Running {
    /// What its workers share.
    pub connector: Arc<Connector>,
    /// The address of its local endpoints.
    pub metrics: Option<SocketAddr>,
    grace: Duration,
    drain: DrainTrigger,
    workers: Workers,
    _metrics: Option<Local>,
    _watch: Option<Watch>,
}

/// Starts a connector.
///
/// # Errors
/// [`Failure`] for a file with errors, missing credentials, or a metrics address that is not to be had.
pub fn start(args: &ConnectArgs) -> Result<Running, Failure> {
    let (file, path) = configuration(args)?;
    let settings = settings(args, &file)?;
    let (grace, count) = (settings.grace, default_count().min(usize::from(settings.connections)));
    let ingress = file.ingress_or_single();
    let connector = Connector::new(ingress, ConnectorMetrics::new(VERSION));
    let metrics = start_metrics(args.metrics.as_deref().or(file.metrics.as_deref()), &connector)?;
    let (tell, told) = channel::channel(file.local_configuration(&file.reported_flags).to_json());
    let sessions = Sessions::new(connector.clone(), settings, told);
    let (drain, watcher) = drain::channel();
    let workers = Workers::spawn("connector", count, move |worker| {
        let (sessions, watcher) = (sessions.clone(), watcher.clone());
        sessions.run(worker.index, worker.count, watcher)
    });
    let watch = path.map(|path| start_watch(&path, &connector, tell));
    Ok(Running {
        connector,
        metrics: metrics.as_ref().map(|local| local.address),
        grace,
        drain,
        workers: workers.map_err(Failure::broke)?,
        _metrics: metrics,
        _watch: watch.flatten(),
    })
}

impl Running {
    /// Unregisters, finishes running streams within the grace period, and ends as soon as that is done.
    pub async fn stop(self) {
        let Self { drain, workers, grace, .. } = self;
        drain.start();
        let joined = tokio::task::spawn_blocking(move || workers.join());
        // Sessions end by themselves at the end of their grace period; a little more is for a stuck one.
        match tokio::time::timeout(grace + Duration::from_secs(2), joined).await {
            Ok(Ok(Err(panicked))) => tracing::error!(%panicked, "worker failed"),
            Ok(_) => {}
            Err(_) => tracing::warn!("grace period is over"),
        }
    }
}

/// `adit connect`: serves until a signal, then drains. A second signal cuts.
///
/// # Errors
/// What [`start`] says.
pub fn run(args: &ConnectArgs) -> Result<(), Failure> {
    let running = start(args)?;
    tracing::info!(
        version = VERSION,
        connector = %running.connector.id,
        metrics = running.metrics.map(tracing::field::display),
        "connector is starting"
    );
    block_on(async move {
        let mut signals = Signals::listen().map_err(Failure::broke)?;
        let stop = async { while signals.next().await.is_none() {} };
        tokio::select! {
            () = stop => {}
            panicked = running.workers.failed() => return Err(Failure::broke(panicked)),
        }
        tracing::info!("draining; a second signal ends at once");
        tokio::select! {
            () = running.stop() => {}
            _ = signals.shutdown() => {}
        }
        Ok(())
    })
}

/// The file that is named, or the first that is found, or none.
fn configuration(args: &ConnectArgs) -> Result<(ConnectorFile, Option<PathBuf>), Failure> {
    let Some(path) = args.config.clone().or_else(find_configuration) else {
        return Ok((ConnectorFile::default(), None));
    };
    let (file, warnings) = ConnectorFile::load(&path).map_err(Failure::input)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok((beside(file, &path), Some(path)))
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

fn settings(args: &ConnectArgs, file: &ConnectorFile) -> Result<Settings, Failure> {
    let edges = if args.edge.is_empty() { file.edge.clone() } else { args.edge.clone() };
    if edges.is_empty() {
        return Err(Failure::input(
            "no edge to connect to; add `edge: [HOST:7844]` to the configuration, or --edge HOST:7844",
        ));
    }
    let protocol = args.protocol.map(Into::into).or(file.protocol).unwrap_or(FileProtocol::Auto);
    let transport = match protocol {
        FileProtocol::Auto => Transport::Auto,
        FileProtocol::Quic => Transport::Only(Protocol::Quic),
        FileProtocol::Http2 => Transport::Only(Protocol::Http2),
    };
    Ok(Settings {
        edges: edges.iter().map(|edge| with_port(edge)).collect(),
        credentials: credentials(args, file)?,
        connections: args.ha_connections.or(file.ha_connections).unwrap_or(CONNECTIONS).max(1),
        transport,
        tls: trust(args.cacert.as_deref().or(file.cacert.as_deref()))?,
        bind: file.edge_bind_address,
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

/// A token beats a credentials file (cloudflared's order); flags beat the file.
fn credentials(args: &ConnectArgs, file: &ConnectorFile) -> Result<Credentials, Failure> {
    if let Some(token) = &args.token {
        return token::decode(token)
            .map_err(|error| Failure::input(format!("the token is not one: {error}")));
    }
    if let Some(path) = args.token_file.as_ref().or(file.token_file.as_ref()) {
        let text = read(path)?;
        return token::decode(&text).map_err(|error| Failure::input(format!("{}: {error}", path.display())));
    }
    if let Some(secret) = &file.token {
        let text = String::from_utf8_lossy(secret.expose()).into_owned();
        return token::decode(&text).map_err(|error| Failure::input(format!("`token`: {error}")));
    }
    let named = args.credentials_file.clone().or_else(|| file.credentials_file.clone());
    let path = named.or_else(|| find_credentials(args.tunnel.as_deref().or(file.tunnel.as_deref())?));
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

/// Trust in the named file alone, or in the system's roots.
fn trust(cacert: Option<&Path>) -> Result<ConnectorTls, Failure> {
    adit_tunnel::tls::connector(roots(cacert)?).map_err(Failure::broke)
}

/// The certificates of the named file, or the system's roots.
///
/// # Errors
/// When there is none in the file.
pub(crate) fn roots(cacert: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match cacert {
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        Some(path) => {
            let bad = |error: &dyn std::fmt::Display| Failure::input(format!("{}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
                let certificate = certificate.map_err(|error| bad(&error))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
            if roots.is_empty() {
                return Err(bad(&"no certificate in it"));
            }
        }
    }
    Ok(roots)
}

/// Rules from a configuration that the edge pushed.
fn pushed(json: &[u8]) -> Result<adit_policy::ingress::Ingress, String> {
    let configuration = Configuration::from_json(json).map_err(|error| error.to_string())?;
    let (ingress, _) = remote::ingress(&configuration)?;
    Ok(ingress)
}

fn start_metrics(address: Option<&str>, connector: &Arc<Connector>) -> Result<Option<Local>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let bad = |error: &dyn std::fmt::Display| Failure::input(format!("metrics address `{address}`: {error}"));
    let mut resolved = address.to_socket_addrs().map_err(|error| bad(&error))?;
    let resolved = resolved.next().ok_or_else(|| bad(&"no address"))?;
    let connector = connector.clone();
    let answer = move |method: &http::Method, path: &str| endpoints::answer(&connector, method, path);
    local::start("metrics", resolved, answer).map(Some)
}

/// Takes new rules when the file changes. Running streams keep the old ones; a bad file changes nothing.
fn start_watch(path: &Path, connector: &Arc<Connector>, tell: channel::Sender<Vec<u8>>) -> Option<Watch> {
    let (connector, config) = (connector.clone(), path.to_owned());
    let changed = move || match reload(&config, &connector, &tell) {
        Ok(rules) => tracing::info!(rules, "configuration reloaded"),
        Err(failure) => {
            tracing::error!("configuration not reloaded; the last good one stays in force:\n{failure}")
        }
    };
    watch(&[path.to_owned()], changed)
        .inspect_err(|error| tracing::warn!(%error, "the configuration is not watched; restart to reload"))
        .ok()
}

fn reload(path: &Path, connector: &Connector, tell: &channel::Sender<Vec<u8>>) -> Result<usize, Failure> {
    let (file, _) = ConnectorFile::load(path).map_err(Failure::input)?;
    let ingress = file.ingress_or_single();
    let rules = ingress.rules.len();
    connector.ingress.store(Arc::new(ingress));
    tell.send_replace(file.local_configuration(&file.reported_flags).to_json());
    Ok(rules)
}
