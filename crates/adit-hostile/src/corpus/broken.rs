//! Uploads that break off, at every byte and every frame: an origin never gets a complete message made of one.

use super::Case;
use crate::case::{After, Corpus, Protocol, Step, data, fields, head};

const CORPUS: Corpus = Corpus("broken uploads");

const CHUNKS: &str = "5\r\nhello\r\n7;x=y\r\n, world\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n";
const PLAIN: &str = "hello, world!";

fn post(lines: &str, body: &str) -> String {
    format!("PUT /{{id}} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n{body}")
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    [http1(), heads(), multiplexed()].concat()
}

/// Cut at each byte, by an end and by a reset.
fn http1() -> Vec<Case> {
    let mut cases = Vec::new();
    for after in [After::Closes, After::Dies] {
        for (how, lines, body) in [
            ("chunked", "Transfer-Encoding: chunked\r\n".to_owned(), CHUNKS),
            (
                "chunked, trailers asked for",
                "TE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n".to_owned(),
                CHUNKS,
            ),
            ("with a length", format!("Content-Length: {}\r\n", PLAIN.len()), PLAIN),
        ] {
            for end in 0..body.len() {
                let part: String = body.chars().take(end).collect();
                cases.push(CORPUS.broken(
                    format!("{how}, {after:?} after {end} bytes"),
                    post(&lines, &part),
                    after,
                ));
            }
        }
    }
    cases
}

/// Cut in the head: nothing is known of such a request.
fn heads() -> Vec<Case> {
    let whole = post("Content-Length: 0\r\n", "");
    let cuts = (1..whole.len()).filter(|end| end % 7 == 0 || *end + 3 > whole.len());
    cuts.map(|end| {
        let part: String = whole.chars().take(end).collect();
        CORPUS.broken(format!("head, {end} bytes"), part, After::Closes)
    })
    .collect()
}

/// Cut after each frame, by a reset of the stream and by the end of the connection.
fn multiplexed() -> Vec<Case> {
    let mut cases = Vec::new();
    for (how, more) in [
        ("without a length", &[][..]),
        ("with a length", &[("content-length", "13")]),
        ("trailers asked for", &[("te", "trailers")]),
    ] {
        let whole = [head("PUT", "/{id}", more), data("hello"), data(", world"), data("!")];
        // With all of its length, the message is whole whatever comes after it (RFC 9110, section 8.6).
        let most = if more.iter().any(|(name, _)| *name == "content-length") {
            whole.len() - 1
        } else {
            whole.len()
        };
        for frames in 1..=most {
            for last in [Step::Reset, Step::Leave] {
                for pause in [false, true] {
                    let mut steps = whole[..frames].to_vec();
                    steps.extend(pause.then_some(Step::Pause));
                    let title = format!(
                        "{how}, {last:?} after {frames} frames{}",
                        if pause { ", later" } else { "" }
                    );
                    steps.push(last.clone());
                    cases.push(CORPUS.broken_steps(title, steps));
                }
            }
        }
    }
    let short =
        vec![head("PUT", "/{id}", &[("content-length", "13")]), data("hello"), Step::Pause, Step::End];
    cases.push(CORPUS.broken_steps("an end before the length is reached", short));
    let open =
        vec![head("PUT", "/{id}", &[]), data("hello"), fields(&[("x-sum", "1")]), Step::Pause, Step::Leave];
    // Over HTTP/2 trailers without the end of the stream are malformed; over HTTP/3 the end is still to come.
    cases.push(CORPUS.broken_steps("trailers, and no end", open));
    let reset = vec![head("PUT", "/{id}", &[]), data("hello"), Step::Pause, data("x"), Step::Reset];
    cases.push(CORPUS.broken_steps("HTTP/3: a reset right behind data", reset).only(Protocol::Http3));
    cases
}
