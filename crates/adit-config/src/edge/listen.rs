//! Addresses to listen at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::diagnostic::Findings;
use crate::yaml::{self, Node, Span, Table};

/// Addresses to listen at. `[::]` takes IPv4 too, unless the same port is also asked for at an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// HTTPS for visitors. `[::]:443`.
    pub https: Vec<SocketAddr>,
    /// Plain HTTP for visitors; empty if it is off. `[::]:80`.
    pub http: Vec<SocketAddr>,
    /// Connectors, over UDP and TCP. `[::]:7844`.
    pub tunnel: Vec<SocketAddr>,
    /// Health, metrics and administration; `None` if it is off. `127.0.0.1:7845`.
    pub admin: Option<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            https: vec![everywhere(443)],
            http: vec![everywhere(80)],
            tunnel: vec![everywhere(7844)],
            admin: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7845)),
        }
    }
}

/// What a listener is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Https,
    Http,
    Tunnel,
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Tunnel => "tunnel",
            Self::Admin => "admin",
        }
    }

    fn may_be_off(self) -> bool {
        matches!(self, Self::Http | Self::Admin)
    }
}

/// An address, with where it stands; a default stands nowhere.
type Placed = (Role, SocketAddr, Option<Span>);

/// Reads `listen`; without it, the defaults.
pub(super) fn decode(node: Option<&Node>, findings: &mut Findings) -> Option<Listen> {
    let Some(node) = node else {
        return Some(Listen::default());
    };
    let mut table = Table::open(node, "`listen`", findings)?;
    let defaults = Listen::default();
    let mut placed: Vec<Placed> = Vec::new();
    let mut read = |role: Role, default: Vec<SocketAddr>| match table.take(role.name()) {
        Some(node) => placed.extend(role_addresses(role, node, findings)),
        None => placed.extend(default.into_iter().map(|address| (role, address, None))),
    };
    read(Role::Https, defaults.https);
    read(Role::Http, defaults.http);
    read(Role::Tunnel, defaults.tunnel);
    read(Role::Admin, defaults.admin.into_iter().collect());
    table.finish(findings);
    refuse_clashes(&placed, findings);
    Some(listen_of(&placed))
}

fn listen_of(placed: &[Placed]) -> Listen {
    let of = |wanted: Role| {
        let found = placed.iter().filter(move |(role, ..)| *role == wanted);
        found.map(|(_, address, _)| *address).collect::<Vec<_>>()
    };
    let admin = of(Role::Admin).first().copied();
    Listen { https: of(Role::Https), http: of(Role::Http), tunnel: of(Role::Tunnel), admin }
}

fn role_addresses(role: Role, node: &Node, findings: &mut Findings) -> Vec<Placed> {
    if matches!(node.as_text(), Some("off" | "none" | "false")) {
        if !role.may_be_off() {
            findings.error(node.span, format!("the {} listener cannot be off", role.name()));
        }
        return Vec::new();
    }
    let nodes = yaml::one_or_many(node);
    if role == Role::Admin && nodes.len() > 1 {
        findings.error(node.span, "the admin listener has one address");
    }
    if nodes.is_empty() {
        let help =
            if role.may_be_off() { "write `off` to have none" } else { "leave the key out for the default" };
        findings.error(node.span, format!("the {} listener has no address", role.name())).help(help);
    }
    nodes.iter().filter_map(|node| Some((role, address(node, findings)?, Some(node.span)))).collect()
}

pub(super) fn address(node: &Node, findings: &mut Findings) -> Option<SocketAddr> {
    let text = yaml::text(node, findings)?;
    let parsed = parse_address(text);
    if parsed.is_none() {
        let help = "write `:443`, `127.0.0.1:443` or `[::1]:443`";
        findings.error(node.span, format!("`{text}` is no address to listen at")).help(help);
    }
    parsed
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    match text.split_once(':') {
        None => port(text).map(everywhere),
        Some(("" | "*", number)) => port(number).map(everywhere),
        Some(("localhost", number)) => {
            port(number).map(|number| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), number))
        }
        Some(_) => None,
    }
}

/// `+443` is a number for Rust, but not for people.
fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

/// Port 0 is a free port each time, so it clashes with nothing.
fn refuse_clashes(placed: &[Placed], findings: &mut Findings) {
    for (index, second) in placed.iter().enumerate() {
        let same = |first: &&Placed| first.1 == second.1 && second.1.port() != 0;
        if let Some(first) = placed.iter().take(index).find(same) {
            report_clash(first, second, findings);
        }
    }
}

/// Points at the one that is in the file, and at the later one if both are.
fn report_clash(first: &Placed, second: &Placed, findings: &mut Findings) {
    let (here, other) = if second.2.is_some() { (second, first) } else { (first, second) };
    let message = format!("`{}` and `{}` both listen at {}", first.0.name(), second.0.name(), first.1);
    let help = match other.2 {
        Some(span) => format!("the other is in line {}", span.line),
        None => format!("the other is the default: give `{}` another address", other.0.name()),
    };
    findings.error(here.2.unwrap_or_default(), message).help(help);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_short_forms() {
        let cases = [
            (":443", Some("[::]:443")),
            ("443", Some("[::]:443")),
            ("*:443", Some("[::]:443")),
            ("0.0.0.0:443", Some("0.0.0.0:443")),
            ("[::]:443", Some("[::]:443")),
            ("127.0.0.1:0", Some("127.0.0.1:0")),
            ("localhost:7845", Some("127.0.0.1:7845")),
            ("::1:443", None),
            ("example.com:443", None),
            ("65536", None),
            (":+1", None),
            ("", None),
            (":", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_address(text).map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }
}
