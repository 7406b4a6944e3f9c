//! A checker of the bytes that an HTTP/1 client sends, in front of the parser.
//!
//! The parser mends what RFC 9112 lets a recipient mend: a line that ends with LF alone, a length beside a transfer coding, a list of
//! transfer codings, a repeated length. Another recipient may read the same bytes otherwise, so here they are refused. The
//! checker follows the messages of a connection from one to the next, without a copy: of each line it keeps the first bytes. What
//! it lets pass has one framing, so parser and checker agree on where the next message begins.

use adit_policy::field::parse_length;

/// Bytes of a line that are kept: the names that matter, and the longest length with room for white space.
const LINE_KEPT: usize = 64;

/// Hexadecimal digits of a chunk size (RFC 9112, section 7.1): as many as a 64-bit number has.
const SIZE_DIGITS_MAX: usize = 16;

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub struct RequestChecker {
    state: State,
    line: Partial,
    head: Head,
    /// Bytes came after a request that may change the protocol, and before its answer.
    unchecked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before or in the request line.
    #[default]
    Start,
    Fields,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end after a chunk.
    ChunkEnd,
    Trailers,
    /// After a request that may change the protocol: what comes means nothing before the answer.
    Switching,
    /// Another protocol.
    Switched,
    Refused,
}

/// The beginning of a line whose end has not come.
#[derive(Debug)]
struct Partial {
    start: [u8; LINE_KEPT],
    length: usize,
    last: u8,
}

impl Default for Partial {
    fn default() -> Self {
        Self { start: [0; LINE_KEPT], length: 0, last: 0 }
    }
}

/// A line without its LF.
#[derive(Debug)]
struct Line<'l> {
    /// Its first bytes.
    start: &'l [u8],
    length: usize,
    last: u8,
}

/// What the current head has said about its body.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    may_switch: bool,
}

/// The bytes can be read in two ways.
struct Ambiguous;

impl RequestChecker {
    /// Whether something was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Looks at the next bytes of the connection. Once it has refused something, everything is refused.
    ///
    /// # Errors
    /// The offset of the byte at which they become ambiguous. It is inside of a head, a chunk size or a trailer section.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                Ok(used) => at += used,
                Err((used, Ambiguous)) => {
                    self.state = State::Refused;
                    return Err(at + used);
                }
            }
        }
        Ok(())
    }

    /// Whether the last request may change the protocol, and what follows it depends on the answer.
    #[must_use]
    pub fn is_switching(&self) -> bool {
        self.state == State::Switching
    }

    /// Whether bytes have followed such a request before its answer. They were let pass as they are.
    #[must_use]
    pub fn has_unchecked(&self) -> bool {
        self.unchecked
    }

    /// The answer to a request that may change the protocol: whether it does.
    pub fn answered(&mut self, switches: bool) {
        if self.is_switching() {
            self.unchecked = false;
            self.state = if switches { State::Switched } else { State::Start };
        }
    }

    /// Takes a piece of the bytes; how many they were.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, (usize, Ambiguous)> {
        match &mut self.state {
            State::Switched => return Ok(bytes.len()),
            State::Switching => {
                self.unchecked = true;
                return Ok(bytes.len());
            }
            State::Refused => return Err((0, Ambiguous)),
            State::Body(left) | State::ChunkData(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    self.end_of_data();
                }
                return Ok(taken);
            }
            State::Start | State::Fields | State::ChunkSize | State::ChunkEnd | State::Trailers => {}
        }
        let end = memchr::memchr(b'\n', bytes);
        if self.state == State::ChunkSize {
            let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            // An extension is made of tokens and quoted strings (RFC 9112, section 7.1.1); the parser passes over it.
            if let Some(at) = line.iter().position(|byte| byte.is_ascii_control() && !b"\t\r".contains(byte))
            {
                return Err((at, Ambiguous));
            }
        }
        let Some(end) = end else {
            self.line.push(bytes);
            return Ok(bytes.len());
        };
        let line = bytes.get(..end).unwrap_or_default();
        let ended = if self.line.length == 0 {
            self.end_of_line(&Line::whole(line))
        } else {
            self.line.push(line);
            let line = std::mem::take(&mut self.line);
            self.end_of_line(&line.ended())
        };
        ended.map(|()| end + 1).map_err(|ambiguous| (end, ambiguous))
    }

    fn end_of_data(&mut self) {
        match self.state {
            State::ChunkData(_) => self.state = State::ChunkEnd,
            _ => self.end_of_message(),
        }
    }

    fn end_of_message(&mut self) {
        self.state = if self.head.may_switch { State::Switching } else { State::Start };
        self.head = Head::default();
    }

    fn end_of_line(&mut self, line: &Line<'_>) -> Result<(), Ambiguous> {
        let is_empty = line.without_end().ok_or(Ambiguous)? == 0;
        match self.state {
            // Empty lines before a request are ignored (RFC 9112, section 2.2).
            State::Start if is_empty => {}
            State::Start => {
                self.head.may_switch = line.text().starts_with(b"CONNECT ");
                self.state = State::Fields;
            }
            State::Fields if is_empty => self.end_of_head(),
            State::Fields => self.head.field(line)?,
            State::ChunkSize => {
                self.state = match chunk_size(line)? {
                    0 => State::Trailers,
                    size => State::ChunkData(size),
                }
            }
            State::ChunkEnd if is_empty => self.state = State::ChunkSize,
            State::ChunkEnd => return Err(Ambiguous),
            State::Trailers if is_empty => self.end_of_message(),
            _ => {}
        }
        Ok(())
    }

    fn end_of_head(&mut self) {
        self.state = match self.head {
            Head { chunked: true, .. } => State::ChunkSize,
            Head { length: Some(length), .. } if length > 0 => State::Body(length),
            _ => return self.end_of_message(),
        };
    }
}

