//! What each fuzz target does with outside bytes, and the properties that it checks.
//!
//! The same functions run as ordinary tests over `fuzz/seeds/` and over small changes of its files, so that a crash that was
//! found once stays found without a fuzzer.

pub mod reading;

use std::path::Path;
use std::time::{Duration, SystemTime};

use adit_http::answer::{self, body::BodyReader, body::Piece};
use adit_http::proxy_protocol;
use adit_http::strict::RequestChecker;
use adit_http3::{frame as http3_frame, head as http3_head_of, qpack};
use adit_policy::cache::directives::Directives;
use adit_policy::cache::freshness::{Arrival, Use};
use adit_policy::cache::key::{Keyed, key};
use adit_policy::cache::rule::{CacheRule, KeyShape, Preset, QueryKey};
use adit_policy::cache::storable::{Asker, storable};
use adit_policy::cache::{conditional, outgoing, range};
use adit_policy::field;
use adit_policy::policy::act::Asked;
use adit_policy::policy::address;
use adit_policy::policy::{Policy, Voice};
use adit_wire::configuration::Configuration;
use adit_wire::connect::{decode_request_stream, decode_response_stream};
use adit_wire::credentials::Credentials;
use adit_wire::datagram::{self, Datagram, Version};
use adit_wire::frame::{FrameDecoder, Item};
use adit_wire::{packed, preamble, socks5, token};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by the name of their seeds.
pub const TARGETS: [(&str, Target); 23] = [
    ("preamble", preamble),
    ("connect_request", connect_request),
    ("connect_response", connect_response),
    ("packed_headers", packed_headers),
    ("frame", frame),
    ("token", token),
    ("credentials", credentials),
    ("configuration", configuration),
    ("answer", answer),
    ("edge_yml", edge_yml),
    ("config_yml", config_yml),
    ("socks5", socks5),
    ("datagram", datagram),
    ("proxy_header", proxy_header),
    ("http3_frames", http3_frames),
    ("http3_head", http3_head),
    ("policy_word", policy_word),
    ("cache_head", cache_head),
    ("path", reading::path),
    ("authority", reading::authority),
    ("deny_list", deny_list),
    ("request_head", request_head),
    ("cache_key", cache_key),
];

/// The first bytes of a stream: never takes more than there are.
pub fn preamble(data: &[u8]) {
    if let Ok(preamble::Parsed::Complete(_, used)) = preamble::parse(data) {
        assert!(used <= data.len());
    }
}

/// The head of a request: what is decoded lies inside of what was read.
pub fn connect_request(data: &[u8]) {
    let input = Bytes::copy_from_slice(data);
    if let Ok(Some((request, used))) = decode_request_stream(&input) {
        assert!(used <= input.len());
        assert!(request.target().len() <= input.len());
    }
}

/// The head of an answer.
pub fn connect_response(data: &[u8]) {
    let input = Bytes::copy_from_slice(data);
    if let Ok(Some((_, used))) = decode_response_stream(&input) {
        assert!(used <= input.len());
    }
}

/// A SOCKS5 client: a message never takes more than there is, and a prefix of it is never a message.
pub fn socks5(data: &[u8]) {
    let greeting = socks5::greeting(data).ok().flatten().map(|(used, _)| used);
    let request = socks5::request(data).ok().flatten().map(|(used, _)| used);
    for used in greeting.into_iter().chain(request) {
        assert!(used <= data.len());
    }
    if let Some(used) = request {
        assert_eq!(socks5::request(&data[..used - 1]), Ok(None));
    }
}

/// A datagram of either version: what is read writes to the same bytes, but for what nobody reads.
pub fn datagram(data: &[u8]) {
    for version in [Version::V2, Version::V3] {
        let Ok(read) = version.decode(Bytes::copy_from_slice(data)) else { continue };
        let written = match &read {
            Datagram::Payload { id, data } => version.payload(*id, data),
            Datagram::Register { id, to, idle } => datagram::register(*id, *to, *idle),
            Datagram::Registered { id, outcome } => datagram::registered(*id, outcome),
            Datagram::Other => continue,
        };
        if let Datagram::Payload { .. } = read {
            assert_eq!(written, data);
        }
        assert_eq!(version.decode(written).map(|again| again == read || is_cut(&read)), Ok(true));
    }
}

/// A reason that is longer than a datagram, or no text, is not written as it was read.
fn is_cut(read: &Datagram) -> bool {
    matches!(read, Datagram::Registered { outcome: datagram::Outcome::Failed(_), .. })
}

