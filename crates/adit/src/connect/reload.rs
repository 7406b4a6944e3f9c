//! New rules from the file: when it changes, and on SIGHUP. A bad file changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit_config::connector::ConnectorFile;
use adit_connector::Connector;
use adit_control::watch::{Watch, watch};
use tokio::sync::watch::Sender;

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
}

impl Reloader {
    pub(super) fn new(
        path: &Path,
        args: &ConnectArgs,
        connector: &Arc<Connector>,
        tell: Sender<Vec<u8>>,
    ) -> Self {
        Self { path: path.to_owned(), flags: args.flags.clone(), connector: connector.clone(), tell }
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
        let file =
            ConnectorFile::load_with(Some(&self.path), &self.flags.0).map_err(|report| report.to_string());
        let configuration =
            file.as_ref().ok().map(|(file, _)| file.local_configuration(&file.reported_flags));
        match self.connector.take_rules(file.map(|(file, _)| file.ingress_or_single())) {
            Ok(rules) => {
                tracing::info!(rules, "configuration reloaded");
                self.tell.send_replace(configuration.unwrap_or_default().to_json());
            }
            Err(report) => {
                tracing::error!("configuration not reloaded; the last good one stays in force:\n{report}");
            }
        }
    }
}
