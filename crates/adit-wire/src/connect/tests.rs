//! The hand-written codec beside the library, and beside hostile bytes.

use bytes::{Bytes, BytesMut};
use capnp::message::{AllocationStrategy, Builder, HeapAllocator, ReaderOptions};
use capnp::serialize;
use proptest::prelude::*;

use super::*;
use crate::preamble::DATA_PREAMBLE;

#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, unused_qualifications, elided_lifetimes_in_paths, unnameable_types, clippy::use_self, clippy::unwrap_used, clippy::unimplemented, reason = "generated")]
#[rustfmt::skip]
mod quic_metadata_capnp;

use quic_metadata_capnp::{ConnectionType, connect_request, connect_response};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn entries<'a>(method: &'a [u8], host: &'a [u8], pairs: &'a Pairs) -> impl Iterator<Item = Entry<'a>> {
    [Entry::Meta("HttpMethod", method), Entry::Meta("HttpHost", host)]
        .into_iter()
        .chain(pairs.iter().map(|(name, value)| Entry::Header(name, value)))
}

fn request(pairs: &Pairs) -> Bytes {
    let mut out = BytesMut::new();
    encode_request(&mut out, StreamKind::Http, &[b"https://a.example", b"/x?y=1"], || {
        entries(b"GET", b"a.example", pairs)
    });
    out.freeze()
}

fn sample() -> Pairs {
    vec![
        (b"Accept".to_vec(), b"*/*".to_vec()),
        (b"X-Empty".to_vec(), Vec::new()),
        (b"X-Seven".to_vec(), b"1234567".to_vec()),
        (b"X-Eight".to_vec(), b"12345678".to_vec()),
        (b"X-Bytes".to_vec(), vec![0xFF, 0xFE]),
    ]
}

#[test]
fn a_request_survives_the_wire() {
    let pairs = sample();
    let mut bytes = BytesMut::from(&request(&pairs)[..]);
    let length = bytes.len();
    bytes.extend_from_slice(b"body");
    let (head, used) = decode_request_stream(&bytes.freeze()).unwrap().unwrap();
    assert_eq!(used, length);
    assert_eq!(head.kind, StreamKind::Http);
    assert_eq!(head.dest, "https://a.example/x?y=1");
    assert_eq!(head.target(), "/x?y=1");
    assert_eq!((&head.method[..], &head.host[..]), (&b"GET"[..], &b"a.example"[..]));
    assert!(head.fields.iter().eq(pairs.iter().map(|(name, value)| (&name[..], &value[..]))));
}

#[test]
fn a_response_survives_the_wire() {
    let mut out = BytesMut::new();
    encode_response(&mut out, None, || {
        [Entry::Meta("HttpStatus", b"204"), Entry::Header(b"A", b"b")].into_iter()
    });
    let (head, used) = decode_response_stream(&out.clone().freeze()).unwrap().unwrap();
    assert_eq!((used, head.status, head.error), (out.len(), Some(204), None));
    out.clear();
    encode_response(&mut out, Some("no route"), std::iter::empty);
    let (head, _) = decode_response_stream(&out.freeze()).unwrap().unwrap();
    assert_eq!(head.error.as_deref(), Some(&b"no route"[..]));
}

#[test]
fn targets_are_cut_out_of_urls() {
    let target = |dest: &'static str| {
        let fields = Fields::default();
        let dest = Bytes::from_static(dest.as_bytes());
        let (method, host, kind) = (Bytes::new(), Bytes::new(), StreamKind::Http);
        ConnectRequest { kind, dest, method, host, fields, framed: false }.target()
    };
    assert_eq!(target("https://h/a/b?c=d://e"), "/a/b?c=d://e");
    assert_eq!(target("https://h"), "/");
    assert_eq!(target("https://h?q"), "/?q");
    assert_eq!(target("https://h:80*"), "*");
    assert_eq!(target("https://h/*"), "/*");
    assert_eq!(target("/plain"), "/plain");
}

#[test]
fn every_truncation_asks_for_more() {
    let bytes = request(&sample());
    for cut in 0..bytes.len() {
        assert!(matches!(decode_request_stream(&bytes.slice(..cut)), Ok(None)), "cut at {cut}");
    }
}

/// Builds a request with the library, in segments as small as it likes.
fn by_library(pairs: &Pairs, segment_words: u32) -> Bytes {
    let allocator = HeapAllocator::new()
        .first_segment_words(segment_words)
        .allocation_strategy(AllocationStrategy::FixedSize);
    let mut message = Builder::new(allocator);
    let mut root = message.init_root::<connect_request::Builder<'_>>();
    root.set_dest("https://a.example/x");
    root.set_type(ConnectionType::Websocket);
    let mut list = root.init_metadata(pairs.len() as u32);
    for (index, (name, value)) in pairs.iter().enumerate() {
        let mut entry = list.reborrow().get(index as u32);
        entry.set_key(format!("HttpHeader:{}", String::from_utf8_lossy(name)));
        entry.set_val(capnp::text::Reader(value));
    }
    let mut out = DATA_PREAMBLE.to_vec();
    serialize::write_message(&mut out, &message).unwrap();
    out.into()
}

