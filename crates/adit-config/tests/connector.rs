//! The connector's file: what its keys mean, and what is told to the edge and taken from it.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use adit_config::connector::{ConnectorFile, EdgeIpVersion, Protocol, remote};
use adit_policy::ingress::Service;
use adit_wire::configuration::Configuration;
use serde_json::{Value, json};

fn read(text: &str) -> ConnectorFile {
    ConnectorFile::parse(text, Path::new("config.yml")).unwrap().0
}

fn accepted(name: &str) -> ConnectorFile {
    ConnectorFile::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accepted").join(name)).unwrap().0
}

fn told(file: &ConnectorFile, flags: &[(&str, &str)]) -> Value {
    let flags: BTreeMap<String, String> =
        flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    serde_json::from_slice(&file.local_configuration(&flags).to_json()).unwrap()
}

#[test]
fn every_setting_has_its_meaning() {
    let file = accepted("config-full.yml");
    assert_eq!(file.edge, ["edge.example:7844", "[2001:db8::1]:443"]);
    assert_eq!(file.protocol, Some(Protocol::Quic));
    assert_eq!(file.ha_connections, Some(2));
    assert_eq!(file.grace_period, Some(Duration::from_secs(90)));
    assert_eq!(file.edge_ip_version, Some(EdgeIpVersion::V4));
    assert_eq!(file.tags, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
    assert_eq!(file.origin_request.tls_timeout, Duration::from_millis(500));
    assert_eq!(file.reported_flags["no-autoupdate"], "true");
    assert_eq!(file.other["features"], "postquantum");
    let rules = &file.ingress.unwrap().rules;
    assert_eq!(rules.len(), 16);
    assert_eq!(rules[12].hostname.as_ref().unwrap().text(), "123");
    assert_eq!(rules[13].origin.connect_timeout, Duration::from_secs(7));
    assert_eq!(rules[13].origin.http_host_header.as_deref(), Some("internal"));
    assert_eq!(rules[15].origin.connect_timeout, Duration::from_secs(3));
}

#[test]
fn a_file_without_rules_has_one_service_or_none() {
    let file = accepted("config-url.yml");
    let ingress = file.ingress_or_single();
    assert_eq!(ingress.rules[0].service.to_string(), "http://localhost:8080");
    assert!(ingress.rules[0].origin.no_tls_verify);
    assert_eq!(ingress.rules[0].origin.connect_timeout, Duration::from_secs(3));
    assert_eq!(read("tunnel: x").ingress_or_single().rules[0].service, Service::Status(503));
    let strongest = read("url: http://a\nhello-world: true\nbastion: false\nunix-socket: /s\n");
    assert_eq!(strongest.single, Some(Service::HelloWorld));
    assert_eq!(read("url: ssh://a\nunix-socket: /s\n").single.unwrap().to_string(), "ssh://a:22");
}

#[test]
fn in_bastion_mode_every_address_leads_to_the_bastion() {
    let file = read(
        "originRequest: { bastionMode: true }\n\
         ingress:\n  - { hostname: a.example, service: 'http://a' }\n  - { hostname: b.example }\n  - service: http_status:404\n",
    );
    let services: Vec<String> =
        file.ingress.unwrap().rules.iter().map(|rule| rule.service.to_string()).collect();
    assert_eq!(services, ["bastion", "bastion", "http_status:404"]);
}

#[test]
fn the_edge_is_told_what_cloudflared_tells() {
    let file = read(
        "protocol: quic\nretries: 7\nno-autoupdate: true\ngrace-period: 5s\n\
         originRequest: { connectTimeout: 3s, keepAliveTimeout: 1500ms }\n\
         warp-routing: { maxActiveFlows: 5 }\n\
         ingress:\n\
         - { hostname: a.example, path: ^/x, service: 'http://localhost:1', originRequest: { connectTimeout: 30s, noTLSVerify: true, ipRules: [{ prefix: 10.1.0.0/8, allow: true }] } }\n\
         - { hostname: bücher.example, service: 'ssh://h' }\n\
         - { service: http_status:404, originRequest: { access: { required: true, teamName: t, audTag: [x] } } }\n",
    );
    let expected = json!({
        "__configuration_flags": { "loglevel": "debug", "no-autoupdate": "true", "protocol": "http2", "retries": "7" },
        "ingress": [
            {
                "hostname": "a.example", "path": "^/x", "service": "http://localhost:1",
                "originRequest": {
                    "keepAliveTimeout": 1.5, "noTLSVerify": true,
                    "ipRules": [{ "prefix": "10.0.0.0/8", "ports": [], "allow": true }],
                },
            },
            { "hostname": "bücher.example", "service": "ssh://h:22", "originRequest": { "connectTimeout": 3, "keepAliveTimeout": 1.5 } },
            {
                "service": "http_status:404",
                "originRequest": {
                    "connectTimeout": 3, "keepAliveTimeout": 1.5,
                    "access": { "required": true, "teamName": "t", "audTag": ["x"] },
                },
            },
        ],
        "warp-routing": { "maxActiveFlows": 5 },
    });
    assert_eq!(told(&file, &[("protocol", "http2"), ("loglevel", "debug")]), expected);
}

#[test]
fn the_edge_is_told_little_when_there_is_little() {
    let expected =
        json!({ "ingress": [{ "service": "http_status:503", "originRequest": {} }], "warp-routing": {} });
    assert_eq!(told(&read("tunnel: x"), &[]), expected);
}

fn pushed(json: &Value) -> Result<Vec<String>, String> {
    let configuration =
        Configuration::from_json(json.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let ingress = remote::ingress(&configuration)?;
    Ok(ingress
        .rules
        .iter()
        .map(|rule| format!("{} {:?}", rule.service, rule.origin.connect_timeout))
        .collect())
}

#[test]
fn a_pushed_configuration_has_durations_in_seconds() {
    let json = json!({
        "ingress": [
            { "hostname": "a.example", "service": "http://localhost:1", "originRequest": { "connectTimeout": 3, "new": 1 } },
            { "service": "http_status:404" },
        ],
        "originRequest": { "connectTimeout": 5 },
        "warp-routing": { "connectTimeout": 5, "maxActiveFlows": 0, "tcpKeepAlive": 30, "other": true },
    });
    assert_eq!(pushed(&json).unwrap(), ["http://localhost:1 3s", "http_status:404 5s"]);
    assert_eq!(pushed(&json!({ "ingress": [] })).unwrap(), ["http_status:503 30s"]);
}

#[test]
fn a_bad_push_says_everything_in_one_line() {
    let json = json!({
        "ingress": [
            { "hostname": "a.*.b", "service": "localhost", "originRequest": { "connectTimeout": 1.5, "tlsTimeout": "3s" } },
            { "hostname": "last.example", "service": "http_status:404" },
        ],
    });
    let error = pushed(&json).unwrap_err();
    for part in ["found `1.5`", "found `3s`", "`a.*.b`", "needs a scheme", "last ingress rule must match"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains('\n'));
}