/// A PROXY header: it never takes more than there is, and a cut one is never a whole one.
pub fn proxy_header(data: &[u8]) {
    if let Ok(Some((_, used))) = proxy_protocol::parse(data) {
        assert!(used <= data.len());
        assert!(used == 0 || proxy_protocol::parse(&data[..used - 1]) == Ok(None));
    }
}

/// Frames of an HTTP/3 stream, whole or byte by byte, come out alike; so do those of its control stream.
pub fn http3_frames(data: &[u8]) {
    let pieces = |step: usize| {
        let (mut reader, mut buffer) = (http3_frame::FrameReader::new(1000), BytesMut::new());
        let (mut heads, mut body) = (Vec::new(), Vec::new());
        for chunk in data.chunks(step) {
            buffer.extend_from_slice(chunk);
            loop {
                match reader.take(&mut buffer) {
                    Ok(http3_frame::Piece::Headers(section)) => heads.push(section),
                    Ok(http3_frame::Piece::Data(data)) => body.extend_from_slice(&data),
                    Ok(http3_frame::Piece::NeedMore) => break,
                    Err(code) => return (heads, body, Err(code)),
                }
            }
        }
        (heads, body, Ok(reader.at_boundary() && buffer.is_empty()))
    };
    assert_eq!(pieces(data.len().max(1)), pieces(1));
    let mut control = BytesMut::from(data);
    while let Ok(Some((_, payload))) = http3_frame::take_control(&mut control) {
        assert!(payload.len() <= data.len());
    }
}

/// A field section: limits hold, and what makes a request is written and read again.
pub fn http3_head(data: &[u8]) {
    let Ok(fields) = qpack::decode(Bytes::copy_from_slice(data), 4096, 50) else { return };
    assert!(fields.len() <= 50 && fields.iter().all(|field| field.name.len() + field.value.len() <= 4096));
    let Ok(request) = http3_head_of::request(&fields) else { return };
    assert!(
        !request.headers().contains_key("connection") && !request.headers().contains_key("transfer-encoding")
    );
    let mut written = BytesMut::new();
    qpack::start(&mut written);
    for (name, value) in request.headers() {
        qpack::put(name.as_str(), value.as_bytes(), &mut written);
    }
    assert!(qpack::decode(written.freeze(), 16_384, 60).is_ok());
}

/// Packed headers: what was unpacked packs and unpacks to the same.
pub fn packed_headers(data: &[u8]) {
    let Ok(fields) = packed::decode(data) else { return };
    let mut out = BytesMut::new();
    packed::encode(&mut out, fields.iter());
    if let Ok(again) = packed::decode(&out) {
        assert_eq!(fields, again);
    }
}

/// Framed bodies: the outcome does not depend on where the bytes are cut.
pub fn frame(data: &[u8]) {
    let outcome = |step: usize| {
        let (mut decoder, mut body) = (FrameDecoder::default(), Vec::new());
        for chunk in data.chunks(step) {
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next_item() {
                    Err(_) => return None,
                    Ok(Item::NeedMore) => break,
                    Ok(Item::Data(data)) => body.extend_from_slice(&data),
                    Ok(Item::Trailers(_)) => {}
                }
            }
        }
        Some((body, decoder.is_complete()))
    };
    assert_eq!(outcome(data.len().max(1)), outcome(3));
}

/// A token: what it says can be written and read again.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(credentials) = token::decode(text) {
        assert!(token::decode(&token::encode(&credentials)).is_ok());
    }
}

/// A credentials file.
pub fn credentials(data: &[u8]) {
    if let Ok(credentials) = Credentials::from_json(data) {
        assert!(Credentials::from_json(credentials.to_json().as_bytes()).is_ok());
    }
}

/// What a connector says about requests: what is understood can be laid over others and asked about any path.
pub fn policy_word(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    let Ok(layer) = adit_config::policy::decode_wire(&value) else { return };
    let policy = Policy::of("name", &[(Voice::Connector, &layer)]);
    for path in ["/", "/x/y.css", "/old/a", "/\u{fffd}"] {
        let settings = policy.find(path);
        let asked = Asked { host: "a.example", path, query: Some("q") };
        for rewrite in settings.rewrite.iter().flat_map(|rules| rules.iter()) {
            assert!(
                rewrite
                    .target(&asked)
                    .is_none_or(|target| target.starts_with('/') && !target.starts_with("//"))
            );
        }
        for redirect in settings.redirect.iter().flat_map(|rules| rules.iter()) {
            let _to = redirect.target(&asked);
        }
        assert_eq!(settings.describe().len(), settings.said.len());
    }
}

