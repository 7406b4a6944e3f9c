//! A case: what is sent, by which protocol, to which published name, and what an origin may see of it.

use crate::read::Field;

/// A published name with its own rules. The full name is this, the lane, and the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// Everything goes to the origin.
    App,
    /// The connector serves `^/public/` alone.
    Public,
    /// The operator denies `^/admin` to everybody.
    Denied,
    /// The connector leads `^/admin` elsewhere.
    Split,
    /// The connector asks for a token under `^/admin`.
    Gate,
    /// The connector asks for a token everywhere; a wildcard rule behind it leads to the same origin without.
    Door,
    /// Cached by `preset: static`: the query is not in the key.
    KeysStatic,
    /// Cached as the origin allows, key `[host, path, query(page)]`.
    KeysPage,
    /// Cached, key `[host, path, query(!utm_source)]`.
    KeysNot,
    /// Cached, key `[host, path, query, cookie(lang)]`.
    KeysCookie,
    /// Cached, key `[host, path, query]`.
    KeysPlain,
    /// The operator removes and sets fields of requests.
    Edited,
}

impl Site {
    /// The first label of the name.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Public => "public",
            Self::Denied => "denied",
            Self::Split => "split",
            Self::Gate => "gate",
            Self::Door => "door",
            Self::KeysStatic => "keys-static",
            Self::KeysPage => "keys-page",
            Self::KeysNot => "keys-not",
            Self::KeysCookie => "keys-cookie",
            Self::KeysPlain => "keys-plain",
            Self::Edited => "edited",
        }
    }
}

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Plain,
    Tls,
    Http2,
    Http3,
}

/// A part of a request over HTTP/2 or HTTP/3. The last part ends the stream, unless it is a pause or cuts it off.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A field section: head or trailers.
    Fields(Vec<Field>),
    /// Part of the body, in a frame of its own.
    Data(Vec<u8>),
    /// The stream ends by itself: an empty DATA frame (HTTP/2), a bare FIN (HTTP/3).
    End,
    /// The next part comes in a later packet.
    Pause,
    /// The stream is reset.
    Reset,
    /// The connection is closed.
    Leave,
}

/// What is sent. `{host}` and `{id}` stand for the published name and for the number of this run of the case.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// Bytes of HTTP/1.1.
    Bytes(Vec<u8>, After),
    /// Parts of HTTP/2 or HTTP/3.
    Steps(Vec<Step>),
}

/// What an HTTP/1.1 client does once it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It waits for the answer, and leaves when none comes.
    Waits,
    /// It says that nothing more comes.
    Closes,
    /// It is gone, as a killed process is.
    Dies,
}

/// What one careful reader understands. What is `None` is not compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) method: Option<Vec<u8>>,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) body: Option<Vec<u8>>,
    /// Whether Host may be written in another way than the published name.
    pub(crate) any_host: bool,
    /// All values of these fields.
    pub(crate) fields: Vec<(String, Vec<Vec<u8>>)>,
    /// All trailers that are to arrive.
    pub(crate) trailers: Vec<Field>,
}

/// What the origin may see.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// Hostile: nothing.
    Nothing,
    /// Hostile: nothing, or exactly this request.
    AtMost(Reading),
    /// Hostile: nothing that is complete.
    NothingWhole,
    /// Hostile, two requests: the second one's answer has nothing of the first one's (`forged`).
    NotShared(Vec<u8>),
    /// Legal: exactly this request, and the client gets its answer.
    Exactly(Reading),
}

/// A named case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) corpus: &'static str,
    pub(crate) name: String,
    pub(crate) site: Site,
    pub(crate) sent: Sent,
    pub(crate) expect: Expect,
    /// Only these protocols; empty for all that the kind of request has.
    pub(crate) only: Vec<Protocol>,
}

impl Case {
    /// Whether it has to arrive.
    pub(crate) fn is_legal(&self) -> bool {
        matches!(self.expect, Expect::Exactly(_))
    }

