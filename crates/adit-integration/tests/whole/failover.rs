//! Connections, processes and edges go and come; visitors do not notice.

use std::time::{Duration, Instant};

use adit_testkit::home::APP;
use adit_testkit::visitor::{Visitor, empty, whole};
use adit_testkit::{Connector, Edge, Home, Way};
use http::{Method, StatusCode};

/// Asks again and again until told to stop; counts good answers, fails at the first bad one.
fn load(visitor: Visitor) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<usize>) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let asking = tokio::spawn(async move {
        let mut good = 0;
        let mut sender = visitor.connect(APP).await.unwrap();
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            let response =
                sender.send(visitor.request(Method::GET, APP, "/bytes/2000", empty())).await.unwrap();
            let status = response.status();
            let answer = whole(response).await.unwrap();
            assert_eq!(
                (status, answer.body.len()),
                (StatusCode::OK, 2000),
                "after {good} good ones: {}",
                answer.text()
            );
            good += 1;
        }
        good
    });
    (stop, asking)
}

#[tokio::test]
async fn killing_one_of_two_replicas_under_load_fails_no_get() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let mut replica = home.replica(way).await;
        let loads: Vec<_> = (0..8).map(|_| load(home.visitor())).collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        replica.program.signal("KILL");
        assert_eq!(replica.program.ends(), None);
        home.edge.has_connections(home.connections).await;
        for (stop, asking) in loads {
            stop.send(()).unwrap();
            assert!(asking.await.unwrap() > 10, "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_silent_peer_is_left_within_five_seconds() {
    for way in Way::ours() {
        let home = Home::published(way).await;
        let replica = home.replica(way).await;
        // Stopped, not dead: its sockets stay open and say nothing.
        replica.program.signal("STOP");
        let stopped = Instant::now();
        home.edge.has_connections(home.connections).await;
        assert!(stopped.elapsed() < Duration::from_secs(6), "{way:?}: {:?}", stopped.elapsed());
        replica.program.signal("CONT");
        home.edge.has_connections(home.connections * 2).await;
    }
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_ends_at_once() {
    for way in Way::all() {
        let mut home = Home::published(way).await;
        let visitor = home.visitor();
        let held = tokio::spawn(async move { visitor.get(APP, "/held").await });
        home.origin.has_held(1).await;
        let replica = home.replica(way).await;
        home.connector.program.signal("TERM");
        // New requests go to the other replica at once.
        for _ in 0..20 {
            assert_eq!(home.visitor().get(APP, "/").await.status, StatusCode::OK, "{way:?}");
        }
        home.origin.release();
        assert_eq!(held.await.unwrap().text(), "released", "{way:?}");
        let released = Instant::now();
        assert_eq!(home.connector.program.ends(), Some(0), "{way:?}");
        if way.is_ours() {
            assert!(released.elapsed() < Duration::from_secs(3), "{way:?}: {:?}", released.elapsed());
        }
        drop(replica);
    }
}

#[tokio::test]
async fn connectors_come_back_after_the_edge_crashed() {
    for way in Way::ours() {
        let mut home = Home::published(way).await;
        home.edge.crash_and_return();
        home.edge.has_connections(home.connections).await;
        assert_eq!(home.visitor().get(APP, "/").await.status, StatusCode::OK, "{way:?}");
    }
}

#[tokio::test]
async fn an_edge_that_drains_finishes_its_requests_and_exits() {
    for way in Way::ours() {
        let mut home = Home::published(way).await;
        let visitor = home.visitor();
        let held = tokio::spawn(async move { visitor.get(APP, "/held").await });
        home.origin.has_held(1).await;
        home.edge.program.signal("TERM");
        drop(home.edge.program.says("draining"));
        home.origin.release();
        assert_eq!(held.await.unwrap().text(), "released", "{way:?}");
        let released = Instant::now();
        assert_eq!(home.edge.program.ends(), Some(0), "{way:?}");
        assert!(released.elapsed() < Duration::from_secs(3), "{way:?}: {:?}", released.elapsed());
    }
}

#[tokio::test]
async fn a_deleted_tunnel_is_refused_and_works_again_once_it_is_back() {
    let home = Home::published(Way::Quic).await;
    let stored = home.edge.file("data/tunnels/home.json");
    let kept = std::fs::read(&stored).unwrap();
    let config = home.edge.file("edge.yml").display().to_string();
    let ended = adit_testkit::program::run(["tunnel", "delete", "home", "--config", &config]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    home.edge.has_connections(0).await;
    let line = home.connector.program.says("not known here");
    assert!(line.contains("deleted"), "{line}");
    std::fs::write(&stored, kept).unwrap();
    home.edge.has_connections(home.connections).await;
    assert_eq!(home.visitor().get(APP, "/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn where_udp_is_blocked_http2_is_taken_in_time() {
    // The edge's UDP side is there but answers nobody: a relay passes TCP only.
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap();
    // Somebody holds the UDP port and never answers.
    let _blackhole = tokio::net::UdpSocket::bind(address).await.unwrap();
    let tunnel = edge.tunnel[0];
    tokio::spawn(async move {
        while let Ok((mut near, _)) = relay.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(tunnel).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    let started = Instant::now();
    let config = edge.file("blocked.yml");
    let text = format!(
        "credentials-file: {}\nedge: ['{address}']\ncacert: {}\nservice: hello_world\n",
        edge.file("home.json").display(),
        edge.file("data/tunnel-ca.pem").display()
    );
    std::fs::write(&config, text.replace("service:", "ingress:\n  - service:")).unwrap();
    let mut command = std::process::Command::new(adit_testkit::program::adit());
    command.args(["connect", "--log-format", "json", "--config"]).arg(&config);
    let connector = adit_testkit::Program::start(&mut command);
    edge.has_connections(4).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(connector.says("UDP does not pass"));
    assert_eq!(edge.visitor().get(APP, "/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn new_rules_are_served_without_a_restart() {
    for way in Way::ours() {
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        let connector = Connector::start(
            way,
            &edge,
            "home",
            "  - hostname: a.example.test\n    service: http_status:201\n  - service: http_status:404",
        );
        edge.has_connections(4).await;
        let config = std::fs::read_dir(edge.folder()).unwrap().map(|entry| entry.unwrap().path());
        let config = config
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("config-"))
            .last()
            .unwrap();
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("service: http_status:201", "service: broken")).unwrap();
        drop(connector.program.says("configuration not reloaded"));
        assert_eq!(
            edge.visitor().get("a.example.test", "/").await.status.as_u16(),
            201,
            "the last good rules"
        );
        std::fs::write(&config, text.replace("http_status:201", "http_status:202")).unwrap();
        drop(connector.program.says("configuration reloaded"));
        assert_eq!(edge.visitor().get("a.example.test", "/").await.status.as_u16(), 202, "{way:?}");
    }
}

/// Several replicas of one tunnel, each with names of its own and one in common.
#[tokio::test]
async fn replicas_with_different_rules_get_what_they_serve() {
    for way in Way::all() {
        let connections = if way.is_ours() { 4 } else { 2 };
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        let rules = |own: &str, status: u16| {
            format!(
                "  - hostname: {own}.example.test\n    service: http_status:{status}\n  - hostname: both.example.test\n    service: http_status:{status}\n  - service: http_status:404"
            )
        };
        let first = Connector::start(way, &edge, "home", &rules("first", 201));
        let _second = Connector::start(way, &edge, "home", &rules("second", 202));
        edge.has_connections(connections * 2).await;
        edge.serves(&["first.example.test", "second.example.test"]).await;
        let visitor = edge.visitor();
        let mut both = std::collections::HashSet::new();
        for _ in 0..20 {
            assert_eq!(visitor.get("first.example.test", "/").await.status.as_u16(), 201, "{way:?}");
            assert_eq!(visitor.get("second.example.test", "/").await.status.as_u16(), 202, "{way:?}");
            both.insert(visitor.get("both.example.test", "/").await.status.as_u16());
        }
        assert_eq!(both, [201, 202].into(), "{way:?}: both answer for the name that both serve");
        drop(first);
        edge.has_connections(connections).await;
        assert_eq!(visitor.get("both.example.test", "/").await.status.as_u16(), 202, "{way:?}");
    }
}

/// Two tunnels side by side on one machine, on one domain: neither touches the other.
#[tokio::test]
async fn tunnels_side_by_side_are_independent() {
    let edge = Edge::plan()
        .tunnel("host", &["host.example.test"])
        .tunnel("cluster", &["*.apps.example.test"])
        .start();
    let rule = |name: &str, status: u16| {
        format!("  - hostname: {name}\n    service: http_status:{status}\n  - service: http_status:404")
    };
    let host = Connector::start(Way::Quic, &edge, "host", &rule("host.example.test", 201));
    let _cluster = Connector::start(Way::Http2, &edge, "cluster", &rule("a.apps.example.test", 202));
    edge.has_connections(8).await;
    let visitor = edge.visitor();
    assert_eq!(visitor.get("host.example.test", "/").await.status.as_u16(), 201);
    assert_eq!(visitor.get("a.apps.example.test", "/").await.status.as_u16(), 202);
    drop(host);
    edge.has_connections(4).await;
    assert_eq!(visitor.get("host.example.test", "/").await.status.as_u16(), 503);
    assert_eq!(visitor.get("a.apps.example.test", "/").await.status.as_u16(), 202);
}
