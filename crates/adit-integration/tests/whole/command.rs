//! cloudflared's command line, environment and local endpoints, as its users have them in their units and manifests.

use std::fs;
use std::process::Command;

use adit_testkit::home::APP;
use adit_testkit::visitor::empty;
use adit_testkit::{Connector, Edge, Origin, Program, Visitor, Way, program};
use http::Method;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

/// An edge with the tunnel `home`, and the flags that lead to it.
fn edge() -> (Edge, Vec<String>) {
    let edge = Edge::plan().tunnel("home", &[APP]).start();
    let addresses: Vec<String> = edge.tunnel.iter().map(ToString::to_string).collect();
    let authority = edge.file("data/tunnel-ca.pem").display().to_string();
    let flags = ["--edge", &addresses.join(","), "--cacert", &authority, "--metrics", "127.0.0.1:0"];
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    (edge, flags)
}

fn token(edge: &Edge) -> String {
    let config = edge.file("edge.yml");
    let ended = program::run(["tunnel", "--config", config.to_str().unwrap(), "token", "home"]);
    ended.stdout.trim().to_owned()
}

/// The program under the name `cloudflared`.
fn cloudflared(edge: &Edge) -> Command {
    let path = edge.file("cloudflared");
    std::os::unix::fs::symlink(program::adit(), &path).unwrap();
    Command::new(path)
}

fn metrics_of(connector: &Program) -> Visitor {
    let line: Value = serde_json::from_str(&connector.says("connector is starting")).unwrap();
    Visitor::plain(line["metrics"].as_str().unwrap().parse().unwrap())
}

async fn json(visitor: &Visitor, path: &str) -> Value {
    serde_json::from_slice(&visitor.get("localhost", path).await.body).unwrap()
}

#[tokio::test]
async fn under_its_name_it_runs_from_the_environment_as_in_a_container() {
    let (edge, flags) = edge();
    let mut command = cloudflared(&edge);
    command.args(["--no-autoupdate", "tunnel", "-url", "http://127.0.0.1:1", "run"]);
    command.env("TUNNEL_TOKEN", token(&edge)).env("TUNNEL_LOG_OUTPUT", "json");
    for pair in flags.chunks(2) {
        command.env(format!("TUNNEL_{}", pair[0].trim_start_matches("--").to_uppercase()), &pair[1]);
    }
    let _connector = Program::start(&mut command);
    edge.has_connections(4).await;
    assert_eq!(edge.visitor().get(APP, "/").await.status, 502, "the one service does not answer");
}

