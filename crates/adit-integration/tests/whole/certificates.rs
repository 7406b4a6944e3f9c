//! Certificates that come by themselves, from a real authority that really looks; and those from files.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use adit_testkit::acme::Acme;
use adit_testkit::pebble::{HTTP, HTTPS, NameServer, Pebble, own_address};
use adit_testkit::pki::Authority;
use adit_testkit::program::PATIENCE;
use adit_testkit::{Connector, Edge, Visitor, Way};
use http::StatusCode;
use serde_json::Value;

/// An authority, a name server, and an address for an edge.
struct Scene {
    at: IpAddr,
    names: NameServer,
    pebble: Pebble,
}

impl Scene {
    fn new(more: &str, environment: &[(&str, &str)]) -> Self {
        let at = own_address();
        let names = NameServer::start(at);
        let pebble = Pebble::start(at, names.address, more, environment);
        Self { at, names, pebble }
    }

    fn listen(&self) -> String {
        let at = self.at;
        format!("{{ https: '{at}:{HTTPS}', http: '{at}:{HTTP}', tunnel: '{at}:0', admin: '{at}:0' }}")
    }

    fn plan(&self, acme: &str, names: &[&str]) -> adit_testkit::edge::Plan {
        let acme = format!("acme: {{ email: me@acme.test, authorities: [{}], {acme} }}", self.pebble.yaml());
        Edge::plan().domain("acme.test").listen(&self.listen()).tunnel("home", names).with(&acme)
    }

    /// A visitor who trusts the authority as browsers do.
    async fn visitor(&self) -> Visitor {
        Visitor::new(SocketAddr::new(self.at, HTTPS), &self.pebble.root().await)
    }

