//! A changed file of the edge: it takes the place of the last good one, or says why not. A file that has lost a section, as one
//! that is cut off has, changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_config::edge::EdgeFile;
use adit_control::tunnels::Tunnels;
use adit_edge::Edge;

use super::certificates::Certificates;
use super::doors::Doors;
use super::{load, snapshot};
use crate::failure::Failure;

/// Reloads the configuration, and remembers what is wrong with it.
#[derive(Debug)]
pub(super) struct Reloader {
    config: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last good file.
    last: EdgeFile,
    /// What is wrong with the files as they are now.
    fault: Option<String>,
}

impl Reloader {
    pub(super) fn new(config: &Path, file: EdgeFile) -> Arc<Self> {
        let state = Mutex::new(State { last: file, fault: None });
        Arc::new(Self { config: config.to_owned(), state })
    }

    /// What is wrong with the files as they are now; `None` while all of them are in force.
    pub(super) fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    /// Puts the files in force as they are now, or keeps the last good ones.
    pub(super) fn reload(&self, edge: &Arc<Edge>, certificates: &Arc<Certificates>, doors: &Arc<Doors>) {
        let mut state = self.lock();
        state.fault = match self.take(&mut state.last, edge, certificates, doors) {
            Ok((tunnels, fault)) => {
                tracing::info!(tunnels, "configuration reloaded");
                fault
            }
            Err(failure) => {
                tracing::error!("configuration not reloaded; the last good one stays in force:\n{failure}");
                Some(failure.to_string())
            }
        };
        edge.metrics.config_reloaded.set(state.fault.is_none().into());
    }

    /// How many tunnels there are now, and which of the other files is not in force.
    fn take(
        &self,
        last: &mut EdgeFile,
        edge: &Arc<Edge>,
        certificates: &Arc<Certificates>,
        doors: &Arc<Doors>,
    ) -> Result<(usize, Option<String>), Failure> {
        let file = load(&self.config)?;
        file.follow(last).map_err(|lost| Failure::input(format!("{}: {lost}", self.config.display())))?;
        let tunnels = Tunnels::open(file).map_err(Failure::input)?;
        let snapshot = snapshot(&tunnels)?;
        let count = snapshot.tunnels().len();
        certificates.reload(tunnels.edge())?;
        edge.tls.set_certificates(certificates.table(&snapshot)?);
        edge.capacity.set(super::caps(tunnels.edge()));
        let fault = doors.reload(tunnels.edge(), edge);
        edge.replace_snapshot(snapshot);
        last.clone_from(tunnels.edge());
        Ok((count, fault))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
