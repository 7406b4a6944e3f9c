//! The judge: whether what an origin saw of a case is what it may see.

use crate::case::{Case, Expect, Names, Reading, filled};
use crate::client::Reply;
use crate::origin::{Entry, State};
use crate::read::{Message, values};

/// The word that stands in every value that an origin must never see.
pub(crate) const FORGED: &[u8] = b"forged";

/// Fields that frame a message or belong to a connection. No other spelling of them may reach an origin.
const FRAMING: [&str; 9] = [
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "te",
    "expect",
];
/// Fields that have no place in trailers (RFC 9110, section 6.5.1), besides those that vouch for somebody.
const NOT_IN_TRAILERS: [&str; 10] = [
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "te",
    "trailer",
    "authorization",
    "cookie",
    "content-encoding",
    "content-type",
];

/// What happened.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) names: Names,
    /// What the client got.
    pub(crate) reply: Reply,
    /// What the client got who asked afterwards for the same, where the case has one.
    pub(crate) second: Option<Reply>,
    /// What the origin saw, without the good request that followed.
    pub(crate) seen: Vec<Entry>,
    /// Whether the good request that followed got its own answer.
    pub(crate) next: Result<(), String>,
}

/// Whether the case passed.
///
/// # Errors
/// Why not.
pub(crate) fn judge(case: &Case, observed: &Observed) -> Result<(), String> {
    observed.next.clone()?;
    let whole: Vec<&Message> = observed
        .seen
        .iter()
        .filter(|entry| entry.state == State::Whole)
        .map(|entry| &entry.message)
        .collect();
    for entry in &observed.seen {
        match entry.state {
            State::Malformed(why) => return Err(format!("the origin saw {why}")),
            State::Open => return Err("the origin was left with a request that never ends".to_owned()),
            // There, the first request may arrive as it is; its answer must not be shared.
            _ if matches!(case.expect, Expect::NotShared(_)) => {}
            State::Broken | State::Whole => clean(entry, &observed.names.client)?,
        }
    }
    match &case.expect {
        Expect::Nothing if !observed.seen.is_empty() => Err("the origin saw a request".to_owned()),
        Expect::NothingWhole if !whole.is_empty() => Err("the origin saw a complete request".to_owned()),
        Expect::Nothing | Expect::NothingWhole => Ok(()),
        Expect::AtMost(reading) => match &whole[..] {
            [] => Ok(()),
            [message] => means(message, reading, observed),
            several => Err(format!("the origin saw {} requests", several.len())),
        },
        Expect::NotShared(_) => not_shared(observed),
        Expect::Exactly(reading) => {
            let [message] = &whole[..] else {
                return Err(format!(
                    "the origin saw {} requests; the client got {}",
                    whole.len(),
                    observed.reply
                ));
            };
            means(message, reading, observed)?;
            answered(message, observed)
        }
    }
}

fn answered(message: &Message, observed: &Observed) -> Result<(), String> {
    let reply = &observed.reply;
    if reply.status != Some(200) {
        return Err(format!("the client got {reply}"));
    }
    let start = [&message.method[..], b" ", &message.target].concat();
    if message.method != b"HEAD" && !reply.body.starts_with(&start) {
        return Err(format!("the client got another answer: {reply}"));
    }
    Ok(())
}

fn not_shared(observed: &Observed) -> Result<(), String> {
    let Some(second) = &observed.second else { return Err("nobody asked for the same".to_owned()) };
    if second.status.is_none() {
        return Err(format!("the second client got {second}"));
    }
    if contains(&second.body, FORGED) {
        return Err(format!("the second client got the first one's answer: {second}"));
    }
    Ok(())
}

