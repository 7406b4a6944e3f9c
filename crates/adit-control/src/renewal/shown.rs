//! Proofs that are shown at this moment: files and handshakes by the data plane, records by the name server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use adit_certs::{Proof, Prover};
use adit_dns::TxtRecords;
use futures_util::future::BoxFuture;
use rustls::sign::CertifiedKey;

use super::Door;

/// What the data plane shows.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Contents of files, by the last part of their path.
    pub files: HashMap<String, String>,
    /// Certificates, by name.
    pub certificates: HashMap<String, Arc<CertifiedKey>>,
}

/// Shows proofs through a door and a name server.
pub(super) struct Showing {
    door: Arc<dyn Door>,
    dns: Option<Arc<dyn TxtRecords>>,
    shown: Mutex<Shown>,
}

impl Showing {
    pub(super) fn new(door: Arc<dyn Door>, dns: Option<Arc<dyn TxtRecords>>) -> Self {
        Self { door, dns, shown: Mutex::default() }
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut shown);
        self.door.show(shown.clone());
    }
}

impl Prover for Showing {
    fn show<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            match proof {
                Proof::File { name, content } => {
                    self.change(|shown| drop(shown.files.insert(name.clone(), content.clone())));
                }
                Proof::Handshake { name, key } => {
                    self.change(|shown| drop(shown.certificates.insert(name.clone(), key.clone())));
                }
                Proof::Record { name, value } => {
                    let dns = self.dns.as_ref().ok_or_else(|| "no name server is set up".to_owned())?;
                    dns.add(name, value).await.map_err(|error| error.to_string())?;
                }
            }
            Ok(())
        })
    }

    fn hide<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            match proof {
                Proof::File { name, .. } => self.change(|shown| drop(shown.files.remove(name))),
                Proof::Handshake { name, .. } => self.change(|shown| drop(shown.certificates.remove(name))),
                Proof::Record { name, value } => {
                    let Some(dns) = &self.dns else { return };
                    if let Err(error) = dns.remove(name, value).await {
                        tracing::warn!(%error, name, "proof not removed from DNS");
                    }
                }
            }
        })
    }
}