/// Fields of a request, an empty line, fields of a response: what is forbidden is never kept, whatever else they say.
pub fn cache_head(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (request, response) = text.split_once("\n\n").unwrap_or((&text, ""));
    let (request, response) = (fields(request), fields(response));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let arrival = Arrival { status: StatusCode::OK, headers: &response, asked: now, came: now };
    let asker = Asker { method: &Method::GET, headers: &request, identified: false };
    let rule = CacheRule::default();
    let said = Directives::of_response(&response);
    if let Ok(kept) = storable(&asker, &arrival, &rule) {
        // RFC 9111, section 5.2.2.3: whoever understands the status does not heed no-store beside must-understand.
        assert!(!said.no_store || said.must_understand);
        assert!(!said.private && !kept.headers.contains_key("set-cookie"));
        let wanted = Directives::of_request(&request);
        for passed in [0, 59, 1 << 40] {
            let passed = Duration::from_secs(passed);
            let used = kept.life.use_at(passed, &wanted, &rule);
            assert!(!(said.no_cache && used != Use::Ask), "no-cache is asked about");
            let _stale = kept.life.may_stand_in(passed, &wanted, &rule);
        }
        let mut key = String::new();
        kept.selecting.write(&request, &mut key);
        assert_eq!(key.lines().count(), kept.selecting.names.len() + usize::from(!key.is_empty()));
    }
    let _same = conditional::not_modified(&request, &response);
    let _counts = conditional::range_counts(&request, &response);
    if let Some(range::Part::Bytes(first, end)) =
        range::Wanted::of(&request).map(|wanted| wanted.part_of(1000))
    {
        assert!(first < end && end <= 1000);
    }
    assert!(range::content_range(&response).is_none_or(|(first, end, whole)| first < end && end <= whole));
}

/// Two requests, each a target and fields, with an empty line between them: if their keys are the same, so is what the origin gets
/// of them, but for fields that origins name in `Vary`.
pub fn cache_key(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (one, other) = text.split_once("\n\n").unwrap_or((&text, ""));
    let names = vec!["page".to_owned(), "lang".to_owned()];
    for query in
        [QueryKey::All, QueryKey::None, QueryKey::Only(names.clone()), QueryKey::Without(names.clone())]
    {
        let headers = vec![HeaderName::from_static("x-a")];
        let key = KeyShape { query, headers, cookies: names.clone(), ..KeyShape::default() };
        let rule = CacheRule { key, ..CacheRule::preset(Preset::Static) };
        let (Some(one), Some(other)) = (sent(one, &rule), sent(other, &rule)) else { continue };
        if one.0 == other.0 {
            assert_eq!(one.1, other.1, "{}", one.0);
        }
    }
}

/// The key of a request, and what the origin gets of it.
fn sent(text: &str, rule: &CacheRule) -> Option<(String, String)> {
    let (target, rest) = text.split_once('\n').unwrap_or((text, ""));
    let headers = fields(rest);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let (scheme, scope, host) = ("https", "*", "a.example");
    let tunnel = adit_policy::snapshot::TunnelId(uuid::Uuid::nil());
    let request = Keyed { tunnel, scheme, scope, host, path, query, headers: &headers };
    let key = key(&request, &rule.key).ok()?;
    let asked = outgoing::target(target, target, key.query.as_deref());
    let fields = outgoing::fields(&headers, rule, &key.cookies, true);
    assert!(fields.keys().all(|name| !outgoing::steers(name)));
    let in_key = |name: &&HeaderName| **name == http::header::COOKIE || rule.key.headers.contains(name);
    let lines = fields
        .keys()
        .filter(in_key)
        .flat_map(|name| fields.get_all(name).iter().map(move |value| (name, value)));
    let mut lines: Vec<_> = lines.collect();
    // The order of different fields says nothing.
    lines.sort_by_key(|(name, _)| name.as_str());
    Some((key.text, format!("{asked} {lines:?}")))
}

fn fields(text: &str) -> HeaderMap {
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            fields.append(name, value);
        }
    }
    fields
}

