//! Whom the edge keeps out, from outside of it: bans that are remembered, files of addresses, and CrowdSec.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use adit_config::edge::{CrowdsecEntry, EdgeFile};
use adit_control::crowdsec::{Crowdsec, Settings};
use adit_control::files::{self, Access};
use adit_edge::guard::List;
use adit_edge::{Edge, endpoints};
use adit_policy::policy::address::{Addresses, parse_list};

use crate::failure::Failure;

/// File of the bans that are remembered.
const BANS: &str = "bans.json";
/// Pause between two looks at what is to be remembered or forgotten.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two sweeps.
const SWEEP: u32 = 30;
/// Lines of a file that are told to be wrong.
const TOLD_MAX: usize = 5;

/// All of them.
#[derive(Debug)]
pub(super) struct Doors {
    state: Mutex<State>,
    /// Its end ends the keeper.
    _keeper: Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The last good content of each file.
    lists: Vec<(PathBuf, Addresses)>,
    crowdsec: Option<Crowdsec>,
    decided: Addresses,
}

impl Doors {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is remembered, and begins to remember.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(file: &EdgeFile, edge: &Arc<Edge>) -> Result<Arc<Self>, Failure> {
        let (keeper, ended) = channel();
        let doors = Arc::new(Self { state: Mutex::default(), _keeper: keeper });
        let path = file.data_dir.join(BANS);
        if let Ok(text) = fs::read_to_string(&path) {
            let bans = endpoints::remember(&edge.doors, &text);
            tracing::info!(bans, "bans remembered");
        }
        // It has said so.
        drop(doors.reload(file, edge));
        let weak = Arc::downgrade(edge);
        let keep = std::thread::Builder::new().name("keeper".to_owned());
        keep.spawn(move || keep_house(&path, &weak, &ended)).map_err(Failure::broke)?;
        Ok(doors)
    }

    /// Follows the configuration, and reads the files again. Which file is not in force as it is now.
    pub(super) fn reload(self: &Arc<Self>, file: &EdgeFile, edge: &Arc<Edge>) -> Option<String> {
        let mut state = self.lock();
        let known: HashMap<PathBuf, Addresses> = std::mem::take(&mut state.lists).into_iter().collect();
        let mut fault = None;
        for path in &file.deny_lists {
            let last = known.get(path).cloned().unwrap_or_default();
            let addresses = read_list(path, &last).unwrap_or_else(|error| {
                tracing::error!("{error}; the last good list stays in force");
                fault = Some(error);
                last
            });
            state.lists.push((path.clone(), addresses));
        }
        self.follow(&mut state, file.crowdsec.as_ref(), edge);
        show(&state, edge);
        fault
    }

    fn follow(self: &Arc<Self>, state: &mut State, entry: Option<&CrowdsecEntry>, edge: &Arc<Edge>) {
        let wanted = entry.and_then(|entry| {
            let (url, interval) = (entry.url.clone(), entry.interval);
            Some(Settings { url, interval, key: entry.key.clone()? })
        });
        if state.crowdsec.as_ref().map(Crowdsec::settings) == wanted.as_ref() {
            return;
        }
        state.crowdsec = None;
        state.decided = Addresses::default();
        let Some(settings) = wanted else { return };
        let (doors, edge) = (Arc::downgrade(self), Arc::downgrade(edge));
        let started = Crowdsec::start(settings, move |addresses| {
            if let (Some(doors), Some(edge)) = (doors.upgrade(), edge.upgrade()) {
                let mut state = doors.lock();
                state.decided = addresses;
                show(&state, &edge);
            }
        });
        match started {
            Ok(crowdsec) => state.crowdsec = Some(crowdsec),
            Err(error) => tracing::error!(error, "CrowdSec is not asked"),
        }
    }
}

fn show(state: &State, edge: &Edge) {
    let files = state.lists.iter().map(|(path, addresses)| (path.display().to_string(), addresses));
    let all = files.chain([("CrowdSec".to_owned(), &state.decided)]);
    let filled = all.filter(|(_, addresses)| !addresses.is_empty());
    let lists = filled.map(|(name, addresses)| List { name, addresses: addresses.clone() });
    edge.doors.set_lists(lists.collect());
}

/// Reads a file. Lines that are wrong are told; the rest counts. A file without a byte where there was a list is cut off: who
/// wants an empty list leaves a comment in it.
fn read_list(path: &Path, last: &Addresses) -> Result<Addresses, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("the deny list {} cannot be read: {error}", path.display()))?;
    if text.trim().is_empty() && !last.is_empty() {
        return Err(format!(
            "the deny list {} is empty, and was not before; write a comment (`#`) into it to have none",
            path.display()
        ));
    }
    let (networks, wrong) = parse_list(&text);
    for (line, entry) in wrong.iter().take(TOLD_MAX) {
        tracing::warn!(path = %path.display(), line, entry, "no address and no network; left out");
    }
    if wrong.len() > TOLD_MAX {
        tracing::warn!(path = %path.display(), lines = wrong.len(), "lines left out altogether");
    }
    tracing::info!(path = %path.display(), networks = networks.len(), "deny list read");
    Ok(Addresses::of(&networks))
}

/// Writes bans down when they change, and has what is out of date removed.
fn keep_house(path: &Path, edge: &Weak<Edge>, ended: &Receiver<()>) {
    let Some(changes) = edge.upgrade().map(|edge| edge.doors.watch()) else { return };
    let mut changes = changes;
    let mut looks = 0_u32;
    while let Some(edge) = edge.upgrade() {
        if changes.has_changed().unwrap_or(false) {
            changes.mark_unchanged();
            let text = endpoints::remembered(&edge.doors);
            if let Err(error) = files::write(path, text.as_bytes(), Access::Owner) {
                tracing::error!(path = %path.display(), %error, "bans are not remembered");
            }
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(SWEEP) {
            edge.doors.sweep();
            edge.cache.iter().for_each(|store| store.sweep(SystemTime::now()));
        }
        drop(edge);
        if ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}
