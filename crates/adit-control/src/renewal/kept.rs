//! What is kept on disk: accounts, and one file for each certificate with its key in it, so that the two always fit.

use std::io;
use std::path::{Path, PathBuf};

use adit_certs::file::load;
use adit_certs::{CertificateError, KeyKind, Loaded};

use super::wanted::Wish;
use crate::files::{self, Access};

/// The first line of a certificate's file says who gave it.
const GIVEN_BY: &str = "# given by ";

/// The folders.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    certificates: PathBuf,
    accounts: PathBuf,
}

impl Kept {
    pub(super) fn open(data: &Path) -> io::Result<Self> {
        let kept = Self { certificates: data.join("certificates"), accounts: data.join("accounts") };
        files::make_folder(&kept.certificates)?;
        files::make_folder(&kept.accounts)?;
        Ok(kept)
    }

    /// The file of a certificate.
    pub(super) fn path(&self, (name, kind): &Wish) -> PathBuf {
        let name = name.replace('*', "_");
        let end = if *kind == KeyKind::Rsa { ".rsa.pem" } else { ".pem" };
        self.certificates.join(format!("{name}{end}"))
    }

    /// A certificate that was kept, and who gave it. `None` if there is none.
    pub(super) fn certificate(
        &self,
        wish: &Wish,
        now: i64,
    ) -> Option<Result<(Loaded, String), CertificateError>> {
        let path = self.path(wish);
        let text = std::fs::read_to_string(&path).ok()?;
        let giver = text.lines().next().and_then(|line| line.strip_prefix(GIVEN_BY)).unwrap_or_default();
        Some(load(&path, &path, now).map(|loaded| (loaded, giver.to_owned())))
    }

    /// Keeps a certificate. A crash leaves the old one or the new one.
    pub(super) fn keep(&self, wish: &Wish, giver: &str, pem: &str) -> io::Result<()> {
        let text = zeroize::Zeroizing::new(format!("{GIVEN_BY}{giver}\n{pem}"));
        files::write(&self.path(wish), text.as_bytes(), Access::Owner)
    }

    pub(super) fn account(&self, authority: &str) -> Option<String> {
        std::fs::read_to_string(self.account_path(authority)).ok()
    }

    pub(super) fn keep_account(&self, authority: &str, credentials: &str) -> io::Result<()> {
        files::write(&self.account_path(authority), credentials.as_bytes(), Access::Owner)
    }

    /// An account that the authority does not know any more is put aside, not lost.
    pub(super) fn forget_account(&self, authority: &str) {
        let path = self.account_path(authority);
        if let Err(error) = std::fs::rename(&path, path.with_extension("json.unknown")) {
            tracing::warn!(%error, path = %path.display(), "account not put aside");
        }
    }

    fn account_path(&self, authority: &str) -> PathBuf {
        self.accounts.join(format!("{authority}.json"))
    }
}
