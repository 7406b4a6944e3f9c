//! Request smuggling over HTTP/1.1: where one message ends and the next one begins (RFC 9112, sections 2.2, 5, 6, 7.1).

use super::Case;
use crate::case::{After, Corpus};

const CORPUS: Corpus = Corpus("smuggling");

/// A second request that must never be one.
const HIDDEN: &str = "GET /forged-{id} HTTP/1.1\r\nHost: {host}\r\nX-Forged: forged\r\n\r\n";

/// A POST with these lines, then these bytes.
fn post(lines: &str, rest: &str) -> String {
    format!("POST /{{id}} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n{rest}")
}

fn get(lines: &str) -> String {
    format!("GET /{{id}} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n")
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    [both(), codings(), lengths(), look_alikes(), chunks(), cut_chunks(), lines(), versions(), trailers()]
        .concat()
}

/// Content-Length beside Transfer-Encoding. RFC 9112 lets a server mend it; then the connection has to close. We refuse.
fn both() -> Vec<Case> {
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let whole = format!("0\r\n\r\n{HIDDEN}");
    let long = format!("Content-Length: {}\r\n", whole.len());
    [
        ("CL.TE, the length covers the last chunk", post(&format!("{length}{chunked}"), "0\r\n\r\n")),
        ("CL.TE, a request behind the last chunk", post(&format!("{length}{chunked}"), &whole)),
        ("TE.CL, the length covers a request", post(&format!("{chunked}{long}"), &whole)),
        ("CL 0 beside TE", post(&format!("Content-Length: 0\r\n{chunked}"), "3\r\nabc\r\n0\r\n\r\n")),
        ("TE on a GET beside CL", get(&format!("{chunked}{length}")) + "0\r\n\r\n"),
        ("TE beside two CL", post(&format!("{length}{chunked}{length}"), "0\r\n\r\n")),
    ]
    .into_iter()
    .map(|(name, bytes)| CORPUS.refused(name, bytes))
    .collect()
}

