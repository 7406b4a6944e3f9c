//! Readers of paths, each written after the program that it is named after, and apart from what is tested. The fuzz targets use
//! them too.

use percent_encoding::percent_decode_str;

fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

fn resolved(path: &str, merges: bool) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (number, segment) in segments.iter().enumerate() {
        let is_last = number + 1 == segments.len();
        match *segment {
            "" if merges && !is_last => {}
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// `merge_slashes on`.
fn nginx(path: &str) -> String {
    let decoded = decoded(path);
    resolved(&merged(&decoded), false)
}

fn nginx_without_merging(path: &str) -> String {
    resolved(&decoded(path), false)
}

fn merged(path: &str) -> String {
    let mut merged = path.to_owned();
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    merged
}

/// `http.ServeMux` with `path.Clean`.
fn go(path: &str) -> String {
    resolved(&decoded(path), true)
}

/// The path that WSGI and cloudflared see.
fn decoding_only(path: &str) -> String {
    decoded(path)
}

fn tomcat(path: &str) -> String {
    let stripped: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    resolved(&merged(&decoded(&stripped.join("/"))), false)
}

fn iis(path: &str) -> String {
    resolved(&merged(&decoded(path).replace('\\', "/")), false)
}

fn iis_decoding_twice(path: &str) -> String {
    iis(&decoded(path))
}

/// Browsers, and `new URL` of Node.
fn whatwg(path: &str) -> String {
    let dots = |segment: &str| segment.replace("%2e", ".").replace("%2E", ".");
    let slashes = path.replace('\\', "/");
    let segments: Vec<String> = slashes
        .split('/')
        .map(
            |segment| {
                if dots(segment).bytes().all(|byte| byte == b'.') { dots(segment) } else { segment.into() }
            },
        )
        .collect();
    decoded(&resolved(&segments.join("/"), false))
}

/// A text in C, decoded.
fn c_string(path: &str) -> String {
    decoded(path).split('\0').next().unwrap_or_default().to_owned()
}

/// What a program makes of a path.
type Reader = fn(&str) -> String;

/// All readers, by name.
pub(crate) const ALL: [(&str, Reader); 9] = [
    ("nginx", nginx),
    ("nginx without merging", nginx_without_merging),
    ("Go", go),
    ("decoding only", decoding_only),
    ("Tomcat", tomcat),
    ("IIS", iis),
    ("IIS, decoding twice", iis_decoding_twice),
    ("WHATWG", whatwg),
    ("C", c_string),
];
