//! `adit tunnel diag`: what a running connector tells of itself, in one file to send along with a question. cloudflared's
//! names where it has them; no credentials are in it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::macros::format_description;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::health::{NOBODY, addresses};
use crate::cli::DiagWithout;
use crate::failure::Failure;
use crate::local;

/// Files, and the endpoints that fill them.
const PARTS: [(&str, &str); 6] = [
    ("tunnelstate.json", "/diag/tunnel"),
    ("cli-configuration.json", "/diag/configuration"),
    ("systeminformation.json", "/diag/system"),
    ("config.json", "/config"),
    ("ready.json", "/ready"),
    ("metrics.txt", "/metrics"),
];

/// Collects it.
///
/// # Errors
/// When no connector runs here, or the file cannot be written.
pub fn diag(metrics: Option<&str>, file: Option<&Path>, without: &DiagWithout) -> Result<String, Failure> {
    let found = addresses(metrics)?.into_iter().find(|address| local::ask(*address, "/ready").is_some());
    let address = found.ok_or_else(|| Failure::broke(NOBODY))?;
    let path = file.map_or_else(named_by_time, Path::to_owned);
    let failed = |error: &dyn std::fmt::Display| Failure::broke(format!("{}: {error}", path.display()));
    let mut archive = ZipWriter::new(File::create_new(&path).map_err(|error| failed(&error))?);
    let wanted = |(_, endpoint): &(&str, &str)| match *endpoint {
        "/metrics" => !without.no_diag_metrics,
        "/diag/system" => !without.no_diag_system,
        _ => true,
    };
    for (name, endpoint) in PARTS.into_iter().filter(wanted) {
        let Some((_, body)) = local::ask(address, endpoint) else { continue };
        archive.start_file(name, SimpleFileOptions::default()).map_err(|error| failed(&error))?;
        archive.write_all(&body).map_err(|error| failed(&error))?;
    }
    archive.finish().map_err(|error| failed(&error))?;
    Ok(format!("Wrote {}\n", path.display()))
}

fn named_by_time() -> PathBuf {
    let stamp = format_description!("[year]-[month]-[day]T[hour]-[minute]-[second]");
    let now = OffsetDateTime::now_utc().format(stamp).unwrap_or_default();
    PathBuf::from(format!("adit-diag-{now}.zip"))
}
