//! The line of a file that is shown beside a finding, without the secrets in it.

/// Characters of a line that are shown.
const SNIPPET_CHARS_MAX: usize = 160;

/// Characters of base64 in a row that look like a secret.
const SECRET_CHARS_MIN: usize = 40;

/// Keys whose value is a secret.
const SECRET_KEYS: [&str; 6] =
    ["token", "credentials-contents", "secret", "tunnelsecret", "api-key", "session-token"];

/// The line as it may be shown: tabs as spaces, secrets hidden, cut where it is too long.
pub(super) fn safe_line(line: &str) -> String {
    let line = line.replace('\t', " ");
    let shown = match secret_value_start(&line) {
        Some(start) => format!("{}…", line.get(..start).unwrap_or_default()),
        None => hide_long_words(&line),
    };
    match shown.char_indices().nth(SNIPPET_CHARS_MAX) {
        Some((end, _)) => format!("{}…", shown.get(..end).unwrap_or_default()),
        None => shown,
    }
}

/// Where the value of a secret key begins.
fn secret_value_start(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    SECRET_KEYS.iter().filter_map(|key| value_start(&lower, key)).min()
}

fn value_start(line: &str, key: &str) -> Option<usize> {
    line.match_indices(key).find_map(|(start, _)| {
        let before = line.get(..start)?.chars().next_back();
        let rest = line.get(start + key.len()..)?;
        let colon = rest.trim_start_matches(['"', '\'', ' ']);
        let whole_word = before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-');
        (whole_word && colon.starts_with(':')).then(|| line.len() - colon.len() + 1)
    })
}

fn hide_long_words(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut word = String::new();
    for c in line.chars() {
        if c.is_ascii_alphanumeric() || "+/=".contains(c) {
            word.push(c);
            continue;
        }
        flush(&mut shown, &mut word);
        shown.push(c);
    }
    flush(&mut shown, &mut word);
    shown
}

fn flush(shown: &mut String, word: &mut String) {
    match word.len() >= SECRET_CHARS_MIN {
        true => shown.push('…'),
        false => shown.push_str(word),
    }
    word.clear();
}