#[tokio::test]
async fn flags_win_over_the_file_and_its_log_settings_count() {
    let (edge, flags) = edge();
    let config = edge.file("config.yml");
    let (logfile, pidfile) = (edge.file("adit.log"), edge.file("adit.pid"));
    let lines = format!(
        "edge: [192.0.2.1]\nloglevel: debug\nlogfile: {}\npidfile: {}\nprotocol: quic\ncredentials-file: {}\ningress: [{{ service: 'http_status:201' }}]\n",
        logfile.display(),
        pidfile.display(),
        edge.file("home.json").display()
    );
    fs::write(&config, lines).unwrap();
    let mut command = Command::new(program::adit());
    command.args(["tunnel", "--config"]).arg(&config).args(&flags).args(["--protocol", "http2"]);
    command.args(["--ha-connections=2", "--heartbeat-count", "5", "--compression-quality=1", "run", "--pq"]);
    let mut connector = Program::start(&mut command);
    edge.has_connections(2).await;
    drop(connector.says_times("Registered tunnel connection", 2));
    assert!(connector.said().contains("`compression-quality` has no effect"), "{}", connector.said());
    let tunnels = edge.tunnels().await;
    assert_eq!(tunnels["tunnels"][0]["connections"][0]["protocol"], "http2");
    let waiting = async {
        while fs::read_to_string(&pidfile).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(program::PATIENCE, waiting).await.unwrap();
    assert_eq!(fs::read_to_string(&pidfile).unwrap().trim(), connector.id().to_string());
    connector.signal("TERM");
    assert_eq!(connector.ends(), Some(0));
    assert!(!pidfile.exists(), "it goes with the program");
    assert!(fs::read_to_string(&logfile).unwrap().contains("Registered tunnel connection"));
}

#[tokio::test]
async fn endpoints_tell_connections_rules_and_bad_changes() {
    let (edge, flags) = edge();
    let config = edge.file("config.yml");
    let text = format!(
        "credentials-file: {}\ningress:\n  - {{ hostname: {APP}, service: 'http://127.0.0.1:1' }}\n  - service: http_status:404\n",
        edge.file("home.json").display()
    );
    fs::write(&config, &text).unwrap();
    let mut command = Command::new(program::adit());
    command.args(["connect", "--log-format", "json", "--config"]).arg(&config).args(&flags);
    let connector = Program::start(&mut command);
    drop(connector.says_times("Registered tunnel connection", 4));
    let metrics = metrics_of(&connector);

    let shown = json(&metrics, "/config").await;
    assert_eq!((&shown["version"], &shown["config"]["ingress"][0]["hostname"]), (&(-1).into(), &APP.into()));
    let tunnel = json(&metrics, "/diag/tunnel").await;
    assert_eq!(tunnel["connections"].as_array().unwrap().len(), 4, "{tunnel}");
    assert!(json(&metrics, "/diag/system").await["info"]["memoryMaximum"].as_u64().unwrap() > 0);
    assert_eq!(json(&metrics, "/quicktunnel").await["hostname"], "");

    fs::write(&config, text.replace("http://127.0.0.1:1", "nonsense")).unwrap();
    connector.signal("HUP");
    drop(connector.says("configuration not reloaded"));
    let ready = json(&metrics, "/ready").await;
    assert_eq!(ready["readyConnections"], 4);
    assert!(ready["configurationError"].as_str().unwrap().contains("config.yml:3:"), "{ready}");
    let counted = "adit_connector_config_last_reload_successful";
    assert!(metrics.get("localhost", "/metrics").await.text().contains(&format!("{counted} 0")));

    fs::write(&config, text.replace("http://127.0.0.1:1", "http_status:202")).unwrap();
    connector.signal("HUP");
    drop(connector.says("configuration reloaded"));
    assert!(json(&metrics, "/ready").await["configurationError"].is_null());
    assert_eq!(edge.visitor().get(APP, "/").await.status, 202);
}

#[tokio::test]
async fn a_container_asks_for_its_health_without_a_shell() {
    let (edge, flags) = edge();
    let mut command = Command::new(program::adit());
    let credentials = edge.file("home.json").display().to_string();
    command
        .args(["connect", "--log-format", "json", "--hello-world", "--credentials-file", &credentials])
        .args(&flags);
    let mut connector = Program::start(&mut command);
    drop(connector.says_times("Registered tunnel connection", 4));
    let line: Value = serde_json::from_str(&connector.says("connector is starting")).unwrap();
    let metrics = line["metrics"].as_str().unwrap();
    for command in [vec!["connect", "health"], vec!["tunnel", "ready"]] {
        let ended = program::run(command.iter().copied().chain(["--metrics", metrics]));
        assert!(ended.code == Some(0) && ended.stdout.contains("\"readyConnections\":4"), "{ended:?}");
    }
    connector.signal("KILL");
    assert_eq!(connector.ends(), None);
    let ended = program::run(["connect", "health", "--metrics", metrics]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn wrong_flags_are_named_all_at_once() {
    let ended = program::run(["tunnel", "--protocol", "carrier-pigeon", "--grace-period", "1h", "run"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--protocol: ") && ended.stderr.contains("quic"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--grace-period: "), "{}", ended.stderr);
}

#[test]
fn rules_are_checked_and_asked() {
    let folder = tempfile::TempDir::new().unwrap();
    let config = folder.path().join("config.yml");
    fs::write(&config, "ingress:\n  - { hostname: a.example, path: ^/x, service: 'http://localhost:1' }\n  - service: http_status:404\n").unwrap();
    let config = config.to_str().unwrap();
    let ingress =
        |arguments: &[&str]| program::run([&["tunnel", "--config", config, "ingress"], arguments].concat());
    let valid = ingress(&["validate"]);
    assert!(valid.code == Some(0) && valid.stdout.ends_with("OK\n"), "{valid:?}");
    let rule = ingress(&["rule", "https://A.example/xyz?q"]);
    assert!(
        rule.stdout.contains("Matched rule #0\n") && rule.stdout.contains("http://localhost:1"),
        "{rule:?}"
    );
    assert!(ingress(&["rule", "https://b.example/x"]).stdout.contains("Matched rule #1\n"));
    assert_eq!(ingress(&["validate", "--json", r#"{"ingress":[{"service":"x"}]}"#]).code, Some(2));
}

#[tokio::test]
async fn a_connector_that_drains_is_not_ready() {
    let (edge, flags) = edge();
    let origin = Origin::start();
    let mut command = Command::new(program::adit());
    let (credentials, url) =
        (edge.file("home.json").display().to_string(), format!("http://{}", origin.address));
    command
        .args(["connect", "--log-format", "json", "--url", &url, "--credentials-file", &credentials])
        .args(&flags);
    let mut connector = Program::start(&mut command);
    drop(connector.says_times("Registered tunnel connection", 4));
    let metrics = metrics_of(&connector);
    assert_eq!(metrics.get("localhost", "/ready").await.status, 200);
    let visitor = edge.visitor();
    let asking = tokio::spawn(async move { visitor.get(APP, "/held").await });
    origin.has_held(1).await;
    connector.signal("TERM");
    drop(connector.says("draining"));
    let waiting = async {
        while metrics.get("localhost", "/ready").await.status != 503 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(program::PATIENCE, waiting).await.unwrap();
    origin.release();
    assert_eq!(asking.await.unwrap().text(), "released");
    assert_eq!(connector.ends(), Some(0));
}

#[tokio::test]
async fn tags_reach_the_origin_and_cannot_be_forged() {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let rules = format!("  - service: http://{}", origin.address);
    let _connector = Connector::start_with(Way::Quic, &edge, "home", &rules, "tag: [site=home, rack=7]\n");
    edge.has_connections(4).await;
    let visitor = edge.visitor();
    let mut request = visitor.request(Method::GET, APP, "/request", empty());
    request.headers_mut().insert("cf-warp-tag-site", "forged".parse().unwrap());
    let told = visitor.ask(APP, request).await.text();
    assert!(told.contains(r#"["cf-warp-tag-site","home"]"#), "{told}");
    assert!(told.contains(r#"["cf-warp-tag-rack","7"]"#) && !told.contains("forged"), "{told}");
}

#[tokio::test]
async fn standard_input_makes_a_connection_anew() {
    let edge = Edge::plan().tunnel("home", &["app.example.test"]).start();
    let mut connector = tokio::process::Command::from({
        let mut command = Command::new(program::adit());
        command.args(["connect", "--url", "hello_world", "--stdin-control", "--ha-connections", "1"]);
        command
            .args(["--edge", &edge.tunnel[0].to_string()])
            .arg("--cacert")
            .arg(edge.file("data/tunnel-ca.pem"));
        command.arg("--credentials-file").arg(edge.file("home.json"));
        command
    })
    .stdin(std::process::Stdio::piped())
    .stderr(std::process::Stdio::null())
    .kill_on_drop(true)
    .spawn()
    .unwrap();
    edge.has_connections(1).await;
    let first = edge.program.says("tunnel connection registered");
    let mut input = connector.stdin.take().unwrap();
    input.write_all(b"nonsense\nreconnect 10ms\n").await.unwrap();
    let second = edge.program.says_times("tunnel connection registered", 2);
    assert_ne!(first, second);
    drop(edge.program.says("tunnel connection ended"));
    edge.has_connections(1).await;
}

#[tokio::test]
async fn a_quick_tunnel_gets_a_name_for_as_long_as_it_runs() {
    let origin = Origin::start();
    // The edge's own name must lead to it.
    let edge = Edge::plan()
        .domain("localhost")
        .with("http-mode: serve\nquick-tunnels: { allow: [127.0.0.0/8, '::1/128'], limit: 1 }")
        .start();
    let url = format!("http://{}", origin.address);
    let edge_names = |command: &mut Command| {
        command.args(["tunnel", "--url", &url, "--metrics", "127.0.0.1:0", "--loglevel", "info"]);
        command
            .args(["--edge", &edge.tunnel[0].to_string()])
            .arg("--cacert")
            .arg(edge.file("data/tunnel-ca.pem"));
        command.args(["--quick-service", &format!("https://localhost:{}", edge.https.port())]);
    };
    let mut ours = Command::new(program::adit());
    ours.args(["--log-format", "json"]);
    edge_names(&mut ours);
    let connector = Program::start(&mut ours);
    let line = connector.says("Your quick Tunnel has been created!");
    let hostname = line.split("https://").nth(1).unwrap().split(['"', ' ']).next().unwrap().to_owned();
    assert!(hostname.ends_with(".localhost"), "{hostname}");
    edge.has_connections(1).await;
    edge.serves(&[&hostname]).await;
    // In plain: no certificate is good for all names of a top-level domain.
    assert_eq!(Visitor::plain(edge.http).get(&hostname, "/").await.text(), "GET /\n");
    let started: Value = serde_json::from_str(&connector.says("connector is starting")).unwrap();
    let metrics = started["metrics"].as_str().unwrap().parse().unwrap();
    let told = Visitor::plain(metrics).get("localhost", "/quicktunnel").await.text();
    assert_eq!(told, format!(r#"{{"hostname":"{hostname}"}}"#));
    // One is the limit.
    let mut second = Command::new(program::adit());
    edge_names(&mut second);
    let ended = second.output().unwrap();
    assert!(
        String::from_utf8_lossy(&ended.stderr).contains("there are 1 quick tunnels already"),
        "{ended:?}"
    );
    assert_eq!(ended.status.code(), Some(1));
}

#[tokio::test]
async fn what_a_connector_tells_of_itself_fits_in_a_file() {
    let (edge, flags) = edge();
    let mut command = Command::new(program::adit());
    command.args(["--log-format", "json", "connect", "--url", "hello_world"]).args(&flags);
    let connector = Program::start(command.arg("--credentials-file").arg(edge.file("home.json")));
    let started: Value = serde_json::from_str(&connector.says("connector is starting")).unwrap();
    let metrics = started["metrics"].as_str().unwrap();
    let file = edge.file("diag.zip").display().to_string();
    let ended = program::run(["tunnel", "--metrics", metrics, "diag", "--diag-output", &file]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let bytes = fs::read(&file).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
    for part in
        ["tunnelstate.json", "systeminformation.json", "metrics.txt", "cloudflared_tunnel_ha_connections"]
    {
        assert!(holds(part), "{part}");
    }
    let credentials: Value = serde_json::from_slice(&fs::read(edge.file("home.json")).unwrap()).unwrap();
    assert!(!holds(credentials["TunnelSecret"].as_str().unwrap()));
    let again = program::run(["tunnel", "--metrics", metrics, "diag", "--diag-output", &file]);
    assert_eq!(again.code, Some(1), "nothing is overwritten");
}

/// cloudflared starts with keys that it does not know, and so do we. What only we have is checked to the letter.
#[tokio::test]
async fn unknown_keys_of_cloudflared_s_part_are_warnings_and_those_of_ours_errors() {
    let (edge, flags) = edge();
    let config = edge.file("config.yml");
    let head = format!("credentials-file: {}\n", edge.file("home.json").display());
    let text = format!(
        "{head}tunnel-token: x\nconnections: 4\noriginRequest: {{ noTlsVerify: true }}\nloglevel: warning\ningress:\n  - {{ hostname: {APP}, service: 'http_status:201', comment: mine, originRequest: {{ http2origin: yes }} }}\n  - service: http_status:404\n---\nmore: 1\n"
    );
    fs::write(&config, &text).unwrap();
    let mut command = Command::new(program::adit());
    command
        .args(["connect", "--log-format", "json", "--loglevel", "info", "--config"])
        .arg(&config)
        .args(&flags);
    let connector = Program::start(&mut command);
    drop(connector.says_times("Registered tunnel connection", 4));
    drop(connector.says("unknown key `tunnel-token`"));
    let warnings = json(&metrics_of(&connector), "/ready").await["configurationWarnings"].to_string();
    for part in ["config.yml:2:1", "connections", "did you mean `noTLSVerify`?", "comment", "second document"]
    {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
    let path = config.to_str().unwrap();
    let check = program::run(["check", path]);
    assert!(check.code == Some(0) && check.stdout.contains("unknown key `comment`"), "{check:?}");
    assert_eq!(program::run(["check", "--strict", path]).code, Some(2));
    let rule = format!("hostname: {APP}, service: 'http_status:201'");
    for ours in [
        format!("ingress: [{{ {rule}, edge: {{ cahce: static }} }}, {{ service: 'http_status:404' }}]"),
        format!("ingress: [{{ {rule}, edgee: {{}} }}, {{ service: 'http_status:404' }}]"),
        "accept-rule: false".to_owned(),
        "accept-rules: { service: ['http://localhost:*'] }".to_owned(),
        "accept-rules: { services: [localhost] }".to_owned(),
    ] {
        fs::write(&config, format!("{head}{ours}\n")).unwrap();
        assert_eq!(program::run(["check", path]).code, Some(2), "{ours}");
    }
}

/// What scripts call under cloudflared's name: it does it, or says in a line what to do instead.
#[test]
fn every_command_of_cloudflared_is_done_or_says_what_to_do() {
    let edge = Edge::plan().tunnel("home", &[APP]).start();
    let path = edge.file("cloudflared");
    std::os::unix::fs::symlink(program::adit(), &path).unwrap();
    let config = edge.config();
    let config = config.to_str().unwrap();
    for (line, code, part) in [
        ("--version", 0, "cloudflared version 20"),
        ("-v", 0, "(built "),
        ("version", 0, "cloudflared version 20"),
        ("update", 0, "does not update itself"),
        ("--no-autoupdate update --beta", 0, "does not update itself"),
        ("service install TOKEN", 1, "systemd unit"),
        ("service uninstall", 0, "no service was installed"),
        ("tail --connector-id x UUID", 1, "adit status"),
        ("tunnel login", 0, "tunnel create"),
        ("tunnel route dns home app.example.test", 0, "DNS record"),
        ("tunnel route dns --overwrite-dns home app.example.test", 0, "DNS record"),
        ("tunnel route dns -f home app.example.test", 0, "DNS record"),
        ("tunnel route lb home a b", 0, "several"),
        ("tunnel route ip add 10.0.0.0/8 home", 1, "ipRules"),
        ("tunnel vnet list", 1, "ports"),
        ("tunnel cleanup home", 0, "five seconds"),
        ("access login https://a.example", 1, "no login yet"),
        ("access token -app=https://a.example", 1, "no login yet"),
        ("access curl https://a.example -v -XPOST", 1, "curl itself"),
        ("access ssh-gen --hostname a.example", 1, "ssh keys"),
        ("access ssh-config --hostname a.example", 0, "ProxyCommand"),
        ("tunnel --config CONFIG info home --output json", 0, "\"hostnames\""),
        ("tunnel --config CONFIG info -o yaml home", 0, "hostnames:"),
        ("tunnel --config CONFIG list --output json", 0, "[\n"),
        ("--loglevel=info --config=CONFIG tunnel list -output yaml", 0, "- connections: []"),
        ("--config CONFIG --loglevel info tunnel list --name nobody --output json", 0, "[]"),
        (
            "tunnel --metrics 127.0.0.1:1 diag --no-diag-logs --no-diag-metrics --no-diag-network",
            1,
            "no connector answers",
        ),
        ("tunnel --metrics 127.0.0.1:1 health", 1, "no connector answers"),
    ] {
        let words: Vec<String> = line.split(' ').map(|word| word.replace("CONFIG", config)).collect();
        let ended = Command::new(&path).args(&words).output().unwrap();
        let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert!(
            ended.status.code() == Some(code) && said.contains(part),
            "{line}: {:?} {said}",
            ended.status
        );
    }
    let listed = program::run(["tunnel", "--config", config, "list", "--output", "json"]);
    let tunnels: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(tunnels[0]["name"], "home", "a list, as cloudflared's: scripts look for `id` by `name`");
}
