//! Findings: their order, their number, and what they never show.

use std::path::Path;

use super::*;

fn findings(text: &str) -> Findings {
    Findings::new(&Source::new(Path::new("f.yml"), text).unwrap())
}

fn span(line: usize, column: usize, width: usize) -> Span {
    Span { line, column, width }
}

#[test]
fn findings_are_rendered_with_their_line() {
    let mut findings = findings("a: 1\nbücher:\tx\n");
    findings.error(span(2, 9, 1), "no books").help("read more");
    findings.warning(span(1, 1, 1), "an a");
    findings.error(Span::default(), "nowhere");
    let report = findings.finish(Some(())).unwrap_err();
    let expected = "\
f.yml:1:1: warning: an a
  |
1 | a: 1
  | ^
f.yml:2:9: error: no books
  |
2 | bücher: x
  |         ^
  = help: read more
f.yml: error: nowhere";
    assert_eq!(report.to_string(), expected);
}

#[test]
fn a_caret_stays_within_its_line() {
    let mut findings = findings("ab\n");
    findings.error(span(1, 1, usize::MAX), "wide");
    findings.error(span(1, 3, 1), "at the end");
    findings.error(span(1, 99, 1), "beyond");
    findings.error(span(7, 1, 1), "no such line");
    let text = findings.finish::<()>(None).unwrap_err().to_string();
    assert!(text.contains("  | ^^\nf.yml"), "{text}");
    assert!(text.contains("  |   ^\nf.yml"), "{text}");
    assert!(text.ends_with("f.yml:7:1: error: no such line"), "{text}");
}

#[test]
fn warnings_alone_refuse_nothing() {
    let mut findings = findings("a: 1\n");
    findings.warning(span(1, 1, 1), "an a");
    let (value, warnings) = findings.finish(Some(5)).unwrap();
    assert_eq!((value, warnings.len()), (5, 1));
}

#[test]
fn past_the_cap_findings_are_counted() {
    let mut findings = findings("a: 1\n");
    for _ in 0..1000 {
        findings.error(span(1, 1, 1), "again");
    }
    let report = findings.finish::<()>(None).unwrap_err();
    assert_eq!(report.0.len(), FINDINGS_MAX + 1);
    assert!(report.to_string().ends_with("f.yml: error: 900 more findings are not shown"));
}

#[test]
fn secrets_are_not_shown() {
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
    let lines = [
        format!("token: {secret}"),
        "token: short".to_owned(),
        "  'token' : short".to_owned(),
        "credentials-contents: '{\"TunnelSecret\":\"short\"}'".to_owned(),
        "{\"AccountTag\":\"a\",\"TunnelSecret\":\"short\"}".to_owned(),
        format!("anything: {secret}"),
        format!("anything: {}", "x".repeat(500)),
    ];
    for line in lines {
        let mut findings = findings(&line);
        findings.error(span(1, 1, 1), "here");
        let text = findings.finish::<()>(None).unwrap_err().to_string();
        assert!(!text.contains("short") && !text.contains("c2Vj") && !text.contains("xxxx"), "{text}");
    }
}

#[test]
fn what_is_no_secret_is_shown() {
    for line in
        ["token-file: /run/secrets/token", "path: ^/user/(login|sign_up)/[a-z]+$", "hostname: token.example"]
    {
        let mut findings = findings(line);
        findings.error(span(1, 1, 1), "here");
        let text = findings.finish::<()>(None).unwrap_err().to_string();
        assert!(text.contains(line), "{text}");
    }
}
