//! What is known of a package once its file was read.

use std::ops::Range;

use super::codec::Codec;
use super::metadata::Metadata;
use super::signature::Signature;

/// The form of a file that holds a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// GLEP 78: `.gpkg.tar`.
    Gpkg,
    /// A tarball with a segment of metadata behind it: `.tbz2` and `.xpak`.
    Xpak,
}

impl Container {
    /// The ends of names of packages.
    pub const EXTENSIONS: [(&str, Self); 3] =
        [(".gpkg.tar", Self::Gpkg), (".tbz2", Self::Xpak), (".xpak", Self::Xpak)];

    /// The container that a file of this name holds, if it is the name of a package.
    pub fn of_name(name: &str) -> Option<Self> {
        let known = Self::EXTENSIONS.iter().find(|(extension, _)| name.ends_with(extension));
        known.map(|(_, container)| *container)
    }
}

/// A package whose file was read to its end and is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The form of the file.
    pub container: Container,
    /// The directory inside a GPKG. It should be the package's name, but a file that was renamed is sound too.
    pub basename: Option<String>,
    /// What the package says of itself.
    pub metadata: Metadata,
    /// The files that are installed.
    pub image: ImagePart,
    /// The digests of the whole file.
    pub digests: FileDigests,
    /// The members of a GPKG that its Manifest vouches for, in their order.
    pub members: Vec<Member>,
    /// Whether it is signed, and what with.
    pub signature: Signature,
}

/// Where the files of a package are in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePart {
    /// How they are compressed.
    pub codec: Codec,
    /// The compressed bytes.
    pub range: Range<u64>,
}

/// The digests of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigests {
    /// The number of its bytes.
    pub size: u64,
    /// MD5.
    pub md5: [u8; 16],
    /// SHA-1.
    pub sha1: [u8; 20],
}

/// The digests of a member of a GPKG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberDigests {
    /// SHA-512.
    pub sha512: [u8; 64],
    /// BLAKE2b with 64 bytes.
    pub blake2b: [u8; 64],
}

/// A member of a GPKG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name below the directory of the container.
    pub name: String,
    /// The number of its bytes.
    pub size: u64,
    /// Its digests.
    pub digests: MemberDigests,
}
