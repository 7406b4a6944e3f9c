//! Golden messages: `golden/*.yml` are read, and what is said about them stands in the `.txt` beside each. Files that
//! begin with `edge` are edge files, the others are connector files. `UPDATE_GOLDEN=1` writes the answers anew; read
//! the difference before you commit it.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};

use adit_config::connector::ConnectorFile;
use adit_config::diagnostic::Report;
use adit_config::edge::EdgeFile;

#[test]
fn messages_are_as_written_down() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    for path in files("golden") {
        let actual = messages(&path);
        let expected_path = path.with_extension("txt");
        if update {
            std::fs::write(&expected_path, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if actual != expected {
            different.push(format!("{}:\n{actual}", path.display()));
        }
    }
    assert!(different.is_empty(), "different from the golden file:\n{}", different.join("\n"));
}

#[test]
fn examples_are_accepted_without_a_word() {
    for path in files("accepted") {
        assert_eq!(messages(&path), "accepted\n", "{}", path.display());
    }
}

/// Every file, cut off everywhere and with a wrong character everywhere: always an answer, never a panic.
#[test]
fn damaged_files_get_an_answer() {
    for path in files("golden").into_iter().chain(files("accepted")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for (position, _) in text.char_indices().take(800) {
            let (before, after) = text.split_at(position);
            answer(name, before);
            let wrong = ["\t", "*", "\"", "- ", ": ", "[", "<<"][position % 7];
            answer(name, &format!("{before}{wrong}{after}"));
        }
    }
}

fn answer(name: &str, text: &str) {
    let report = match name.starts_with("edge") {
        true => EdgeFile::parse(text, Path::new(name)).err(),
        false => ConnectorFile::parse(text, Path::new(name)).err(),
    };
    assert!(report.is_none_or(|report| !report.to_string().is_empty()));
}

fn messages(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let result = match name.starts_with("edge") {
        true => EdgeFile::parse(&text, Path::new(name)).map(|(_, warnings)| warnings),
        false => ConnectorFile::parse(&text, Path::new(name)).map(|(_, warnings)| warnings),
    };
    match result {
        Ok(warnings) if warnings.is_empty() => "accepted\n".to_owned(),
        Ok(warnings) => format!("{}\naccepted\n", Report(warnings)),
        Err(report) => format!("{report}\n"),
    }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "yml")).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}
