//! Tunnels of different people at one edge: what one says, and what its visitors do, is nothing to the names of another one.

use adit_testkit::{Connector, Edge, Origin, Way, program};
use http::StatusCode;

/// A name that is granted to `mallory` by its wildcard.
const OWN: &str = "e.example.test";
/// The name of `victim`, which the wildcard covers too.
const OTHER: &str = "v.example.test";

/// Two tunnels. `mallory` has `*.example.test` and says this to the edge, beside a rule for all of it; `victim` says nothing.
async fn two(way: Way, lines: &str, word: &str) -> (Edge, Origin, Connector, Connector) {
    let origin = Origin::start();
    let edge = Edge::plan()
        .tunnel("mallory", &["*.example.test", "localhost"])
        .tunnel("victim", &[OTHER])
        .with(lines)
        .start();
    let service = format!("service: http://{}", origin.address);
    let rules = format!("  - hostname: '*.example.test'\n    {service}\n    edge: {word}\n  - {service}");
    let mallory = Connector::start(way, &edge, "mallory", &rules);
    let victim = Connector::start(way, &edge, "victim", &format!("  - {service}"));
    edge.has_connections(8).await;
    edge.serves(&["*.example.test", OTHER]).await;
    (edge, origin, mallory, victim)
}

#[tokio::test]
async fn a_connector_bans_from_its_own_names_only() {
    for way in Way::ours() {
        for reach in ["", ", shared: true", ", shared: false"] {
            let word = format!("{{ ban: {{ statuses: [200], count: 1, window: 1h, time: 7d{reach} }} }}");
            let (mut edge, _origin, _mallory, _victim) = two(way, "", &word).await;
            let asked = async |edge: &Edge, host: &str| edge.visitor().get(host, "/").await.status.as_u16();
            assert_eq!(asked(&edge, OTHER).await, 200, "{reach}");
            assert_eq!([asked(&edge, OWN).await, asked(&edge, OWN).await], [200, 403], "{reach}");
            for _ in 0..3 {
                assert_eq!(asked(&edge, OTHER).await, 200, "{way:?} {reach}");
            }
            let own = if reach.ends_with("false") { 200 } else { 403 };
            assert_eq!(asked(&edge, "e2.example.test").await, own, "its other names");
            if !reach.is_empty() {
                continue;
            }
            let config = edge.config().display().to_string();
            let listed = program::run(["ban", "list", "--config", &config]).stdout;
            assert!(listed.contains("names of mallory"), "{listed}");
            tokio::time::timeout(program::PATIENCE, remembered(&edge)).await.unwrap();
            edge.crash_and_return();
            edge.has_connections(8).await;
            edge.serves(&["*.example.test", OTHER]).await;
            assert_eq!([asked(&edge, OWN).await, asked(&edge, OTHER).await], [403, 200], "after a restart");
        }
    }
}