/// A request without anything that a client must not get to an origin.
fn clean(entry: &Entry, client: &str) -> Result<(), String> {
    let message = &entry.message;
    for (name, value) in message.fields.iter().chain(&message.trailers) {
        let written = String::from_utf8_lossy(name).into_owned();
        let folded = folded(&written);
        if !written.eq_ignore_ascii_case(&folded) && FRAMING.contains(&&*folded) {
            return Err(format!("`{written}` reached the origin"));
        }
        if contains(value, FORGED) || contains(name, FORGED) {
            return Err(format!("a forged `{written}` reached the origin"));
        }
    }
    for name in ["x-forwarded-for", "x-real-ip"] {
        if message.values(name).iter().any(|value| *value != client.as_bytes()) {
            return Err(format!("`{name}` is not the client's address"));
        }
    }
    let trailers =
        message.trailers.iter().map(|(name, _)| String::from_utf8_lossy(name).to_ascii_lowercase());
    for name in trailers {
        if NOT_IN_TRAILERS.contains(&&*folded(&name)) {
            return Err(format!("`{name}` reached the origin in trailers"));
        }
    }
    if entry.state == State::Whole && message.values("host").len() != 1 {
        return Err("not exactly one Host".to_owned());
    }
    Ok(())
}

/// A name as origins read it that fold names: in one case, and with one character for all that are neither letters nor digits.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

fn means(message: &Message, reading: &Reading, observed: &Observed) -> Result<(), String> {
    let fill = |bytes: &[u8]| filled(bytes, &observed.names);
    let hosts = message.values("host");
    let host = hosts.first().copied().unwrap_or_default();
    let other = reading.any_host || reading.fields.iter().any(|(name, _)| name == "host");
    if !other && host != observed.names.host.as_bytes() {
        return Err(format!("Host is `{}`", String::from_utf8_lossy(host)));
    }
    let parts = [
        ("method", &message.method, &reading.method),
        ("target", &message.target, &reading.target),
        ("body", &message.body, &reading.body),
    ];
    for (what, seen, meant) in parts {
        if let Some(meant) = meant.as_ref().map(|meant| fill(meant))
            && *seen != meant
        {
            let (seen, meant) = (seen.escape_ascii(), meant.escape_ascii());
            return Err(format!("the {what} is `{seen}`, it was `{meant}`"));
        }
    }
    for (name, meant) in &reading.fields {
        let meant: Vec<Vec<u8>> = meant.iter().map(|value| fill(value)).collect();
        has_values(name, &message.values(name), &meant)?;
    }
    for (name, meant) in &reading.trailers {
        let name = String::from_utf8_lossy(name);
        has_values(&format!("trailer {name}"), &values(&message.trailers, &name), &[fill(meant)])?;
    }
    Ok(())
}

fn has_values(name: &str, seen: &[&[u8]], meant: &[Vec<u8>]) -> Result<(), String> {
    if seen == meant {
        return Ok(());
    }
    let text = |values: &[&[u8]]| -> String {
        let values = values.iter().map(|value| format!("`{}`", value.escape_ascii()));
        values.collect::<Vec<_>>().join(", ")
    };
    let meant: Vec<&[u8]> = meant.iter().map(|value| &value[..]).collect();
    Err(format!("{name} is [{}], it was [{}]", text(seen), text(&meant)))
}

