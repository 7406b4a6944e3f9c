//! What a connector tells its edge once it is registered (`updateLocalConfiguration`), as cloudflared writes it: the
//! settings of all rules are folded into each rule, and only those that differ from the defaults are there.

use std::collections::BTreeMap;
use std::time::Duration;

use adit_policy::ingress::{
    Access, HealthCheck, Ingress, IpRule, OriginRequest, ProxyProtocol, ProxyType, Rule, RuleHost,
    WarpRouting,
};
use adit_wire::configuration::{Configuration, IngressRule};
use serde_json::{Map, Value, json};

use super::ConnectorFile;

/// The configuration of a file. `flags` from elsewhere come on top of those of the file.
#[must_use]
pub fn local_configuration(file: &ConnectorFile, flags: &BTreeMap<String, String>) -> Configuration {
    let mut all = file.reported_flags.clone();
    all.extend(flags.clone());
    configuration(&file.ingress_or_single(), &all)
}

/// The configuration of rules that need not come from a file.
#[must_use]
pub fn configuration(ingress: &Ingress, flags: &BTreeMap<String, String>) -> Configuration {
    Configuration {
        flags: flags.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
        ingress: ingress.rules.iter().map(rule).collect(),
        origin_request: Map::new(),
        warp_routing: warp(&ingress.warp),
    }
}

fn rule(rule: &Rule) -> IngressRule {
    IngressRule {
        hostname: rule.hostname.as_ref().map(RuleHost::text).map(str::to_owned),
        path: rule.path.as_ref().map(|path| path.as_str().to_owned()),
        service: rule.service.to_string(),
        services: if rule.more.is_empty() {
            Vec::new()
        } else {
            rule.services().map(ToString::to_string).collect()
        },
        origin_request: origin(&rule.origin),
        edge: rule.edge.as_ref().and_then(|word| serde_json::from_str(&word.json).ok()),
    }
}

fn warp(warp: &WarpRouting) -> Map<String, Value> {
    let usual = WarpRouting::default();
    let mut members = Members::default();
    members.time("connectTimeout", warp.connect_timeout, usual.connect_timeout);
    members.put("maxActiveFlows", warp.max_active_flows, usual.max_active_flows);
    members.time("tcpKeepAlive", warp.tcp_keep_alive, usual.tcp_keep_alive);
    members.given("ipRules", ip_rules(&warp.ip_rules));
    members.0
}

fn origin(origin: &OriginRequest) -> Map<String, Value> {
    let usual = OriginRequest::default();
    let mut members = Members::default();
    members.time("connectTimeout", origin.connect_timeout, usual.connect_timeout);
    members.time("tlsTimeout", origin.tls_timeout, usual.tls_timeout);
    members.time("tcpKeepAlive", origin.tcp_keep_alive, usual.tcp_keep_alive);
    members.put("noHappyEyeballs", origin.no_happy_eyeballs, false);
    members.put("keepAliveConnections", origin.keep_alive_connections, usual.keep_alive_connections);
    members.time("keepAliveTimeout", origin.keep_alive_timeout, usual.keep_alive_timeout);
    members.given("httpHostHeader", origin.http_host_header.clone());
    members.given("originServerName", origin.origin_server_name.clone());
    members.put("matchSNItoHost", origin.match_sni_to_host, false);
    members.given("caPool", origin.ca_pool.as_ref().map(|path| path.display().to_string()));
    members.put("noTLSVerify", origin.no_tls_verify, false);
    members.put("disableChunkedEncoding", origin.disable_chunked_encoding, false);
    members.put("bastionMode", origin.bastion_mode, false);
    members.put("proxyAddress", origin.proxy_address.clone(), usual.proxy_address);
    members.put("proxyPort", origin.proxy_port, 0);
    members
        .given("proxyType", (origin.proxy_type == ProxyType::Socks).then(|| origin.proxy_type.to_string()));
    members.given("ipRules", ip_rules(&origin.ip_rules));
    members.put("http2Origin", origin.http2_origin, false);
    members.put("proxyProtocol", origin.proxy_protocol.to_string(), ProxyProtocol::Off.to_string());
    members.time("idleTimeout", origin.idle_timeout, usual.idle_timeout);
    members.put("balance", origin.balance.to_string(), usual.balance.to_string());
    members.given("healthCheck", origin.health_check.as_ref().map(health_check));
    members.given("access", origin.access.as_ref().filter(|access| access.required).map(access));
    members.0
}

fn ip_rules(rules: &[IpRule]) -> Option<Value> {
    let one = |rule: &IpRule| json!({ "prefix": rule.prefix.to_string(), "ports": rule.ports, "allow": rule.allow });
    (!rules.is_empty()).then(|| rules.iter().map(one).collect())
}

fn access(access: &Access) -> Value {
    let mut members = Members::default();
    members.put("required", access.required, false);
    members.given("teamName", Some(access.team_name.clone()));
    members.given("audTag", Some(access.aud_tag.clone()));
    members.put("environment", access.environment.clone(), String::new());
    members.given("issuer", access.issuer.clone());
    members.given("keysUrl", access.keys_url.clone());
    members.given("header", access.header.clone());
    members.0.into()
}

fn health_check(check: &HealthCheck) -> Value {
    let usual = HealthCheck::default();
    let mut members = Members::default();
    members.given("path", check.path.clone());
    members.time("interval", check.interval, usual.interval);
    members.time("timeout", check.timeout, usual.timeout);
    members.put("fall", check.fall, usual.fall);
    members.put("rise", check.rise, usual.rise);
    members.0.into()
}

/// An object in the making.
#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn given(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    fn put<T: PartialEq + Into<Value>>(&mut self, name: &str, value: T, usual: T) {
        self.given(name, (value != usual).then_some(value));
    }

    /// Whole seconds as a whole number; cloudflared sends a fraction for the rest, and so do we.
    fn time(&mut self, name: &str, value: Duration, usual: Duration) {
        let seconds: Value = match value.subsec_nanos() {
            0 => value.as_secs().into(),
            _ => value.as_secs_f64().into(),
        };
        self.given(name, (value != usual).then_some(seconds));
    }
}
