//! Who owns which names, over restarts of the edge: read before the first connection is taken, and written down at once when
//! it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adit_control::owners;
use adit_edge::Edge;
use adit_policy::route::Owners;
use tokio::sync::watch::Receiver;

use crate::failure::Failure;

/// Pause before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Takes in what is remembered, and begins to remember.
///
/// # Errors
/// When the file is there and cannot be read, or there is no thread to be had.
pub(super) fn start(data_dir: &Path, edge: &Arc<Edge>) -> Result<(), Failure> {
    let known = owners::read(data_dir)
        .map_err(|error| Failure::input(format!("{}: {error}", owners::file(data_dir).display())))?;
    edge.registry.remember(known);
    let mut changes = edge.registry.owners();
    changes.mark_unchanged();
    let folder = data_dir.to_owned();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(Failure::broke)?;
    let keep = std::thread::Builder::new().name("owners".to_owned());
    keep.spawn(move || runtime.block_on(remember(folder, changes))).map_err(Failure::broke)?;
    Ok(())
}

/// Writes each change down, until the edge is gone.
async fn remember(data_dir: PathBuf, mut changes: Receiver<Owners>) {
    while changes.changed().await.is_ok() {
        let mut owners = changes.borrow_and_update().clone();
        while let Err(error) = owners::write(&data_dir, &owners) {
            let path = owners::file(&data_dir);
            tracing::error!(path = %path.display(), %error, "cannot write down who owns which names; next attempt in 1 s");
            tokio::time::sleep(RETRY).await;
            owners = changes.borrow_and_update().clone();
        }
    }
}
