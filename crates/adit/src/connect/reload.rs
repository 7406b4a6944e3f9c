//! New rules from the file: when it changes, and on SIGHUP. A bad file changes nothing, and neither does one that has lost
//! its rules: an editor that writes in place leaves it empty for a moment, or for good.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use adit_config::connector::ConnectorFile;
use adit_config::diagnostic::Diagnostic;
use adit_connector::Connector;
use adit_control::watch::{Watch, watch};
use tokio::sync::watch::Sender;

use super::settings::consent;
use crate::cli::ConnectArgs;
use crate::cli::flags::ConnectorFlags;

/// Reads the file again.
#[derive(Clone, Debug)]
pub(super) struct Reloader {
    path: PathBuf,
    /// They stay over the file.
    flags: ConnectorFlags,
    connector: Arc<Connector>,
    /// Takes the configuration that edges are told.
    tell: Sender<Vec<u8>>,
    /// The last good file.
    last: Arc<Mutex<ConnectorFile>>,
}

impl Reloader {
    pub(super) fn new(
        path: &Path,
        args: &ConnectArgs,
        connector: &Arc<Connector>,
        tell: Sender<Vec<u8>>,
        file: ConnectorFile,
    ) -> Self {
        let last = Arc::new(Mutex::new(file));
        Self { path: path.to_owned(), flags: args.flags.clone(), connector: connector.clone(), tell, last }
    }

    /// Reloads whenever the file changes. Without a watch, SIGHUP is left.
    pub(super) fn watch(&self) -> Option<Watch> {
        let reloader = self.clone();
        watch(std::slice::from_ref(&self.path), move || reloader.reload())
            .inspect_err(
                |error| tracing::warn!(%error, "the configuration is not watched; SIGHUP reloads it"),
            )
            .ok()
    }

    pub(super) fn reload(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.read(&last);
        match self.connector.configure(read.as_ref().map(|(file, _)| consent(file)).map_err(Clone::clone)) {
            Ok(rules) => tracing::info!(rules, "configuration reloaded"),
            Err(report) => {
                tracing::error!("configuration not reloaded; the last good one stays in force:\n{report}");
            }
        }
        if let Ok((file, warnings)) = read {
            log(&warnings);
            self.connector.status.set_notes(in_lines(&warnings));
            self.tell.send_replace(file.local_configuration(&file.reported_flags).to_json());
            *last = file;
        }
    }

    /// The file, if it may take the place of the last one.
    fn read(&self, last: &ConnectorFile) -> Result<(ConnectorFile, Vec<Diagnostic>), String> {
        let (file, warnings) =
            ConnectorFile::load_with(Some(&self.path), &self.flags.0).map_err(|report| report.to_string())?;
        file.follow(last).map_err(|lost| format!("{}: {lost}", self.path.display()))?;
        Ok((file, warnings))
    }
}

/// Logs what a file warns of.
pub(super) fn log(warnings: &[Diagnostic]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// What a file warns of, a line each, for the local endpoints.
pub(super) fn in_lines(warnings: &[Diagnostic]) -> Vec<String> {
    warnings.iter().map(Diagnostic::in_one_line).collect()
}