async fn remembered(edge: &Edge) {
    while !std::fs::read_to_string(edge.file("data/bans.json")).unwrap_or_default().contains("127.0.0.1") {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_operators_ban_counts_for_one_tunnel_unless_the_operator_says_for_all() {
    for (shared, other) in [("", 200), (", shared: true", 403)] {
        let lines = format!("defaults: {{ ban: {{ statuses: [404], count: 1{shared} }} }}");
        let (edge, _origin, _mallory, _victim) = two(Way::Http2, &lines, "{ body-limit: 1m }").await;
        let visitor = edge.visitor();
        assert_eq!(visitor.get(OWN, "/status/404").await.status, StatusCode::NOT_FOUND);
        assert_eq!(visitor.get(OWN, "/").await.status, StatusCode::FORBIDDEN);
        assert_eq!(visitor.get(OTHER, "/").await.status.as_u16(), other, "{shared}");
    }
}

/// Which keys there are is told in `adit_edge::registry::words`; here, that the word does not pass at all.
#[tokio::test]
async fn nothing_that_a_connector_says_is_about_the_names_of_another_one() {
    for way in Way::ours() {
        let (edge, _origin, _mallory, _victim) = two(way, "", "{ respond: { status: 418 } }").await;
        let visitor = edge.visitor();
        let mine = async {
            while visitor.get(OWN, "/").await.status != StatusCode::IM_A_TEAPOT {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(program::PATIENCE, mine).await.unwrap();
        assert_eq!(visitor.get(OTHER, "/").await.text(), "GET /\n");
        assert_eq!(edge.visitor3().get(OTHER, "/").await.text(), "GET /\n");
    }
}

#[tokio::test]
async fn what_is_kept_of_one_tunnel_is_never_another_ones() {
    // One rule for all names, whose key has no host in it.
    let lines = "defaults: { cache: { preset: static, key: [path] } }";
    let (edge, _origin, _mallory, _victim) =
        two(Way::Http2, lines, "{ cache: { preset: static, key: [path] } }").await;
    let visitor = edge.visitor();
    let kept = |answer: &adit_testkit::Answer| answer.header("x-cache-status").to_owned();
    for name in [OWN, OTHER] {
        assert_eq!(kept(&visitor.get(name, "/app.js").await), "MISS", "{name}");
        assert_eq!(kept(&visitor.get(name, "/app.js").await), "HIT", "{name}");
    }
    // A signed purge of everything reaches what is the tunnel's own, although its grant covers the other name.
    let through = format!("https://localhost:{}", edge.https.port());
    let (credentials, ca) = (edge.file("mallory.json"), edge.file("data/tunnel-ca.pem"));
    let call = ["cache", "purge", "--all", "--through", &through, "--credentials-file"].into_iter();
    let files = [credentials.to_str().unwrap(), "--cacert", ca.to_str().unwrap()];
    let ended = program::run(call.chain(files));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(kept(&visitor.get(OTHER, "/app.js").await), "HIT");
    assert_eq!(kept(&visitor.get(OWN, "/app.js").await), "MISS");
}

/// Connectors of two tunnels with the same wildcard. Each answers with a status of its own.
struct Rivals {
    edge: Edge,
    way: Way,
}

impl Rivals {
    fn new(way: Way) -> Self {
        let edge = Edge::plan().tunnel("a", &["*.example.test"]).tunnel("b", &["*.example.test"]).start();
        Self { edge, way }
    }

    /// A connector that names these hosts.
    fn start(&self, tunnel: &str, status: u16, hosts: &[&str]) -> Connector {
        let rule = |host: &&str| format!("  - {{ hostname: {host}, service: 'http_status:{status}' }}\n");
        let rules: String = hosts.iter().map(rule).collect();
        Connector::start(self.way, &self.edge, tunnel, &format!("{rules}  - service: http_status:404"))
    }

    /// Waits until a tunnel was refused a name, or no longer.
    async fn refused(&self, tunnel: &str, name: &str, is: bool) {
        let asking = async {
            loop {
                let tunnels = self.edge.tunnels().await;
                let list = tunnels["tunnels"].as_array().unwrap().clone();
                let own = list.iter().find(|known| known["name"] == tunnel).unwrap();
                if own["refused"].to_string().contains(&format!("`{name}`")) == is {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(program::PATIENCE, asking).await.unwrap();
    }

    async fn asked(&self, name: &str) -> u16 {
        self.edge.visitor().get(name, "/").await.status.as_u16()
    }

    async fn answers(&self, name: &str, status: u16) {
        let asking = async {
            while self.asked(name).await != status {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(program::PATIENCE, asking).await.unwrap();
    }

    fn adit(&self, arguments: &[&str]) -> program::Ended {
        let config = self.edge.config().display().to_string();
        program::run(arguments.iter().copied().chain(["--config", &config]))
    }
}

#[tokio::test]
async fn who_claimed_a_name_first_keeps_it_over_restarts_of_all() {
    for way in Way::all() {
        let mut rivals = Rivals::new(way);
        let first = rivals.start("a", 201, &[OWN]);
        rivals.edge.serves(&[OWN]).await;
        let second = rivals.start("b", 202, &[OWN, OTHER]);
        rivals.edge.serves(&[OTHER]).await;
        rivals.refused("b", OWN, true).await;
        assert_eq!([rivals.asked(OWN).await, rivals.asked(OTHER).await], [201, 202], "{way:?}");
        // A restarts: its name is away for so long, and nobody else's.
        drop(first);
        rivals.answers(OWN, 503).await;
        // So does the edge, and the other one is there first.
        rivals.edge.crash_and_return();
        rivals.edge.serves(&[OTHER]).await;
        rivals.refused("b", OWN, true).await;
        rivals.answers(OTHER, 202).await;
        assert_eq!(rivals.asked(OWN).await, 503, "{way:?}");
        let first = rivals.start("a", 201, &[OWN]);
        rivals.answers(OWN, 201).await;
        let info = rivals.adit(&["tunnel", "info", "a"]).stdout;
        assert!(info.contains("owns:      e.example.test"), "{info}");
        assert!(rivals.adit(&["status"]).stdout.contains("owns: v.example.test"));
        // Its own rules give the name up.
        drop(first);
        let _first = rivals.start("a", 201, &["other.example.test"]);
        rivals.answers(OWN, 202).await;
        drop(second);
    }
}

#[tokio::test]
async fn the_operator_takes_a_name_away_with_and_without_a_running_edge() {
    let mut rivals = Rivals::new(Way::Http2);
    let _first = rivals.start("a", 201, &[OWN]);
    rivals.edge.serves(&[OWN]).await;
    let _second = rivals.start("b", 202, &[OWN]);
    rivals.refused("b", OWN, true).await;
    let wrong = rivals.adit(&["tunnel", "release", "b", OWN]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("does not own"), "{wrong:?}");
    let done = rivals.adit(&["tunnel", "release", "a", OWN]);
    assert!(done.code == Some(0) && done.stdout.contains("belongs to tunnel b now"), "{done:?}");
    assert_eq!(rivals.asked(OWN).await, 202);
    rivals.refused("a", OWN, true).await;
    let written = async {
        while !std::fs::read_to_string(rivals.edge.file("data/owners.json")).unwrap_or_default().contains(OWN)
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(program::PATIENCE, written).await.unwrap();
    rivals.edge.crash_and_return();
    rivals.answers(OWN, 202).await;
}

#[tokio::test]
async fn an_edge_that_cannot_read_who_owns_which_names_does_not_start() {
    let plan = Edge::plan().tunnel("a", &["*.example.test"]);
    plan.prepare();
    std::fs::write(plan.folder().join("data/owners.json"), "torn {").unwrap();
    let config = plan.folder().join("edge.yml").display().to_string();
    let ended = program::run(["edge", "run", "--config", &config]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("owners.json") && ended.stderr.contains("restore the file"), "{ended:?}");
}
