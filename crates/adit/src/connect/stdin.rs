//! Commands on standard input (cloudflared's `stdin-control`): `reconnect [DELAY]`, `help`.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use adit_config::duration::parse_duration;
use adit_connector::Connector;

const HELP: &str = "commands: reconnect [DELAY] (makes one connection anew), help";

/// Reads commands in a thread of its own, until standard input ends.
pub(super) fn obey(connector: &Arc<Connector>) {
    tracing::info!("Enabling control through stdin");
    let connector = connector.clone();
    let read = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Err(complaint) = command(line.trim(), &connector) {
                tracing::warn!(command = line, "{complaint}");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("stdin".to_owned()).spawn(read) {
        tracing::error!(%error, "standard input is not read");
    }
}

fn command(line: &str, connector: &Connector) -> Result<(), String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match verb {
        "" => Ok(()),
        "help" => {
            tracing::info!("{HELP}");
            Ok(())
        }
        "reconnect" => {
            let delay = match rest.trim() {
                "" => Duration::ZERO,
                text => parse_duration(text).map_err(|error| error.to_string())?,
            };
            connector.restart_connection(delay);
            Ok(())
        }
        _ => Err(format!("unknown command; {HELP}")),
    }
}
