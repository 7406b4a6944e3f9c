//! What may have been meant by a word that is unknown.

/// The candidate that is closest to the word, if it is close enough.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bare = bare(word);
    let scored = candidates.into_iter().map(|candidate| (distance(&bare, &self::bare(candidate)), candidate));
    let (distance, best) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= bare.len() / 3).then_some(best)
}

/// Characters of a word that are compared. Longer ones are no typing errors.
const COMPARED_MAX: usize = 64;

/// `keepAliveTimeout`, `keep-alive-timeout` and `keep_alive_timeout` are the same word.
fn bare(word: &str) -> Vec<char> {
    let letters = word.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
    letters.take(COMPARED_MAX).map(|c| c.to_ascii_lowercase()).collect()
}

/// Letters to add, drop, change, or swap with their neighbour (optimal string alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let change = above[column] + usize::from(a != b);
            let mut best = change.min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *a == right[column - 1] && left[row - 1] == *b {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_is_meant() {
        let keys = ["hostnames", "secret-file", "id", "noTLSVerify", "ingress"];
        let cases = [
            ("hostnmes", Some("hostnames")),
            ("hostname", Some("hostnames")),
            ("secret_file", Some("secret-file")),
            ("secretFile", Some("secret-file")),
            ("notlsverify", Some("noTLSVerify")),
            ("igness", Some("ingress")),
            ("nigress", Some("ingress")),
            ("completely-different", None),
            ("", None),
            ("x", None),
        ];
        for (word, expected) in cases {
            assert_eq!(did_you_mean(word, keys), expected, "{word}");
        }
        assert_eq!(did_you_mean("anything", []), None);
    }

    #[test]
    fn distances_are_counted_in_steps() {
        let steps = |a: &str, b: &str| distance(&bare(a), &bare(b));
        assert_eq!(steps("kitten", "sitting"), 3);
        assert_eq!(steps("ab", "ba"), 1);
        assert_eq!(steps("", "abc"), 3);
        assert_eq!(steps("abc", "abc"), 0);
    }
}
