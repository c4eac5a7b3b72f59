//! The OpenPGP signatures of a package: where they are, and what each one signs.
//!
//! Nothing is verified here. What verifies a signature is given the signed bytes and the signature; it needs to know
//! nothing of containers.

use std::io::Read;

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

/// A signature and what it signs, for the one who verifies it.
pub enum SignedPart<'a> {
    /// A text with its signature around it.
    ClearSigned(&'a ClearSigned),
    /// Bytes, and a signature apart from them.
    Detached {
        /// What is signed.
        content: &'a mut dyn Read,
        /// The armored signature.
        signature: &'a str,
    },
}

impl SignedParts {
    /// Has each signature verified: the Manifest's, the metadata's, and the image's, whose bytes are read from `image`.
    /// The first one that does not hold ends it, with the name of what it should have signed.
    pub fn verify<E>(
        &self,
        image: &mut dyn Read,
        mut verify: impl FnMut(SignedPart<'_>) -> Result<(), E>,
    ) -> Result<(), (&'static str, E)> {
        verify(SignedPart::ClearSigned(&self.manifest)).map_err(|error| ("Manifest", error))?;
        let mut metadata = &self.metadata[..];
        let part = SignedPart::Detached { content: &mut metadata, signature: &self.metadata_signature };
        verify(part).map_err(|error| ("metadata", error))?;
        let part = SignedPart::Detached { content: image, signature: &self.image_signature };
        verify(part).map_err(|error| ("image", error))
    }
}
