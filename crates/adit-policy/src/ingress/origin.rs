//! How to talk to an origin: `originRequest` in cloudflared's configuration, with its defaults.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::{Access, Balance, Ceiling, HealthCheck, dialled};

/// Settings of the requests to one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRequest {
    /// Time to connect, TLS not counted. 30 s.
    pub connect_timeout: Duration,
    /// Time for the TLS handshake. 10 s.
    pub tls_timeout: Duration,
    /// Interval of TCP keep-alive probes. 30 s.
    pub tcp_keep_alive: Duration,
    /// Do not try IPv4 and IPv6 side by side.
    pub no_happy_eyeballs: bool,
    /// Idle connections that are kept. 100.
    pub keep_alive_connections: usize,
    /// Time that an idle connection is kept. 90 s.
    pub keep_alive_timeout: Duration,
    /// Host header for the origin, in place of the visitor's.
    pub http_host_header: Option<String>,
    /// Name that the origin's certificate must have.
    pub origin_server_name: Option<String>,
    /// Take that name from the Host header.
    pub match_sni_to_host: bool,
    /// File of certificate authorities that the origin's certificate may come from.
    pub ca_pool: Option<PathBuf>,
    /// What the connector ends TLS with, where the edge passes it through. `None`: the service ends it. Ours.
    pub tls_end: Option<TlsEnd>,
    /// Accept any certificate of the origin.
    pub no_tls_verify: bool,
    /// Send no chunked bodies.
    pub disable_chunked_encoding: bool,
    /// Connect to where the request says.
    pub bastion_mode: bool,
    /// Listen address of the proxy. `127.0.0.1`.
    pub proxy_address: String,
    /// Listen port of the proxy. 0.
    pub proxy_port: u16,
    /// Kind of the proxy.
    pub proxy_type: ProxyType,
    /// Where the SOCKS proxy may connect to; the first match wins, without one the answer is no.
    pub ip_rules: Vec<IpRule>,
    /// Speak HTTP/2 to the origin.
    pub http2_origin: bool,
    /// Tell a TCP service whose connection it is; ours.
    pub proxy_protocol: ProxyProtocol,
    /// Silence in both directions after which a stream is ended; zero for never; ours.
    pub idle_timeout: Duration,
    /// How requests are spread over several origins; ours.
    pub balance: Balance,
    /// Regular checks of several origins; ours.
    pub health_check: Option<HealthCheck>,
    /// Check of the visitor's token at the connector.
    pub access: Option<Access>,
    /// What the rule may reach, where it is not the connector's own.
    pub ceiling: Option<Arc<Ceiling>>,
}

/// Settings that may be given; what is `None` comes from the level above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the field of the same name in OriginRequest")]
pub struct OriginRequestPatch {
    pub connect_timeout: Option<Duration>,
    pub tls_timeout: Option<Duration>,
    pub tcp_keep_alive: Option<Duration>,
    pub no_happy_eyeballs: Option<bool>,
    pub keep_alive_connections: Option<usize>,
    pub keep_alive_timeout: Option<Duration>,
    /// The empty text takes the setting of the level above away. So it does below.
    pub http_host_header: Option<String>,
    pub origin_server_name: Option<String>,
    pub match_sni_to_host: Option<bool>,
    pub ca_pool: Option<PathBuf>,
    /// See [`OriginRequest::tls_end`].
    pub tls_end: Option<TlsEnd>,
    pub no_tls_verify: Option<bool>,
    pub disable_chunked_encoding: Option<bool>,
    pub bastion_mode: Option<bool>,
    pub proxy_address: Option<String>,
    pub proxy_port: Option<u16>,
    pub proxy_type: Option<ProxyType>,
    /// The empty list counts as not given, as in cloudflared.
    pub ip_rules: Option<Vec<IpRule>>,
    pub http2_origin: Option<bool>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub idle_timeout: Option<Duration>,
    pub balance: Option<Balance>,
    pub health_check: Option<HealthCheck>,
    pub access: Option<Access>,
}

/// Kind of the proxy that a TCP service offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyType {
    /// Plain bytes.
    #[default]
    Plain,
    /// SOCKS5.
    Socks,
}

/// What the connector ends TLS with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsEnd {
    /// A certificate from files.
    Files {
        /// Chain in PEM.
        certificate: PathBuf,
        /// Key in PEM.
        key: PathBuf,
    },
    /// One that comes by itself.
    Acme,
}

/// How a TCP service is told whose connection it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// Not at all.
    #[default]
    Off,
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// One line of the SOCKS proxy's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpRule {
    /// The addresses.
    pub prefix: IpPrefix,
    /// The ports; empty for all.
    pub ports: Vec<u16>,
    /// The answer.
    pub allow: bool,
}

/// A network, such as `192.168.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPrefix {
    address: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network in CIDR form, such as `192.168.0.0/16` or `2001:db8::/32`")]
pub struct IpPrefixError;

impl Default for OriginRequest {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(10),
            tcp_keep_alive: Duration::from_secs(30),
            no_happy_eyeballs: false,
            keep_alive_connections: 100,
            keep_alive_timeout: Duration::from_secs(90),
            http_host_header: None,
            origin_server_name: None,
            match_sni_to_host: false,
            ca_pool: None,
            tls_end: None,
            no_tls_verify: false,
            disable_chunked_encoding: false,
            bastion_mode: false,
            proxy_address: "127.0.0.1".to_owned(),
            proxy_port: 0,
            proxy_type: ProxyType::Plain,
            ip_rules: Vec::new(),
            http2_origin: false,
            proxy_protocol: ProxyProtocol::Off,
            idle_timeout: Duration::ZERO,
            balance: Balance::RoundRobin,
            health_check: None,
            access: None,
            ceiling: None,
        }
    }
}

