//! The client of TCP services as a process, listening on a free port; and an origin of bytes.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};

use crate::edge::Edge;
use crate::program::{self, Program};

/// A running `adit access tcp`.
#[derive(Debug)]
pub struct Access {
    /// The process.
    pub program: Program,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Access {
    /// A client of `host` behind an edge, with more flags.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(edge: &Edge, host: &str, flags: &[&str]) -> Self {
        let mut command = Self::command(edge, host);
        command.args(["--url", "127.0.0.1:0", "--log-format", "json"]).args(flags);
        let program = Program::start(&mut command);
        let line: Value = serde_json::from_str(&program.says("listening")).unwrap();
        let address = line["address"].as_str().and_then(|address| address.parse().ok()).expect("an address");
        Self { program, address }
    }

    /// The command line of a client, for standard input and output.
    #[must_use]
    pub fn command(edge: &Edge, host: &str) -> Command {
        let mut command = Command::new(program::adit());
        command.args(["access", "tcp", "--hostname", host, "--connect-to", &edge.https.to_string()]);
        command.arg("--cacert").arg(edge.file("data/tunnel-ca.pem"));
        command
    }

    /// A connection through it.
    ///
    /// # Panics
    /// When it takes none.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Starts an origin that sends back what it hears, and ends where its client ends.
///
/// # Panics
/// When there is no port.
pub async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                // A client that leaves ends its echo.
                drop(copy(&mut read, &mut write).await);
            });
        }
    });
    address
}