    /// The protocols that it is sent by.
    pub(crate) fn protocols(&self) -> Vec<Protocol> {
        let all = match self.sent {
            Sent::Bytes(..) => [Protocol::Plain, Protocol::Tls],
            Sent::Steps(_) => [Protocol::Http2, Protocol::Http3],
        };
        all.into_iter().filter(|protocol| self.only.is_empty() || self.only.contains(protocol)).collect()
    }

    pub(crate) fn at(mut self, site: Site) -> Self {
        self.site = site;
        self
    }

    pub(crate) fn only(mut self, protocol: Protocol) -> Self {
        self.only = vec![protocol];
        self
    }

    /// The bytes have these in front.
    pub(crate) fn with_start(mut self, start: &str) -> Self {
        if let Sent::Bytes(bytes, _) = &mut self.sent {
            *bytes = [start.as_bytes(), bytes].concat();
        }
        self
    }

    fn reading(&mut self) -> Option<&mut Reading> {
        match &mut self.expect {
            Expect::AtMost(reading) | Expect::Exactly(reading) => Some(reading),
            _ => None,
        }
    }

    /// The reading has this body.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        if let Some(reading) = self.reading() {
            reading.body = Some(body.into());
        }
        self
    }

    /// The reading has this field with these values and no others.
    pub(crate) fn field(mut self, name: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        if let Some(reading) = self.reading() {
            reading.fields.push((name.to_owned(), values));
        }
        self
    }

    /// The reading may have Host in another form of the published name.
    pub(crate) fn any_host(mut self) -> Self {
        if let Some(reading) = self.reading() {
            reading.any_host = true;
        }
        self
    }

    /// The reading has this trailer.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        if let Some(reading) = self.reading() {
            reading.trailers.push((name.into(), value.into()));
        }
        self
    }
}

/// Makes the cases of one corpus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Corpus(pub(crate) &'static str);

impl Corpus {
    fn case(self, name: impl Into<String>, sent: Sent, expect: Expect) -> Case {
        Case { corpus: self.0, name: name.into(), site: Site::App, sent, expect, only: Vec::new() }
    }

    /// HTTP/1.1 bytes of which the origin sees nothing.
    pub(crate) fn refused(self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
        self.case(name, Sent::Bytes(bytes.into(), After::Waits), Expect::Nothing)
    }

    /// HTTP/1.1 bytes of which the origin sees nothing, or the request that a careful reader finds in them.
    pub(crate) fn at_most(
        self,
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
        method: &str,
        target: &str,
    ) -> Case {
        let sent = Sent::Bytes(bytes.into(), After::Waits);
        self.case(name, sent, Expect::AtMost(reading(method, target)))
    }

    /// A legal HTTP/1.1 request.
    pub(crate) fn legal(
        self,
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
        method: &str,
        target: &str,
    ) -> Case {
        let sent = Sent::Bytes(bytes.into(), After::Waits);
        self.case(name, sent, Expect::Exactly(reading(method, target)))
    }

    /// An HTTP/1.1 upload that breaks off.
    pub(crate) fn broken(self, name: impl Into<String>, bytes: impl Into<Vec<u8>>, after: After) -> Case {
        self.case(name, Sent::Bytes(bytes.into(), after), Expect::NothingWhole)
    }

    /// Two requests, of which the first one is hostile and the second one is somebody else's.
    pub(crate) fn not_shared(
        self,
        name: impl Into<String>,
        first: impl Into<Vec<u8>>,
        second: impl Into<Vec<u8>>,
    ) -> Case {
        let sent = Sent::Bytes(first.into(), After::Waits);
        self.case(name, sent, Expect::NotShared(second.into()))
    }

    /// Parts of HTTP/2 and HTTP/3 of which the origin sees nothing.
    pub(crate) fn refused_steps(self, name: impl Into<String>, steps: Vec<Step>) -> Case {
        self.case(name, Sent::Steps(steps), Expect::Nothing)
    }

