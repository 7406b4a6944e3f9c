//! `adit edge`: build, bind, run, reload, drain.

mod certificates;
mod doors;
mod owners;
mod reload;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adit_cache::{Room, Store};
use adit_config::edge::{AccessLog as AccessLogTo, EdgeFile};
use adit_config::stored::{StoredTunnel, not_created};
use adit_control::authority::{Authority, CERTIFICATE_FILE};
use adit_control::files::{self, Access};
use adit_control::shutoff;
use adit_control::tunnels::Tunnels;
use adit_control::watch::{Watch, watch};
use adit_edge::listener::{Addresses, Bound, tables};
use adit_edge::{Edge, endpoints};
use adit_lifecycle::drain::{self, DrainTrigger};
use adit_lifecycle::readiness::Readiness;
use adit_lifecycle::signal::Signals;
use adit_lifecycle::workers::{Workers, default_count};
use adit_policy::capacity::Caps;
use adit_policy::limits::EDGE_GRACE;
use adit_policy::snapshot::Snapshot;
use adit_telemetry::access_log::{AccessLog, Output};
use adit_telemetry::metrics::EdgeMetrics;
use http::HeaderValue;

use adit_http::local::{Answer, Asked};
use certificates::Certificates;
use doors::Doors;
use reload::Reloader;

use crate::VERSION;
use crate::failure::Failure;
use crate::local::{self, Local};

/// Time for the last packets to connectors, so that they need not find out by silence.
const GOODBYE: Duration = Duration::from_millis(50);

/// Descriptors that a process has at least, where the system does not say.
const DESCRIPTORS_UNKNOWN: u64 = 1024;

/// A running edge. Dropping it cuts everything; [`stop`](Running::stop) drains.
#[derive(Debug)]
pub struct Running {
    /// What its workers share.
    pub edge: Arc<Edge>,
    /// The addresses in fact.
    pub addresses: Addresses,
    /// The address of its local endpoints.
    pub admin: Option<SocketAddr>,
    /// The certificate that connectors trust.
    pub authority_file: PathBuf,
    drain: DrainTrigger,
    workers: Workers,
    _admin: Option<Local>,
    _watch: Option<Watch>,
}

/// Starts an edge from its file.
///
/// # Errors
/// [`Failure`] for a file with errors, or an address that is not to be had.
pub fn start(config: &Path) -> Result<Running, Failure> {
    let file = load(config)?;
    files::make_folder(&file.data_dir).map_err(|error| named(&file.data_dir, error))?;
    let authority = Arc::new(Authority::open(&file.data_dir).map_err(Failure::broke)?);
    let tunnels = Tunnels::open(file).map_err(Failure::input)?;
    let snapshot = snapshot(&tunnels)?;
    let file = tunnels.edge();
    let bound = addresses(file).bind().map_err(Failure::input)?;
    let certificates = Certificates::new(file, authority.clone());
    let edge = Arc::new(build(file, &certificates, snapshot, &bound)?);
    owners::start(&file.data_dir, &edge)?;
    let leaf = authority.tunnel_leaf(&file.domain).map_err(Failure::broke)?;
    let tunnel_tls = adit_tunnel::tls::edge(leaf.chain, leaf.key).map_err(Failure::broke)?;
    if file.certificates.is_empty() && file.acme.is_none() {
        tracing::warn!(
            "no certificates are configured: the edge's own authority signs; browsers do not trust it"
        );
    }
    let readiness = Readiness::default();
    let addresses = bound.addresses();
    let (drain, workers) = serve(&edge, bound, &tunnel_tls, &readiness)?;
    // Authorities come to look at the listeners.
    certificates.start(file, &edge)?;
    let reloader = Reloader::new(config, file.clone());
    let admin = start_admin(file.listen.admin, &edge, &readiness, &certificates, &reloader)?;
    // Who is told that the edge serves finds it ready.
    readiness.wait();
    let doors = Doors::start(file, &edge)?;
    let watch = start_watch(config, file, &edge, certificates, doors, reloader)?;
    Ok(Running {
        edge,
        addresses,
        admin: admin.as_ref().map(|admin| admin.address),
        authority_file: file.data_dir.join(CERTIFICATE_FILE),
        drain,
        workers,
        _admin: admin,
        _watch: watch,
    })
}

impl Running {
    /// Takes no new connections, lets running requests finish within `grace`, and ends.
    pub async fn stop(self, grace: Duration) {
        self.drain.start();
        if tokio::time::timeout(grace, self.drain.finished()).await.is_err() {
            tracing::warn!("grace period is over; cutting the requests that are left");
        }
        self.edge.registry.close_all("the edge is going away");
        tokio::time::sleep(GOODBYE).await;
    }
}

