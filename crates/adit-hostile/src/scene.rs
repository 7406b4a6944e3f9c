//! The scene: an edge, and lanes that do not know one another. Each lane is a tunnel over one transport with its connector and
//! an origin of its own, so that whatever the origin sees belongs to the case that runs in the lane.

use std::time::Duration;

use adit_testkit::issuer::Issuer;
use adit_testkit::{Connector, Edge, Way};

use crate::origin::Origin;

/// Long enough for sent bytes to arrive on loopback.
pub(crate) const ARRIVES: Duration = Duration::from_millis(30);

/// Names of the lanes with their transport.
const LANES: [(&str, Way); 4] =
    [("q1", Way::Quic), ("h1", Way::Http2), ("q2", Way::Quic), ("h2", Way::Http2)];

/// What the operator says about the names of a lane.
const POLICY: &str = "
  denied.LANE.example.test: { paths: { ^/admin: { deny: ['0.0.0.0/0', '::/0'] } } }
  edited.LANE.example.test: { headers: { request: { remove: [X-Edge], set: { X-Set: operator } } } }
  keys-static.LANE.example.test: { cache: static }
  keys-page.LANE.example.test: { cache: { key: [host, path, query(page)] } }
  keys-not.LANE.example.test: { cache: { key: [host, path, query(!utm_source)] } }
  keys-cookie.LANE.example.test: { cache: { ignore: set-cookie, key: [host, path, query, cookie(lang)] } }
  keys-plain.LANE.example.test: { cache: true }";

/// What the connector of a lane serves.
const RULES: &str = "
  - { hostname: public.LANE.example.test, path: ^/public/, service: 'http://ORIGIN' }
  - { hostname: public.LANE.example.test, service: 'http_status:404' }
  - { hostname: split.LANE.example.test, path: ^/admin, service: 'http_status:403' }
  - { hostname: split.LANE.example.test, service: 'http://ORIGIN' }
  - hostname: gate.LANE.example.test
    path: ^/admin
    service: http://ORIGIN
    originRequest: { access: { required: true, issuer: 'ISSUER', audTag: [app], header: Authorization } }
  - { hostname: gate.LANE.example.test, service: 'http://ORIGIN' }
  - hostname: door.LANE.example.test
    service: http://ORIGIN
    originRequest: { access: { required: true, issuer: 'ISSUER', audTag: [app], header: Authorization } }
  - { hostname: '*.LANE.example.test', service: 'http://ORIGIN' }
  - service: http_status:404";

/// A tunnel with its connector and its origin.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    pub(crate) origin: Origin,
    _connector: Connector,
}

impl Lane {
    /// The full name of a site.
    pub(crate) fn host(&self, label: &str) -> String {
        format!("{label}.{}.example.test", self.name)
    }
}

/// Everything that runs. Lanes go before the edge.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) edge: Edge,
    pub(crate) issuer: Issuer,
}

impl Scene {
    /// Starts it, and waits until every lane serves.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let issuer = Issuer::start().await;
        let policy: String = LANES.iter().map(|(name, _)| POLICY.replace("LANE", name)).collect();
        let lines = format!("http-mode: serve\nhostnames:{policy}");
        let mut plan = Edge::plan().with(&lines);
        for (name, _) in LANES {
            plan = plan.tunnel(name, &[&format!("*.{name}.example.test")]);
        }
        let edge = plan.start();
        let mut lanes = Vec::new();
        for (name, way) in LANES {
            let origin = Origin::start().await?;
            let rules = RULES.replace("LANE", name).replace("ISSUER", &issuer.url);
            let rules = rules.replace("ORIGIN", &origin.address.to_string());
            let connector = Connector::start(way, &edge, name, &rules);
            lanes.push(Lane { name, way, origin, _connector: connector });
        }
        edge.has_connections(LANES.len() * 4).await;
        for lane in &lanes {
            let names: Vec<String> =
                ["public", "split", "gate", "door"].map(|label| lane.host(label)).to_vec();
            edge.serves(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        Ok(Self { lanes, edge, issuer })
    }
}