    /// Waits until the name is served with a certificate of the authority.
    async fn serves(&self, name: &str) -> bool {
        let visitor = self.visitor().await;
        let asking = async {
            while visitor.raw(name).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.is_ok()
    }
}

async fn certificates(edge: &Edge) -> Value {
    let answer = Visitor::plain(edge.admin).get("localhost", "/certificates").await;
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn names_are_proven_in_three_ways() {
    // One answer in five is refused for its nonce, as a busy authority may do.
    let scene = Scene::new("", &[("PEBBLE_WFE_NONCEREJECT", "20")]);
    let dns = format!("dns: {}", scene.names.yaml());
    let ways = [
        ("challenges: [http-01]", "one.acme.test", "http-01"),
        ("challenges: [tls-alpn-01]", "two.acme.test", "tls-alpn-01"),
        (&format!("challenges: [dns-01], {dns}"), "three.acme.test", "dns-01"),
    ];
    for (acme, name, kind) in ways {
        let edge = scene.plan(acme, &[name]).start();
        assert!(scene.serves(name).await, "{kind}: {}", edge.program.said());
        let visitor = scene.visitor().await;
        // Nobody is connected, and the page says so over good TLS.
        assert_eq!(visitor.get(name, "/").await.status, StatusCode::SERVICE_UNAVAILABLE, "{kind}");
        assert!(
            visitor.raw("stranger.example").await.is_err(),
            "a name without a certificate has no handshake"
        );
        let metrics = edge.metrics().await;
        assert!(metrics.contains("adit_edge_certificates{state=\"good\"} 1"), "{metrics}");
        let expected = if kind == "dns-01" { "*.acme.test" } else { name };
        assert_eq!(certificates(&edge).await[0]["names"][0], expected);
        let file = edge.file(&format!("data/certificates/{}.pem", expected.replace('*', "_")));
        assert_private(&file);
        assert_private(&fs::read_dir(edge.file("data/accounts")).unwrap().next().unwrap().unwrap().path());
    }
    let said = scene.names.said();
    assert!(said.contains("adding an RR at '_acme-challenge.acme.test' TXT"), "{said}");
    assert!(
        said.contains("deleting an RR at _acme-challenge.acme.test TXT"),
        "the proof was removed: {said}"
    );
}

/// The state of the certificates once one has failed.
async fn failed(edge: &Edge) -> Value {
    let failing = async {
        loop {
            let status = certificates(edge).await;
            if status[0]["failures"] == 1 {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failing).await.unwrap()
}

fn assert_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
}

/// The first authority knows nobody, the second one speaks no ACME, the third one wants an account of its own making.
#[tokio::test]
async fn authorities_are_asked_in_order() {
    let mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let required = format!(
        ", \"externalAccountBindingRequired\": true, \"externalAccountMACKeys\": {{\"kid-1\": \"{mac}\"}}"
    );
    let scene = Scene::new(&required, &[]);
    let garbage = Authority::new();
    let pair = garbage.server(&["localhost"]);
    let origin = adit_testkit::Origin::start_tls(&pair.certificate, &pair.key);
    let plan = Edge::plan().domain("acme.test").listen(&scene.listen()).tunnel("home", &["a.acme.test"]);
    fs::write(plan.folder().join("eab.key"), mac).unwrap();
    let acme = format!(
        "acme:\n  authorities:\n    - {{ directory: 'https://localhost:1/dir', ca: {0} }}\n    - {{ directory: 'https://localhost:{1}/request', ca: {0} }}\n    - {{ directory: '{2}', ca: {3}, external-account: {{ key-id: kid-1, key-file: eab.key }} }}",
        garbage.file().display(),
        origin.address.port(),
        scene.pebble.directory,
        scene.pebble.authority.file().display(),
    );
    let edge = plan.with(&acme).start();
    assert!(scene.serves("a.acme.test").await, "{}", edge.program.said());
    drop(edge.program.says_times("no certificate", 2));
    assert!(edge.metrics().await.contains("result=\"failed\"} 1"), "{}", edge.metrics().await);
}

#[tokio::test]
async fn a_crash_or_a_damaged_file_costs_nothing_but_that_certificate() {
    let scene = Scene::new("", &[]);
    let mut edge = scene.plan("challenges: [http-01]", &["a.acme.test", "b.acme.test"]).start();
    // The order is under way, or just done: whatever was lost is asked for again.
    drop(scene.pebble.program.says("authz"));
    edge.crash_and_return();
    assert!(
        scene.serves("a.acme.test").await && scene.serves("b.acme.test").await,
        "{}",
        edge.program.said()
    );
    drop(edge.program.says_times("certificate is in force", 1));
    let kept = edge.file("data/certificates/a.acme.test.pem");
    let good = fs::read(edge.file("data/certificates/b.acme.test.pem")).unwrap();
    fs::write(&kept, "-----BEGIN NONSENSE").unwrap();
    edge.crash_and_return();
    drop(edge.program.says("kept certificate cannot be used"));
    assert!(
        scene.serves("b.acme.test").await && scene.serves("a.acme.test").await,
        "{}",
        edge.program.said()
    );
    assert!(fs::read_to_string(&kept).unwrap().contains("BEGIN CERTIFICATE"));
    assert_eq!(
        fs::read(edge.file("data/certificates/b.acme.test.pem")).unwrap(),
        good,
        "the other one is as it was"
    );
}

/// The clock goes on, the certificate gets old, and a new one comes; requests on a kept connection do not notice.
#[tokio::test]
async fn certificates_are_renewed_in_time_and_nothing_is_dropped() {
    let scene = Scene::new("", &[]);
    // pebble's certificates live for five years.
    let mut edge = scene.plan("challenges: [tls-alpn-01]", &["a.acme.test"]).start();
    assert!(scene.serves("a.acme.test").await, "{}", edge.program.said());
    let kept = fs::read(edge.file("data/certificates/a.acme.test.pem")).unwrap();
    edge.crash_and_return_at(Some("+4y"));
    let visitor = scene.visitor().await;
    let mut sender = visitor.connect("a.acme.test").await.unwrap();
    while !edge.program.said().contains("certificate is in force") {
        let request = visitor.request(http::Method::GET, "a.acme.test", "/", adit_testkit::visitor::empty());
        let answer = sender.send(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(adit_testkit::visitor::whole(answer).await.unwrap());
    }
    assert_ne!(fs::read(edge.file("data/certificates/a.acme.test.pem")).unwrap(), kept);
    // Its clock says that the new one is old too. It does not ask for ever.
    drop(edge.program.says_times("certificate is in force", 1));
    assert_eq!(edge.metrics().await.matches("result=\"given\"} 1").count(), 1);
}

#[tokio::test]
async fn a_failing_authority_is_told_to_the_operator_and_tried_again_later() {
    let scene = Scene::new("", &[]);
    // Its proofs are looked for where nobody answers.
    let listen = scene.listen().replace(&format!(":{HTTP}"), ":0").replace(&format!(":{HTTPS}"), ":0");
    let plan = scene.plan("challenges: [http-01]", &["a.acme.test"]).listen(&listen);
    let edge = plan.start();
    let line = edge.program.says("no certificate");
    assert!(line.contains("was not proven by Http01") && line.contains("a.acme.test"), "{line}");
    let status = failed(&edge).await;
    assert!(status[0]["next_try"].as_i64().is_some() && status[0]["last_error"].as_str().is_some());
}

/// Certificates from files: RSA for those who know nothing else; a new one without a restart; a bad one changes nothing.
#[tokio::test]
async fn files_are_watched_and_the_last_good_one_stays() {
    let (first, second) = (Authority::new(), Authority::new());
    let plan = Edge::plan().tunnel("home", &["*.example.test"]);
    let folder = plan.folder().to_owned();
    let place = |authority: &Authority| {
        let (ecdsa, rsa) = (authority.server(&["a.example.test"]), authority.server_rsa(&["a.example.test"]));
        for (from, to) in [
            (&ecdsa.key, "e.key"),
            (&ecdsa.certificate, "e.pem"),
            (&rsa.key, "r.key"),
            (&rsa.certificate, "r.pem"),
        ] {
            fs::copy(from, folder.join(to)).unwrap();
        }
    };
    place(&first);
    let edge = plan.with("certificates: [{ cert: e.pem, key: e.key }, { cert: r.pem, key: r.key }]").start();
    let visitor = |authority: &Authority| Visitor::new(edge.https, &authority.file());
    assert_eq!(visitor(&first).key_of("a.example.test").await.unwrap(), "ECDSA");
    let old = Visitor::with_old_tls(edge.https, &first.file());
    assert_eq!(old.key_of("a.example.test").await.unwrap(), "RSA");
    assert!(visitor(&first).raw("b.example.test").await.is_err(), "no certificate, no handshake");
    place(&second);
    let renewed = async {
        while visitor(&second).raw("a.example.test").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.unwrap();
    fs::write(folder.join("e.pem"), "nonsense").unwrap();
    drop(edge.program.says("certificate cannot be used"));
    assert_eq!(visitor(&second).key_of("a.example.test").await.unwrap(), "ECDSA", "the last good one");
}

/// Profiles and renewal windows, which Debian's pebble does not know yet.
#[tokio::test]
async fn an_authority_may_have_profiles_and_say_when_to_renew() {
    let acme = Acme::start();
    let lines = format!(
        "acme: {{ authorities: [{{ directory: '{}', ca: {}, profile: shortlived }}] }}",
        acme.directory,
        acme.authority.file().display()
    );
    let mut edge = Edge::plan().tunnel("home", &["a.example.test"]).with(&lines).start();
    drop(edge.program.says("certificate is in force"));
    let first = acme.orders();
    assert_eq!((first.len(), &first[0]["profile"]), (1, &"shortlived".into()), "{first:?}");
    acme.wants_renewal();
    // At its start an edge asks for the window of what it has.
    edge.crash_and_return();
    drop(edge.program.says("certificate is in force"));
    let orders = acme.orders();
    assert_eq!(orders.len(), 2, "{orders:?}");
    assert!(orders[1]["replaces"].as_str().is_some_and(|id| id.contains('.')), "{orders:?}");
}

#[tokio::test]
async fn an_authority_that_was_asked_too_often_is_left_in_peace() {
    let acme = Acme::start();
    acme.refuses_with("rateLimited");
    let authority = acme.authority.file();
    let lines = format!(
        "acme: {{ authorities: [{{ directory: '{}', ca: {} }}] }}",
        acme.directory,
        authority.display()
    );
    let edge = Edge::plan().tunnel("home", &["a.example.test"]).with(&lines).start();
    let status = failed(&edge).await;
    let pause = status[0]["next_try"].as_i64().unwrap() - now();
    assert!(pause > 50, "{status}");
}

fn now() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().try_into().unwrap()
}

/// What an operator asks first: how are they, and who can read what.
#[tokio::test]
async fn the_operator_sees_days_left_and_who_can_read() {
    let authority = Authority::new();
    let pair = authority.server(&["a.example.test"]);
    let lines = format!(
        "certificates: [{{ cert: {}, key: {} }}]\nhostnames: {{ vault.example.test: {{ tls: passthrough }} }}",
        pair.certificate.display(),
        pair.key.display()
    );
    // `adit status` finds the edge by its file.
    let at = own_address();
    let listen = format!("{{ https: '{at}:0', http: '{at}:0', tunnel: '{at}:0', admin: '{at}:7845' }}");
    let edge = Edge::plan().listen(&listen).tunnel("home", &["*.example.test"]).with(&lines).start();
    let config = edge.file("edge.yml").display().to_string();
    let status = adit_testkit::program::run(["status", "--config", &config]);
    assert!(status.stdout.contains("a.example.test") && status.stdout.contains("home"), "{status:?}");
    let read = adit_testkit::program::run(["explain", "https://a.example.test/x", "--config", &config]);
    assert!(read.stdout.contains("this edge, the connector and the origin"), "{read:?}");
    let sealed = adit_testkit::program::run(["explain", "vault.example.test", "--config", &config]);
    assert!(sealed.stdout.contains("home alone") && sealed.stdout.contains("home ("), "{sealed:?}");
    let stranger = adit_testkit::program::run(["explain", "https://other.example/", "--config", &config]);
    assert!(stranger.stdout.contains("none: no tunnel may serve this name"), "{stranger:?}");
    let nobody = adit_testkit::program::run(["explain", "https:///", "--config", &config]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
}

/// The connector proves its name through the passthrough itself; the key never leaves home.
#[tokio::test]
async fn a_connector_gets_a_certificate_through_the_passthrough() {
    let scene = Scene::new("", &[]);
    let name = "sealed.acme.test";
    let lines = format!("hostnames: {{ {name}: {{ tls: passthrough }} }}");
    let plan = Edge::plan().domain("acme.test").listen(&scene.listen()).tunnel("home", &["*.acme.test"]);
    let edge = plan.with(&lines).start();
    let origin = adit_testkit::Origin::start();
    let home = tempfile::tempdir().unwrap();
    let acme = format!(
        "acme: {{ authorities: [{}], challenges: [tls-alpn-01] }}\ndata-dir: {}",
        scene.pebble.yaml(),
        home.path().display()
    );
    let rules = format!(
        "  - hostname: {name}\n    service: http://{}\n    originRequest: {{ tlsCertificate: acme }}\n  - service: http_status:404",
        origin.address
    );
    let connector = Connector::start_with(Way::Quic, &edge, "home", &rules, &acme);
    assert!(scene.serves(name).await, "{}", connector.program.said());
    let answer = scene.visitor().await.get(name, "/request").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.text().contains("x-forwarded-for"), "nobody on the way has read it: {}", answer.text());
    assert_private(&home.path().join(format!("certificates/{name}.pem")));
    assert!(!edge.file("data/certificates").exists(), "the edge has no key");
}
