//! Which sections of a file are there: a file that is cut off, or was emptied by an editor that writes in place, is not a
//! wish to have nothing. Who wants a section to be empty writes so: `ingress: []`, `hostnames: {}`.

use std::collections::BTreeSet;

use crate::yaml::Table;

/// Sections that have a value, be it an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections(BTreeSet<&'static str>);

/// A section that is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{section}` was there before and is gone: the file may be empty or cut off; to have none on purpose, write `{section}: {empty}`"
)]
pub struct SectionLost {
    section: &'static str,
    empty: &'static str,
}

/// A section that may not vanish without a word: its keys, any of which is enough, and how it is written when it is empty.
pub(crate) type Guarded = (&'static [&'static str], &'static str);

impl Sections {
    /// Those of the guarded sections that a table has.
    pub(crate) fn of(table: &Table<'_>, guarded: &[Guarded]) -> Self {
        let has = |(keys, _): &&Guarded| keys.iter().any(|key| table.has_value(key));
        Self(guarded.iter().filter(has).filter_map(|(keys, _)| keys.first().copied()).collect())
    }

    /// Whether every guarded section of the file before is still there.
    ///
    /// # Errors
    /// The first that is not.
    pub(crate) fn follow(&self, before: &Self, guarded: &[Guarded]) -> Result<(), SectionLost> {
        let lost = guarded.iter().find_map(|(keys, empty)| {
            let section = *keys.first()?;
            (before.0.contains(section) && !self.0.contains(section))
                .then_some(SectionLost { section, empty })
        });
        lost.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::connector::ConnectorFile;
    use crate::edge::EdgeFile;

    fn connector(text: &str) -> ConnectorFile {
        ConnectorFile::parse(text, Path::new("config.yml")).unwrap().0
    }

    fn edge(text: &str) -> EdgeFile {
        let text = format!("domain: home.example\n{text}");
        EdgeFile::parse(&text, Path::new("edge.yml")).unwrap().0
    }

    #[test]
    fn a_connector_s_rules_go_only_by_a_word() {
        let rules = "ingress: [{ service: 'http://localhost:1' }]\n";
        for (before, after, follows) in [
            (rules, "", false),
            (rules, "ingress:\n", false),
            (rules, "tunnel: a\n", false),
            (rules, "ingress: []\n", true),
            (rules, "url: http://localhost:2\n", true),
            ("url: http://localhost:2\n", "tunnel: a\n", false),
            ("url: http://localhost:2\n", rules, true),
            ("", "", true),
            ("", rules, true),
            ("accept-rules: false\n", "tunnel: a\n", false),
            ("accept-rules: false\n", "accept-rules: {}\n", true),
            ("warp-routing: { ipRules: [{ prefix: 10.0.0.0/8, allow: true }] }\n", "", false),
        ] {
            assert_eq!(connector(after).follow(&connector(before)).is_ok(), follows, "{before:?} {after:?}");
        }
        let lost = connector("").follow(&connector(rules)).unwrap_err().to_string();
        assert!(lost.contains("`ingress` was there before") && lost.contains("`ingress: []`"), "{lost}");
    }

    #[test]
    fn an_edge_s_sections_go_only_by_a_word() {
        for (before, after, follows) in [
            ("tunnels: { a: { hostnames: [a.home.example] } }\n", "", false),
            ("tunnels: { a: { hostnames: [a.home.example] } }\n", "tunnels:\n", false),
            ("tunnels: { a: { hostnames: [a.home.example] } }\n", "tunnels: {}\n", true),
            ("defaults: { deny: [192.0.2.0/24] }\n", "", false),
            ("hostnames: { a.home.example: { deny: [192.0.2.0/24] } }\n", "hostnames: {}\n", true),
            ("deny-lists: [a]\n", "deny-lists: []\n", true),
            ("deny-lists: [a]\n", "", false),
            ("", "", true),
        ] {
            assert_eq!(edge(after).follow(&edge(before)).is_ok(), follows, "{before:?} {after:?}");
        }
    }
}