/// `adit edge run`: serves until a signal, then drains. A second signal cuts.
///
/// # Errors
/// What [`start`] says.
pub fn run(config: &Path) -> Result<(), Failure> {
    let running = start(config)?;
    announce(&running);
    block_on(async move {
        let mut signals = Signals::listen().map_err(Failure::broke)?;
        let stop = async {
            while signals.next().await.is_none() {
                running.edge.access_log.reopen();
                tracing::info!("access log reopened");
            }
        };
        tokio::select! {
            () = stop => {}
            panicked = running.workers.failed() => return Err(Failure::broke(panicked)),
        }
        tracing::info!("draining; a second signal ends at once");
        tokio::select! {
            () = running.stop(EDGE_GRACE) => {}
            _ = signals.shutdown() => {}
        }
        Ok(())
    })
}

/// Runs a future on this thread.
///
/// # Errors
/// The future's, or when there is no runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::broke)?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

fn announce(running: &Running) {
    let list =
        |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(
        version = VERSION,
        https = list(&running.addresses.https),
        http = list(&running.addresses.http),
        tunnel = list(&running.addresses.tunnel),
        admin = running.admin.map(tracing::field::display),
        authority = %running.authority_file.display(),
        "edge is serving"
    );
}

fn load(config: &Path) -> Result<EdgeFile, Failure> {
    let (file, warnings) = EdgeFile::load(config).map_err(Failure::input)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(file)
}

fn snapshot(tunnels: &Tunnels) -> Result<Arc<Snapshot>, Failure> {
    let snapshot = tunnels.snapshot().map_err(Failure::input)?;
    for warning in not_created(tunnels.edge(), &snapshot) {
        tracing::warn!("{warning}");
    }
    Ok(Arc::new(snapshot))
}

fn named(path: &Path, error: std::io::Error) -> Failure {
    Failure::broke(format!("{}: {error}", path.display()))
}

fn addresses(file: &EdgeFile) -> Addresses {
    let listen = &file.listen;
    Addresses { https: listen.https.clone(), http: listen.http.clone(), tunnel: listen.tunnel.clone() }
}

fn build(
    file: &EdgeFile,
    certificates: &Certificates,
    snapshot: Arc<Snapshot>,
    bound: &Bound,
) -> Result<Edge, Failure> {
    let output = match &file.access_log {
        AccessLogTo::Stdout => Output::Stdout,
        AccessLogTo::File(path) => Output::File(path.clone()),
        AccessLogTo::Off => Output::Off,
    };
    let access_log =
        AccessLog::open(&output).map_err(|error| Failure::input(format!("access log: {error}")))?;
    let certs = certificates.table(&snapshot)?;
    let edge = Edge::new(snapshot, certs, EdgeMetrics::new(VERSION), access_log);
    let mut edge = edge.map_err(Failure::broke)?;
    let room = Room { memory: file.cache.memory, disk: file.cache.disk, inactive: file.cache.inactive };
    edge.cache =
        Some(Store::open(&file.cache.folder, room).map_err(|error| named(&file.cache.folder, error))?);
    edge.capacity.set(caps(file));
    edge.read_policy = adit_config::policy::decode_wire;
    edge.location = file.domain.to_string();
    edge.alt_svc = alt_svc(file.http3, bound);
    edge.https_port = bound.addresses().https.first().map(SocketAddr::port).filter(|port| *port != 443);
    Ok(edge)
}

/// What the file says about connections and requests, and else what the descriptors of this process can hold.
fn caps(file: &EdgeFile) -> Caps {
    let (descriptors, _) = rlimit::Resource::NOFILE.get().unwrap_or((DESCRIPTORS_UNKNOWN, 0));
    file.limits.over(Caps::of_descriptors(descriptors))
}

/// HTTP/3 is found at the UDP port beside HTTPS, for a day.
fn alt_svc(on: bool, bound: &Bound) -> Option<HeaderValue> {
    let port = bound.addresses().https.first()?.port();
    HeaderValue::try_from(format!("h3=\":{port}\"; ma=86400")).ok().filter(|_| on)
}

fn serve(
    edge: &Arc<Edge>,
    bound: Bound,
    tunnel_tls: &adit_tunnel::tls::EdgeTls,
    readiness: &Readiness,
) -> Result<(DrainTrigger, Workers), Failure> {
    let count = default_count();
    let tables = tables(edge, bound, tunnel_tls, count);
    let tables = Arc::new(std::sync::Mutex::new(tables.into_iter().map(Some).collect::<Vec<_>>()));
    let (trigger, watcher) = drain::channel();
    let starting: Arc<Vec<_>> = Arc::new(
        (0..count)
            .map(|index| std::sync::Mutex::new(Some(readiness.block(&format!("worker {index}")))))
            .collect(),
    );
    let workers = Workers::spawn("edge", count, move |worker| {
        let mut tables = tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let table = tables.get_mut(worker.index).and_then(Option::take);
        drop(tables);
        let (watcher, starting) = (watcher.clone(), starting.clone());
        async move {
            let ready = starting.get(worker.index).and_then(|slot| slot.lock().ok()?.take());
            drop(ready);
            if let Some(table) = table {
                table.serve(worker.index, watcher.clone()).await;
            }
            // Tasks of running requests live on this worker until they are done; the process's end cuts what is left.
            std::future::pending::<()>().await;
        }
    });
    Ok((trigger, workers.map_err(Failure::broke)?))
}

