//! What programs are known to do with a path before they act on it, each as a step of its own. Any of them may be done, in any
//! order; a step that does not apply leaves the path as it is.

/// One step from a reading of a path to another.
pub(super) type Operation = fn(&[u8]) -> Vec<u8>;

/// All steps that are known.
pub(super) const ALL: [Operation; 13] = [
    decode,
    decode_but_slashes,
    decode_leniently,
    backslashes_to_slashes,
    strip_parameters,
    merge_slashes,
    resolve_dots,
    drop_authority,
    cut_at_control,
    remove_controls,
    cut_at_fragment,
    cut_at_query,
    asterisk_to_root,
];

/// Characters that are written like one of ASCII: under Unicode's compatibility forms, or where a path becomes text in a code
/// page of Windows, they become that one.
const LOOK_ALIKES: [(char, u8); 13] = [
    ('\u{2024}', b'.'),
    ('\u{2044}', b'/'),
    ('\u{2215}', b'/'),
    ('\u{2216}', b'\\'),
    ('\u{fe52}', b'.'),
    ('\u{fe54}', b';'),
    ('\u{fe68}', b'\\'),
    ('\u{fe6a}', b'%'),
    ('\u{ff05}', b'%'),
    ('\u{ff0e}', b'.'),
    ('\u{ff0f}', b'/'),
    ('\u{ff1b}', b';'),
    ('\u{ff3c}', b'\\'),
];

/// Decodes what every program takes for the same: all but the characters that separate, and control characters.
pub(super) fn decode_plain(path: &[u8]) -> Vec<u8> {
    let keeps = |byte| is_control(byte) || matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#');
    decode_where(path, |byte| !keeps(byte))
}

/// Go, nginx, IIS and most frameworks: decoded once more.
pub(super) fn decode(path: &[u8]) -> Vec<u8> {
    decode_where(path, |_| true)
}

/// Apache and Tomcat: `%2F` stays as it is.
pub(super) fn decode_but_slashes(path: &[u8]) -> Vec<u8> {
    decode_where(path, |byte| byte != b'/')
}

/// Decodes escapes of the bytes for which `is_decoded` says so. Others are kept, with upper-case digits.
fn decode_where(path: &[u8], is_decoded: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = match (first, escaped(rest)) {
            (_, Some(byte)) if is_decoded(byte) => {
                decoded.push(byte);
                &after[2..]
            }
            (_, Some(_)) => {
                decoded.extend(rest[..3].iter().map(u8::to_ascii_uppercase));
                &after[2..]
            }
            (first, None) => {
                decoded.push(*first);
                after
            }
        };
    }
    decoded
}

/// The byte of the escape with which a text begins.
fn escaped(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    }
}

fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

/// Old or careless decoders: UTF-8 that is longer than it needs to be, `%u002F`, and characters that look alike.
pub(super) fn decode_leniently(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let (byte, used) = overlong(rest).or_else(|| unicode_escape(rest)).unwrap_or((*first, 1));
        decoded.push(byte);
        rest = after.get(used - 1..).unwrap_or_default();
    }
    match std::str::from_utf8(&decoded) {
        Ok(text) if !text.is_ascii() => without_look_alikes(text),
        _ => decoded,
    }
}

/// An ASCII character in two to six bytes, and how many they are. The last byte of two may be any: some decoders look at six
/// of its bits alone.
fn overlong(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [first @ (0xc0 | 0xc1), last, ..] => Some((((first & 1) << 6) | (last & 0x3f), 2)),
        [0xe0, rest @ ..] => continued(rest, 1),
        [0xf0, rest @ ..] => continued(rest, 2),
        [0xf8, rest @ ..] => continued(rest, 3),
        [0xfc, rest @ ..] => continued(rest, 4),
        _ => None,
    }
}

/// What follows the first byte of a character of `zeros + 2` bytes, if it is one of ASCII.
fn continued(rest: &[u8], zeros: usize) -> Option<(u8, usize)> {
    let (leading, last) = (rest.get(..zeros)?, *rest.get(zeros)?);
    let (second_last, padding) = leading.split_last()?;
    let is_ascii = matches!(second_last, 0x80 | 0x81) && padding.iter().all(|byte| *byte == 0x80);
    let is_continuation = last & 0xc0 == 0x80;
    (is_ascii && is_continuation).then_some((((second_last & 1) << 6) | (last & 0x3f), zeros + 2))
}

/// `%u002F`, and `%uFF0F` for a look-alike.
fn unicode_escape(text: &[u8]) -> Option<(u8, usize)> {
    let [b'%', b'u' | b'U', digits @ ..] = text else { return None };
    let code = digits.get(..4)?.iter().try_fold(0, |code, byte| Some(code * 16 + digit(*byte)?))?;
    let character = char::from_u32(code)?;
    Some((look_alike(character).or_else(|| u8::try_from(code).ok().filter(u8::is_ascii))?, 6))
}

fn look_alike(character: char) -> Option<u8> {
    LOOK_ALIKES.iter().find(|(known, _)| *known == character).map(|(_, byte)| *byte)
}

fn without_look_alikes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| look_alike(character).map_or(character, char::from))
        .collect::<String>()
        .into()
}

/// IIS, and browsers.
fn backslashes_to_slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// Tomcat, Jetty and Spring: `/a;v=1/b` is `/a/b`.
fn strip_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> =
        segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default()).collect();
    names.join(&b'/')
}

/// nginx, Apache and Go.
fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
    merged
}

/// RFC 3986, section 5.2.4.
fn resolve_dots(path: &[u8]) -> Vec<u8> {
    let Some(relative) = path.strip_prefix(b"/") else { return path.to_vec() };
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = relative.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_dots = matches!(segment, b"." | b"..");
        if segment == b".." {
            kept.pop();
        }
        if !is_dots {
            kept.push(segment);
        } else if segments.peek().is_none() {
            kept.push(b"");
        }
    }
    [&b"/"[..], kept.join(&b'/').as_slice()].concat()
}

/// Readers of URLs: `//host/path` is the path of another host (RFC 3986, section 4.2).
fn drop_authority(path: &[u8]) -> Vec<u8> {
    let [b'/' | b'\\', b'/' | b'\\', rest @ ..] = path else { return path.to_vec() };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'\\'));
    end.and_then(|end| rest.get(end..)).map_or_else(|| b"/".to_vec(), <[u8]>::to_vec)
}

/// Programs in C: a text ends at NUL; others end a line there.
fn cut_at_control(path: &[u8]) -> Vec<u8> {
    cut(path, is_control)
}

fn remove_controls(path: &[u8]) -> Vec<u8> {
    path.iter().copied().filter(|byte| !is_control(*byte)).collect()
}

/// A `#` that was encoded begins a fragment for whoever reads the decoded path again.
fn cut_at_fragment(path: &[u8]) -> Vec<u8> {
    cut(path, |byte| byte == b'#')
}

/// The same with a query.
fn cut_at_query(path: &[u8]) -> Vec<u8> {
    cut(path, |byte| byte == b'?')
}

/// `OPTIONS *` becomes `OPTIONS /` where the target travels as a URL.
fn asterisk_to_root(path: &[u8]) -> Vec<u8> {
    if path == b"*" { b"/".to_vec() } else { path.to_vec() }
}

fn cut(path: &[u8], ends: impl Fn(u8) -> bool) -> Vec<u8> {
    path.split(|byte| ends(*byte)).next().unwrap_or_default().to_vec()
}

fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}
