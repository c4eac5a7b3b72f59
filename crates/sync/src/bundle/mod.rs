//! Bundles: everything that turns the tree which a client has into the one it wants, in one answer.
//!
//! The client has all of the old tree, so a bundle refers to its bytes freely: contents that moved are named, contents
//! that changed are compressed against what they were. It carries no hash that the receiver can compute. The design
//! decision that follows: nothing in a bundle is believed until the manifest that it leads to has the id that was
//! signed, so a decoder has to bound what a bundle may make it do, and need not recognise every wrong one.
//!
//! Making a bundle has three steps. [`plan`] compares two manifests and decides what is delivered, and against what;
//! it reads no content. [`encode`] reads contents and compresses them batch by batch. [`frames`] wraps what comes out
//! in frames with short checks, so that a download which broke off is gone on with. [`apply`] is the way back. The
//! bytes are in `docs/formats.md`.

mod apart;
pub mod apply;
mod codec;
pub mod encode;
pub mod frames;
pub mod head;
pub mod pairing;
mod parts;
pub mod plan;
mod range_reader;
pub mod resolve;

use smart_sync_store::recipe::Plain;
use smart_sync_store::unpack::Limits;

/// The most bytes of contents that one batch delivers, and of old contents that it is compressed against.
pub const BATCH_BYTES_MAX: u64 = 64 << 20;

/// The base-2 logarithm of the largest window that a reader makes room for: both of these together.
const WINDOW_LOG_MAX: u32 = 27;

/// The most bytes that a content of so many bytes may be rebuilt from: a bundle makes its reader write them to a disk.
fn plain_max(size: u64) -> u64 {
    Plain::size_max(size).min(unpack_limits().plain_max)
}

/// What a content may ask for while it is taken apart or rebuilt in this process. A program is believed by nobody before
/// it has run, and the library that makes up for what an encoder would get wrong can be made to run without an end: that
/// is for a process of its own, and makes no difference to how a content divides.
pub fn unpack_limits() -> Limits {
    Limits { allows_corrections: false, ..Limits::default() }
}

/// A number that a head was checked for, as a place in memory.
fn index(number: u64) -> usize {
    usize::try_from(number).expect("the number of a slot or an item is below their count")
}

#[cfg(test)]
mod tests;