    /// The same, of which it may see one careful reading.
    pub(crate) fn at_most_steps(
        self,
        name: impl Into<String>,
        steps: Vec<Step>,
        method: &str,
        target: &str,
    ) -> Case {
        self.case(name, Sent::Steps(steps), Expect::AtMost(reading(method, target)))
    }

    /// A legal request over HTTP/2 and HTTP/3.
    pub(crate) fn legal_steps(
        self,
        name: impl Into<String>,
        steps: Vec<Step>,
        method: &str,
        target: &str,
    ) -> Case {
        self.case(name, Sent::Steps(steps), Expect::Exactly(reading(method, target)))
    }

    /// An upload over HTTP/2 and HTTP/3 that breaks off.
    pub(crate) fn broken_steps(self, name: impl Into<String>, steps: Vec<Step>) -> Case {
        self.case(name, Sent::Steps(steps), Expect::NothingWhole)
    }
}

fn reading(method: &str, target: &str) -> Reading {
    Reading { method: Some(method.into()), target: Some(target.into()), ..Reading::default() }
}

/// The head of a GET, with other and more fields: `:path` and its kin replace what a good request has.
pub(crate) fn get(target: &str, more: &[(&str, &str)]) -> Step {
    head("GET", target, more)
}

/// The head of a request over HTTP/2 or HTTP/3.
pub(crate) fn head(method: &str, target: &str, more: &[(&str, &str)]) -> Step {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", "{host}"), (":path", target)];
    fields(&[&pseudo[..], more].concat())
}

/// A field section.
pub(crate) fn fields(pairs: &[(&str, &str)]) -> Step {
    Step::Fields(
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect(),
    )
}

/// Part of a body.
pub(crate) fn data(bytes: &str) -> Step {
    Step::Data(bytes.into())
}

/// What one run of a case puts in place of the words in braces.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The published name.
    pub(crate) host: String,
    /// A number that is used once.
    pub(crate) id: String,
    /// The client's address.
    pub(crate) client: String,
}

/// Puts the names of a run into bytes: `{host}`, in upper case `{HOST}`, with one letter in upper case `{Host}`, without its first
/// label `{lane}`; `{id}`; `{client}`.
pub(crate) fn filled(bytes: &[u8], names: &Names) -> Vec<u8> {
    let Names { host, id, client } = names;
    let (upper, (label, lane)) = (host.to_ascii_uppercase(), host.split_once('.').unwrap_or_default());
    let first = label.chars().take(1).map(|letter| letter.to_ascii_uppercase());
    let mixed: String = first.chain(host.chars().skip(1)).collect();
    let places =
        [("{host}", host), ("{HOST}", &upper), ("{Host}", &mixed), ("{id}", id), ("{client}", client)];
    let places = places.map(|(from, to)| (from, to.as_str())).into_iter().chain([("{lane}", lane)]);
    places.fold(bytes.to_vec(), |bytes, (from, to)| replaced(&bytes, from.as_bytes(), to.as_bytes()))
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_filled_in_everywhere() {
        let names = Names { host: "ab.test".into(), id: "7".into(), client: "127.1.0.1".into() };
        assert_eq!(filled(b"{host}/{id}?{id}", &names), b"ab.test/7?7");
        assert_eq!(filled(b"{HOST} {Host} {lane} {client}", &names), b"AB.TEST Ab.test test 127.1.0.1");
        assert_eq!(filled(b"plain", &names), b"plain");
    }

    #[test]
    fn a_kind_of_request_has_its_protocols() {
        let case = Corpus("c").refused("n", "GET");
        assert_eq!(case.protocols(), [Protocol::Plain, Protocol::Tls]);
        let case = Corpus("c").refused_steps("n", vec![get("/", &[])]);
        assert_eq!(case.clone().only(Protocol::Http3).protocols(), [Protocol::Http3]);
        assert_eq!(case.protocols(), [Protocol::Http2, Protocol::Http3]);
    }
}