impl Partial {
    fn push(&mut self, bytes: &[u8]) {
        let room = self.start.get_mut(self.length.min(LINE_KEPT)..).unwrap_or_default();
        for (slot, byte) in room.iter_mut().zip(bytes) {
            *slot = *byte;
        }
        self.length = self.length.saturating_add(bytes.len());
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn ended(&self) -> Line<'_> {
        let start = self.start.get(..self.length.min(LINE_KEPT)).unwrap_or_default();
        Line { start, length: self.length, last: self.last }
    }
}

impl<'l> Line<'l> {
    fn whole(line: &'l [u8]) -> Self {
        let start = line.get(..line.len().min(LINE_KEPT)).unwrap_or_default();
        Self { start, length: line.len(), last: line.last().copied().unwrap_or_default() }
    }

    /// The length of the line without its CR; `None` if it has none.
    fn without_end(&self) -> Option<usize> {
        self.length.checked_sub(1).filter(|_| self.last == b'\r')
    }

    /// The first bytes of the line, without its CR.
    fn text(&self) -> &[u8] {
        let end = self.length.saturating_sub(1).min(LINE_KEPT);
        self.start.get(..end).unwrap_or_default()
    }

    /// The value, if the whole line is known.
    fn value<'v>(&self, value: &'v [u8]) -> Result<&'v [u8], Ambiguous> {
        if self.length > LINE_KEPT { Err(Ambiguous) } else { Ok(trim(value)) }
    }
}

/// Without the white space that RFC 9110, section 5.5 takes off. (The standard library's takes more.)
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

