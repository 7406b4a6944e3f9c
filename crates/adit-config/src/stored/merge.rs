//! The tunnels of the file and the stored ones, as one whole.

use std::collections::HashMap;
use std::path::PathBuf;

use adit_policy::host::HostPattern;
use adit_policy::snapshot::{Snapshot, Tunnel, TunnelId};

use super::StoredTunnel;
use crate::diagnostic::{Diagnostic, Report, Severity};
use crate::edge::{EdgeFile, PortEntry, TunnelAddition};
use crate::yaml::Span;

/// Brings both together.
///
/// # Errors
/// A report of every clash: the same name, id or exact host name in two places.
pub fn merge(edge: &EdgeFile, stored: Vec<StoredTunnel>) -> Result<Snapshot, Report> {
    let mut claims = Claimed { edge, places: HashMap::new(), clashes: Vec::new() };
    for tunnel in &edge.tunnels {
        claims.add(Thing::Name(&tunnel.name), &tunnel.name, Place::File(tunnel.span));
        claims.add(Thing::Id(tunnel.id), &tunnel.name, Place::File(tunnel.id_span));
        for (pattern, span) in &tunnel.hostnames {
            claims.add_pattern(pattern, &tunnel.name, Place::File(*span));
        }
    }
    for (index, tunnel) in stored.iter().enumerate() {
        let place = || Place::Stored(index, StoredTunnel::path(&edge.data_dir, &tunnel.name));
        claims.add(Thing::Name(&tunnel.name), &tunnel.name, place());
        claims.add(Thing::Id(tunnel.id), &tunnel.name, place());
        for pattern in &tunnel.hostnames {
            claims.add_pattern(pattern, &tunnel.name, place());
        }
    }
    for addition in &edge.additions {
        for (pattern, span) in &addition.hostnames {
            claims.add_pattern(pattern, &addition.name, Place::File(*span));
        }
    }
    if !claims.clashes.is_empty() {
        return Err(Report(claims.clashes));
    }
    let of_file = edge.tunnels.iter().map(crate::edge::TunnelEntry::tunnel);
    let of_commands = stored.iter().map(|tunnel| added(edge, tunnel));
    let tunnels = of_file.chain(of_commands).collect();
    Ok(edge.snapshot_of(tunnels))
}

/// A stored tunnel with what the file adds to it.
fn added(edge: &EdgeFile, stored: &StoredTunnel) -> Tunnel {
    let mut tunnel = stored.tunnel();
    for addition in edge.additions.iter().filter(|addition| addition.name == stored.name) {
        addition.apply(&mut tunnel);
    }
    tunnel
}

/// What the file says of tunnels that nobody created: it may be about to happen.
#[must_use]
pub fn not_created(edge: &EdgeFile, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let is_missing = |name: &str| snapshot.tunnel_by_name(name).is_none();
    let additions = edge.additions.iter().filter(|addition| is_missing(&addition.name));
    let ports = edge.ports.iter().filter(|entry| is_missing(&entry.port.tunnel));
    let unknown_additions = additions.map(|addition| unknown(edge, addition));
    unknown_additions.chain(ports.map(|entry| leads_nowhere(edge, entry))).collect()
}

fn leads_nowhere(edge: &EdgeFile, entry: &PortEntry) -> Diagnostic {
    let name = &entry.port.tunnel;
    let message = format!("there is no tunnel `{name}` for this port to lead into");
    let mut diagnostic = Diagnostic::at(edge.source(), entry.tunnel_span, Severity::Warning, message);
    diagnostic.help(format!("`adit tunnel create {name}` makes it"));
    diagnostic
}

fn unknown(edge: &EdgeFile, addition: &TunnelAddition) -> Diagnostic {
    let name = &addition.name;
    let message = format!("tunnel `{name}` has neither `id` nor `secret-file`, and no command created it");
    let mut diagnostic = Diagnostic::at(edge.source(), addition.span, Severity::Warning, message);
    diagnostic.help(format!("`adit tunnel create {name}` makes it; or give it `id` and `secret-file`"));
    diagnostic
}

/// What only one tunnel can have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Thing<'a> {
    Name(&'a str),
    Id(TunnelId),
    Hostname(&'a HostPattern),
}

/// Where a tunnel is written down.
#[derive(Clone)]
enum Place {
    File(Span),
    Stored(usize, PathBuf),
}

struct Claimed<'a> {
    edge: &'a EdgeFile,
    places: HashMap<Thing<'a>, (&'a str, Place)>,
    clashes: Vec<Diagnostic>,
}

impl<'a> Claimed<'a> {
    fn add_pattern(&mut self, pattern: &'a HostPattern, tunnel: &'a str, place: Place) {
        if matches!(pattern, HostPattern::Exact(_)) {
            self.add(Thing::Hostname(pattern), tunnel, place);
        }
    }

    fn add(&mut self, thing: Thing<'a>, tunnel: &'a str, place: Place) {
        match self.places.get(&thing) {
            Some((_, first)) if first.same(&place) => {}
            Some((other, first)) => {
                let what = thing.clash(tunnel, other);
                self.clashes.push(self.diagnostic(&what, first, &place));
            }
            None => drop(self.places.insert(thing, (tunnel, place))),
        }
    }

    /// The finding points at the first place and names the second in its help.
    fn diagnostic(&self, what: &str, first: &Place, second: &Place) -> Diagnostic {
        let mut diagnostic = match first {
            Place::File(span) => Diagnostic::at(self.edge.source(), *span, Severity::Error, what.to_owned()),
            Place::Stored(_, path) => Diagnostic::new(path, Severity::Error, what.to_owned()),
        };
        let second = match second {
            Place::File(span) => format!("{}:{}", self.edge.path().display(), span.line),
            Place::Stored(_, path) => path.display().to_string(),
        };
        diagnostic.help(format!("the other is {second}; change one of them, or delete it"));
        diagnostic
    }
}

impl Thing<'_> {
    fn clash(&self, tunnel: &str, other: &str) -> String {
        match self {
            Self::Name(name) => format!("there are two tunnels named `{name}`"),
            Self::Id(id) => format!("tunnels `{other}` and `{tunnel}` have the same id {id}"),
            Self::Hostname(name) => format!("`{name}` is granted to both tunnels `{other}` and `{tunnel}`"),
        }
    }
}

impl Place {
    /// A stored tunnel may name a host twice; that is no clash with itself.
    fn same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Stored(a, _), Self::Stored(b, _)) if a == b)
    }
}
