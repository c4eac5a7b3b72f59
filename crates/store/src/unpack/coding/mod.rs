//! The encoders that streams are proven with, and their decoders.
//!
//! An encoder is its method, its library's exact version and its parameters: the bytes that an encoder gives are no
//! promise of any library, so that a program made with another version is refused rather than tried.

pub(super) mod bzip2;
pub(super) mod corrections;
pub(super) mod deflate;
mod encode;
pub(super) mod xz;
pub(super) mod zstd;

use crate::codec::{DecodeError, Reader};

use super::program::Encoder;

pub(super) use encode::EncodeWriter;

/// What xz encodes in a millisecond at its usual level.
pub(super) const XZ_BYTES_PER_MILLISECOND: u64 = 2_000;

/// What a codec did in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// The number of bytes that it took.
    pub consumed: usize,
    /// The number of bytes that it gave.
    pub produced: usize,
    /// Whether the stream has ended.
    pub ended: bool,
}

/// A codec refused its input or its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

/// An encoder or a decoder at work.
pub(super) trait Codec {
    /// Takes input and gives output; `finish` says that no input comes after this.
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> Result<Step, Refused>;
}

/// How a stream was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Coding {
    /// Deflate as stock zlib does it.
    Zlib { level: u8 },
    /// Deflate as miniz_oxide does it.
    Miniz { level: u8 },
    /// Deflate as zlib-ng and zlib-rs do it.
    ZlibRs { level: u8 },
    /// Deflate as preflate-rs predicts it, corrected where the prediction is wrong.
    Corrected,
    /// A block of xz.
    Xz(xz::Parameters),
    /// A stream of bzip2.
    Bzip2 { level: u8 },
    /// A frame of zstd.
    Zstd(zstd::Parameters),
}

impl Coding {
    /// The number and the version of the method.
    const fn method(self) -> (u8, &'static str) {
        match self {
            Self::Zlib { .. } => (1, "zlib 1.4"),
            Self::Miniz { .. } => (2, "miniz_oxide 0.9.1"),
            Self::ZlibRs { .. } => (3, "zlib-rs 0.6.8"),
            Self::Corrected => (4, "preflate-rs 0.7.6"),
            Self::Xz(_) => (5, "liblzma 5.8.4"),
            Self::Bzip2 { .. } => (6, "libbz2-rs 0.2.6"),
            Self::Zstd(_) => (7, "zstd 1.5.7"),
        }
    }

    /// The plain bytes that it encodes in a millisecond, roughly.
    pub(super) const fn bytes_per_millisecond(self) -> u64 {
        match self {
            Self::Zlib { level: 0..=6 } | Self::ZlibRs { .. } => 40_000,
            Self::Zlib { .. } | Self::Miniz { .. } | Self::Corrected => 20_000,
            Self::Xz(xz::Parameters { level: 4.., .. } | xz::Parameters { extreme: true, .. }) => {
                XZ_BYTES_PER_MILLISECOND
            }
            Self::Xz(_) | Self::Bzip2 { .. } => 10_000,
            Self::Zstd(zstd::Parameters { level: 0..=5, .. }) => 150_000,
            Self::Zstd(zstd::Parameters { level: 6..=14, .. }) => 15_000,
            Self::Zstd(_) => 3_000,
        }
    }

    /// What a program says of it.
    pub(super) fn encoder(self) -> Encoder {
        let (method, version) = self.method();
        let parameters = match self {
            Self::Zlib { level } | Self::Miniz { level } | Self::ZlibRs { level } | Self::Bzip2 { level } => {
                vec![level]
            }
            Self::Corrected => Vec::new(),
            Self::Xz(parameters) => parameters.encode(),
            Self::Zstd(parameters) => parameters.encode(),
        };
        Encoder { method, version: version.as_bytes().to_vec(), parameters }
    }

    /// Reads what a program says; nothing if the method or its version is not built in.
    pub(super) fn of(encoder: &Encoder) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(&encoder.parameters);
        let mut level = |lowest: u8, highest: u8| match reader.byte("a level")? {
            level if (lowest..=highest).contains(&level) => Ok(level),
            level => {
                Err(DecodeError::invalid(format!("{level} is not a level of method {}", encoder.method)))
            }
        };
        let known = match encoder.method {
            1 => Self::Zlib { level: level(0, 9)? },
            2 => Self::Miniz { level: level(0, 10)? },
            3 => Self::ZlibRs { level: level(0, 9)? },
            4 => Self::Corrected,
            5 => Self::Xz(xz::Parameters::decode(&mut reader)?),
            6 => Self::Bzip2 { level: level(1, 9)? },
            7 => Self::Zstd(zstd::Parameters::decode(&mut reader)?),
            _ => return Ok(None),
        };
        if encoder.version != known.method().1.as_bytes() {
            return Ok(None);
        }
        reader.finish()?;
        Ok(Some(known))
    }

    /// An encoder for that many bytes.
    fn codec(self, plain: u64) -> Result<Box<dyn Codec>, Refused> {
        Ok(match self {
            Self::Zlib { level } => Box::new(deflate::Zlib::new(level)),
            Self::Miniz { level } => Box::new(deflate::Miniz::new(level)),
            Self::ZlibRs { level } => Box::new(deflate::ZlibRs::new(level)),
            Self::Corrected => return Err(Refused),
            Self::Xz(parameters) => Box::new(parameters.encoder()?),
            Self::Bzip2 { level } => Box::new(bzip2::Compressor::new(level)),
            Self::Zstd(parameters) => Box::new(parameters.encoder(plain)?),
        })
    }
}

#[cfg(test)]
mod tests {
    /// The versions in programs are written by hand; whoever changes a library has to see that they follow.
    #[test]
    fn versions_are_those_that_are_built_in() {
        let lock = include_str!("../../../../../Cargo.lock");
        let check = |name: &str, version: &str| {
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(
                lock.contains(&entry),
                "{name} is not {version}: look at its method and its golden vectors"
            );
        };
        check("libz-sys", "1.1.33");
        check("miniz_oxide", "0.9.1");
        check("zlib-rs", "0.6.8");
        check("preflate-rs", "0.7.6");
        check("liblzma-sys", "0.4.9");
        check("libbz2-rs-sys", "0.2.6");
        check("zstd-sys", "2.1.2+zstd.1.5.7");
    }
}
