//! Parameters and cookies as origins may read them. Servers and frameworks disagree: about separators, percent-encoding, `+`,
//! brackets, dots, quotes and case. What is decided by a name is decided by every reading of it.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::COOKIE;
use percent_encoding::percent_decode_str;

/// A request that origins may read in several ways, so that one key would stand for several answers. It is neither looked up nor
/// kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// A name in the one form that all its spellings have: decoded as often as any server does, without what follows a bracket,
/// in lower case, and with `_` for what PHP replaces.
#[must_use]
pub fn plain_name(name: &str) -> Cow<'_, str> {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'~');
    if name.bytes().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let spaced = name.replace('+', " ");
    let once = percent_decode_str(&spaced).decode_utf8_lossy();
    let twice = percent_decode_str(&once).decode_utf8_lossy();
    let whole = twice.trim_matches(|letter: char| letter.is_whitespace() || letter.is_control());
    let base = whole.split(['[', '\0']).next().unwrap_or_default();
    Cow::Owned(base.to_lowercase().replace(['.', ' '], "_"))
}

/// The parameters of a query, between `&`.
pub fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&')
}

/// The name of a parameter as it is written.
#[must_use]
pub fn name_of(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

/// Whether a parameter has this name, in any reading; also one that a server finds inside of another one, behind `;`.
#[must_use]
pub fn has_parameter(query: &str, name: &str) -> bool {
    let wanted = plain_name(name);
    query.split(['&', ';']).any(|parameter| plain_name(name_of(parameter)) == wanted)
}

/// Whether a cookie has a name for which this holds, in any reading: also behind a comma, or inside of quotes.
#[must_use]
pub fn has_cookie(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> bool {
    headers.get_all(COOKIE).iter().any(|line| {
        let line = String::from_utf8_lossy(line.as_bytes());
        loose_names(&line).any(|name| wanted(&plain_name(name)))
    })
}

fn loose_names(line: &str) -> impl Iterator<Item = &str> {
    line.split([';', ',', '"']).map(name_of)
}

/// The value of a cookie that all servers read alike; `None` if there is none.
///
/// # Errors
/// [`Ambiguous`] where there are several, or something that some servers take for it and others do not.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Ambiguous> {
    let wanted = plain_name(name);
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        let line = line.to_str().map_err(|_| Ambiguous)?;
        let loose = loose_names(line).filter(|known| plain_name(known) == wanted).count();
        let pairs = line.split(';').filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='));
        let mut strict = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
        let value = strict.next();
        // Inside of quotes, some servers read no cookies.
        let is_quoted = value.is_some() && line.contains('"');
        if is_quoted
            || strict.next().is_some()
            || loose != usize::from(value.is_some())
            || (found.is_some() && value.is_some())
        {
            return Err(Ambiguous);
        }
        found = found.or(value);
    }
    // A quote, a backslash or a comma in the value ends it for some servers.
    match found {
        Some(value) if value.contains(['"', '\\', ',', ' ', '\t']) => Err(Ambiguous),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_name_is_the_name() {
        for name in [
            "page",
            "%70age",
            "%2570age",
            "Page",
            "PAGE",
            "page[]",
            "page%5B0%5D",
            "+page",
            "%20page",
            "page%00x",
            " page ",
        ] {
            assert_eq!(plain_name(name), "page", "{name}");
        }
        for name in ["a.b", "a_b", "a+b", "a%20b", "a%2eb"] {
            assert_eq!(plain_name(name), "a_b", "{name}");
        }
        assert!(has_parameter("x=1;page=9", "page") && has_parameter("a&%70age", "page"));
        assert!(!has_parameter("x=page&pages=1", "page"));
    }

    fn cookies(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, line.parse().unwrap())).collect()
    }

    #[test]
    fn a_cookie_is_read_where_all_servers_read_it_alike() {
        let read = |lines: &[&str]| cookie(&cookies(lines), "lang").map(|value| value.map(str::to_owned));
        let value = |text: &str| Ok(Some(text.to_owned()));
        for (lines, expected) in [
            (&[][..], Ok(None)),
            (&["a=1; b=2"], Ok(None)),
            (&["lang=de"], value("de")),
            (&["a=1; lang=de;b=2"], value("de")),
            (&["lang="], value("")),
            (&["lang=a=b"], value("a=b")),
            (&["a=1", "lang=de"], value("de")),
            (&["language=de; xlang=en"], Ok(None)),
            // Twice, in one line or in two.
            (&["lang=de; lang=en"], Err(Ambiguous)),
            (&["lang=de", "lang=en"], Err(Ambiguous)),
            (&["lang=de; lang=de"], Err(Ambiguous)),
            // Spellings that some servers take for it.
            (&["Lang=de"], Err(Ambiguous)),
            (&["lang =de"], Err(Ambiguous)),
            (&["%6Cang=de"], Err(Ambiguous)),
            (&["lang[]=de"], Err(Ambiguous)),
            (&["lang"], Err(Ambiguous)),
            (&["lang=de; LANG=en"], Err(Ambiguous)),
            // Separators and quotes.
            (&["a=1, lang=de"], Err(Ambiguous)),
            (&["a=\"x; lang=en\"; lang=de"], Err(Ambiguous)),
            (&["a=\"; lang=de; \""], Err(Ambiguous)),
            (&["lang=\"de\""], Err(Ambiguous)),
            (&["lang=de,en"], Err(Ambiguous)),
            (&["lang=d e"], Err(Ambiguous)),
            (&["lang=d\\\"e"], Err(Ambiguous)),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
        let mut broken = cookies(&["lang=de"]);
        broken.append(COOKIE, http::HeaderValue::from_bytes(b"a=\xff").unwrap());
        assert_eq!(cookie(&broken, "lang"), Err(Ambiguous));
        assert!(has_cookie(&cookies(&["a=\"x; lang=en\""]), |name| name == "lang"));
        assert!(!has_cookie(&cookies(&["language=1"]), |name| name == "lang"));
    }
}
