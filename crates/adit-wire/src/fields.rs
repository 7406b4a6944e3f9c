//! Header fields in order, as raw bytes: slices of one shared buffer, without an allocation per field.

use std::fmt;
use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};

/// Header fields as they were received. Names keep their case; values are any bytes.
#[derive(Clone, Default)]
pub struct Fields {
    buffer: Bytes,
    fields: Vec<Field>,
}

#[derive(Clone, Copy)]
struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

/// A field's range lies outside of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field lies outside of its buffer")]
pub struct OutOfRange;

impl Fields {
    /// No fields yet, over a buffer that holds their bytes.
    #[must_use]
    pub fn new(buffer: Bytes) -> Self {
        Self { buffer, fields: Vec::new() }
    }

    /// The same with room for `fields` fields.
    #[must_use]
    pub fn with_capacity(buffer: Bytes, fields: usize) -> Self {
        Self { buffer, fields: Vec::with_capacity(fields) }
    }

    /// Adds a field whose name and value are ranges of the buffer.
    ///
    /// # Errors
    /// [`OutOfRange`] when they are not.
    pub fn push_range(&mut self, name: Range<usize>, value: Range<usize>) -> Result<(), OutOfRange> {
        let name = self.check(&name)?;
        let value = self.check(&value)?;
        self.fields.push(Field { name, value });
        Ok(())
    }

    /// The same from texts.
    #[must_use]
    pub fn from_texts(pairs: &[(&str, &str)]) -> Self {
        Self::from_pairs(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    /// Copies names and values into one buffer. For rare paths and tests.
    pub fn from_pairs<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut buffer = BytesMut::new();
        let mut ranges = Vec::new();
        for (name, value) in pairs {
            let start = buffer.len();
            buffer.put_slice(name);
            buffer.put_slice(value);
            ranges.push((start..start + name.len(), start + name.len()..buffer.len()));
        }
        let mut fields = Self::with_capacity(buffer.freeze(), ranges.len());
        for (name, value) in ranges {
            // Ranges of the buffer that was just filled are inside of it, unless it passed 4 GiB.
            if fields.push_range(name, value).is_err() {
                break;
            }
        }
        fields
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (self.slice(field.name), self.slice(field.value)))
    }

    /// The same with values that share the buffer, for owners that outlive this.
    pub fn iter_shared(&self) -> impl Iterator<Item = (&[u8], Bytes)> {
        self.fields.iter().map(|field| {
            let value = self.buffer.slice(field.value.0 as usize..field.value.1 as usize);
            (self.slice(field.name), value)
        })
    }

    /// The first value of a name, whatever its case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// All values of a name, whatever its case.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn slice(&self, range: (u32, u32)) -> &[u8] {
        self.buffer.get(range.0 as usize..range.1 as usize).unwrap_or_default()
    }

    fn check(&self, range: &Range<usize>) -> Result<(u32, u32), OutOfRange> {
        if range.start > range.end || range.end > self.buffer.len() {
            return Err(OutOfRange);
        }
        let narrow = |offset: usize| u32::try_from(offset).map_err(|_| OutOfRange);
        Ok((narrow(range.start)?, narrow(range.end)?))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|(name, value)| (lossy(name), lossy(value)))).finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_their_case_and_keep_their_order() {
        let pairs: [(&[u8], &[u8]); 3] = [(b"A", b"1"), (b"b", b""), (b"a", b"2")];
        let fields = Fields::from_pairs(pairs.into_iter());
        assert_eq!(fields.get("a"), Some(&b"1"[..]));
        assert_eq!(fields.get_all("A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(fields.get("B"), Some(&b""[..]));
        assert_eq!(fields.get("c"), None);
        assert!(fields.iter().eq(pairs));
    }

    #[test]
    fn a_range_outside_of_the_buffer_is_refused() {
        let mut fields = Fields::new(Bytes::from_static(b"abc"));
        assert_eq!(fields.push_range(0..1, 1..4), Err(OutOfRange));
        #[expect(clippy::reversed_empty_ranges, reason = "the mistake under test")]
        let backwards = 2..1;
        assert_eq!(fields.push_range(backwards, 0..0), Err(OutOfRange));
        assert!(fields.is_empty());
    }
}
