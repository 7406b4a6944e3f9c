//! Bodies are compressed while they pass. What waits for more is flushed first, so that events arrive when they happen.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_policy::limits::ENCODERS_BYTES_MAX;
use adit_policy::policy::compress::Coding;
use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

/// Good enough in a third of the best one's time, as nginx's modules are mostly set.
const GZIP_LEVEL: u32 = 5;
/// The best of the quick ones.
const BROTLI_QUALITY: u32 = 4;
/// A window of 256 KiB: what one body costs in memory while it passes.
const BROTLI_WINDOW: u32 = 18;
/// The library's own default.
const ZSTD_LEVEL: i32 = 3;
/// The same, for zstd.
const ZSTD_WINDOW: u32 = 18;
/// Bytes that brotli writes at a time.
const BUFFER: usize = 4096;

/// What one encoder is counted with, in bytes. An estimate: 200 stalled answers of 4 MiB took 387 MiB in all, nearly 2 MiB each,
/// before encoders had bounded room; gzip needs under 300 KiB for its window and tables.
const fn cost(coding: Coding) -> usize {
    match coding {
        Coding::Gzip => 384 * 1024,
        Coding::Brotli => 2 * 1024 * 1024,
        Coding::Zstd => 1280 * 1024,
    }
}

/// Room for the encoders of all answers that are under way.
#[derive(Debug, Default)]
pub(crate) struct EncoderRoom(AtomicUsize);

impl EncoderRoom {
    /// Room for one encoder; `None` where there is none, and the answer goes as it is.
    pub(crate) fn reserve(self: &Arc<Self>, coding: Coding) -> Option<Reserved> {
        let cost = cost(coding);
        let more = |used: usize| used.checked_add(cost).filter(|used| *used <= ENCODERS_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Reserved { room: self.clone(), coding })
    }
}

/// Room that one answer has, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    room: Arc<EncoderRoom>,
    coding: Coding,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.room.0.fetch_sub(cost(self.coding), Ordering::Relaxed);
    }
}

/// The compression of one answer. The encoder is made when the first bytes come: an answer that waits costs nothing.
pub(crate) struct Compression {
    encoder: Option<Encoder>,
    reserved: Reserved,
}

impl Compression {
    pub(crate) fn new(reserved: Reserved) -> Self {
        Self { encoder: None, reserved }
    }

    /// Takes a part of the body in; what is ready comes out, perhaps nothing.
    ///
    /// # Errors
    /// When the library fails.
    pub(crate) fn write(&mut self, data: &[u8]) -> io::Result<Bytes> {
        self.encoder()?.write(data)
    }

    /// Everything that was taken in comes out.
    ///
    /// # Errors
    /// When the library fails.
    pub(crate) fn flush(&mut self) -> io::Result<Bytes> {
        self.encoder()?.flush()
    }

    /// Ends the body.
    ///
    /// # Errors
    /// When the library fails.
    pub(crate) fn finish(mut self) -> io::Result<Bytes> {
        self.encoder()?;
        self.encoder.take().map_or(Ok(Bytes::new()), Encoder::finish)
    }

    fn encoder(&mut self) -> io::Result<&mut Encoder> {
        let made = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(self.reserved.coding)?,
        };
        Ok(self.encoder.insert(made))
    }
}

/// One body's encoder.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Encoder {
    /// # Errors
    /// When the library cannot begin.
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            Coding::Brotli => {
                let writer = CompressorWriter::new(Vec::new(), BUFFER, BROTLI_QUALITY, BROTLI_WINDOW);
                Self::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Takes a part of the body in; what is ready comes out, perhaps nothing.
    ///
    /// # Errors
    /// When the library fails.
    fn write(&mut self, data: &[u8]) -> io::Result<Bytes> {
        self.writer().write_all(data)?;
        Ok(self.take())
    }

    /// Everything that was taken in comes out.
    ///
    /// # Errors
    /// The same.
    fn flush(&mut self) -> io::Result<Bytes> {
        self.writer().flush()?;
        Ok(self.take())
    }

    /// The end of the body.
    ///
    /// # Errors
    /// The same.
    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?.into(),
            Self::Brotli(encoder) => encoder.into_inner().into(),
            Self::Zstd(encoder) => encoder.finish()?.into(),
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    fn take(&mut self) -> Bytes {
        let out = match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn unpack(coding: Coding, packed: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        match coding {
            Coding::Gzip => drop(flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut text)),
            Coding::Brotli => drop(brotli::Decompressor::new(packed, 4096).read_to_end(&mut text)),
            Coding::Zstd => text = zstd::decode_all(packed).unwrap_or_default(),
        }
        text
    }

    #[test]
    fn what_goes_in_comes_out_smaller_and_whole() {
        let line = b"All work and no play makes Jack a dull boy.\n";
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut packed = Vec::new();
            for _ in 0..1000 {
                packed.extend_from_slice(&encoder.write(line).unwrap());
            }
            packed.extend_from_slice(&encoder.finish().unwrap());
            assert!(packed.len() < 2000, "{coding}: {}", packed.len());
            assert_eq!(unpack(coding, &packed), line.repeat(1000), "{coding}");
        }
    }

    #[test]
    fn a_flush_brings_out_what_went_in() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut packed = encoder.write(b"data: one event\n\n").unwrap().to_vec();
            packed.extend_from_slice(&encoder.flush().unwrap());
            let mut decoder: Box<dyn io::Read> = match coding {
                Coding::Gzip => Box::new(flate2::read::GzDecoder::new(&packed[..])),
                Coding::Brotli => Box::new(brotli::Decompressor::new(&packed[..], 4096)),
                Coding::Zstd => Box::new(zstd::Decoder::new(&packed[..]).unwrap()),
            };
            let mut text = [0; 17];
            decoder.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"data: one event\n\n", "{coding}");
        }
    }

    #[test]
    fn the_encoders_of_all_answers_have_bounded_room() {
        let room = Arc::<EncoderRoom>::default();
        let held: Vec<Reserved> = std::iter::from_fn(|| room.reserve(Coding::Brotli)).collect();
        assert_eq!(held.len(), ENCODERS_BYTES_MAX / cost(Coding::Brotli));
        let waiting: Vec<Compression> = held.into_iter().map(Compression::new).collect();
        assert!(waiting.iter().all(|compression| compression.encoder.is_none()), "no bytes, no encoder");
        drop(waiting);
        assert!(room.reserve(Coding::Gzip).is_some(), "it is given back");
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
    }
}
