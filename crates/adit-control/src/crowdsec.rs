//! A bouncer of CrowdSec: asks a local API for decisions, and keeps the addresses that are banned by them.
//!
//! The API is `GET /v1/decisions/stream` with `X-Api-Key`: first everything (`startup=true`), then what has changed. What was
//! decided has an end, which counts also while the API does not answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_certs::Https;
use adit_config::parse_duration;
use adit_policy::ingress::IpPrefix;
use adit_policy::policy::address::{self, Addresses};
use adit_wire::secret::Secret;
use serde::Deserialize;
use tokio::sync::Notify;

/// Where the API is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its address, without a slash at the end.
    pub url: String,
    /// The key.
    pub key: Secret,
    /// Pause between two questions.
    pub interval: Duration,
}

impl PartialEq for Settings {
    /// The operator compares his own configurations: there is nobody who could measure it.
    fn eq(&self, other: &Self) -> bool {
        let own = (&self.url, self.interval, self.key.expose());
        own == (&other.url, other.interval, other.key.expose())
    }
}

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Crowdsec {
    settings: Settings,
    stop: Arc<Notify>,
}

impl Drop for Crowdsec {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

/// An answer of the API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stream {
    new: Option<Vec<Decision>>,
    deleted: Option<Vec<Decision>>,
}

#[derive(Debug, Deserialize)]
struct Decision {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    duration: String,
}

/// What is decided now.
#[derive(Debug, Default)]
struct Decided(HashMap<String, (IpPrefix, SystemTime)>);

impl Decided {
    /// Takes an answer in. Whether something has changed.
    fn take(&mut self, stream: Stream, now: SystemTime) -> bool {
        let mut changed = false;
        for decision in stream.deleted.unwrap_or_default() {
            changed |= self.0.remove(&decision.value).is_some();
        }
        for decision in stream.new.unwrap_or_default() {
            let is_address = ["ip", "range"].iter().any(|scope| decision.scope.eq_ignore_ascii_case(scope));
            if decision.kind != "ban" || !is_address {
                continue;
            }
            let network = address::parse(&decision.value);
            let end = parse_duration(&decision.duration).ok().map(|time| now + time);
            if let Some((network, end)) = network.zip(end) {
                let known = self.0.get(&decision.value).map(|(_, end)| *end);
                // Several decisions about one address: the one that ends last counts.
                self.0.insert(decision.value, (network, known.map_or(end, |known| known.max(end))));
                changed = true;
            }
        }
        changed | self.expire(now)
    }

    fn expire(&mut self, now: SystemTime) -> bool {
        let before = self.0.len();
        self.0.retain(|_, (_, end)| now < *end);
        before != self.0.len()
    }

    fn addresses(&self) -> Addresses {
        let networks: Vec<IpPrefix> = self.0.values().map(|(network, _)| *network).collect();
        Addresses::of(&networks)
    }
}

impl Crowdsec {
    /// Begins to ask, on a thread of its own. `show` gets all addresses whenever they change.
    ///
    /// # Errors
    /// When there is no thread or no TLS to be had.
    pub fn start(settings: Settings, show: impl Fn(Addresses) + Send + 'static) -> Result<Self, String> {
        let https = Https::or_http(None)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let stop = Arc::new(Notify::new());
        let (asked, stopped) = (settings.clone(), stop.clone());
        let run = move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = ask_for_ever(&https, &asked, show) => {}
                    () = stopped.notified() => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("crowdsec".to_owned()).spawn(run);
        thread.map_err(|error| error.to_string())?;
        Ok(Self { settings, stop })
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

async fn ask_for_ever(https: &Https, settings: &Settings, show: impl Fn(Addresses)) {
    let mut decided = Decided::default();
    let (mut knows_all, mut complained) = (false, false);
    loop {
        let now = SystemTime::now();
        let changed = match ask(https, settings, !knows_all).await {
            Ok(stream) => {
                if complained || !knows_all {
                    tracing::info!(url = settings.url, "CrowdSec answers");
                }
                // After a pause everything is told again; what was known counts until then.
                if !knows_all {
                    decided = Decided::default();
                }
                (knows_all, complained) = (true, false);
                decided.take(stream, now)
            }
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(
                        url = settings.url,
                        error,
                        "CrowdSec does not answer; what it said stays in force"
                    );
                }
                knows_all = false;
                decided.expire(now)
            }
        };
        if changed {
            show(decided.addresses());
        }
        tokio::time::sleep(settings.interval).await;
    }
}

async fn ask(https: &Https, settings: &Settings, everything: bool) -> Result<Stream, String> {
    let uri = format!("{}/v1/decisions/stream?startup={everything}", settings.url);
    let request = http::Request::get(uri)
        .header("x-api-key", settings.key.expose())
        .header("user-agent", concat!("adit/", env!("CARGO_PKG_VERSION")))
        .body(Vec::new())
        .map_err(|error| error.to_string())?;
    let (status, body) = https.send(request).await?;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("it answers nonsense: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(json: &str) -> Stream {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn decisions_come_go_and_end() {
        let (mut decided, now) = (Decided::default(), SystemTime::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(decided.take(
            stream(
                r#"{ "new": [
                    { "id": 1, "type": "ban", "scope": "Ip", "value": "192.0.2.7", "duration": "1h0m3.5s" },
                    { "id": 2, "type": "ban", "scope": "Range", "value": "10.0.0.0/8", "duration": "10s" },
                    { "id": 3, "type": "captcha", "scope": "Ip", "value": "192.0.2.8", "duration": "1h" },
                    { "id": 4, "type": "ban", "scope": "Country", "value": "XX", "duration": "1h" },
                    { "id": 5, "type": "ban", "scope": "Ip", "value": "192.0.2.9", "duration": "-1s" }
                ], "deleted": null }"#,
            ),
            now,
        ));
        let has = |decided: &Decided, address: &str| decided.addresses().includes(address.parse().unwrap());
        assert!(has(&decided, "192.0.2.7") && has(&decided, "10.9.9.9"));
        assert!(!has(&decided, "192.0.2.8") && !has(&decided, "192.0.2.9"));
        assert!(decided.take(Stream::default(), later(11)));
        assert!(!has(&decided, "10.9.9.9"));
        assert!(decided.take(stream(r#"{ "deleted": [{ "value": "192.0.2.7" }] }"#), later(12)));
        assert!(!has(&decided, "192.0.2.7"));
        assert!(!decided.take(Stream::default(), later(13)));
    }
}