fn start_admin(
    address: Option<SocketAddr>,
    edge: &Arc<Edge>,
    readiness: &Readiness,
    certificates: &Arc<Certificates>,
    reloader: &Arc<Reloader>,
) -> Result<Option<Local>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let (edge, readiness, certificates) = (edge.clone(), readiness.clone(), certificates.clone());
    let reloader = reloader.clone();
    let answer = move |asked: &Asked| match asked.path.as_str() {
        "/configuration" => {
            let fault = serde_json::json!({ "configurationError": reloader.fault() });
            Answer::json(http::StatusCode::OK, fault.to_string())
        }
        "/readyz" => with_fault(endpoints::answer(&edge, &readiness, asked), reloader.fault()),
        "/certificates" => Answer::json(http::StatusCode::OK, certificates.status().to_string()),
        path => {
            if path == "/metrics" {
                let (good, missing, first_end) = certificates.count();
                edge.metrics.certificates(good, missing, first_end);
            }
            endpoints::answer(&edge, &readiness, asked)
        }
    };
    local::start("admin", address, answer).map(Some)
}

/// An edge whose files are wrong serves on with the last good ones: it is as ready as it was, and says so.
fn with_fault(answer: Answer, fault: Option<String>) -> Answer {
    let Some(fault) = fault else { return answer };
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Answer::text(answer.status, format!("{body}configurationError: {fault}\n"))
}

/// Reloads tunnels and certificates when a file changes. A bad file keeps the last good state.
fn start_watch(
    config: &Path,
    file: &EdgeFile,
    edge: &Arc<Edge>,
    certificates: Arc<Certificates>,
    doors: Arc<Doors>,
    reloader: Arc<Reloader>,
) -> Result<Option<Watch>, Failure> {
    let stored = StoredTunnel::directory(&file.data_dir);
    files::make_folder(&stored).map_err(|error| named(&stored, error))?;
    let mut paths = vec![config.to_owned(), stored, shutoff::file(&file.data_dir)];
    paths.extend(file.deny_lists.clone());
    paths.extend(file.certificates.iter().flat_map(|pair| [pair.cert.clone(), pair.key.clone()]));
    paths.extend(file.tunnels.iter().map(|tunnel| tunnel.secret_file.clone()));
    let edge = edge.clone();
    let changed = move || reloader.reload(&edge, &certificates, &doors);
    match watch(&paths, changed) {
        Ok(watch) => Ok(Some(watch)),
        Err(error) => {
            tracing::warn!(%error, "files are not watched; restart to reload");
            Ok(None)
        }
    }
}

/// `adit edge init`: a folder with a file to start from.
///
/// # Errors
/// When there is a file already, or the folder cannot be written.
pub fn init(folder: &Path, domain: &str, email: Option<&str>) -> Result<PathBuf, Failure> {
    let path = folder.join("edge.yml");
    if path.exists() {
        return Err(Failure::input(format!("{} is there already", path.display())));
    }
    let email = email.map(|email| format!("acme: {{ email: {email} }}\n")).unwrap_or_default();
    let text = format!("domain: {domain}\n{email}{INIT_REST}");
    EdgeFile::parse(&text, &path).map_err(Failure::input)?;
    files::write(&path, text.as_bytes(), Access::Everybody).map_err(|error| named(&path, error))?;
    let data = folder.join("data");
    files::make_folder(&data).map_err(|error| named(&data, error))?;
    drop(Authority::open(&data).map_err(Failure::broke)?);
    Ok(path)
}

const INIT_REST: &str = "data-dir: data

# listen:                       # the defaults
#   https: '[::]:443'
#   http: '[::]:80'
#   tunnel: '[::]:7844'         # UDP and TCP
#   admin: 127.0.0.1:7845

# acme: { email: me@example.com }  # certificates by themselves, from Let's Encrypt
# certificates:                 # or from files; without either, the edge's own authority signs
#   - { cert: fullchain.pem, key: privkey.pem }

# trusted: fly                  # or cloudflare, or [10.0.0.0/8]: whose word about visitors counts
# hostnames:                    # what is special about a name
#   vault.example.com: { tls: passthrough }

# `adit tunnel create` makes tunnels beside this file. To declare one here instead:
# tunnels:
#   home: { id: UUID, secret-file: home.secret, hostnames: [app.example.com, '*.apps.example.com'] }
";
