//! An SSH server of one's own: OpenSSH's, with its own keys, on a port of the loopback.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::PATIENCE;

/// A running server. It ends with this.
#[derive(Debug)]
pub struct Sshd {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    child: Child,
}

impl Sshd {
    /// Starts one that lets in whoever runs the test, with a key of its own.
    ///
    /// # Panics
    /// When OpenSSH is not installed.
    pub async fn start() -> Self {
        let folder = TempDir::with_prefix("adit-sshd-").unwrap();
        let at = |name: &str| folder.path().join(name);
        keygen(&at("host"));
        keygen(&at("key"));
        fs::copy(at("key.pub"), at("authorized")).unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n",
            at("host").display(),
            at("authorized").display(),
        );
        fs::write(at("sshd.conf"), text).unwrap();
        // OpenSSH wants it when it runs as root.
        drop(fs::create_dir_all("/run/sshd"));
        let log = fs::File::create(at("sshd.log")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("sshd.conf"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("OpenSSH's server (apt install openssh-server)");
        let server = Self { address, folder, child };
        server.wait().await;
        server
    }

    async fn wait(&self) {
        let began = Instant::now();
        while std::net::TcpStream::connect(self.address).is_err() {
            let log = fs::read_to_string(self.folder.path().join("sshd.log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "no SSH server: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Configuration of a client that goes through a command: a file for `ssh -F`, with the host `home`.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn client(&self, host: &str, proxy: &Command) -> PathBuf {
        let words = std::iter::once(proxy.get_program()).chain(proxy.get_args());
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let text = format!(
            "Host home\n HostName {host}\n IdentityFile {}\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n BatchMode yes\n ProxyCommand {}\n",
            self.folder.path().join("key").display(),
            words.join(" "),
        );
        let path = self.folder.path().join("client.conf");
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("OpenSSH (apt install openssh-client)").success());
}
