//! The load: wrk for many requests, curl for one long body.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// What a browser sends with every request.
const HEADERS: [&str; 6] = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://localhost/index.html",
    "Cookie: session=0123456789abcdef0123456789abcdef",
];
/// Bytes of a GiB.
pub(crate) const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Outcome of many small requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Answers that were no 2xx, and connections that broke.
    pub(crate) failed: u64,
}

/// Outcome of large bodies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bulk {
    pub(crate) bytes: f64,
    /// MiB per second.
    pub(crate) speed: f64,
}

/// Keeps `connections` busy with one small request after the other.
pub(crate) fn requests(url: &str, connections: u32, seconds: u32) -> Result<Requests> {
    outcome(&wrk(url, connections, seconds, None)?)
}

fn outcome(text: &str) -> Result<Requests> {
    let count = number(text, " requests in ").context("wrk's count")? as u64;
    let per_second = after(text, "Requests/sec:").and_then(|word| word.parse().ok()).context("wrk's rate")?;
    let percentile = |name| after(text, name).and_then(milliseconds).with_context(|| format!("wrk's {name}"));
    let bad_answers = after(text, "Non-2xx or 3xx responses:").and_then(|word| word.parse::<u64>().ok());
    let broken = text.contains("Socket errors").then(|| socket_errors(text));
    let failed = bad_answers.unwrap_or_default() + broken.unwrap_or_default();
    Ok(Requests { count, per_second, p50: percentile("50%")?, p99: percentile("99%")?, failed })
}

/// Keeps `connections` busy with one MiB after the other.
pub(crate) fn megabytes(url: &str, connections: u32, seconds: u32) -> Result<Bulk> {
    let text = wrk(url, connections, seconds, None)?;
    ensure!(!text.contains("Non-2xx"), "bulk answers failed:\n{text}");
    let count = number(&text, " requests in ").context("wrk's count")?;
    let rate: f64 = after(&text, "Requests/sec:").and_then(|word| word.parse().ok()).context("wrk's rate")?;
    Ok(Bulk { bytes: count * 1024.0 * 1024.0, speed: rate })
}

/// Fetches one long body several times, one after the other.
pub(crate) fn download(url: &str, times: u32) -> Result<Bulk> {
    let (mut bytes, mut seconds) = (0.0, 0.0);
    for _ in 0..times {
        let output = Command::new("curl")
            .args([
                "-sk",
                "--http1.1",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{size_download} %{time_total}",
                url,
            ])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace();
        ensure!(output.status.success() && words.next() == Some("200"), "download failed: {text}");
        bytes += words.next().and_then(|word| word.parse::<f64>().ok()).context("curl's size")?;
        seconds += words.next().and_then(|word| word.parse::<f64>().ok()).context("curl's time")?;
    }
    Ok(Bulk { bytes, speed: bytes / 1024.0 / 1024.0 / seconds })
}

/// Keeps `connections` busy as a script of wrk says.
pub(crate) fn scripted(url: &str, script: &Path, connections: u32, seconds: u32) -> Result<Requests> {
    outcome(&wrk(url, connections, seconds, Some(script))?)
}

fn wrk(url: &str, connections: u32, seconds: u32, script: Option<&Path>) -> Result<String> {
    let script = script.iter().flat_map(|path| [OsStr::new("-s"), path.as_os_str()]);
    let headers = HEADERS.iter().flat_map(|header| ["-H", header]);
    let output = Command::new("wrk")
        .args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{seconds}s")])
        .args(headers)
        .args(script)
        .arg(url)
        .output()
        .context("starting wrk; `cargo xtask bench --install` installs it")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("wrk failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// The word after a line's label. Labels start a line: wrk's other columns have percentages too.
fn after<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(label))?.split_whitespace().next()
}

/// The number that stands before a label.
fn number(text: &str, label: &str) -> Option<f64> {
    text.split_once(label)?.0.split_whitespace().last()?.parse().ok()
}

/// wrk writes `912.00us`, `1.33ms` or `1.02s`.
fn milliseconds(word: &str) -> Option<f64> {
    let (digits, factor) = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)]
        .into_iter()
        .find_map(|(unit, factor)| word.strip_suffix(unit).map(|digits| (digits, factor)))?;
    digits.parse::<f64>().ok().map(|value| value * factor)
}

/// Sum of wrk's `connect 0, read 1, write 2, timeout 3`.
fn socket_errors(text: &str) -> u64 {
    let line = text.lines().find(|line| line.contains("Socket errors")).unwrap_or_default();
    line.split(|sign: char| !sign.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_writes() {
        assert_eq!(milliseconds("912.00us"), Some(0.912));
        assert_eq!(milliseconds("1.33ms"), Some(1.33));
        assert_eq!(milliseconds("1.02s"), Some(1020.0));
        assert_eq!(socket_errors("  Socket errors: connect 0, read 1, write 2, timeout 3\n"), 6);
        assert_eq!(number("  131201 requests in 4.00s, 179.10MB read", " requests in "), Some(131_201.0));
        let text = "    Req/Sec     1.33k    55.50%\n     50%    3.00ms\n";
        assert_eq!(after(text, "50%"), Some("3.00ms"));
        assert_eq!(after("Requests/sec:  32744.67\n", "Requests/sec:"), Some("32744.67"));
    }
}
