//! `adit cache`: what is kept at an edge.

use std::path::Path;
use std::time::SystemTime;

use adit_cache::{Purge, What};
use adit_certs::Https;
use adit_edge::purge::{PATH, SIGNATURE, sign};
use adit_wire::credentials::Credentials;
use http::Uri;

use crate::admin::Admin;
use crate::cli::{PurgeArgs, PurgeWhat};
use crate::edge::block_on;
use crate::failure::Failure;

const MIB: f64 = 1024.0 * 1024.0;

/// How much is kept.
///
/// # Errors
/// When no edge answers.
pub fn status(config: &Path, as_json: bool) -> Result<String, Failure> {
    let said = Admin::of(config)?.get("/cache")?;
    if as_json {
        return Ok(format!("{said:#}\n"));
    }
    // Lost precision is lost in the second digit after the point.
    let mib = |name: &str| said[name].as_u64().unwrap_or_default() as f64 / MIB;
    let objects = said["objects"].as_u64().unwrap_or_default();
    Ok(format!("{objects} responses: {:.1} MiB on disk, {:.1} MiB in memory\n", mib("bytes"), mib("memory")))
}

/// Purges: at the admin address, or through one of the site's own names.
///
/// # Errors
/// When the edge does not answer, or refuses.
pub fn purge(args: &PurgeArgs) -> Result<String, Failure> {
    let purge = Purge { what: what(&args.what), soft: args.soft, tunnel: None };
    let json = serde_json::to_string(&purge).map_err(Failure::broke)?;
    match (&args.through, &args.credentials_file) {
        (Some(url), Some(credentials)) => call(url, credentials, args.cacert.as_deref(), json)?,
        _ => drop(Admin::of(&args.config)?.send("POST", "/cache/purge", &json)?),
    }
    Ok(if args.soft { "Marked as stale.\n" } else { "Purged.\n" }.to_owned())
}

fn what(args: &PurgeWhat) -> What {
    let one = |text: &Option<String>, kind: fn(String) -> What| text.clone().map(kind);
    one(&args.host, What::Host)
        .or_else(|| one(&args.url, What::Url))
        .or_else(|| one(&args.prefix, What::Prefix))
        .or_else(|| one(&args.tag, What::Tag))
        .unwrap_or(What::All)
}

/// A call that the tunnel's secret signs.
fn call(url: &str, credentials: &Path, cacert: Option<&Path>, json: String) -> Result<(), Failure> {
    let uri: Uri = format!("{}{PATH}", url.trim_end_matches('/'))
        .parse()
        .map_err(|_| Failure::input(format!("--through {url}: not a URL")))?;
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let bad = |error: &dyn std::fmt::Display| Failure::input(format!("{}: {error}", credentials.display()));
    let text = std::fs::read(credentials).map_err(|error| bad(&error))?;
    let credentials = Credentials::from_json(&text).map_err(|error| bad(&error))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let signature = sign(credentials.tunnel_secret.expose(), now, &host, json.as_bytes());
    let request = http::Request::post(uri)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header(SIGNATURE, signature)
        .body(json.into_bytes())
        .map_err(Failure::broke)?;
    block_on(async move {
        let https = Https::or_http(cacert).map_err(Failure::input)?;
        let (status, body) = https.send(request).await.map_err(Failure::broke)?;
        match status.is_success() {
            true => Ok(()),
            false => Err(Failure::broke(format!(
                "the edge answers {status}: {}",
                String::from_utf8_lossy(&body).trim()
            ))),
        }
    })
}
