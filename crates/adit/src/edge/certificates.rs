//! The edge's certificates, wherever they come from: files, authorities, and its own authority where there is neither.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use adit_certs::{Loaded, file};
use adit_config::edge::{CertificateFiles, EdgeFile};
use adit_control::authority::Authority;
use adit_control::renewal::{Door, Renewal, Settings, Shown, Status};
use adit_edge::Edge;
use adit_edge::tls::{CertTable, Proofs};
use adit_policy::host::HostPattern;
use adit_policy::host_policy::TlsMode;
use adit_policy::snapshot::Snapshot;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::unix_now;

/// All of them.
pub(super) struct Certificates {
    authority: Arc<Authority>,
    files: Mutex<Files>,
    renewal: OnceLock<Renewal>,
    edge: OnceLock<Weak<Edge>>,
}

/// Certificates from files. A file that has become bad keeps what it was.
#[derive(Default)]
struct Files {
    pairs: Vec<CertificateFiles>,
    good: HashMap<PathBuf, Loaded>,
    errors: HashMap<PathBuf, String>,
    /// Whether authorities are asked too: then there is nothing to sign by ourselves.
    acme: bool,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files.
    pub(super) fn new(file: &EdgeFile, authority: Arc<Authority>) -> Arc<Self> {
        let certificates =
            Self { authority, files: Mutex::default(), renewal: OnceLock::new(), edge: OnceLock::new() };
        certificates.read(file);
        Arc::new(certificates)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files that are configured now.
    fn read(&self, file: &EdgeFile) {
        let mut files = self.files();
        files.pairs.clone_from(&file.certificates);
        files.acme = file.acme.is_some();
        let now = unix_now();
        for pair in &file.certificates {
            match file::load(&pair.cert, &pair.key, now) {
                Ok(loaded) => {
                    files.errors.remove(&pair.cert);
                    files.good.insert(pair.cert.clone(), loaded);
                }
                // One bad certificate costs its names, not the start; and not even those, if it was good before.
                Err(error) => {
                    let kept = files.good.get(&pair.cert).is_some_and(|loaded| loaded.not_after > now);
                    tracing::error!(%error, kept, "certificate cannot be used");
                    files.errors.insert(pair.cert.clone(), error.to_string());
                }
            }
        }
    }

    /// The table for handshakes.
    pub(super) fn table(&self, snapshot: &Snapshot) -> Result<CertTable, Failure> {
        let mut table = CertTable::default();
        let files = self.files();
        let from_files = files.pairs.iter().filter_map(|pair| files.good.get(&pair.cert)).cloned();
        let given = self.renewal.get().map(Renewal::loaded).unwrap_or_default();
        for loaded in from_files.chain(given) {
            for name in loaded.names {
                table.insert(name, loaded.key.clone());
            }
        }
        if files.pairs.is_empty() && !files.acme {
            sign(&mut table, &self.authority, snapshot)?;
        }
        Ok(table)
    }

    /// Begins to ask authorities, where that is configured.
    ///
    /// # Errors
    /// When a key file of the configuration cannot be read.
    pub(super) fn start(self: &Arc<Self>, file: &EdgeFile, edge: &Arc<Edge>) -> Result<(), Failure> {
        self.edge.set(Arc::downgrade(edge)).unwrap_or_default();
        let Some(settings) = self.settings(file) else { return Ok(()) };
        let door = Arc::new(EdgeDoor { edge: Arc::downgrade(edge), certificates: Arc::downgrade(self) });
        let renewal = Renewal::start(&file.data_dir, settings, door).map_err(Failure::input)?;
        self.renewal.set(renewal).unwrap_or_default();
        self.install();
        Ok(())
    }

    /// Reads the files again and follows the configuration. The caller installs the table.
    ///
    /// # Errors
    /// As for [`Certificates::start`].
    pub(super) fn reload(self: &Arc<Self>, file: &EdgeFile) -> Result<(), Failure> {
        self.read(file);
        match (self.renewal.get(), self.settings(file)) {
            (Some(renewal), Some(settings)) => renewal.reconfigure(settings).map_err(Failure::input),
            (None, Some(_)) => match self.edge.get().and_then(Weak::upgrade) {
                Some(edge) => self.start(file, &edge),
                None => Ok(()),
            },
            // What was given stays in force until its end; nothing new is asked for only after a restart.
            (_, None) => Ok(()),
        }
    }

    fn settings(&self, file: &EdgeFile) -> Option<Settings> {
        let files = self.files();
        let good = files.pairs.iter().filter_map(|pair| files.good.get(&pair.cert));
        let covered = good.flat_map(|loaded| loaded.names.clone()).collect();
        Some(Settings { acme: file.acme.clone()?, domain: file.domain.clone(), covered })
    }

    fn install(&self) {
        let Some(edge) = self.edge.get().and_then(Weak::upgrade) else { return };
        let snapshot = edge.registry.view().snapshot.clone();
        match self.table(&snapshot) {
            Ok(table) => edge.tls.set_certificates(table),
            Err(failure) => tracing::error!(%failure, "certificates not put in force"),
        }
    }

    /// The state of each certificate, for `adit status` and for metrics.
    pub(super) fn status(&self) -> Value {
        let files = self.files();
        let from_files = files.pairs.iter().map(|pair| {
            let loaded = files.good.get(&pair.cert);
            let names: Vec<String> = loaded.map_or_else(Vec::new, |l| l.names.iter().map(ToString::to_string).collect());
            json!({
                "names": names, "source": pair.cert.display().to_string(),
                "not_after": loaded.map(|loaded| loaded.not_after), "last_error": files.errors.get(&pair.cert),
            })
        });
        let given = self.renewal.get().map(Renewal::status).unwrap_or_default();
        let given = given.iter().map(of_authority);
        Value::Array(from_files.chain(given).collect())
    }

    /// Certificates that are good, those that are wanted and missing, and when the first one ends.
    pub(super) fn count(&self) -> (i64, i64, i64) {
        let status = self.status();
        let ends =
            status.as_array().into_iter().flatten().map(|certificate| certificate["not_after"].as_i64());
        let (now, mut counted) = (unix_now(), (0, 0, 0));
        for end in ends {
            match end.filter(|end| *end > now) {
                Some(end) => {
                    counted.0 += 1;
                    counted.2 = if counted.2 == 0 { end } else { end.min(counted.2) };
                }
                None => counted.1 += 1,
            }
        }
        counted
    }
}

fn of_authority(status: &Status) -> Value {
    json!({
        "names": [status.name], "source": status.authority, "key": format!("{:?}", status.key).to_lowercase(),
        "not_after": status.not_after, "renew_at": status.renew_at, "failures": status.failures,
        "last_error": status.last_error, "next_try": status.next_try,
    })
}

/// Certificates of the edge's own authority for every granted name.
fn sign(table: &mut CertTable, authority: &Authority, snapshot: &Snapshot) -> Result<(), Failure> {
    let patterns: Vec<HostPattern> = snapshot
        .tunnels()
        .iter()
        .flat_map(|tunnel| tunnel.grant.patterns())
        .filter(|p| **p != HostPattern::Any)
        .cloned()
        .collect();
    let throw_away = HostPattern::parse(&format!("*.{}", snapshot.domain)).ok();
    let throw_away = throw_away.filter(|_| snapshot.quick().is_some());
    let patterns: Vec<HostPattern> = patterns.into_iter().chain(throw_away).collect();
    let granted = patterns.iter().map(ToString::to_string);
    let names: Vec<String> = granted.chain([snapshot.domain.to_string()]).collect();
    let key = authority.visitor_key(names).map_err(Failure::broke)?;
    for pattern in patterns {
        table.insert(pattern, key.clone());
    }
    table.insert(HostPattern::Exact(snapshot.domain.clone()), key);
    Ok(())
}

/// What the renewal sees of the edge.
struct EdgeDoor {
    edge: Weak<Edge>,
    certificates: Weak<Certificates>,
}

impl Door for EdgeDoor {
    fn names(&self) -> Vec<HostPattern> {
        let Some(edge) = self.edge.upgrade() else { return Vec::new() };
        let view = edge.registry.view();
        let ends_here = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(name) => view.snapshot.hosts().find(name.as_str()).tls == TlsMode::Terminate,
            HostPattern::Wildcard(_) | HostPattern::Any => true,
        };
        view.routes.routes().iter().map(|route| route.pattern.clone()).filter(ends_here).collect()
    }

    fn show(&self, shown: Shown) {
        if let Some(edge) = self.edge.upgrade() {
            edge.tls.set_proofs(Proofs { files: shown.files, certificates: shown.certificates });
        }
    }

    fn install(&self) {
        if let Some(certificates) = self.certificates.upgrade() {
            certificates.install();
        }
    }

    fn ordered(&self, authority: &str, succeeded: bool) {
        if let Some(edge) = self.edge.upgrade() {
            edge.metrics.certificate_order(authority, succeeded);
        }
    }
}
