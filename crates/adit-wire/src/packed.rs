//! Response headers on HTTP/2: `b64(name):b64(value);…` in one field, standard alphabet without padding
//! (cloudflared: `connection/header.go`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut as _, BytesMut};

use crate::fields::Fields;
use crate::limits::{ENTRIES_MAX, PACKED_BYTES_MAX};

/// Bytes that are no packed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackedError {
    /// More bytes or fields than allowed.
    #[error("the packed response headers pass their limit")]
    TooLarge,
    /// Not `name:value` pairs of base64.
    #[error("malformed packed response headers")]
    Malformed,
}

/// Appends the packed form of the fields.
pub fn encode<'a>(out: &mut BytesMut, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (index, (name, value)) in fields.enumerate() {
        if index > 0 {
            out.put_u8(b';');
        }
        put_base64(out, name);
        out.put_u8(b':');
        put_base64(out, value);
    }
}

fn put_base64(out: &mut BytesMut, data: &[u8]) {
    let start = out.len();
    let length = data.len().div_ceil(3) * 4;
    out.resize(start + length, 0);
    let written = out.get_mut(start..).map_or(Ok(0), |room| STANDARD_NO_PAD.encode_slice(data, room));
    // The room is always enough, so nothing is lost here.
    out.truncate(start + written.unwrap_or(0));
}

/// Unpacks the fields.
///
/// # Errors
/// [`PackedError`] when the text is too long or makes no sense.
pub fn decode(text: &[u8]) -> Result<Fields, PackedError> {
    if text.len() > PACKED_BYTES_MAX {
        return Err(PackedError::TooLarge);
    }
    let mut buffer = vec![0; text.len() / 4 * 3 + 8];
    let mut ranges = Vec::with_capacity(16);
    let mut end = 0;
    for pair in text.split(|byte| *byte == b';').filter(|pair| !pair.is_empty()) {
        if ranges.len() == ENTRIES_MAX {
            return Err(PackedError::TooLarge);
        }
        let colon = pair.iter().position(|byte| *byte == b':').ok_or(PackedError::Malformed)?;
        let (name, value) = pair.split_at(colon);
        let start = end;
        let middle = start + take_base64(name, &mut buffer, start)?;
        end = middle + take_base64(value.get(1..).unwrap_or_default(), &mut buffer, middle)?;
        ranges.push((start..middle, middle..end));
    }
    let mut fields = Fields::with_capacity(buffer.into(), ranges.len());
    for (name, value) in ranges {
        fields.push_range(name, value).map_err(|_| PackedError::Malformed)?;
    }
    Ok(fields)
}

fn take_base64(text: &[u8], buffer: &mut [u8], at: usize) -> Result<usize, PackedError> {
    let room = buffer.get_mut(at..).ok_or(PackedError::Malformed)?;
    STANDARD_NO_PAD.decode_slice(text, room).map_err(|_| PackedError::Malformed)
}

/// Who answers: the value of `cf-cloudflared-response-meta`.
pub mod meta {
    /// The origin answered.
    pub const ORIGIN: &str = r#"{"src":"origin"}"#;
    /// The connector answered, because the origin could not.
    pub const CONNECTOR: &str = r#"{"src":"cloudflared"}"#;

    /// Whether the connector itself answered. Anything else counts as the origin's answer.
    #[must_use]
    pub fn is_from_connector(meta: &[u8]) -> bool {
        let parsed = serde_json::from_slice::<Meta>(meta.get(..meta.len().min(1024)).unwrap_or_default());
        parsed.is_ok_and(|meta| meta.src == "cloudflared")
    }

    #[derive(serde::Deserialize)]
    struct Meta {
        src: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_real_program_s_text_is_read() {
        // Content-Type: text/plain; X-A: "b" twice, one of them empty.
        let fields = decode(b"Q29udGVudC1UeXBl:dGV4dC9wbGFpbg;WC1B:Yg;WC1B:").unwrap();
        assert_eq!(fields.get("content-type"), Some(&b"text/plain"[..]));
        assert_eq!(fields.get_all("x-a").collect::<Vec<_>>(), [&b"b"[..], b""]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(decode(b"abc"), Err(PackedError::Malformed));
        assert_eq!(decode(b"a:b"), Err(PackedError::Malformed));
        assert_eq!(decode(b"YQ==:YQ"), Err(PackedError::Malformed), "padding");
        assert_eq!(decode(&vec![b';'; PACKED_BYTES_MAX + 1]), Err(PackedError::TooLarge));
        assert_eq!(decode("YQ:YQ;".repeat(ENTRIES_MAX + 1).as_bytes()), Err(PackedError::TooLarge));
        assert!(decode(b"").unwrap().is_empty());
    }

    #[test]
    fn the_sender_is_read_from_the_meta_field() {
        assert!(meta::is_from_connector(meta::CONNECTOR.as_bytes()));
        assert!(meta::is_from_connector(br#"{"src":"cloudflared","flow_rate_limited":true}"#));
        assert!(!meta::is_from_connector(meta::ORIGIN.as_bytes()));
        assert!(!meta::is_from_connector(b"junk"));
    }

    proptest! {
        #[test]
        fn any_fields_survive(pairs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).filter(|(name, _)| !name.is_empty()).collect();
            let mut out = BytesMut::new();
            encode(&mut out, pairs.iter().copied());
            prop_assert!(decode(&out).unwrap().iter().eq(pairs.iter().copied()));
        }

        #[test]
        fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = decode(&text);
        }
    }
}
