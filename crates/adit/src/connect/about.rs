//! What the local endpoints tell of the rules and of the machine.

use std::collections::BTreeMap;
use std::fs;

use adit_config::connector::local_json;
use adit_policy::ingress::Ingress;
use serde_json::{Value, json};

use crate::VERSION;

/// The rules in the shape of a configuration.
pub(super) fn describe(ingress: &Ingress) -> Value {
    let configuration = local_json::configuration(ingress, &BTreeMap::new());
    let mut value = serde_json::to_value(&configuration).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.insert("originRequest".to_owned(), json!({}));
    }
    value
}

/// The machine, as far as the system says it (cloudflared: `diagnostic/system_collector.go`).
pub(super) fn system() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let memory = read("/proc/meminfo");
    let (total, available) = (kilobytes(&memory, "MemTotal:"), kilobytes(&memory, "MemAvailable:"));
    let open_files = fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default();
    json!({ "info": {
        "memoryMaximum": total,
        "memoryCurrent": total.saturating_sub(available),
        "fileDescriptorCurrent": open_files,
        "osSystem": std::env::consts::OS,
        "hostName": read("/proc/sys/kernel/hostname"),
        "osVersion": read("/proc/sys/kernel/version"),
        "osRelease": read("/proc/sys/kernel/osrelease"),
        "architecture": std::env::consts::ARCH,
        "cloudflaredVersion": format!("adit {VERSION}"),
    } })
}

/// A line of `/proc/meminfo`.
fn kilobytes(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
