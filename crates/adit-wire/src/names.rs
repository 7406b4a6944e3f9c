//! Every fixed name of the protocol: hosts, header fields, metadata keys.

/// Name that the edge's certificate must cover for QUIC.
pub const HOST_QUIC: &str = "quic.cftunnel.com";

/// Name that the edge's certificate must cover for HTTP/2.
pub const HOST_H2: &str = "h2.cftunnel.com";

/// Name of the connector's pre-check, which closes after the handshake.
pub const HOST_PROBE: &str = "probe.cftunnel.com";

/// The connector's own management host. It answers without checking who asks, so the edge never routes it.
pub const HOST_MANAGEMENT: &str = "management.argotunnel.com";

/// Metadata: the request method.
pub const META_METHOD: &str = "HttpMethod";

/// Metadata: the host that rules match.
pub const META_HOST: &str = "HttpHost";

/// Metadata: the response status.
pub const META_STATUS: &str = "HttpStatus";

/// Metadata: prefix of a header field.
pub const META_HEADER: &str = "HttpHeader";

/// Metadata: the connector has too many flows.
pub const META_FLOW_LIMIT: &str = "FlowConnectRateLimited";

/// Metadata of ours: the body is framed (see [`crate::frame`]).
pub const META_FRAMING: &str = "AditFraming";

/// HTTP/2 request field that says what a request is for.
pub const UPGRADE_HEADER: &str = "cf-cloudflared-proxy-connection-upgrade";

/// Its value for the control stream.
pub const UPGRADE_CONTROL_STREAM: &str = "control-stream";

/// Its value for a WebSocket.
pub const UPGRADE_WEBSOCKET: &str = "websocket";

/// Its value for a pushed configuration.
pub const UPGRADE_CONFIGURATION: &str = "update-configuration";

/// Its value for the stream of window updates. Ours; only sent to a connector that announces `adit_windows`.
pub const UPGRADE_WINDOWS: &str = "adit-windows";

/// HTTP/2 request field that asks for raw TCP.
pub const TCP_PROXY_SRC: &str = "cf-cloudflared-proxy-src";

/// HTTP/2 response field with the origin's header, packed.
pub const RESPONSE_HEADERS: &str = "cf-cloudflared-response-headers";

/// HTTP/2 response field that says who answers.
pub const RESPONSE_META: &str = "cf-cloudflared-response-meta";

/// Request field of a WebSocket whose bytes are TLS that the edge does not end. Ours; cloudflared passes it on.
pub const PASSTHROUGH: &str = "cf-cloudflared-adit-passthrough";

/// Response field of an error that our connector answers by itself, with no body: the edge has pages for it. Ours.
pub const OWN_ANSWER: &str = "cf-cloudflared-adit-own";

/// Response field of an answer that our connector gave behind a check of a token: it is for nobody else. Ours.
pub const GATED: &str = "cf-cloudflared-adit-gated";

/// Where a client of a `bastion` service wants to go. The one control field that comes from visitors: the service asks
/// for it (cloudflared: `carrier/carrier.go`).
pub const JUMP_DESTINATION: &str = "cf-access-jump-destination";

/// Whether a response field is the tunnel's own and must not reach the visitor.
#[must_use]
pub fn is_internal_response_header(name: &[u8]) -> bool {
    matches!(name, [b'c' | b'C', b'f' | b'F', b'-', ..])
        && ["cf-cloudflared-", "cf-int-", "cf-proxy-"].iter().any(|prefix| starts_with_folded(name, prefix))
}

fn starts_with_folded(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| folded_eq(start, prefix))
}

fn folded_eq(name: &[u8], expected: &str) -> bool {
    name.len() == expected.len()
        && name.iter().zip(expected.bytes()).all(|(byte, expected)| {
            let byte = if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
            byte == expected
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_response_headers_are_dropped() {
        assert!(is_internal_response_header(b"Cf-Int-Cloudflared-Tracing"));
        assert!(is_internal_response_header(b"cf-cloudflared-response-meta"));
        assert!(!is_internal_response_header(b"Cf-Cache-Status"));
    }
}
