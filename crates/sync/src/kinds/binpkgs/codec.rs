//! How the parts of a package are compressed, and decompressing them within bounds.

use std::fmt;
use std::io::{self, BufRead, Read};

use liblzma::stream::{CONCATENATED, Stream};

/// The most memory that a decompressor takes, and the largest window of zstd.
const MEMORY_BYTES_MAX: u64 = 128 << 20;
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A compression that packages may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// Not compressed.
    Plain,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// LZ4 frames.
    Lz4,
    /// lzip.
    Lzip,
    /// lzop.
    Lzop,
    /// xz.
    Xz,
    /// Zstandard, which Portage takes where nothing else was said.
    Zstd,
}

/// Why bytes could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// There is no decompressor for it here.
    #[error("packages that are compressed with {0} cannot be opened")]
    Unsupported(Codec),
    /// More bytes come out than there may be.
    #[error("it decompresses to more than {limit} bytes")]
    TooLarge {
        /// How many there may be.
        limit: u64,
    },
    /// The bytes are no stream of this compression, or need more memory than is given.
    #[error("it is no sound stream of {codec} within {} MiB of memory", MEMORY_BYTES_MAX >> 20)]
    Decode {
        /// What it should be.
        codec: Codec,
        /// What the decompressor says.
        #[source]
        error: io::Error,
    },
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Plain, Self::Gzip, Self::Bzip2, Self::Lz4, Self::Lzip, Self::Lzop, Self::Xz, Self::Zstd];

    /// What stands behind `.tar` in the name of a member.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => ".gz",
            Self::Bzip2 => ".bz2",
            Self::Lz4 => ".lz4",
            Self::Lzip => ".lz",
            Self::Lzop => ".lzo",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// The compression that a suffix stands for.
    pub fn of_suffix(suffix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.suffix() == suffix)
    }

    /// The compression of bytes that begin so; not compressed where nothing else is recognised.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        const BEGINNINGS: [(&[u8], Codec); 7] = [
            (b"\x1f\x8b", Codec::Gzip),
            (b"BZh", Codec::Bzip2),
            (b"\x04\x22\x4d\x18", Codec::Lz4),
            (b"LZIP", Codec::Lzip),
            (b"\x89LZO\0\r\n\x1a\n", Codec::Lzop),
            (b"\xfd7zXZ\0", Codec::Xz),
            (b"\x28\xb5\x2f\xfd", Codec::Zstd),
        ];
        let found = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning));
        found.map_or(Self::Plain, |(_, codec)| *codec)
    }

    /// A reader of what is compressed in `input`, to its last byte: anything behind the stream is an error. Its errors
    /// are of the kind that [`CodecError::Decode`] holds.
    pub fn decoder<'a>(self, input: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>, CodecError> {
        let failed = |error: io::Error| CodecError::Decode { codec: self, error };
        let lzma =
            |stream: Result<Stream, _>| stream.map_err(|error: liblzma::stream::Error| failed(error.into()));
        Ok(match self {
            Self::Plain => Box::new(input),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
            Self::Lz4 => Box::new(Lz4Frames::new(input)),
            Self::Lzip => {
                let stream = lzma(Stream::new_lzip_decoder(MEMORY_BYTES_MAX, CONCATENATED))?;
                Box::new(LzipMembers(liblzma::bufread::XzDecoder::new_stream(input, stream)))
            }
            Self::Lzop => return Err(CodecError::Unsupported(self)),
            Self::Xz => {
                let stream = lzma(Stream::new_stream_decoder(MEMORY_BYTES_MAX, CONCATENATED))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(failed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
                Box::new(decoder)
            }
        })
    }

    /// Everything that is compressed in `bytes`, if it is no more than `limit` bytes.
    pub fn decode(self, bytes: &[u8], limit: u64) -> Result<Vec<u8>, CodecError> {
        let mut plain = Vec::new();
        let mut decoder = self.decoder(bytes)?.take(limit.saturating_add(1));
        let failed = |error| CodecError::Decode { codec: self, error };
        decoder.read_to_end(&mut plain).map_err(failed)?;
        if plain.len() as u64 > limit { Err(CodecError::TooLarge { limit }) } else { Ok(plain) }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "no compression",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "lz4",
            Self::Lzip => "lzip",
            Self::Lzop => "lzop",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// Frames of LZ4, one behind the other. The decompressor stops after each, and takes input that is cut short for an
/// end like any other; whether it has asked for more than there is tells the two apart.
struct Lz4Frames<R: Read> {
    decoder: lz4_flex::frame::FrameDecoder<Watched<R>>,
    is_done: bool,
}

impl<R: BufRead> Lz4Frames<R> {
    fn new(input: R) -> Self {
        let decoder = lz4_flex::frame::FrameDecoder::new(Watched { input, has_ended: false });
        Self { decoder, is_done: false }
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.is_done && !buffer.is_empty() {
            let len = self.decoder.read(buffer)?;
            if len > 0 {
                return Ok(len);
            }
            let input = self.decoder.get_mut();
            if input.has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Another frame takes some of the input, so this comes to an end.
            self.is_done = input.input.fill_buf()?.is_empty();
        }
        Ok(0)
    }
}

/// A reader that notes when there was nothing left of it.
struct Watched<R> {
    input: R,
    has_ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.has_ended |= len == 0 && !buffer.is_empty();
        Ok(len)
    }
}

/// Members of lzip, one behind the other. The decompressor lets anything else stand behind them.
struct LzipMembers<R: BufRead>(liblzma::bufread::XzDecoder<R>);

impl<R: BufRead> Read for LzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(buffer)?;
        if len == 0 && !buffer.is_empty() && !self.0.get_mut().fill_buf()?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there are bytes behind the end"));
        }
        Ok(len)
    }
}