/// Bytes of an HTTP/1 client: the verdict does not depend on where they are cut, and a head that passes has one framing. Its fields are
/// told apart in the same way in every spelling.
pub fn request_head(data: &[u8]) {
    let verdict = |step: usize| {
        let (mut checker, mut before) = (RequestChecker::default(), 0);
        for piece in data.chunks(step) {
            match checker.check(piece) {
                Ok(()) => before += piece.len(),
                Err(at) => return Some(before + at),
            }
        }
        None
    };
    let refused = verdict(data.len().max(1));
    assert_eq!(refused, verdict(1));
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut slots);
    let Ok(httparse::Status::Complete(length)) = request.parse(data) else { return };
    if refused.is_none_or(|at| at >= length) {
        let count =
            |name: &str| request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
        assert!(count("content-length") + count("transfer-encoding") <= 1);
        let lines = data[..length].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        assert!(lines.clone().all(|line| line.ends_with(b"\r")));
    }
    for name in request.headers.iter().map(|field| field.name) {
        let folded = name.to_ascii_uppercase().replace('-', "_");
        assert!(field::is_same(name.as_bytes(), folded.as_bytes()));
        assert_eq!(field::role(name.as_bytes()), field::role(folded.as_bytes()));
    }
}

/// A list of addresses: what is in it is found in the set.
pub fn deny_list(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (networks, wrong) = address::parse_list(text);
    assert!(networks.len() + wrong.len() <= text.lines().count());
    let set = address::Addresses::of(&networks);
    for network in &networks {
        let (first, last) = network.bounds();
        // A network of IPv4 in the clothes of IPv6 is nobody's address.
        assert!(first != first.to_canonical() || set.includes(first));
        assert!(last != last.to_canonical() || set.includes(last));
    }
}

/// A configuration that a connector uploads.
pub fn configuration(data: &[u8]) {
    if let Ok(configuration) = Configuration::from_json(data) {
        assert!(Configuration::from_json(&configuration.to_json()).is_ok());
    }
}

/// An origin's answer: head and body, whole or byte by byte, come out alike.
pub fn answer(data: &[u8]) {
    assert_eq!(read_answer(data, data.len().max(1)), read_answer(data, 1));
}

fn read_answer(data: &[u8], step: usize) -> Option<(u16, Vec<u8>, bool)> {
    let mut buffer = BytesMut::new();
    let mut chunks = data.chunks(step);
    let head = loop {
        match answer::take(&mut buffer, b"GET") {
            Ok(Some(head)) => break head,
            Ok(None) => buffer.extend_from_slice(chunks.next()?),
            Err(_) => return None,
        }
    };
    let (mut reader, mut body) = (BodyReader::new(head.framing), Vec::new());
    loop {
        match reader.take(&mut buffer) {
            Ok(Piece::Data(data)) => body.extend_from_slice(&data),
            Ok(Piece::Trailers(_)) => {}
            Ok(Piece::End) => return Some((head.status, body, true)),
            Ok(Piece::NeedMore) => match chunks.next() {
                Some(chunk) => buffer.extend_from_slice(chunk),
                None => return Some((head.status, body, false)),
            },
            Err(_) => return None,
        }
    }
}

/// An edge's file: errors point into the text, or it is good.
pub fn edge_yml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(report) = adit_config::edge::EdgeFile::parse(text, Path::new("edge.yml")) {
        assert!(!report.to_string().is_empty());
    }
}

/// A connector's file.
pub fn config_yml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(report) = adit_config::connector::ConnectorFile::parse(text, Path::new("config.yml")) {
        assert!(!report.to_string().is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Changed copies of each seed.
    const CHANGES: u32 = 400;

    /// Numbers that are the same in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % sides.max(1)
        }
    }

    fn changed(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
        let mut data = seed.to_vec();
        for _ in 0..=dice.roll(4) {
            let (at, end) = (dice.roll(data.len()), dice.roll(data.len()));
            match dice.roll(4) {
                0 if !data.is_empty() => data[at] = dice.roll(256) as u8,
                1 => data.truncate(at),
                2 if !data.is_empty() => data[at] ^= 1 << dice.roll(8),
                _ => data.extend_from_within(at.min(end)..at.max(end)),
            }
        }
        data
    }

    #[test]
    fn no_target_falls_over_its_seeds() {
        let seeds_of = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        for (name, target) in TARGETS {
            let seeds: Vec<Vec<u8>> = fs::read_dir(seeds_of.join(name))
                .unwrap()
                .map(|entry| fs::read(entry.unwrap().path()).unwrap())
                .collect();
            assert!(!seeds.is_empty(), "{name} has no seeds");
            let mut dice = Dice(7);
            for seed in &seeds {
                target(seed);
                (0..CHANGES).for_each(|_| target(&changed(seed, &mut dice)));
            }
        }
    }
}
