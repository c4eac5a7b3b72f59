//! Gentoo's binary packages: the files that Portage makes, and the index of them that it reads.
//!
//! A package is judged by what is in it. Whoever opens one reads the whole file once, in order, and learns everything
//! that the index says of it: the metadata, and the digests of the file. What a package claims of itself (the
//! Manifest, sizes, dependencies) is checked on the way, strictly, so that a file that stock Portage would refuse or
//! understand differently is noticed on the machine that publishes it. The rules that are relied on are written down
//! in `docs/binpkgs.md`.
//!
//! Nothing here asks for the time, the network or a configuration.

mod admit;
mod cleartext;
mod container;
mod convert;
mod digest;
mod error;
mod looked;
mod made;
mod manifest;
mod ustar;

pub mod atom;
pub mod check;
pub mod codec;
pub mod cpv;
pub mod dependencies;
pub mod generation;
pub mod gpkg;
pub mod image;
pub mod index;
pub mod metadata;
pub mod package;
mod publish;
pub mod redundant;
mod sign;
pub mod signature;
pub mod stanza;
pub mod take_out;
mod taken_out;
mod tree;
mod upstream;
pub mod version;
pub mod xpak;

#[cfg(test)]
mod tests;

pub use error::PackageError;
pub use package::Package;
pub use publish::Binpkgs;
pub use tree::{INDEX, INDEX_GZ};
