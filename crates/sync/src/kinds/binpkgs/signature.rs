//! The OpenPGP signatures of a package: where they are, and what each one signs.

use std::io::{self, Read};

use super::PackageError;
pub use super::cleartext::ClearSigned;
use crate::openpgp::{ClearText, Digested, KeyRing, SignatureError, Signatures, Signer};
use crate::time::UnixTime;

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
    /// That signature with what it signs, where the image was hashed with the function that it asks for.
    pub image_digested: Option<Digested>,
}

/// The parts of a package that are signed, in the order in which they are judged.
pub const PARTS: [&str; 3] = ["Manifest", "metadata", "image"];

/// The signatures of a package with the digests of what they sign: all that is needed to judge them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestedParts(pub [Digested; PARTS.len()]);

impl SignedParts {
    /// Hashes what was signed. The image is opened only where it has to be read once more.
    pub fn digest<R: Read>(
        &self,
        image: impl FnOnce() -> io::Result<R>,
    ) -> Result<DigestedParts, PackageError> {
        let [of_manifest, of_metadata, of_image] =
            PARTS.map(|part| move |error| PackageError::Signature { part, error });
        let text = ClearText::parse(self.manifest.whole().as_bytes()).map_err(of_manifest)?;
        if text.text != self.manifest.text() {
            let error =
                SignatureError::Malformed("another text is signed than the one that is read".to_owned());
            return Err(of_manifest(error));
        }
        let metadata = Signatures::detached(self.metadata_signature.as_bytes()).map_err(of_metadata)?;
        let metadata = metadata.digest(&self.metadata[..]).map_err(PackageError::Read)?;
        let image = if let Some(digested) = &self.image_digested {
            digested.clone()
        } else {
            let signatures = Signatures::detached(self.image_signature.as_bytes()).map_err(of_image)?;
            image().and_then(|image| signatures.digest(image)).map_err(PackageError::Read)?
        };
        Ok(DigestedParts([text.digested, metadata, image]))
    }
}

impl DigestedParts {
    /// Who has signed a package: the signer of its Manifest, where all of its parts are signed by keys of the ring.
    pub fn judge(&self, ring: &KeyRing, now: UnixTime) -> Result<Signer, PackageError> {
        let mut signer = None;
        for (digested, part) in self.0.iter().zip(PARTS) {
            let judged =
                ring.judge(digested, now).map_err(|error| PackageError::Signature { part, error })?;
            signer.get_or_insert(judged);
        }
        let missing = PackageError::Signature { part: PARTS[0], error: SignatureError::NotSigned };
        signer.ok_or(missing)
    }
}
