//! Settings of the way to an origin (cloudflared: `ingress/config.go`).

use std::path::PathBuf;
use std::time::Duration;

macro_rules! origin_request {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr,)*) => {
        /// The settings in force for a rule.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct OriginRequest {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for OriginRequest {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// The settings that a file names; the rest is inherited.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct OriginRequestPatch {
            $($(#[$doc])* pub $name: Option<$type>,)*
        }

        impl OriginRequest {
            /// These settings with the named ones replaced.
            #[must_use]
            pub fn patched(&self, patch: &OriginRequestPatch) -> Self {
                Self { $($name: patch.$name.clone().unwrap_or_else(|| self.$name.clone()),)* }
            }
        }
    };
}

origin_request! {
    /// Time to connect.
    connect_timeout: Duration = Duration::from_secs(30),
    /// Time for the TLS handshake.
    tls_timeout: Duration = Duration::from_secs(10),
    /// Pause between TCP keep-alive probes.
    tcp_keep_alive: Duration = Duration::from_secs(30),
    /// Do not try both address families at once.
    no_happy_eyeballs: bool = false,
    /// Idle connections kept per origin.
    keep_alive_connections: usize = 100,
    /// How long an idle connection is kept.
    keep_alive_timeout: Duration = Duration::from_secs(90),
    /// Host field to send instead of the visitor's.
    http_host_header: Option<String> = None,
    /// Name that the origin's certificate must have.
    origin_server_name: Option<String> = None,
    /// Send the visitor's host as SNI.
    match_sni_to_host: bool = false,
    /// PEM file of authorities to trust in addition.
    ca_pool: Option<PathBuf> = None,
    /// Do not check the origin's certificate.
    no_tls_verify: bool = false,
    /// Send no chunked bodies.
    disable_chunked_encoding: bool = false,
    /// Speak HTTP/2 to the origin.
    http2_origin: bool = false,
    /// Let the client choose the destination.
    bastion_mode: bool = false,
    /// Address of the SOCKS proxy.
    proxy_address: String = "127.0.0.1".to_owned(),
    /// Port of the SOCKS proxy.
    proxy_port: u16 = 0,
    /// Type of the proxy: empty or `socks`.
    proxy_type: String = String::new(),
}
