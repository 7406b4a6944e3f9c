//! Trees: where things stand, and what is refused.

use std::path::Path;

use super::*;
use crate::diagnostic::{Findings, Report};
use crate::source::Source;

fn read(text: &str) -> Result<Node, Report> {
    let mut findings = Findings::new(&Source::new(Path::new("f.yml"), text)?);
    let root = parse(&mut findings);
    findings.finish(root).map(|(root, _)| root)
}

fn message(text: &str) -> String {
    let report = read(text).unwrap_err();
    let first = &report.0[0];
    format!("{}:{}: {}", first.line, first.column, first.message)
}

fn get<'n>(node: &'n Node, key: &str) -> &'n Node {
    let Kind::Map(entries) = &node.kind else { panic!("no table") };
    &entries.iter().find(|(name, _)| name.as_text() == Some(key)).unwrap().1
}

#[test]
fn scalars_stay_as_they_are_written() {
    let root =
        read("a: 123\nb: 1.10\nc: yes\nd: '5'\ne: |\n  x\n  y\nf: 0x1F\ng: !!str 7\nh: ~\ni:\n").unwrap();
    let text = |key| get(&root, key).as_text().map(str::to_owned);
    assert_eq!(text("a").as_deref(), Some("123"));
    assert_eq!(text("b").as_deref(), Some("1.10"));
    assert_eq!(text("e").as_deref(), Some("x\ny\n"));
    assert_eq!(text("f").as_deref(), Some("0x1F"));
    assert_eq!(get(&root, "c").describe(), "a truth value");
    assert_eq!(get(&root, "d").describe(), "a text");
    assert_eq!(get(&root, "g").describe(), "a text");
    assert!(get(&root, "h").is_null() && get(&root, "i").is_null());
}

#[test]
fn everything_knows_where_it_stands() {
    let root = read("# comment\na:\n  - bücher: 'x y'\n").unwrap();
    let Kind::List(items) = &get(&root, "a").kind else { panic!("no list") };
    let value = get(&items[0], "bücher");
    assert_eq!(value.span, Span { line: 3, column: 13, width: 5 });
}

#[test]
fn aliases_and_merge_keys_are_filled_in() {
    let root =
        read("base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\nmany: {<<: [*b, {z: 4}]}\nsame: *b\n").unwrap();
    assert_eq!(get(get(&root, "own"), "x").as_text(), Some("1"));
    assert_eq!(get(get(&root, "own"), "y").as_text(), Some("3"));
    assert_eq!(get(get(&root, "many"), "z").as_text(), Some("4"));
    assert_eq!(get(get(&root, "same"), "y").as_text(), Some("2"));
    assert_eq!(get(&root, "same").span.line, 4);
    assert_eq!(message("a: {<<: 5}"), "1:9: `<<` takes a table, not a number");
}

#[test]
fn an_alias_cannot_stand_inside_of_itself() {
    assert_eq!(message("a: &a [*a]"), "1:8: an alias cannot stand inside of what it repeats");
}

#[test]
fn a_file_with_nothing_in_it_is_null() {
    for text in ["", "\n\n", "# only this\n", "---\n", "~", "--- # x\n..."] {
        assert!(read(text).unwrap().is_null(), "{text:?}");
    }
}

#[test]
fn bombs_are_refused_quickly() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..60 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", ")));
    }
    assert!(message(&text).contains("too many values"));
    assert!(message(&format!("a: {}", "[".repeat(100_000))).contains("nested deeper than 64"));
    assert!(message(&"- ".repeat(100_000)).contains("nested deeper than 64"));
    assert!(message(&format!("[{}]", "x,".repeat(600_000))).contains("too many values"));
    let merges = format!("a: &a {{x: 1}}\nb: {{<<: [{}]}}\n", "*a,".repeat(300_000));
    assert!(message(&merges).contains("too many values"));
}

#[test]
fn odd_texts_never_panic() {
    let texts = [
        "\u{0}",
        "\t",
        "a: \"",
        "a: '",
        "a: |9\n x",
        "%YAML 9.9\n---\na",
        "!<x> a",
        "&a *a",
        "? ",
        ": ",
        "- - - -",
        "{a: b",
        "a:\n\tb: c",
        "*",
        "&",
        "a: b: c",
        "[a]: b",
        "\u{2028}",
        "a: \u{feff}b",
        "--- a\n--- b",
        "<<: x",
        "{<<: }",
        "a: @b",
        "a: `b`",
        "'a' 'b'",
        "a: %x",
        "...",
        "... x",
        "!!binary x",
        "a: !!map []",
    ];
    for text in texts {
        if let Err(report) = read(text) {
            assert!(!report.to_string().is_empty());
        }
    }
}
