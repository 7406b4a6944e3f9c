//! The usual scene: an origin at home, an edge, and a connector that publishes the origin as `app.example.test`.

use crate::connector::{Connector, Way};
use crate::edge::Edge;
use crate::origin::Origin;
use crate::visitor::Visitor;

/// The published name.
pub const APP: &str = "app.example.test";

/// The scene. Fields are dropped in this order: the connector leaves before the edge.
#[derive(Debug)]
pub struct Home {
    /// The connector.
    pub connector: Connector,
    /// The edge.
    pub edge: Edge,
    /// The origin.
    pub origin: Origin,
    /// Connections of one connector.
    pub connections: usize,
}

impl Home {
    /// An origin, published in some way, and ready.
    pub async fn published(way: Way) -> Self {
        Self::published_with(way, "").await
    }

    /// The same, with lines of `originRequest` (indented by six).
    pub async fn published_with(way: Way, origin_request: &str) -> Self {
        let origin = Origin::start();
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        let connector = Connector::start(way, &edge, "home", &ingress(&origin, origin_request));
        // cloudflared makes one connection per edge address.
        let connections = if way.is_ours() { 4 } else { edge.tunnel.len() };
        edge.has_connections(connections).await;
        Self { connector, edge, origin, connections }
    }

    /// A second connector of the same tunnel.
    pub async fn replica(&self, way: Way) -> Connector {
        let replica = Connector::start(way, &self.edge, "home", &ingress(&self.origin, ""));
        self.edge.has_connections(self.connections * 2).await;
        replica
    }

    /// A visitor.
    #[must_use]
    pub fn visitor(&self) -> Visitor {
        self.edge.visitor()
    }
}

fn ingress(origin: &Origin, origin_request: &str) -> String {
    let address = origin.address;
    let request = if origin_request.is_empty() {
        String::new()
    } else {
        format!("    originRequest:\n{origin_request}\n")
    };
    format!("  - hostname: {APP}\n    service: http://{address}\n{request}  - service: http_status:404")
}