impl OriginRequestPatch {
    /// `base` with the given settings on top.
    #[must_use]
    pub fn apply(&self, base: &OriginRequest) -> OriginRequest {
        let given_rules = self.ip_rules.as_ref().filter(|rules| !rules.is_empty());
        OriginRequest {
            connect_timeout: self.connect_timeout.unwrap_or(base.connect_timeout),
            tls_timeout: self.tls_timeout.unwrap_or(base.tls_timeout),
            tcp_keep_alive: self.tcp_keep_alive.unwrap_or(base.tcp_keep_alive),
            no_happy_eyeballs: self.no_happy_eyeballs.unwrap_or(base.no_happy_eyeballs),
            keep_alive_connections: self.keep_alive_connections.unwrap_or(base.keep_alive_connections),
            keep_alive_timeout: self.keep_alive_timeout.unwrap_or(base.keep_alive_timeout),
            http_host_header: text(&self.http_host_header, &base.http_host_header),
            origin_server_name: text(&self.origin_server_name, &base.origin_server_name),
            match_sni_to_host: self.match_sni_to_host.unwrap_or(base.match_sni_to_host),
            ca_pool: self.ca_pool.as_ref().or(base.ca_pool.as_ref()).filter(|path| !is_blank(path)).cloned(),
            tls_end: self.tls_end.as_ref().or(base.tls_end.as_ref()).cloned(),
            no_tls_verify: self.no_tls_verify.unwrap_or(base.no_tls_verify),
            disable_chunked_encoding: self.disable_chunked_encoding.unwrap_or(base.disable_chunked_encoding),
            bastion_mode: self.bastion_mode.unwrap_or(base.bastion_mode),
            proxy_address: self.proxy_address.as_ref().unwrap_or(&base.proxy_address).clone(),
            proxy_port: self.proxy_port.unwrap_or(base.proxy_port),
            proxy_type: self.proxy_type.unwrap_or(base.proxy_type),
            ip_rules: given_rules.unwrap_or(&base.ip_rules).clone(),
            http2_origin: self.http2_origin.unwrap_or(base.http2_origin),
            proxy_protocol: self.proxy_protocol.unwrap_or(base.proxy_protocol),
            idle_timeout: self.idle_timeout.unwrap_or(base.idle_timeout),
            balance: self.balance.unwrap_or(base.balance),
            health_check: self.health_check.as_ref().or(base.health_check.as_ref()).cloned(),
            access: self.access.as_ref().or(base.access.as_ref()).cloned(),
            ceiling: base.ceiling.clone(),
        }
    }
}

impl OriginRequest {
    /// Whether a bastion or a SOCKS client may go there. Without a rule that matches, the answer is no.
    #[must_use]
    pub fn allows(&self, to: SocketAddr) -> bool {
        dialled::allows(&self.ip_rules, to.ip(), to.port())
            && self.ceiling.as_ref().is_none_or(|ceiling| ceiling.admits_flow(to))
    }

    /// Whether a connection may be made to this address, whatever name led there.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        self.ceiling.as_ref().is_none_or(|ceiling| ceiling.admits(address))
    }
}

impl IpPrefix {
    /// Whether the address lies in the network. An IPv4 address in IPv6 clothes counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, own_width) = as_bits(self.address);
        let (other, width) = as_bits(address.to_canonical());
        let shift = u32::from(own_width).saturating_sub(u32::from(self.bits));
        own_width == width && own.checked_shr(shift) == other.checked_shr(shift)
    }

    /// The first and the last address.
    #[must_use]
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        let (first, width) = as_bits(self.address);
        let hosts = u128::MAX.checked_shr(u32::from(128 - (width - self.bits))).unwrap_or_default();
        (self.address, from_bits(first | hosts, width))
    }
}

impl From<IpAddr> for IpPrefix {
    /// That address alone.
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, bits: as_bits(address).1 }
    }
}

impl FromStr for IpPrefix {
    type Err = IpPrefixError;

    fn from_str(text: &str) -> Result<Self, IpPrefixError> {
        let (address, bits) = text.split_once('/').ok_or(IpPrefixError)?;
        let address: IpAddr = address.parse().map_err(|_| IpPrefixError)?;
        let bits: u8 = bits.parse().map_err(|_| IpPrefixError)?;
        let (value, width) = as_bits(address);
        if bits > width {
            return Err(IpPrefixError);
        }
        // `::ffff:10.0.0.0/104` is 10.0.0.0/8.
        if let (IpAddr::V4(v4), IpAddr::V6(_), 96..) = (address.to_canonical(), address, bits) {
            let bits = bits - 96;
            let value = network(u128::from(v4.to_bits()), 32 - bits);
            return Ok(Self { address: from_bits(value, 32), bits });
        }
        Ok(Self { address: from_bits(network(value, width - bits), width), bits })
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl fmt::Display for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

impl fmt::Display for ProxyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "",
            Self::Socks => "socks",
        })
    }
}

fn text(given: &Option<String>, base: &Option<String>) -> Option<String> {
    given.as_ref().or(base.as_ref()).filter(|text| !text.is_empty()).cloned()
}

fn is_blank(path: &std::path::Path) -> bool {
    path.as_os_str().is_empty()
}

fn as_bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn from_bits(bits: u128, width: u8) -> IpAddr {
    match u32::try_from(bits) {
        Ok(v4) if width == 32 => IpAddr::V4(v4.into()),
        _ => IpAddr::V6(bits.into()),
    }
}

/// The address with the last `host_bits` cleared.
fn network(bits: u128, host_bits: u8) -> u128 {
    let shift = u32::from(host_bits);
    bits.checked_shr(shift).and_then(|bits| bits.checked_shl(shift)).unwrap_or_default()
}
