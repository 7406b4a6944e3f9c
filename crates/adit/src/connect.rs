//! `adit connect`: a connector, from cloudflared's configuration, credentials or token.

mod about;
mod certificates;
mod diag;
mod health;
mod log;
mod pidfile;
mod quick;
mod reload;
mod settings;
mod stdin;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use adit_connector::Connector;
use adit_connector::endpoints::{self, About};
use adit_connector::session::Sessions;
use adit_control::renewal::Renewal;
use adit_control::watch::Watch;
use adit_http::local::Asked;
use adit_lifecycle::drain::{self, DrainTrigger};
use adit_lifecycle::signal::Signals;
use adit_lifecycle::workers::{Workers, default_count};
use adit_policy::ingress::Ingress;
use adit_telemetry::logging;
use adit_telemetry::metrics::ConnectorMetrics;
use tokio::sync::watch as channel;

use crate::VERSION;
use crate::cli::ConnectArgs;
use crate::edge::block_on;
use crate::failure::Failure;
use crate::local::{self, Local};

pub use diag::diag;
pub use health::health;
pub use log::LogFlags;
use pidfile::Pidfile;
use reload::Reloader;
use settings::Loaded;
pub(crate) use settings::trusted;

/// Ports of the local endpoints where none is named: the first that is free (cloudflared's).
const METRICS_PORTS: RangeInclusive<u16> = 20241..=20245;

/// A running connector. [`stop`](Running::stop) drains it.
#[derive(Debug)]
pub struct Running {
    /// What its workers share.
    pub connector: Arc<Connector>,
    /// The address of its local endpoints.
    pub metrics: Option<SocketAddr>,
    pidfile: Option<PathBuf>,
    grace: Duration,
    drain: DrainTrigger,
    workers: Workers,
    reloader: Option<Reloader>,
    _metrics: Option<Local>,
    _watch: Option<Watch>,
    _renewal: Option<Arc<OnceLock<Renewal>>>,
}

/// Starts a connector.
///
/// # Errors
/// [`Failure`] for a file with errors, missing credentials, or a metrics address that is not to be had.
pub fn start(args: &ConnectArgs) -> Result<Running, Failure> {
    let mut loaded = settings::configuration(args)?;
    let quick = quick::invite(&mut loaded.file)?;
    serve(loaded, args, quick)
}

fn serve(loaded: Loaded, args: &ConnectArgs, quick: Option<String>) -> Result<Running, Failure> {
    let Loaded { file, path, warnings } = loaded;
    reload::log(&warnings);
    let settings = settings::settings(&file)?;
    let about = About {
        tunnel: settings.credentials.tunnel_id,
        quick,
        flags: file.reported_flags.clone(),
        describe: about::describe,
        system: about::system,
    };
    let (grace, count) = (settings.grace, default_count().min(usize::from(settings.connections)));
    let connector = Connector::new(settings::consent(&file), ConnectorMetrics::new(VERSION), &file.tags);
    connector.status.set_notes(reload::in_lines(&warnings));
    let renewal = certificates::start(&file, &connector)?;
    let metrics = start_metrics(file.metrics.as_deref(), &connector, about)?;
    let (tell, told) = channel::channel(file.local_configuration(&file.reported_flags).to_json());
    let sessions = Sessions::new(connector.clone(), settings, told);
    let (drain, watcher) = drain::channel();
    let workers = Workers::spawn("connector", count, move |worker| {
        let (sessions, watcher) = (sessions.clone(), watcher.clone());
        sessions.run(worker.index, worker.count, watcher)
    });
    if file.other.get("stdin-control").is_some_and(|word| word == "true") {
        stdin::obey(&connector);
    }
    let reloader = path.map(|path| Reloader::new(&path, args, &connector, tell, file.clone()));
    Ok(Running {
        connector,
        metrics: metrics.as_ref().map(|local| local.address),
        pidfile: file.other.get("pidfile").map(PathBuf::from),
        grace,
        drain,
        workers: workers.map_err(Failure::broke)?,
        _metrics: metrics,
        _watch: reloader.as_ref().and_then(Reloader::watch),
        reloader,
        _renewal: renewal,
    })
}

impl Running {
    /// Unregisters, finishes running streams within the grace period, and ends as soon as that is done.
    pub async fn stop(self) {
        self.connector.status.start_drain();
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

/// The file of a connector, and its rules, with the flags over it.
///
/// # Errors
/// Everything that is wrong with either.
pub fn rules(args: &ConnectArgs) -> Result<(Option<PathBuf>, Option<Ingress>), Failure> {
    let loaded = settings::configuration(args)?;
    Ok((loaded.path, loaded.file.ingress))
}

/// `adit connect`: serves until a signal, then drains. A second signal cuts.
///
/// # Errors
/// What [`start`] says.
pub fn run(args: &ConnectArgs, log: &LogFlags) -> Result<(), Failure> {
    let mut loaded = settings::configuration(args)?;
    logging::init(&log.over(&loaded.file)).map_err(Failure::input)?;
    let quick = quick::invite(&mut loaded.file)?;
    let running = serve(loaded, args, quick)?;
    tracing::info!(
        version = VERSION,
        connector = %running.connector.id,
        metrics = running.metrics.map(tracing::field::display),
        "connector is starting"
    );
    block_on(async move {
        let mut signals = Signals::listen().map_err(Failure::broke)?;
        let stop = async {
            while signals.next().await.is_none() {
                running.reloader.iter().for_each(Reloader::reload);
            }
        };
        let _pidfile = running.pidfile.as_deref().map(|path| Pidfile::start(path, &running.connector));
        tokio::select! {
            () = stop => {}
            panicked = running.workers.failed() => return Err(Failure::broke(panicked)),
        }
        // Before anything else: who sends the signal may ask whether we are ready in the same breath.
        running.connector.status.start_drain();
        tracing::info!("draining; a second signal ends at once");
        tokio::select! {
            () = running.stop() => {}
            _ = signals.shutdown() => {}
        }
        Ok(())
    })
}

fn start_metrics(
    address: Option<&str>,
    connector: &Arc<Connector>,
    about: About,
) -> Result<Option<Local>, Failure> {
    let (connector, about) = (connector.clone(), Arc::new(about));
    let start = |address: SocketAddr| {
        let (connector, about) = (connector.clone(), about.clone());
        let answer = move |asked: &Asked| endpoints::answer(&connector, &about, &asked.method, &asked.path);
        local::start("metrics", address, answer)
    };
    let Some(address) = address else {
        // Several connectors on one machine share the ports out; the last ones take any.
        let usual = METRICS_PORTS.chain([0]).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        return Ok(usual.map(start).find_map(Result::ok));
    };
    let bad = |error: &dyn std::fmt::Display| Failure::input(format!("metrics address `{address}`: {error}"));
    let mut resolved = address.to_socket_addrs().map_err(|error| bad(&error))?;
    start(resolved.next().ok_or_else(|| bad(&"no address"))?).map(Some)
}
