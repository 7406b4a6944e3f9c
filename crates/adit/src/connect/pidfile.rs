//! `--pidfile`: written once the connector is connected, as cloudflared does, so that service managers can wait for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adit_connector::Connector;
use adit_control::files::{self, Access};
use tokio::task::JoinHandle;

/// How often the connections are looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// A file that is there while the connector runs.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: PathBuf,
    writing: JoinHandle<()>,
}

impl Pidfile {
    /// Writes it as soon as a connection is registered. Run it in a local task.
    pub(super) fn start(path: &Path, connector: &Arc<Connector>) -> Self {
        let (path, connector) = (path.to_owned(), connector.clone());
        let writing = tokio::task::spawn_local(write(path.clone(), connector));
        Self { path, writing }
    }
}

async fn write(path: PathBuf, connector: Arc<Connector>) {
    while connector.status.ready() == 0 {
        tokio::time::sleep(INTERVAL).await;
    }
    let text = format!("{}\n", std::process::id());
    if let Err(error) = files::write(&path, text.as_bytes(), Access::Everybody) {
        tracing::error!(path = %path.display(), %error, "cannot write the pidfile");
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        self.writing.abort();
        // It may never have been written.
        drop(std::fs::remove_file(&self.path));
    }
}
