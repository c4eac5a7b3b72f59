//! The OpenPGP signatures of a package: where they are, and what each one signs. Nothing is verified here.

pub use super::cleartext::ClearSigned;

/// Whether a package is signed. There is nothing between: a package that is signed in part is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// It carries no signature.
    Unsigned,
    /// The Manifest, the metadata and the image are signed, each on its own.
    Signed(Box<SignedParts>),
}

/// The signatures of a package, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedParts {
    /// The Manifest with its signature around it.
    pub manifest: ClearSigned,
    /// The metadata as they stand in the container, compressed.
    pub metadata: Vec<u8>,
    /// The armored signature of the metadata.
    pub metadata_signature: String,
    /// The armored signature of the image as it stands in the container.
    pub image_signature: String,
}
