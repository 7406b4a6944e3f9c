//! Bodies are compressed while they pass. What waits for more is flushed first, so that events arrive when they happen.

use std::io::{self, Write};

use adit_policy::policy::compress::Coding;
use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
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

/// One body's compression.
pub(crate) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Encoder {
    /// # Errors
    /// When the library cannot begin.
    pub(crate) fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
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
    pub(crate) fn write(&mut self, data: &[u8]) -> io::Result<Bytes> {
        self.writer().write_all(data)?;
        Ok(self.take())
    }

    /// Everything that was taken in comes out.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn flush(&mut self) -> io::Result<Bytes> {
        self.writer().flush()?;
        Ok(self.take())
    }

    /// The end of the body.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
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
}
