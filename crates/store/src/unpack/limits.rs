//! What an artifact may ask for while it is taken apart or put together.
//!
//! The limits decide what is recognised, so that two machines agree on the views of an artifact only when they use the
//! same ones: [`Limits::default`] belongs to [`VIEW_VERSION`](super::VIEW_VERSION), and a change of a number there is
//! a new version.

/// Bounds for reading and rebuilding an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many compressed streams and archives may be nested in each other.
    pub depth_max: u8,
    /// The number of bytes that all streams of an artifact may decompress to, at all depths together.
    pub plain_max: u64,
    /// The number of times that a stream may be larger than what it is compressed to, beyond its first MiB.
    pub ratio_max: u64,
    /// The number of members of archives, at all depths together.
    pub members_max: u64,
    /// The number of compressed streams that are looked into.
    pub streams_max: u64,
    /// The largest dictionary of xz that is decoded.
    pub dictionary_decode_max: u32,
    /// The largest dictionary of xz that is encoded with; the encoder needs about eleven times as much memory.
    pub dictionary_encode_max: u32,
    /// The largest window of zstd that is decoded, as its binary logarithm.
    pub window_log_max: u32,
    /// The highest level that zstd encodes with; level 19 needs about 90 MiB.
    pub zstd_level_max: u8,
    /// Whether streams are encoded by correcting a prediction.
    ///
    /// The library does not bound what malformed corrections make it allocate, and neither can its caller: this is for a
    /// process that the kernel holds to limits, and for artifacts and programs from somebody who may be trusted not to
    /// stop this machine. What is recognised does not depend on it, so that it is the one limit that the version of the
    /// views says nothing of.
    pub allows_corrections: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 6,
            plain_max: 16 << 30,
            ratio_max: 250,
            members_max: 1_000_000,
            streams_max: 200_000,
            dictionary_decode_max: 64 << 20,
            dictionary_encode_max: 16 << 20,
            window_log_max: 27,
            zstd_level_max: 19,
            allows_corrections: true,
        }
    }
}

/// What is left of the limits of one artifact.
#[derive(Debug)]
pub(super) struct Budget {
    plain: u64,
    members: u64,
    streams: u64,
    ratio_max: u64,
}

/// What a stream may decompress to before its size is held against that of its compressed bytes.
const RATIO_FREE: u64 = 1 << 20;

impl Budget {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            plain: limits.plain_max,
            members: limits.members_max,
            streams: limits.streams_max,
            ratio_max: limits.ratio_max,
        }
    }

    /// Counts a member, and says whether it was still allowed.
    pub(super) const fn member(&mut self) -> bool {
        let Some(left) = self.members.checked_sub(1) else { return false };
        self.members = left;
        true
    }

    /// Counts a stream, and says whether it was still allowed.
    pub(super) const fn stream(&mut self) -> bool {
        let Some(left) = self.streams.checked_sub(1) else { return false };
        self.streams = left;
        true
    }

    /// Counts bytes that were decompressed, and says whether they were still allowed.
    pub(super) const fn plain(&mut self, len: u64) -> bool {
        let Some(left) = self.plain.checked_sub(len) else { return false };
        self.plain = left;
        true
    }

    /// Whether a stream may come to that much.
    pub(super) const fn allows_ratio(&self, plain: u64, compressed: u64) -> bool {
        plain <= compressed.saturating_mul(self.ratio_max).saturating_add(RATIO_FREE)
    }
}
