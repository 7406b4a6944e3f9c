//! The one service of a connector without rules: `url` and its relatives.

use adit_policy::ingress::{OriginRequestPatch, ProxyType, Service};

use crate::diagnostic::Findings;
use crate::yaml::{self, Node, Table};

/// Keys that name the one service, the strongest first.
const SERVICE_KEYS: [&str; 4] = ["hello-world", "bastion", "url", "unix-socket"];

/// Schemes that `url` can have.
const URL_SCHEMES: [&str; 6] = ["http", "https", "rdp", "ssh", "smb", "tcp"];

/// Reads the one service. Beside rules it has no effect.
pub(super) fn decode(table: &mut Table<'_>, has_rules: bool, findings: &mut Findings) -> Option<Service> {
    let mut strongest = None;
    for key in SERVICE_KEYS {
        let Some(node) = table.take(key) else {
            continue;
        };
        if has_rules {
            let message = format!("`{key}` has no effect beside `ingress`");
            findings.warning(table.key_span(key), message).help("add it as a rule, or remove it");
        }
        let service = service_of(key, node, findings);
        strongest = strongest.or(service);
    }
    strongest
}

/// Reads the settings of the one service.
pub(super) fn decode_origin(table: &mut Table<'_>, findings: &mut Findings) -> OriginRequestPatch {
    let mut duration = |key| table.take(key).and_then(|node| yaml::duration(node, findings));
    let mut patch = OriginRequestPatch {
        connect_timeout: duration("proxy-connect-timeout"),
        tls_timeout: duration("proxy-tls-timeout"),
        tcp_keep_alive: duration("proxy-tcp-keepalive"),
        keep_alive_timeout: duration("proxy-keepalive-timeout"),
        ..OriginRequestPatch::default()
    };
    let mut truth = |key| table.take(key).and_then(|node| yaml::boolean(node, findings));
    patch.no_happy_eyeballs = truth("proxy-no-happy-eyeballs");
    patch.match_sni_to_host = truth("match-sni-to-host");
    patch.no_tls_verify = truth("no-tls-verify");
    patch.disable_chunked_encoding = truth("no-chunked-encoding");
    patch.http2_origin = truth("http2-origin");
    patch.proxy_type = truth("socks5").map(|socks| if socks { ProxyType::Socks } else { ProxyType::Plain });
    let mut text = |key| yaml::optional_text(table.take(key), findings);
    patch.http_host_header = text("http-host-header");
    patch.origin_server_name = text("origin-server-name");
    patch.proxy_address = text("proxy-address");
    patch.ca_pool = text("origin-ca-pool").map(Into::into);
    let connections = table.take("proxy-keepalive-connections");
    patch.keep_alive_connections = connections.and_then(|node| yaml::integer(node, 0..=1_000_000, findings));
    let port = table.take("proxy-port");
    patch.proxy_port = port.and_then(|node| yaml::integer(node, 0..=u16::MAX, findings));
    patch
}

/// The service of a `url` flag: `http://` may be left out, a path is dropped.
///
/// # Errors
/// What is wrong with the text.
pub fn service_of_url(text: &str) -> Result<Service, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    if !URL_SCHEMES.contains(&scheme) {
        return Err(format!("`{scheme}` is no scheme for `url`: use one of {}", URL_SCHEMES.join(", ")));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Service::parse(&format!("{scheme}://{authority}")).map_err(|error| error.to_string())
}

fn service_of(key: &str, node: &Node, findings: &mut Findings) -> Option<Service> {
    match key {
        "hello-world" => yaml::boolean(node, findings).and_then(|on| on.then_some(Service::HelloWorld)),
        "bastion" => yaml::boolean(node, findings).and_then(|on| on.then_some(Service::Bastion)),
        "unix-socket" => {
            yaml::path_text(node, findings).map(|path| Service::Unix { path: path.into(), tls: false })
        }
        _ => {
            let service = service_of_url(yaml::text(node, findings)?);
            if let Err(message) = &service {
                findings.error(node.span, message);
            }
            service.ok()
        }
    }
}
