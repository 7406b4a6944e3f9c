//! `adit demo`: edge, connector and a page in one process, to see the whole way in one command.

use std::net::SocketAddr;
use std::path::Path;

use adit_lifecycle::signal::Signals;

use crate::cli::ConnectArgs;
use crate::edge::block_on;
use crate::failure::Failure;
use crate::{connect, edge, tunnel};

/// The demo's host: browsers and curl send every name under `localhost` to this machine.
const HOST: &str = "demo.localhost";

/// A running demo.
#[derive(Debug)]
pub struct Demo {
    /// The page.
    pub url: String,
    /// A command that fetches it.
    pub curl: String,
    edge: edge::Running,
    connector: connect::Running,
    _folder: tempfile::TempDir,
}

/// Starts the demo. `origin` is shown instead of the built-in page.
///
/// # Errors
/// When an address is not to be had, or the origin is no service.
pub fn start(listen: SocketAddr, origin: Option<&str>) -> Result<Demo, Failure> {
    let folder = tempfile::Builder::new().prefix("adit-demo-").tempdir().map_err(Failure::broke)?;
    let path = |name: &str| folder.path().join(name);
    let ip = listen.ip();
    let tunnel_address = SocketAddr::new(ip, 0);
    let text = format!(
        "domain: localhost\nlisten: {{ https: '{listen}', http: off, tunnel: '{tunnel_address}', admin: off }}\naccess-log: {}\n",
        path("access.log").display()
    );
    write(&path("edge.yml"), &text)?;
    tunnel::create(&path("edge.yml"), "demo", &[HOST.to_owned()], Some(&path("demo.json")))?;
    let edge = edge::start(&path("edge.yml"))?;
    let dial = edge.addresses.tunnel.first().copied().unwrap_or(tunnel_address);
    let service = origin.unwrap_or("hello_world");
    let text = format!(
        "credentials-file: demo.json\nedge: ['{dial}']\ncacert: {}\ningress:\n  - hostname: {HOST}\n    service: {service}\n  - service: http_status:404\n",
        edge.authority_file.display()
    );
    write(&path("config.yml"), &text)?;
    let args = ConnectArgs { config: Some(path("config.yml")), ..ConnectArgs::default() };
    let connector = connect::start(&args)?;
    let bound = edge.addresses.https.first().copied().unwrap_or(listen);
    let port = bound.port();
    let url = format!("https://{HOST}:{port}/");
    let authority = edge.authority_file.display();
    let curl = format!("curl --cacert {authority} --resolve {HOST}:{port}:{ip} {url}");
    Ok(Demo { url, curl, edge, connector, _folder: folder })
}

impl Demo {
    /// Waits until the connector is registered.
    pub async fn ready(&self) {
        let mut changes = self.edge.edge.registry.watch();
        while self.edge.edge.registry.sessions().is_empty() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends both.
    pub async fn stop(self) {
        self.connector.stop().await;
        self.edge.stop(std::time::Duration::from_secs(1)).await;
    }
}

/// Runs the demo until a signal. `show` gets the lines for the terminal.
///
/// # Errors
/// What [`start`] says.
pub fn run(listen: SocketAddr, origin: Option<&str>, show: impl Fn(&str)) -> Result<(), Failure> {
    let demo = start(listen, origin)?;
    block_on(async move {
        let mut signals = Signals::listen().map_err(Failure::broke)?;
        tokio::select! {
            () = demo.ready() => {}
            _ = signals.shutdown() => return Ok(()),
        }
        show(&format!("Open {}  (your browser will not know the certificate)", demo.url));
        show(&format!("or   {}", demo.curl));
        show("Ctrl-C ends it and leaves nothing behind.");
        signals.shutdown().await;
        tokio::select! {
            () = demo.stop() => {}
            _ = signals.shutdown() => {}
        }
        Ok(())
    })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::broke(format!("{}: {error}", path.display())))
}
