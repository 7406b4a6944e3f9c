//! A rule that begins to check a token: what was kept while it was open is dropped.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use adit_cache::{Purge, Store, What};
use adit_policy::ingress::Gates;
use adit_policy::snapshot::TunnelId;

/// The names of rules that check a token, by what the tunnels have said last.
#[derive(Debug, Default)]
pub(crate) struct Gated(Mutex<HashMap<TunnelId, HashSet<String>>>);

impl Gated {
    /// Drops what is kept of names whose rules have begun to check a token. To be called once those rules are in force. With the
    /// first word since the edge started, it is not known what was open before: then it was dropped already if a purge says so.
    pub(crate) fn hear(&self, store: Option<&Arc<Store>>, tunnel: TunnelId, gates: Option<Gates>) {
        let now: HashSet<String> = gates.iter().flat_map(Gates::patterns).map(ToString::to_string).collect();
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tunnel, now.clone());
        let Some(store) = store else { return };
        for name in now {
            let purge =
                Purge { what: What::Host(name.clone()), soft: false, tunnel: Some(tunnel.to_string()) };
            let is_known = match &before {
                Some(before) => before.contains(&name),
                None => store.has_purged(&purge),
            };
            if is_known {
                continue;
            }
            match store.purge(purge, SystemTime::now()) {
                Ok(()) => {
                    tracing::info!(%tunnel, name, "a rule checks tokens now; what was kept of its name is dropped")
                }
                Err(error) => {
                    tracing::error!(%tunnel, name, %error, "cannot drop what was kept while a rule was open")
                }
            }
        }
    }
}