#[test]
fn the_library_s_messages_are_read_in_any_segmentation() {
    let pairs = sample();
    for words in [1, 2, 3, 5, 8, 16, 64, 1024] {
        let bytes = by_library(&pairs, words);
        let segments = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) + 1;
        match decode_request_stream(&bytes) {
            Ok(Some((head, used))) => {
                assert_eq!(used, bytes.len());
                assert_eq!(head.kind, StreamKind::WebSocket);
                assert_eq!(head.target(), "/x");
                assert!(head.fields.iter().eq(pairs.iter().map(|(name, value)| (&name[..], &value[..]))));
            }
            refused => assert!(segments > 16, "{segments} segments: {refused:?}"),
        }
    }
    assert!(decode_request_stream(&by_library(&pairs, 8)).unwrap().is_some(), "several segments were tried");
}

#[test]
fn the_library_reads_our_messages() {
    let pairs = sample();
    let bytes = request(&pairs);
    let message = serialize::read_message(&bytes[8..], ReaderOptions::new()).unwrap();
    let root = message.get_root::<connect_request::Reader<'_>>().unwrap();
    assert_eq!(root.get_dest().unwrap(), "https://a.example/x?y=1");
    assert_eq!(root.get_type().unwrap(), ConnectionType::Http);
    let metadata = root.get_metadata().unwrap();
    assert_eq!(metadata.len() as usize, pairs.len() + 2);
    for (entry, (name, value)) in metadata.iter().skip(2).zip(&pairs) {
        assert_eq!(entry.get_key().unwrap().as_bytes(), [b"HttpHeader:", &name[..]].concat());
        assert_eq!(entry.get_val().unwrap().as_bytes(), value);
    }
    let mut out = BytesMut::new();
    encode_response(&mut out, Some("why"), || [Entry::Meta("HttpStatus", b"200")].into_iter());
    let message = serialize::read_message(&out[8..], ReaderOptions::new()).unwrap();
    let root = message.get_root::<connect_response::Reader<'_>>().unwrap();
    assert_eq!((root.get_error().unwrap().to_str(), root.get_metadata().unwrap().len()), (Ok("why"), 1));
}

#[test]
fn overlapping_texts_cannot_multiply_the_work() {
    // 600 entries whose keys all point at one long text.
    let pairs: Pairs = vec![(vec![b'k'; 8], vec![b'v'; 8]); 600];
    let mut bytes = request(&pairs).to_vec();
    let words = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let long = 4096;
    bytes.extend(std::iter::repeat_n(b'x', long * 8 - 1));
    bytes.push(0);
    bytes[12..16].copy_from_slice(&((words + long) as u32).to_le_bytes());
    let list = 8 + 8 + 8 * 5;
    for pointer in 0..1200 {
        let at = list + 8 * pointer;
        let offset = words - (at - 16) / 8 - 1;
        bytes[at..at + 4].copy_from_slice(&((offset as u32) << 2 | 1).to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&(((long * 8) as u32) << 3 | 2).to_le_bytes());
    }
    let refused = decode_request_stream(&bytes.into()).unwrap_err();
    assert_eq!(refused, DecodeError::TooLarge("the sum of texts"));
}

#[test]
fn sizes_are_refused_before_content_is_read() {
    let start = |words: [u32; 2]| {
        let mut bytes = DATA_PREAMBLE.to_vec();
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        decode_request_stream(&bytes.into()).map(|head| head.is_some())
    };
    assert_eq!(start([0xFFFF_FFFE, 0]), Err(DecodeError::TooLarge("the number of segments")));
    assert_eq!(start([0, 0x00FF_FFFF]), Err(DecodeError::TooLarge("the message")));
    assert_eq!(start([0, 1024]), Ok(false));
}

#[test]
fn a_header_key_needs_one_colon() {
    for key in ["HttpHeader", "HttpHeader:a:b", "xHttpHeadery"] {
        let mut out = BytesMut::new();
        encode_response(&mut out, None, || [Entry::Meta(key, b"v")].into_iter());
        let refused = decode_response_stream(&out.freeze()).unwrap_err();
        assert_eq!(refused, DecodeError::Malformed("a header key needs one colon"), "{key}");
    }
}

proptest! {
    #[test]
    fn any_fields_survive(pairs in prop::collection::vec(
        (prop::collection::vec(any::<u8>().prop_filter("no colon", |byte| *byte != b':'), 0..40), prop::collection::vec(any::<u8>(), 0..80)), 0..20)
    ) {
        let bytes = request(&pairs);
        let (head, used) = decode_request_stream(&bytes).unwrap().unwrap();
        prop_assert_eq!(used, bytes.len());
        prop_assert!(head.fields.iter().eq(pairs.iter().map(|(name, value)| (&name[..], &value[..]))));
    }

    #[test]
    fn no_mutation_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = request(&sample()).to_vec();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let bytes = Bytes::from(bytes);
        let _outcome = decode_request_stream(&bytes);
        let _outcome = decode_response_stream(&bytes);
    }

    #[test]
    fn no_bytes_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = DATA_PREAMBLE.to_vec();
        bytes.extend_from_slice(&tail);
        let bytes = Bytes::from(bytes);
        let _outcome = decode_request_stream(&bytes);
        let _outcome = decode_response_stream(&bytes);
    }
}