/// Whether bytes are part of others.
pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Corpus;
    use crate::read::{Progress, message};

    fn entry(bytes: &[u8]) -> Entry {
        let (message, state) = match message(bytes) {
            Ok(Progress::Whole(message, _)) => (message, State::Whole),
            Ok(Progress::Head(message)) => (message, State::Broken),
            Ok(Progress::Nothing) => (Message::default(), State::Broken),
            Err(why) => (Message::default(), State::Malformed(why)),
        };
        Entry { connection: 1, message, raw: bytes.to_vec(), state }
    }

    fn observed(seen: &[&[u8]]) -> Observed {
        let body = seen.first().map(|bytes| bytes.to_vec()).unwrap_or_default();
        let reply = Reply { status: Some(200), body, ended: String::new() };
        let seen = seen.iter().map(|bytes| entry(bytes)).collect();
        let names = Names { host: "a.test".into(), id: "7".into(), client: "127.0.0.1".into() };
        Observed { names, reply, second: None, seen, next: Ok(()) }
    }

    const GOOD: &[u8] = b"GET /7 HTTP/1.1\r\nHost: a.test\r\nX-Kept: 1\r\n\r\n";

    #[test]
    fn a_legal_case_wants_its_request_and_its_answer() {
        let case = Corpus("c").legal("n", "", "GET", "/{id}").field("x-kept", &["1"]);
        assert_eq!(judge(&case, &observed(&[GOOD])), Ok(()));
        assert!(judge(&case, &observed(&[])).is_err(), "nothing arrived");
        assert!(judge(&case, &observed(&[GOOD, GOOD])).is_err(), "twice");
        let other = b"GET /8 HTTP/1.1\r\nHost: a.test\r\nX-Kept: 1\r\n\r\n";
        assert!(judge(&case, &observed(&[other])).is_err(), "another target");
        assert!(judge(&case.clone().field("x-kept", &["2"]), &observed(&[GOOD])).is_err(), "another value");
        assert!(judge(&case.clone().body("x"), &observed(&[GOOD])).is_err(), "another body");
        let mut refused = observed(&[GOOD]);
        refused.reply.status = Some(400);
        assert!(judge(&case, &refused).is_err(), "the client was refused");
        let mut stranger = observed(&[GOOD]);
        stranger.reply.body = b"GET /9".to_vec();
        assert!(judge(&case, &stranger).is_err(), "somebody else's answer");
    }

    #[test]
    fn a_hostile_case_may_be_read_once_and_carefully() {
        let refused = Corpus("c").refused("n", "");
        assert_eq!(judge(&refused, &observed(&[])), Ok(()));
        assert!(judge(&refused, &observed(&[GOOD])).is_err());
        assert!(judge(&refused, &observed(&[b"GET /7 HT"])).is_err(), "part of a request");
        let at_most = Corpus("c").at_most("n", "", "GET", "/{id}");
        assert_eq!(judge(&at_most, &observed(&[])), Ok(()));
        assert_eq!(judge(&at_most, &observed(&[GOOD])), Ok(()));
        assert!(judge(&at_most, &observed(&[GOOD, GOOD])).is_err(), "two requests");
        let broken = Corpus("c").broken("n", "", crate::case::After::Dies);
        assert_eq!(
            judge(&broken, &observed(&[b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\na"])),
            Ok(())
        );
        assert!(judge(&broken, &observed(&[GOOD])).is_err());
    }

    #[test]
    fn what_is_dirty_never_passes() {
        let at_most = Corpus("c").at_most("n", "", "GET", "/{id}");
        for line in [
            "Transfer_Encoding: chunked",
            "Content_Length: 5",
            "Content.Length: 5",
            "X-Any: forged",
            "X-Forwarded-For: 6.6.6.6",
            "Host: b.test",
            "X: a\0",
            "Content-Length: 00",
        ] {
            let bytes = format!("GET /7 HTTP/1.1\r\nHost: a.test\r\n{line}\r\n\r\n");
            assert!(judge(&at_most, &observed(&[bytes.as_bytes()])).is_err(), "{line}");
        }
        for trailer in ["Host: a.test", "Authorization: x", "Content_Length: 5", "X: forged"] {
            let bytes = format!(
                "GET /7 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailer}\r\n\r\n"
            );
            assert!(judge(&at_most, &observed(&[bytes.as_bytes()])).is_err(), "{trailer}");
        }
        let mut poisoned = observed(&[]);
        poisoned.next = Err("the next client got another answer".to_owned());
        assert!(judge(&at_most, &poisoned).is_err());
    }

    #[test]
    fn a_shared_answer_has_nothing_of_the_first_request() {
        let case = Corpus("c").not_shared("n", "", "");
        let mut kept = observed(&[GOOD]);
        assert!(judge(&case, &kept).is_err(), "nobody asked");
        kept.second =
            Some(Reply { status: Some(200), body: b"GET /7?st=forged".to_vec(), ended: String::new() });
        assert!(judge(&case, &kept).is_err());
        kept.second = Some(Reply { status: Some(200), body: b"GET /7".to_vec(), ended: String::new() });
        assert_eq!(judge(&case, &kept), Ok(()));
    }
}
