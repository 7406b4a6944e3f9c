//! cloudflared's flags that are keys of the file, but have no field of their own.

use std::collections::BTreeMap;

use crate::diagnostic::Findings;
use crate::yaml::{self, Table};

/// What the value of a flag must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Text,
    Number,
    Truth,
    Duration,
    List,
}

/// Flags that cloudflared reports to its edge when they are set (`cmd/cloudflared/tunnel/configuration.go`).
const REPORTED: [&str; 12] = [
    "autoupdate-freq",
    "no-autoupdate",
    "retries",
    "protocol",
    "loglevel",
    "transport-loglevel",
    "origincert",
    "metrics",
    "metrics-update-freq",
    "edge-ip-version",
    "edge-bind-address",
    "max-active-flows",
];

/// Flags that are valid.
const KEPT: [(&str, Value); 29] = [
    ("api-url", Value::Text),
    ("autoupdate-freq", Value::Duration),
    ("dns-resolver-addrs", Value::List),
    ("features", Value::List),
    ("hostname", Value::Text),
    ("icmpv4-src", Value::Text),
    ("icmpv6-src", Value::Text),
    ("label", Value::Text),
    ("log-directory", Value::Text),
    ("management-diagnostics", Value::Truth),
    ("management-hostname", Value::Text),
    ("max-active-flows", Value::Number),
    ("max-edge-addr-retries", Value::Number),
    ("metrics-update-freq", Value::Duration),
    ("name", Value::Text),
    ("no-autoupdate", Value::Truth),
    ("no-prechecks", Value::Truth),
    ("origincert", Value::Text),
    ("output", Value::Text),
    ("pidfile", Value::Text),
    ("post-quantum", Value::Truth),
    ("quic-connection-level-flow-control-limit", Value::Number),
    ("quic-disable-pmtu-discovery", Value::Truth),
    ("quic-stream-level-flow-control-limit", Value::Number),
    ("quick-service", Value::Text),
    ("region", Value::Text),
    ("rpc-timeout", Value::Duration),
    ("stdin-control", Value::Truth),
    ("write-stream-timeout", Value::Duration),
];

/// Flags that cloudflared once had, or has for nothing.
const WITHOUT_EFFECT: [&str; 33] = [
    "access-key-id",
    "api-ca-key",
    "api-email",
    "api-key",
    "bucket-name",
    "compression-quality",
    "dial-edge-timeout",
    "heartbeat-count",
    "heartbeat-interval",
    "host-key-path",
    "id",
    "is-autoupdated",
    "lb-pool",
    "local-ssh-port",
    "max-fetch-size",
    "proxy-connection-timeout",
    "proxy-dns",
    "proxy-dns-address",
    "proxy-dns-bootstrap",
    "proxy-dns-max-upstream-conns",
    "proxy-dns-port",
    "proxy-dns-upstream",
    "proxy-expect-continue-timeout",
    "region-name",
    "s3-url-host",
    "secret-id",
    "service-op-ip",
    "session-token",
    "ssh-idle-timeout",
    "ssh-max-timeout",
    "ssh-server",
    "ui",
    "use-reconnect-token",
];

/// The flags that cloudflared would report, as they are written.
pub(super) fn reported(table: &mut Table<'_>) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for name in REPORTED {
        if let Some(text) = table.take(name).and_then(|node| node.as_text()) {
            flags.insert(name.to_owned(), text.to_owned());
        }
    }
    flags
}

/// The flags that are valid, as they are written. Those without effect are warned about.
pub(super) fn others(table: &mut Table<'_>, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for (name, value) in KEPT {
        if let Some(text) = take_checked(table, name, value, findings) {
            kept.insert(name.to_owned(), text);
        }
    }
    for name in WITHOUT_EFFECT {
        if table.take(name).is_some() {
            findings.warning(table.key_span(name), format!("`{name}` has no effect")).help("remove it");
        }
    }
    kept
}

fn take_checked(
    table: &mut Table<'_>,
    name: &'static str,
    value: Value,
    findings: &mut Findings,
) -> Option<String> {
    let node = table.take(name)?;
    let text = node.as_text().map(str::to_owned);
    match value {
        Value::Text => yaml::text(node, findings).map(str::to_owned),
        Value::Number => yaml::integer(node, 0..=u64::MAX, findings).and(text),
        Value::Truth => yaml::boolean(node, findings).and(text),
        Value::Duration => yaml::duration(node, findings).and(text),
        Value::List => {
            let items = yaml::one_or_many(node).iter().filter_map(|item| yaml::text(item, findings));
            Some(items.collect::<Vec<_>>().join(","))
        }
    }
}