/// Every Transfer-Encoding that is not exactly `chunked`, alone and once.
fn codings() -> Vec<Case> {
    let mut values = vec![
        "identity",
        "identity, chunked",
        "chunked, identity",
        "gzip, chunked",
        "chunked, gzip",
        "chunked,",
        ", chunked",
        ",chunked,",
        "chunked, chunked",
        "chunked;q=1",
        "chunked; x=y",
        "\"chunked\"",
        "'chunked'",
        "chunked\\",
        "xchunked",
        "chunkedx",
        "chunke",
        "x-chunked",
        "cow",
        "gzip",
        "trailers",
        "chunked chunked",
        "c\thunked",
    ];
    values.push("");
    let mut cases: Vec<Case> = values
        .into_iter()
        .map(|value| {
            let lines = format!("Transfer-Encoding: {value}\r\n");
            CORPUS.refused(format!("TE `{}`", value.escape_debug()), post(&lines, "5\r\nhello\r\n0\r\n\r\n"))
        })
        .collect();
    for (name, lines) in [
        ("TE twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        (
            "TE identity then chunked, two lines",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "TE chunked then identity, two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ),
        ("TE chunked then empty, two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"),
        ("TE with a vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
        ("TE with a form feed", "Transfer-Encoding: chunked\x0c\r\n"),
        ("TE with a NUL", "Transfer-Encoding: chunked\0\r\n"),
        ("TE folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("TE folded after the word", "Transfer-Encoding: chunked\r\n , identity\r\n"),
        ("TE with a space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("TE with a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("TE with a space before the name", " Transfer-Encoding: chunked\r\n"),
        ("TE behind a bare CR", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("TE behind a bare LF", "X: y\nTransfer-Encoding: chunked\r\n"),
        ("TE with a bare CR in its value", "Transfer-Encoding: \rchunked\r\n"),
    ] {
        cases.push(CORPUS.refused(name, post(lines, "5\r\nhello\r\n0\r\n\r\n")));
    }
    cases
}

/// Every Content-Length that is not plain digits, once.
fn lengths() -> Vec<Case> {
    let values = [
        "005",
        "05",
        "00",
        "+5",
        "-5",
        "-0",
        "5,5",
        "5, 5",
        "5,",
        ",5",
        "5 5",
        "5;x",
        "5.0",
        "5e0",
        "0x5",
        "0o5",
        "0b101",
        "5_0",
        "\"5\"",
        "5\\",
        "five",
        "",
        "٥",
        "5\x0b",
        "5\0",
        "9223372036854775808",
        "9223372036854775813",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "36893488147419103237",
        "99999999999999999999999999999999999999999",
        "0000000000000000000000000000000000000005",
    ];
    let mut cases: Vec<Case> = values
        .into_iter()
        .map(|value| {
            let bytes = post(&format!("Content-Length: {value}\r\n"), "hello");
            CORPUS.refused(format!("CL `{}`", value.escape_debug()), bytes)
        })
        .collect();
    // RFC 9110, section 8.6, lets a recipient take the same number twice for once; it is one reading.
    let twice = post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello");
    cases.push(CORPUS.at_most("CL twice, the same", twice, "POST", "/{id}").body("hello"));
    for (name, lines) in [
        ("CL twice, the second longer", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("CL twice, the first longer", "Content-Length: 60\r\nContent-Length: 5\r\n"),
        ("CL twice, one empty", "Content-Length: 5\r\nContent-Length:\r\n"),
        ("CL twice, 5 and 05", "Content-Length: 5\r\nContent-Length: 05\r\n"),
        ("CL with a space before the colon", "Content-Length : 5\r\n"),
        ("CL with a tab before the colon", "Content-Length\t: 5\r\n"),
        ("CL folded", "Content-Length:\r\n 5\r\n"),
        ("CL folded in its digits", "Content-Length: 5\r\n 0\r\n"),
        ("CL with a space before the name", " Content-Length: 5\r\n"),
        ("CL behind a bare CR", "X: y\rContent-Length: 5\r\n"),
        ("CL behind a bare LF", "X: y\nContent-Length: 5\r\n"),
    ] {
        cases.push(CORPUS.refused(name, post(lines, "hello")));
    }
    // A length that nobody can send is still a number; the body never ends.
    for length in ["9", "9223372036854775807"] {
        let bytes = post(&format!("Content-Length: {length}\r\n"), "hello");
        cases.push(CORPUS.broken(format!("CL {length}, longer than what comes"), bytes, After::Closes));
    }
    cases
}

/// Names that some origins fold into the ones that frame. They may go missing; the message keeps its own frame.
fn look_alikes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("Transfer_Encoding", "chunked"),
        ("transfer_encoding", "chunked"),
        ("TRANSFER_ENCODING", "chunked"),
        ("Content_Length", "3"),
        ("content_length", "0"),
        ("CONTENT_LENGTH", "500"),
        ("Content.Length", "3"),
        ("Transfer.Encoding", "chunked"),
    ] {
        let bytes = post(&format!("{name}: {value}\r\nContent-Length: 5\r\n"), "hello");
        cases.push(CORPUS.at_most(format!("{name} beside CL"), bytes, "POST", "/{id}").body("hello"));
        let bytes =
            post(&format!("{name}: {value}\r\nTransfer-Encoding: chunked\r\n"), "5\r\nhello\r\n0\r\n\r\n");
        cases.push(CORPUS.at_most(format!("{name} beside TE"), bytes, "POST", "/{id}").body("hello"));
        let bytes = get(&format!("{name}: {value}\r\n"));
        cases.push(CORPUS.at_most(format!("{name} alone"), bytes, "GET", "/{id}").body(""));
    }
    for name in ["Host", "Connection", "Upgrade", "Keep_Alive", "Proxy_Connection", "Expect", "TE"] {
        let folded = name.replace(|c: char| !c.is_ascii_alphabetic(), "_") + "_";
        // A trailing underscore folds into another name; it is a field like any other.
        let bytes = get(&format!("{folded}: kept\r\n"));
        cases.push(CORPUS.at_most(format!("{folded} is another name"), bytes, "GET", "/{id}").body(""));
    }
    for name in ["Keep_Alive", "Proxy_Connection"] {
        let bytes = get(&format!("{name}: forged\r\n"));
        cases.push(CORPUS.at_most(name, bytes, "GET", "/{id}").body(""));
    }
    cases
}

/// Chunks that can be read in two ways (RFC 9112, section 7.1).
fn chunks() -> Vec<Case> {
    let end = "\r\n0\r\n\r\n";
    let mut cases = Vec::new();
    for (name, body) in [
        ("size with a sign", format!("+5\r\nhello{end}")),
        ("size with a minus", format!("-5\r\nhello{end}")),
        ("size with 0x", format!("0x5\r\nhello{end}")),
        ("size with a leading space", format!(" 5\r\nhello{end}")),
        ("size with a leading tab", format!("\t5\r\nhello{end}")),
        ("size with a space between digits", format!("0 5\r\nhello{end}")),
        ("size with an underscore", format!("0_5\r\nhello{end}")),
        ("size that is empty", format!("\r\nhello{end}")),
        ("size that is only an extension", format!(";x=y\r\nhello{end}")),
        ("size that is no number", format!("g\r\nhello{end}")),
        ("size with a comma", format!("5,\r\nhello{end}")),
        ("size with a point", format!("5.0\r\nhello{end}")),
        ("size with a NUL", format!("5\0\r\nhello{end}")),
        ("size with a NUL before it", format!("\x005\r\nhello{end}")),
        ("size with a form feed", format!("5\x0c\r\nhello{end}")),
        ("size with a full-width digit", format!("５\r\nhello{end}")),
        ("size over 32 bits", format!("100000005\r\nhello{end}")),
        ("size over 64 bits", format!("10000000000000005\r\nhello{end}")),
        ("size of 17 digits", format!("fffffffffffffffff\r\nhello{end}")),
        ("size that is -1 in 64 bits", format!("ffffffffffffffff\r\nhello{end}")),
        ("size that is most of i64", format!("7fffffffffffffff\r\nhello{end}")),
        ("size line ends with LF", format!("5\nhello{end}")),
        ("size line ends with CR", format!("5\rhello{end}")),
        ("size line ends with CR CR LF", format!("5\r\r\nhello{end}")),
        ("size line ends with LF CR", format!("5\n\rhello{end}")),
        ("data ends with LF", "5\r\nhello\n0\r\n\r\n".to_owned()),
        ("data ends with CR", "5\r\nhello\r0\r\n\r\n".to_owned()),
        ("data ends with nothing", "5\r\nhello0\r\n\r\n".to_owned()),
        ("data ends with two other bytes", "5\r\nhelloXX0\r\n\r\n".to_owned()),
        ("data longer than its size", "3\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("data shorter than its size", "9\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("last chunk's line ends with LF", "5\r\nhello\r\n0\n\r\n".to_owned()),
        ("last chunk, then LF", "5\r\nhello\r\n0\r\n\n".to_owned()),
        ("last chunk with a minus", "5\r\nhello\r\n-0\r\n\r\n".to_owned()),
        ("extension with a bare LF", format!("5;\nx=y\r\nhello{end}")),
        ("extension with a bare CR", format!("5;\rx=y\r\nhello{end}")),
        ("extension with a NUL", format!("5;x=\0\r\nhello{end}")),
        ("extension that hides a request behind LF", format!("5;x\nhello\r\n0\r\n\r\n{HIDDEN}")),
        ("extension on the last chunk with LF", "5\r\nhello\r\n0;x\n\r\n".to_owned()),
        ("trailer line with LF", "5\r\nhello\r\n0\r\nX: y\n\r\n".to_owned()),
        ("trailer with a space in its name", "5\r\nhello\r\n0\r\nX y: z\r\n\r\n".to_owned()),
        ("trailer without a colon", "5\r\nhello\r\n0\r\nXyz\r\n\r\n".to_owned()),
        ("trailer folded", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n".to_owned()),
        ("trailer with a NUL", "5\r\nhello\r\n0\r\nX: y\0\r\n\r\n".to_owned()),
        ("trailer with a bare CR", "5\r\nhello\r\n0\r\nX: y\rz\r\n\r\n".to_owned()),
    ] {
        // The body breaks where it is read, so an origin may have seen its beginning, but never its end.
        let bytes = post("Transfer-Encoding: chunked\r\n", &body);
        cases.push(CORPUS.broken(format!("chunk: {name}"), bytes, After::Waits));
    }
    cases
}

/// Chunked bodies whose end never comes.
fn cut_chunks() -> Vec<Case> {
    [
        ("no chunk at all", ""),
        ("half of a size line", "5"),
        ("a size line", "5\r\n"),
        ("half of the data", "5\r\nhel"),
        ("no line end after the data", "5\r\nhello"),
        ("one chunk, and no last one", "5\r\nhello\r\n"),
        ("half of the last chunk", "5\r\nhello\r\n0"),
        ("the last chunk's line alone", "5\r\nhello\r\n0\r\n"),
        ("half of the last line end", "5\r\nhello\r\n0\r\n\r"),
        ("half of a trailer", "5\r\nhello\r\n0\r\nX: y"),
        ("a trailer without the last line", "5\r\nhello\r\n0\r\nX: y\r\n"),
    ]
    .into_iter()
    .map(|(name, body)| {
        CORPUS.broken(format!("cut: {name}"), post("Transfer-Encoding: chunked\r\n", body), After::Closes)
    })
    .collect()
}

/// Lines and white space of the head.
fn lines() -> Vec<Case> {
    let host = "Host: {host}\r\n";
    [
        ("every line ends with LF", "GET /{id} HTTP/1.1\nHost: {host}\n\n".to_owned()),
        ("the request line ends with LF", format!("GET /{{id}} HTTP/1.1\n{host}\r\n")),
        ("a field line ends with LF", format!("GET /{{id}} HTTP/1.1\r\n{host}X: y\n\r\n")),
        ("the head ends with LF LF", format!("GET /{{id}} HTTP/1.1\r\n{host}X: y\n\n")),
        ("the head ends with CR LF LF", format!("GET /{{id}} HTTP/1.1\r\n{host}\n")),
        ("the request line ends with CR", format!("GET /{{id}} HTTP/1.1\r{host}\r\n")),
        ("the request line ends with CR CR LF", format!("GET /{{id}} HTTP/1.1\r\r\n{host}\r\n")),
        ("two spaces before the target", format!("GET  /{{id}} HTTP/1.1\r\n{host}\r\n")),
        ("two spaces before the version", format!("GET /{{id}}  HTTP/1.1\r\n{host}\r\n")),
        ("a tab before the target", format!("GET\t/{{id}} HTTP/1.1\r\n{host}\r\n")),
        ("a tab before the version", format!("GET /{{id}}\tHTTP/1.1\r\n{host}\r\n")),
        ("a space in the target", format!("GET /{{id}} /x HTTP/1.1\r\n{host}\r\n")),
        ("a space after the version", format!("GET /{{id}} HTTP/1.1 \r\n{host}\r\n")),
        ("a space before the method", format!(" GET /{{id}} HTTP/1.1\r\n{host}\r\n")),
        ("a NUL before the method", format!("\0GET /{{id}} HTTP/1.1\r\n{host}\r\n")),
        ("no version", "GET /{id}\r\n\r\n".to_owned()),
        ("a folded field", format!("GET /{{id}} HTTP/1.1\r\n{host}X: y\r\n z\r\n\r\n")),
        ("a fold with a tab", format!("GET /{{id}} HTTP/1.1\r\n{host}X: y\r\n\tz\r\n\r\n")),
        ("a fold before the first field", format!("GET /{{id}} HTTP/1.1\r\n X: y\r\n{host}\r\n")),
        ("a line of white space", format!("GET /{{id}} HTTP/1.1\r\n{host} \r\nX: y\r\n\r\n")),
        ("a space before a colon", format!("GET /{{id}} HTTP/1.1\r\n{host}X : y\r\n\r\n")),
        ("a field without a name", format!("GET /{{id}} HTTP/1.1\r\n{host}: y\r\n\r\n")),
        ("a field without a colon", format!("GET /{{id}} HTTP/1.1\r\n{host}Xyz\r\n\r\n")),
        ("a field with a space in its name", format!("GET /{{id}} HTTP/1.1\r\n{host}X y: z\r\n\r\n")),
        ("a method with a colon", format!("GE:T /{{id}} HTTP/1.1\r\n{host}\r\n")),
        ("an empty method", format!("/{{id}} HTTP/1.1\r\n{host}\r\n")),
    ]
    .into_iter()
    .map(|(name, bytes)| CORPUS.refused(format!("line: {name}"), bytes))
    .collect()
}

/// Versions, and what does not go with them.
fn versions() -> Vec<Case> {
    let host = "Host: {host}\r\n";
    let mut cases = Vec::new();
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/11.1",
        "HTTP/1.01",
        "http/1.1",
        "HTTP/1,1",
        "HTTP/1.1x",
        "HTTP /1.1",
    ] {
        // HTTP/1.2 and the like may be taken for 1.1 (RFC 9110, section 2.5); it is one reading.
        let bytes = format!("GET /{{id}} {version}\r\n{host}\r\n");
        cases.push(CORPUS.at_most(format!("version {version}"), bytes, "GET", "/{id}").body(""));
    }
    for (name, lines, rest) in [
        ("TE in HTTP/1.0", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("TE beside CL in HTTP/1.0", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        (
            "TE and keep-alive in HTTP/1.0",
            "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
    ] {
        let bytes = format!("POST /{{id}} HTTP/1.0\r\n{host}{lines}\r\n{rest}");
        cases.push(CORPUS.refused(name, bytes));
    }
    cases
}

/// Fields that have no place in trailers. The request may arrive without them.
fn trailers() -> Vec<Case> {
    [
        "Content-Length: 0",
        "Content-Length: 500",
        "Transfer-Encoding: chunked",
        "Host: forged.example",
        "Connection: close",
        "TE: gzip",
        "Trailer: X",
        "Authorization: forged",
        "Cookie: a=forged",
        "X-Forwarded-For: forged",
        "Cf-Access-Jwt-Assertion: forged",
        "Content-Encoding: gzip",
        "Content_Length: 5",
        "Transfer_Encoding: chunked",
        "X_Forwarded_For: forged",
    ]
    .into_iter()
    .flat_map(|line| {
        let body = format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n");
        let name = line.split(':').next().unwrap_or_default();
        let plain = post("Transfer-Encoding: chunked\r\n", &body);
        let named =
            post(&format!("TE: trailers\r\nTrailer: {name}\r\nTransfer-Encoding: chunked\r\n"), &body);
        [("", plain), (", announced", named)].map(|(how, bytes)| {
            CORPUS.at_most(format!("trailer {line}{how}"), bytes, "POST", "/{id}").body("hello")
        })
    })
    .collect()
}
