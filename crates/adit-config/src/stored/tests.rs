//! Stored tunnels: read, written, and brought together with the file.

use super::*;
use crate::edge::EdgeFile;

const ID: &str = "6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11";
const OTHER_ID: &str = "9b02d7f4-4a51-4a53-8d4c-0d2b7a4c1e22";

fn stored(name: &str, id: &str, hostnames: &[&str]) -> StoredTunnel {
    StoredTunnel {
        name: name.to_owned(),
        id: TunnelId(id.parse().unwrap()),
        account_tag: Some("acc".to_owned()),
        secrets: vec![
            StoredSecret { secret: Secret::new(vec![2; 32]), not_after: None },
            StoredSecret { secret: Secret::new(vec![1; 32]), not_after: Some(1000) },
        ],
        hostnames: hostnames.iter().map(|text| HostPattern::parse(text).unwrap()).collect(),
    }
}

fn edge(tunnels: &str) -> EdgeFile {
    let text = format!("domain: home.example\n{tunnels}");
    EdgeFile::parse(&text, Path::new("etc/edge.yml")).unwrap().0
}

#[test]
fn a_stored_tunnel_reads_what_it_writes() {
    let tunnel = stored("p510", ID, &["*.home.example", "a.example"]);
    let json = tunnel.to_json();
    let again = StoredTunnel::parse(&json).unwrap();
    assert_eq!(again.to_json(), json);
    assert_eq!(again.tunnel().grant.patterns().len(), 2);
    assert!(again.tunnel().secret.verify(&[1; 32], 1000));
    assert!(!again.tunnel().secret.verify(&[1; 32], 1001));
    assert!(json.contains("\"not-after\": 1000"));
    assert!(!format!("{tunnel:?}").contains("2, 2"));
}

#[test]
fn a_bad_file_says_what_is_wrong_without_its_secret() {
    let json = |secret: &str, name: &str, host: &str| {
        format!(
            r#"{{"name":"{name}","id":"{ID}","secrets":[{{"secret":"{secret}"}}],"hostnames":["{host}"]}}"#
        )
    };
    let good = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    assert!(StoredTunnel::parse(&json(good, "a", "*")).is_ok());
    let error = |text: &str| StoredTunnel::parse(text).unwrap_err();
    assert_eq!(error(&json("AAEC", "a", "*")), StoredError::Secret(1));
    assert_eq!(error(&json("???", "a", "*")), StoredError::Secret(1));
    assert_eq!(error(&json(good, "../a", "*")), StoredError::Name(NameError::Start));
    assert_eq!(error(&json(good, "a", "a.*.b")), StoredError::Pattern("a.*.b".to_owned()));
    assert!(matches!(error(&json(good, "a", "*").replace(ID, good)), StoredError::Json { line: 1, .. }));
    assert!(!error(&json(good, "a", "*").replace(ID, good)).to_string().contains(good));
    assert!(matches!(error(""), StoredError::Json { .. }));
}

#[test]
fn both_kinds_of_tunnels_make_one_whole() {
    let edge =
        edge(&format!("tunnels: {{ a: {{ id: {ID}, secret-file: s, hostnames: [a.example, '*.x'] }} }}"));
    let snapshot = merge(&edge, vec![stored("b", OTHER_ID, &["b.example", "b.example", "*.x"])]).unwrap();
    assert_eq!(snapshot.tunnels().len(), 2);
    assert!(snapshot.tunnel_by_name("b").unwrap().secret.verify(&[2; 32], 0));
    assert_eq!(snapshot.domain.as_str(), "home.example");
}

#[test]
fn clashes_name_both_places() {
    let edge = edge(&format!("tunnels:\n  a: {{ id: {ID}, secret-file: s, hostnames: [a.example] }}\n"));
    let report = merge(&edge, vec![stored("a", ID, &["a.example"]), stored("c", ID, &[])]).unwrap_err();
    let expected = "\
etc/edge.yml:3:3: error: there are two tunnels named `a`
  |
3 |   a: { id: 6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11, secret-file: s, hostnames: [a.example] }
  |   ^
  = help: the other is etc/data/tunnels/a.json; change one of them, or delete it
etc/edge.yml:3:12: error: tunnels `a` and `a` have the same id 6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11
  |
3 |   a: { id: 6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11, secret-file: s, hostnames: [a.example] }
  |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: the other is etc/data/tunnels/a.json; change one of them, or delete it
etc/edge.yml:3:78: error: `a.example` is granted to both tunnels `a` and `a`
  |
3 |   a: { id: 6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11, secret-file: s, hostnames: [a.example] }
  |                                                                              ^^^^^^^^^
  = help: the other is etc/data/tunnels/a.json; change one of them, or delete it
etc/edge.yml:3:12: error: tunnels `a` and `c` have the same id 6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11
  |
3 |   a: { id: 6f1c0a52-6c5a-4a0e-9d0b-1f0f5a7e2c11, secret-file: s, hostnames: [a.example] }
  |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: the other is etc/data/tunnels/c.json; change one of them, or delete it";
    assert_eq!(report.to_string(), expected);
    let nothing = EdgeFile::parse("domain: home.example", Path::new("etc/edge.yml")).unwrap().0;
    let report = merge(&nothing, vec![stored("b", ID, &["a.x"]), stored("c", OTHER_ID, &["a.x"])]);
    let expected = "\
etc/data/tunnels/b.json: error: `a.x` is granted to both tunnels `b` and `c`
  = help: the other is etc/data/tunnels/c.json; change one of them, or delete it";
    assert_eq!(report.unwrap_err().to_string(), expected);
}
