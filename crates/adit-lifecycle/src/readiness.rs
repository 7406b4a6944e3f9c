//! Readiness is a set of guards: the process is ready when the last one is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is still missing.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Pending>);

#[derive(Debug, Default)]
struct Pending {
    names: Mutex<BTreeMap<u64, String>>,
    changed: Condvar,
}

/// Something that is not ready yet. Dropping it says that it is.
#[derive(Debug)]
pub struct BlockReady {
    readiness: Readiness,
    key: u64,
}

impl Readiness {
    /// Names something that must be ready first.
    #[must_use]
    pub fn block(&self, name: &str) -> BlockReady {
        let mut pending = self.lock();
        let key = pending.last_key_value().map_or(0, |(key, _)| key + 1);
        pending.insert(key, name.to_owned());
        BlockReady { readiness: self.clone(), key }
    }

    /// Whether everything is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pending().is_empty()
    }

    /// The names of what is missing.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    /// Waits until everything is ready. Call it where blocking is allowed.
    pub fn wait(&self) {
        let ready = self.0.changed.wait_while(self.lock(), |pending| !pending.is_empty());
        drop(ready.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BlockReady {
    fn drop(&mut self) {
        self.readiness.lock().remove(&self.key);
        self.readiness.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_guard_makes_ready() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.block("a"), readiness.block("b"));
        drop(a);
        assert_eq!(readiness.pending(), ["b"]);
        let waiting = std::thread::spawn({
            let readiness = readiness.clone();
            move || readiness.wait()
        });
        drop(b);
        waiting.join().unwrap();
        assert!(readiness.is_ready());
    }
}
