//! Packs: many objects in one file that explains itself.
//!
//! Small objects share a compressed frame, so that small files compress well and a reader of one file reads
//! little. Everything here is a pure function of bytes: what is read from a pack is a [`VerifiedObject`] or an error,
//! and no length in a pack is believed before it is bounded.
//!
//! [`VerifiedObject`]: crate::object::VerifiedObject

mod frame;
mod index;
mod naming;
mod opened;
mod pool;
mod rows;
mod verify;
mod writer;

pub use frame::{decode_frame, decode_raw};
pub use index::{Codec, Frame, FrameObject, PackIndex, PackTrailer};
pub use opened::OpenedPack;
pub use verify::{RecipeOf, VerifiedPack};
pub use writer::{PackFull, PackWriter};

use crate::codec::DecodeError;
use crate::object::ObjectError;

/// The most bytes of a pack.
pub const PACK_LEN_MAX: usize = 64 << 20;
/// The most bytes that a frame decodes to.
pub const FRAME_RAW_MAX: usize = 4 << 20;
/// The most bytes that all frames of a pack decode to.
pub const PACK_RAW_MAX: u64 = 1 << 30;
/// The most bytes of an index.
pub const INDEX_LEN_MAX: usize = 16 << 20;
/// The largest window that a zstd frame may need.
pub const WINDOW_LEN_MAX: u64 = 8 << 20;

const MAGIC: &[u8; 8] = b"sspack\x00\x01";
const TRAILER_MAGIC: &[u8; 8] = b"ssindx\x00\x01";

/// Why a pack or a part of one was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The pack does not have the form of one.
    #[error("the pack is malformed")]
    Malformed(#[from] DecodeError),
    /// The index is not the one that the trailer describes.
    #[error("the index of the pack is corrupt: its digest differs from the one in the trailer")]
    IndexDigest,
    /// A frame does not decode as the index says.
    #[error("the frame at byte {offset} of the pack is corrupt: {reason}")]
    Frame {
        /// Where the frame begins.
        offset: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// A frame decodes to bytes that are not the objects which the index names.
    #[error("the frame at byte {offset} of the pack holds a wrong object")]
    Object {
        /// Where the frame begins.
        offset: u32,
        /// Which object, and what is wrong with it.
        source: ObjectError,
    },
    /// A recipe does not have the form of one.
    #[error("{key} is malformed")]
    Recipe {
        /// The recipe or recipe page.
        key: crate::object::ObjectKey,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A recipe names a content that its chunks do not make.
    #[error("{recipe} makes the content {found}, not {content}")]
    WrongRecipe {
        /// The recipe.
        recipe: crate::object::ObjectKey,
        /// The content that it names.
        content: crate::id::ContentId,
        /// The content that its chunks make.
        found: crate::id::ContentId,
    },
}

#[cfg(test)]
mod tests;
