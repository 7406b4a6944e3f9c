//! Tunnels that commands create: one file each in the data folder. It works before the first run and beside a running
//! edge, which watches the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use adit_config::diagnostic::{Diagnostic, Report, Severity};
use adit_config::edge::EdgeFile;
use adit_config::stored::{StoredSecret, StoredTunnel, merge};
use adit_policy::host::HostPattern;
use adit_policy::snapshot::{Snapshot, TunnelId};
use adit_wire::credentials::Credentials;
use adit_wire::secret::Secret;
use uuid::Uuid;

use crate::files::{self, Access};
use crate::shutoff;

/// Bytes of a secret that we make; cloudflared's are as long.
const SECRET_BYTES: usize = 32;

/// A command on tunnels could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelsError {
    /// The edge's files have errors, or the new tunnel would clash with another.
    #[error("{0}")]
    Report(Report),
    /// There is no such tunnel.
    #[error("there is no tunnel `{0}`; `adit tunnel list` shows those that are there")]
    Unknown(String),
    /// There is one already.
    #[error(
        "there is a tunnel `{0}` already; `adit tunnel token {0}` shows its token, `adit tunnel rotate {0}` makes a new secret"
    )]
    Exists(String),
    /// It stands in the operator's file, which commands do not change.
    #[error("tunnel `{0}` stands in {1}; change it there")]
    Declared(String, String),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

/// The tunnels of one edge: those of its file, and the stored ones.
#[derive(Debug)]
pub struct Tunnels {
    edge: EdgeFile,
    stored: Vec<StoredTunnel>,
}

impl Tunnels {
    /// Reads both.
    ///
    /// # Errors
    /// A report of everything that is wrong with the edge's file or a stored tunnel.
    pub fn open(edge: EdgeFile) -> Result<Self, TunnelsError> {
        let stored = read_stored(&edge.data_dir)?;
        Ok(Self { edge, stored })
    }

    /// The whole for the data path.
    ///
    /// # Errors
    /// A report of clashes between the two places.
    pub fn snapshot(&self) -> Result<Snapshot, TunnelsError> {
        let snapshot = merge(&self.edge, self.stored.clone()).map_err(TunnelsError::Report)?;
        let data_dir = &self.edge.data_dir;
        let shutoff = shutoff::read(data_dir)
            .map_err(|source| TunnelsError::File { path: shutoff::file(data_dir), source })?;
        Ok(snapshot.with_shutoff(shutoff))
    }

    /// The edge's file.
    #[must_use]
    pub fn edge(&self) -> &EdgeFile {
        &self.edge
    }

    /// Creates a tunnel and returns its credentials.
    ///
    /// # Errors
    /// When the name is taken, a host name is granted elsewhere, or the file cannot be written.
    pub fn create(&mut self, name: &str, hostnames: Vec<HostPattern>) -> Result<Credentials, TunnelsError> {
        if self.snapshot()?.tunnel_by_name(name).is_some() {
            return Err(TunnelsError::Exists(name.to_owned()));
        }
        let tunnel = StoredTunnel {
            name: name.to_owned(),
            id: TunnelId(Uuid::new_v4()),
            account_tag: Some(self.edge.domain.to_string()),
            secrets: vec![StoredSecret { secret: random_secret()?, not_after: None }],
            hostnames,
        };
        // What cannot be read again must not be written.
        StoredTunnel::parse(&tunnel.to_json())
            .map_err(|error| TunnelsError::Report(one(&self.edge, &error)))?;
        self.stored.push(tunnel.clone());
        self.snapshot()?;
        self.write(&tunnel)?;
        credentials(&tunnel)
    }

    /// The credentials of a tunnel: of a stored one, or, for one of the file, of its secret file.
    ///
    /// # Errors
    /// When there is no such tunnel, or its secret cannot be read.
    pub fn credentials(&self, name: &str) -> Result<Credentials, TunnelsError> {
        if let Some(tunnel) = self.stored.iter().find(|tunnel| tunnel.name == name) {
            return credentials(tunnel);
        }
        let Some(entry) = self.edge.tunnels.iter().find(|entry| entry.name == name) else {
            return Err(TunnelsError::Unknown(name.to_owned()));
        };
        let text = fs::read(&entry.secret_file)
            .map_err(|source| TunnelsError::File { path: entry.secret_file.clone(), source })?;
        Ok(declared_credentials(entry, &text, self.edge.domain.as_str()))
    }

    /// Deletes a stored tunnel. Its connectors are refused from then on.
    ///
    /// # Errors
    /// When it is not there, or stands in the edge's file.
    pub fn delete(&mut self, name: &str) -> Result<(), TunnelsError> {
        self.stored_mut(name)?;
        let path = StoredTunnel::path(&self.edge.data_dir, name);
        fs::remove_file(&path).map_err(|source| TunnelsError::File { path, source })?;
        self.stored.retain(|tunnel| tunnel.name != name);
        Ok(())
    }

    /// Makes a new secret. The old ones stay good for `grace`, so that connectors can be changed one by one.
    ///
    /// # Errors
    /// When it is not there, or stands in the edge's file.
    pub fn rotate(&mut self, name: &str, grace: Duration) -> Result<Credentials, TunnelsError> {
        let secret = random_secret()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let tunnel = self.stored_mut(name)?;
        tunnel.secrets.retain(|old| old.not_after.is_none_or(|end| end > now.as_secs()));
        for old in &mut tunnel.secrets {
            let end = (now + grace).as_secs();
            old.not_after = Some(old.not_after.map_or(end, |known| known.min(end)));
        }
        tunnel.secrets.insert(0, StoredSecret { secret, not_after: None });
        let tunnel = tunnel.clone();
        self.write(&tunnel)?;
        credentials(&tunnel)
    }