impl Head {
    fn field(&mut self, line: &Line<'_>) -> Result<(), Ambiguous> {
        let text = line.text();
        // No other name that matters begins otherwise.
        if !matches!(text.first(), Some(b'c' | b'C' | b't' | b'T' | b'u' | b'U')) {
            return Ok(());
        }
        let Some(colon) = text.iter().position(|byte| *byte == b':') else { return Ok(()) };
        let (name, value) =
            (text.get(..colon).unwrap_or_default(), text.get(colon + 1..).unwrap_or_default());
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            7 if is("upgrade") => self.may_switch = true,
            14 if is("content-length") => {
                let length = parse_length(line.value(value)?).ok_or(Ambiguous)?;
                if self.chunked || self.length.replace(length).is_some() {
                    return Err(Ambiguous);
                }
            }
            17 if is("transfer-encoding") => {
                let is_chunked = line.value(value)?.eq_ignore_ascii_case(b"chunked");
                if !is_chunked || self.length.is_some() || std::mem::replace(&mut self.chunked, true) {
                    return Err(Ambiguous);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The size at the beginning of a chunk's line. What follows it is for the parser.
fn chunk_size(line: &Line<'_>) -> Result<u64, Ambiguous> {
    let text = line.text();
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_bounded = matches!(text.get(digits), None | Some(b';' | b' ' | b'\t'));
    if digits == 0 || digits > SIZE_DIGITS_MAX || !is_bounded {
        return Err(Ambiguous);
    }
    let digits = text.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or(Ambiguous)?;
    u64::from_str_radix(digits, 16).map_err(|_| Ambiguous)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the bytes are refused, whatever the size of the pieces that they come in.
    fn refused(bytes: &[u8]) -> Option<usize> {
        let at = |step: usize| {
            let mut checker = RequestChecker::default();
            let mut before = 0;
            for piece in bytes.chunks(step) {
                match checker.check(piece) {
                    Ok(()) => before += piece.len(),
                    Err(at) => return Some(before + at),
                }
            }
            None
        };
        let whole = at(bytes.len());
        for step in [1, 2, 3, 7, 64] {
            assert_eq!(at(step), whole, "{:?} in pieces of {step}", String::from_utf8_lossy(bytes));
        }
        whole
    }

    #[test]
    fn legal_messages_pass() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost:a\r\nContent-Length:5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nCONTENT-LENGTH: \t 5 \t\r\n\r\nhello\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\n\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhe\nlo\r\nA \t;x\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX-Long: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer_Encoding: x\r\nContent-Lengths: y\r\nTransfer-Encodings: z\r\n\r\n",
        ] {
            assert_eq!(refused(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused_before_its_head_ends() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\n",
            "\nGET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\n",
            "POST / HTTP/1.1\r\nContent-Length: 005\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +5\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n",
            "POST / HTTP/1.1\r\nContent-Length: \r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\x0b\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 9223372036854775813\r\n",
            "POST / HTTP/1.1\r\nContent-Length:                                                        5\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: identity, chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked,\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked;q=1\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(refused(head.as_bytes()).is_some_and(|at| head.as_bytes()[at] == b'\n'), "{head:?}");
        }
        for body in [
            "x\r\n",
            "\r\n",
            "+5\r\n",
            "5\n",
            "5x\r\n",
            "5;a=\0\r\n",
            "5;a=\x7f",
            "5\r\nhelloX\r\n",
            "0\r\nX: y\n",
            "00000000000000005\r\n",
        ] {
            let message = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert!(refused(message.as_bytes()).is_some(), "{body:?}");
        }
    }

    #[test]
    fn a_second_message_is_read_as_the_first() {
        for first in [
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ] {
            let message = format!("{first}GET / HTTP/1.1\r\nHost: a\n\r\n");
            assert_eq!(refused(message.as_bytes()), Some(message.len() - 3), "{first:?}");
        }
    }

    #[test]
    fn another_protocol_is_let_pass_once_it_is_agreed_on() {
        let upgrade = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        for switches in [true, false] {
            let mut checker = RequestChecker::default();
            assert_eq!(checker.check(upgrade), Ok(()));
            assert!(checker.is_switching());
            assert!(!checker.has_unchecked());
            assert_eq!(checker.check(b"early\nbytes"), Ok(()));
            assert!(checker.has_unchecked());
            checker.answered(switches);
            assert_eq!(checker.check(b"any\nbytes").is_ok(), switches);
            assert!(!checker.is_switching());
        }
        let mut checker = RequestChecker::default();
        assert_eq!(checker.check(b"CONNECT a:1 HTTP/1.1\r\n\r\n"), Ok(()));
        assert!(checker.is_switching());
    }
}
