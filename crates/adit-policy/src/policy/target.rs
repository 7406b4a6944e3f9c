//! The one form of a path that rules are compared with: a visitor cannot get around a rule by writing the path otherwise.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'p> {
    /// Percent-decoded, without `.`, `..` and doubled slashes.
    pub text: Cow<'p, str>,
    /// Whether origins may disagree about what was meant: the path was written in another form. Such answers are not kept.
    pub is_ambiguous: bool,
}

impl<'p> NormalPath<'p> {
    /// The one form of a path as it was asked for.
    #[must_use]
    pub fn of(path: &'p str) -> Self {
        if is_normal(path) {
            return Self { text: path.into(), is_ambiguous: false };
        }
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let text = resolve(&decoded.replace('\\', "/"));
        // Spaces, umlauts and their kin have to be written as they are written; what steers is ambiguous.
        let steers = decoded.contains(['\\', '\0', '%']) || has_dots(&decoded) || decoded.contains("//");
        let hidden = decoded.matches('/').count() != path.matches('/').count();
        Self { text: text.into(), is_ambiguous: steers || hidden }
    }
}

fn is_normal(path: &str) -> bool {
    !path.contains(['%', '\\']) && !path.contains("//") && !has_dots(path)
}

fn has_dots(path: &str) -> bool {
    path.split('/').any(|segment| segment == "." || segment == "..")
}

fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').peekable();
    let mut ends_in_slash = false;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "" | "." => ends_in_slash = is_last,
            ".." => {
                kept.pop();
                ends_in_slash = is_last;
            }
            segment => kept.push(segment),
        }
    }
    let end = if ends_in_slash && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for (path, expected, ambiguous) in [
            ("/", "/", false),
            ("/a/b.css", "/a/b.css", false),
            ("/user/login", "/user/login", false),
            ("/user/%6Cogin", "/user/login", false),
            ("//user///login", "/user/login", true),
            ("/x/../user/login", "/user/login", true),
            ("/x/%2e%2e/user/login", "/user/login", true),
            ("/user%2Flogin", "/user/login", true),
            ("/user\\login", "/user/login", true),
            ("/a/./b/", "/a/b/", true),
            ("/a/..", "/", true),
            ("/../../etc", "/etc", true),
            ("/100%25", "/100%", true),
            ("/m%C3%BCller", "/müller", false),
            ("/a%20b", "/a b", false),
            ("/%ff", "/\u{fffd}", false),
            ("/nul%00", "/nul\0", true),
            ("*", "*", false),
        ] {
            let normal = NormalPath::of(path);
            assert_eq!(normal.text, expected, "{path}");
            assert_eq!(normal.is_ambiguous, ambiguous, "{path}");
        }
    }
}
