//! Files on disk: secrets, certificates, stored tunnels, and files that are no configuration at all.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use adit_config::check::{FileKind, check};
use adit_config::connector::ConnectorFile;
use adit_config::edge::{AccessLog, EdgeFile};
use adit_config::stored::{StoredSecret, StoredTunnel, load_all};
use adit_policy::host::HostPattern;
use adit_policy::snapshot::TunnelId;
use adit_wire::credentials::Credentials;
use adit_wire::secret::Secret;

const ID: &str = "6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11";
const OTHER_ID: &str = "9b02d7f4-4a51-4a53-8d4c-0d2b7a4c1e22";
/// Base64 of the bytes 0 to 31.
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// What is said about an edge file, without the name of the folder.
    fn messages(&self, edge: &str) -> String {
        let path = self.write("edge.yml", edge, 0o600);
        let text = match EdgeFile::load(&path) {
            Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            Err(report) => report.to_string(),
        };
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn edge_with(secret_file: &str) -> String {
    format!("domain: home.example\ntunnels:\n  a:\n    id: {ID}\n    secret-file: {secret_file}\n")
}

fn credentials(id: &str) -> Credentials {
    Credentials {
        account_tag: "acc".to_owned(),
        tunnel_secret: Secret::new((0..32).collect()),
        tunnel_id: id.parse().unwrap(),
        endpoint: String::new(),
    }
}

#[test]
fn a_secret_is_base64_or_credentials_or_a_token() {
    let folder = Folder::new();
    let token = adit_wire::token::encode(&credentials(ID));
    let contents =
        [(format!("{SECRET}\n"), None), (credentials(ID).to_json(), Some("acc")), (token, Some("acc"))];
    for (content, account) in contents {
        folder.write("s", content, 0o600);
        let path = folder.write("edge.yml", edge_with("s"), 0o600);
        let (file, warnings) = EdgeFile::load(&path).unwrap();
        assert_eq!(warnings, []);
        let snapshot = file.snapshot();
        let tunnel = snapshot.tunnel(TunnelId(ID.parse().unwrap())).unwrap();
        assert!(tunnel.secret.verify(&(0..32).collect::<Vec<u8>>(), 0));
        assert_eq!(tunnel.account_tag.as_deref(), account);
        assert!(!format!("{file:?}").contains("AAEC"));
    }
}

#[test]
fn a_bad_secret_file_is_reported_where_it_is_named() {
    let folder = Folder::new();
    let place = "edge.yml:5:18: error: the secret file `s`";
    let first_line = |folder: &Folder| folder.messages(&edge_with("s")).lines().next().unwrap().to_owned();
    assert!(first_line(&folder).starts_with(&format!("{place} cannot be read: No such file")));
    let cases: [(&[u8], &str); 6] = [
        (b"", "is empty"),
        (b"?!", "holds neither base64 nor a credentials file"),
        (b"c2hvcnQ=", "holds a secret of 5 bytes: it needs at least 16"),
        (b"{\"AccountTag\":\"x\"}", "is no credentials file: `TunnelSecret` is missing"),
        (b"\xff\xfe", "holds neither base64 nor a credentials file"),
        (&[b'A'; 70_000], "is larger than 65536 bytes"),
    ];
    for (content, what) in cases {
        folder.write("s", content, 0o600);
        assert_eq!(first_line(&folder), format!("{place} {what}"));
    }
    folder.write("s", credentials(OTHER_ID).to_json(), 0o600);
    assert_eq!(first_line(&folder), format!("{place} is for tunnel {OTHER_ID}, not for {ID}"));
}

#[test]
fn a_secret_that_everybody_can_read_is_a_warning() {
    let folder = Folder::new();
    folder.write("s", SECRET, 0o644);
    let messages = folder.messages(&edge_with("s"));
    assert!(
        messages.starts_with("edge.yml:5:18: warning: the secret file `s` can be read by everybody"),
        "{messages}"
    );
    assert!(messages.ends_with("= help: chmod 600 s"), "{messages}");
}

#[test]
fn secrets_and_syntax_are_reported_together() {
    let folder = Folder::new();
    let messages =
        folder.messages(&format!("{}typo: 1\ncertificates: [{{ cert: c, key: k }}]\n", edge_with("s")));
    for part in
        ["secret file `s` cannot be read", "unknown key `typo`", "`c` cannot be read", "`k` cannot be read"]
    {
        assert!(messages.contains(part), "{messages}");
    }
}

#[test]
fn paths_start_at_the_file() {
    let text = "domain: home.example\naccess-log: log/a\ncertificates: [{ cert: c.pem, key: /k.pem }]\n";
    let (file, _) = EdgeFile::parse(text, Path::new("/etc/adit/edge.yml")).unwrap();
    assert_eq!(file.data_dir, Path::new("/etc/adit/data"));
    assert_eq!(file.access_log, AccessLog::File("/etc/adit/log/a".into()));
    assert_eq!(file.certificates[0].cert, Path::new("/etc/adit/c.pem"));
    assert_eq!(file.certificates[0].key, Path::new("/k.pem"));
    assert_eq!(file.listen.https[0].to_string(), "[::]:443");
    assert_eq!(file.listen.admin.unwrap().to_string(), "127.0.0.1:7845");
}

#[test]
fn files_that_are_no_text_are_refused() {
    let folder = Folder::new();
    let load = |content: &[u8]| {
        let path = folder.write("config.yml", content, 0o600);
        let text = ConnectorFile::load(&path).unwrap_err().to_string();
        text.replace(&format!("{}/", folder.0.path().display()), "")
    };
    assert!(
        load(b"tunnel: x\nurl: \xff\n").starts_with("config.yml:2:6: error: the file is not UTF-8 text\n")
    );
    assert!(load(b"\xff\xfet\0u\0").starts_with("config.yml:1:1: error: the file is not UTF-8 text\n"));
    let large = load(&vec![b'#'; 10 * 1024 * 1024]);
    assert_eq!(large, "config.yml: error: the file is too large (more than 4 MiB)");
    assert!(ConnectorFile::load(&folder.path("none")).unwrap_err().to_string().contains("cannot be read"));
    assert!(ConnectorFile::load(folder.0.path()).is_err());
}

#[test]
fn a_check_tells_the_files_apart() {
    let folder = Folder::new();
    let path = folder.write("any.yml", "domain: home.example\n", 0o600);
    let outcome = check(&path);
    assert_eq!((outcome.kind, outcome.is_ok()), (Some(FileKind::Edge), true));
    assert!(outcome.summary.contains("no tunnels yet"), "{}", outcome.summary);

    let rules = "tunnel: t\ningress:\n  - { hostname: a.example, path: /x, service: 'http://h:1' }\n  - service: bastion\n";
    let outcome = check(&folder.write("any.yml", rules, 0o600));
    assert_eq!((outcome.kind, outcome.is_ok()), (Some(FileKind::Connector), true));
    assert!(
        outcome.summary.contains("a.example /x                     -> http://h:1"),
        "{}",
        outcome.summary
    );

    let outcome = check(&folder.write("any.yml", "tunnel: t\ningress: []\n", 0o600));
    assert_eq!((outcome.is_ok(), outcome.report.0.len()), (true, 1));

    for (text, part) in [("a: 1\n", "neither an edge.yml nor"), ("a: [\n", "not valid YAML"), ("", "neither")]
    {
        let outcome = check(&folder.write("any.yml", text, 0o600));
        assert_eq!((outcome.kind, outcome.is_ok()), (None, false));
        assert!(outcome.report.to_string().contains(part), "{}", outcome.report);
    }
}

#[test]
fn a_check_of_an_edge_sees_its_stored_tunnels() {
    let folder = Folder::new();
    folder.write("s", SECRET, 0o600);
    let path = folder.write("edge.yml", edge_with("s"), 0o600);
    let stored = |id: &str| StoredTunnel {
        name: "b".to_owned(),
        id: TunnelId(id.parse().unwrap()),
        account_tag: None,
        secrets: vec![StoredSecret { secret: Secret::new(vec![1; 32]), not_after: None }],
        hostnames: vec![HostPattern::parse("*.b.example").unwrap()],
    };
    folder.write("data/tunnels/b.json", stored(OTHER_ID).to_json(), 0o600);
    folder.write("data/tunnels/.b.json.new", "half", 0o600);
    let outcome = check(&path);
    assert!(outcome.summary.contains("tunnel b                         *.b.example"), "{outcome:?}");

    folder.write("data/tunnels/b.json", stored(ID).to_json(), 0o600);
    assert!(check(&path).report.to_string().contains("tunnels `a` and `b` have the same id"));

    folder.write("data/tunnels/b.json", "{", 0o600);
    folder.write("data/tunnels/c.json", stored(OTHER_ID).to_json(), 0o600);
    let report = load_all(&folder.path("data")).unwrap_err().to_string();
    assert!(report.contains("b.json: error: not the JSON of a tunnel (line 1, column 1)"), "{report}");
    assert!(report.contains("c.json: error: the file holds tunnel `b`"), "{report}");
    assert!(load_all(&folder.path("nowhere")).unwrap().is_empty());
}
