//! The edge holds a configuration and pushes it; the connector serves it from then on. In the first test the edge runs
//! inside the test, which pushes by its own hand.

use adit_testkit::home::APP;
use adit_testkit::{Connector, Edge, Origin, Visitor, Way};
use adit_tunnel::edge::Connection;
use http::StatusCode;
use tokio::task::LocalSet;

/// An edge inside the test, and a connector without rules of its own.
struct Scene {
    edge: adit::edge::Running,
    folder: tempfile::TempDir,
    _connector: Connector,
}

impl Scene {
    async fn new(way: Way) -> Self {
        let folder = Edge::plan().tunnel("home", &[APP]).into_folder();
        let edge = adit::edge::start(&folder.path().join("edge.yml")).unwrap();
        let rules = "ha-connections: 1\n";
        let connector = Connector::start_at(way, folder.path(), &edge.addresses.tunnel, "home", rules);
        let mut changes = edge.edge.registry.watch();
        while edge.edge.registry.sessions().is_empty() {
            tokio::time::timeout(adit_testkit::program::PATIENCE, changes.changed()).await.unwrap().unwrap();
        }
        Self { edge, folder, _connector: connector }
    }

    fn connection(&self) -> Connection {
        self.edge.edge.registry.sessions()[0].connection.clone()
    }

    async fn answer(&self) -> (StatusCode, String) {
        let https = self.edge.addresses.https[0];
        let visitor = Visitor::new(https, &self.folder.path().join("data/tunnel-ca.pem"));
        let answer = visitor.get(APP, "/pushed").await;
        (answer.status, answer.text())
    }
}

fn to_origin(origin: &Origin) -> String {
    format!(
        r#"{{"ingress":[{{"hostname":"{APP}","service":"http://{}"}},{{"service":"http_status:404"}}]}}"#,
        origin.address
    )
}

#[tokio::test]
async fn a_pushed_configuration_is_served_and_a_bad_one_changes_nothing() {
    let origin = Origin::start();
    for way in Way::all() {
        let work = async {
            let scene = Scene::new(way).await;
            let connection = scene.connection();
            assert_eq!(scene.answer().await.0, StatusCode::SERVICE_UNAVAILABLE, "{way:?}");

            let applied = connection.push_configuration(3, to_origin(&origin).as_bytes()).await.unwrap();
            assert_eq!((applied.version, &applied.error), (3, &None), "{way:?}");
            let served = (StatusCode::OK, "GET /pushed\n".to_owned());
            assert_eq!(scene.answer().await, served, "{way:?}");

            let bad = r#"{"ingress":[{"service":"gopher//"}]}"#;
            let refused = connection.push_configuration(4, bad.as_bytes()).await.unwrap();
            assert!(refused.error.is_some(), "{way:?}: {refused:?}");
            assert_eq!(refused.version, 3, "{way:?}");

            let old = r#"{"ingress":[{"service":"http_status:418"}]}"#;
            let ignored = connection.push_configuration(2, old.as_bytes()).await.unwrap();
            assert_eq!(ignored.version, 3, "{way:?}");
            assert_eq!(scene.answer().await, served, "{way:?}");
        };
        LocalSet::new().run_until(work).await;
    }
}

/// `edge.yml` with these rules for the tunnel that a command created.
pub(crate) fn hold(edge: &Edge, rules: &str) {
    let path = edge.file("edge.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    let before = text.split("tunnels:").next().unwrap();
    std::fs::write(&path, format!("{before}tunnels:\n  home:\n    ingress:\n{rules}")).unwrap();
}

async fn asked(edge: &Edge, host: &str) -> Option<u16> {
    let visitor = edge.visitor();
    let request = visitor.request(http::Method::GET, host, "/", adit_testkit::visitor::empty());
    visitor.send(host, request).await.ok().map(|answer| answer.status().as_u16())
}

pub(crate) async fn serves(edge: &Edge, host: &str, status: u16) {
    let asking = async {
        // A name that is not known yet gets no handshake.
        while asked(edge, host).await != Some(status) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let within = tokio::time::timeout(adit_testkit::program::PATIENCE, asking).await;
    assert!(within.is_ok(), "{host} does not answer {status}");
}

#[tokio::test]
async fn the_token_alone_is_enough_where_the_edge_holds_the_rules() {
    for way in Way::all() {
        let mut edge = Edge::plan().tunnel("home", &[APP]).start();
        let rule = |host: &str, status: u16| {
            format!(
                "      - {{ hostname: {host}, service: 'http_status:{status}' }}\n      - service: http_status:404\n"
            )
        };
        hold(&edge, &rule(APP, 201));
        drop(edge.program.says("configuration reloaded"));
        let _connector = Connector::start_at(way, edge.folder(), &edge.tunnel, "home", "");
        // A name in the rules is granted by them; nothing is served before the rules are there.
        serves(&edge, APP, 201).await;
        hold(&edge, &rule("new.example.test", 202));
        serves(&edge, "new.example.test", 202).await;
        assert_eq!(edge.visitor().get(APP, "/").await.status, 404, "{way:?}");
        edge.crash_and_return();
        serves(&edge, "new.example.test", 202).await;
    }
}