    fn stored_mut(&mut self, name: &str) -> Result<&mut StoredTunnel, TunnelsError> {
        if self.edge.tunnels.iter().any(|entry| entry.name == name) {
            let file = self.edge.path().display().to_string();
            return Err(TunnelsError::Declared(name.to_owned(), file));
        }
        let unknown = || TunnelsError::Unknown(name.to_owned());
        self.stored.iter_mut().find(|tunnel| tunnel.name == name).ok_or_else(unknown)
    }

    fn write(&self, tunnel: &StoredTunnel) -> Result<(), TunnelsError> {
        let path = StoredTunnel::path(&self.edge.data_dir, &tunnel.name);
        files::write(&path, tunnel.to_json().as_bytes(), Access::Owner)
            .map_err(|source| TunnelsError::File { path, source })
    }
}

fn one(edge: &EdgeFile, error: &dyn std::fmt::Display) -> Report {
    Report(vec![Diagnostic::new(edge.path(), Severity::Error, error.to_string())])
}

fn read_stored(data_dir: &Path) -> Result<Vec<StoredTunnel>, TunnelsError> {
    let folder = StoredTunnel::directory(data_dir);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TunnelsError::File { path: folder, source }),
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    paths.sort();
    let (mut stored, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        match fs::read_to_string(&path) {
            Ok(text) => match StoredTunnel::parse(&text) {
                Ok(tunnel) => stored.push(tunnel),
                Err(error) => errors.push(Diagnostic::new(&path, Severity::Error, error.to_string())),
            },
            // Deleted between the listing and the reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => errors.push(Diagnostic::new(&path, Severity::Error, error.to_string())),
        }
    }
    if errors.is_empty() { Ok(stored) } else { Err(TunnelsError::Report(Report(errors))) }
}

fn random_secret() -> Result<Secret, TunnelsError> {
    let mut bytes = vec![0; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TunnelsError::Random)?;
    Ok(Secret::new(bytes))
}

fn credentials(tunnel: &StoredTunnel) -> Result<Credentials, TunnelsError> {
    let current = tunnel.secrets.iter().find(|secret| secret.not_after.is_none());
    let current = current.ok_or_else(|| TunnelsError::Unknown(tunnel.name.clone()))?;
    Ok(Credentials {
        account_tag: tunnel.account_tag.clone().unwrap_or_default(),
        tunnel_secret: current.secret.clone(),
        tunnel_id: tunnel.id.0,
        endpoint: String::new(),
    })
}

/// A secret file holds either base64 or a whole credentials file; the configuration has checked it.
fn declared_credentials(entry: &adit_config::edge::TunnelEntry, text: &[u8], domain: &str) -> Credentials {
    use base64::Engine as _;
    Credentials::from_json(text).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(text);
        let secret = base64::engine::general_purpose::STANDARD.decode(text.trim()).unwrap_or_default();
        Credentials {
            account_tag: entry.account_tag.clone().unwrap_or_else(|| domain.to_owned()),
            tunnel_secret: Secret::new(secret),
            tunnel_id: entry.id.0,
            endpoint: String::new(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Tunnels {
        let path = folder.join("edge.yml");
        if !path.exists() {
            fs::write(&path, "domain: home.example\n").unwrap();
        }
        Tunnels::open(EdgeFile::load(&path).unwrap().0).unwrap()
    }

    fn hosts(texts: &[&str]) -> Vec<HostPattern> {
        texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_tunnel_is_created_found_rotated_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let made = open(folder.path()).create("home", hosts(&["a.home.example"])).unwrap();
        assert_eq!(made.tunnel_secret.expose().len(), SECRET_BYTES);
        assert_eq!(open(folder.path()).credentials("home").unwrap().tunnel_id, made.tunnel_id);

        let rotated = open(folder.path()).rotate("home", Duration::from_secs(3600)).unwrap();
        assert_ne!(rotated.tunnel_secret.expose(), made.tunnel_secret.expose());
        let snapshot = open(folder.path()).snapshot().unwrap();
        let tunnel = snapshot.tunnel_by_name("home").unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(tunnel.secret.verify(made.tunnel_secret.expose(), now), "the old one is good for an hour");
        assert!(!tunnel.secret.verify(made.tunnel_secret.expose(), now + 4000), "and no longer");
        assert!(tunnel.secret.verify(rotated.tunnel_secret.expose(), now + 4000));

        open(folder.path()).delete("home").unwrap();
        assert!(matches!(open(folder.path()).credentials("home"), Err(TunnelsError::Unknown(_))));
    }

    #[test]
    fn names_and_hosts_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).create("home", hosts(&["a.home.example"])).unwrap();
        assert!(matches!(open(folder.path()).create("home", hosts(&["b.x"])), Err(TunnelsError::Exists(_))));
        let clash = open(folder.path()).create("other", hosts(&["a.home.example"])).unwrap_err();
        assert!(matches!(clash, TunnelsError::Report(_)), "{clash}");
        assert_eq!(open(folder.path()).snapshot().unwrap().tunnels().len(), 1, "nothing was written");
    }
}
