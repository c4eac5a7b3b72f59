//! Why a binary package was refused.

use std::io;

use smart_sync_store::manifest::Shown;

use super::codec::CodecError;
use super::ustar::UstarError;
use crate::openpgp::SignatureError;

/// Why a file is not taken as a binary package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The file could not be read.
    #[error("reading the package")]
    Read(#[source] io::Error),
    /// The container is not one that the format allows.
    #[error("the container is malformed at byte {offset}: {reason}")]
    Container {
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A member that is not what should stand in its place.
    #[error("member {}: {reason}", Shown(name))]
    Member {
        /// Its name as it stands in the container.
        name: Vec<u8>,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of members and digests cannot be believed.
    #[error("line {line} of the Manifest: {reason}")]
    Manifest {
        /// The line, from one on.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A member has other bytes than the Manifest says.
    #[error("{member} has another {what} than its Manifest says")]
    Mismatch {
        /// The member.
        member: String,
        /// Size or digest.
        what: &'static str,
    },
    /// Some parts are signed and some are not.
    #[error("the package is signed in part only: {missing} is missing")]
    PartlySigned {
        /// What is not there.
        missing: &'static str,
    },
    /// The signature of a part does not count.
    #[error("the signature of the {part}: {error}")]
    Signature {
        /// Which part.
        part: &'static str,
        /// Why.
        #[source]
        error: SignatureError,
    },
    /// A part could not be decompressed.
    #[error("decompressing the {part}")]
    Codec {
        /// Which.
        part: &'static str,
        /// Why.
        #[source]
        error: CodecError,
    },
    /// What the package says of itself cannot be used.
    #[error("the metadata: {0}")]
    Metadata(String),
    /// The segment behind the files of an old package is not sound.
    #[error("the xpak segment is malformed at byte {offset}: {reason}")]
    Xpak {
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The files of the package are not ones that may be installed.
    #[error("the image: {0}")]
    Image(String),
}

impl PackageError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read(_) => "check that the file can be read and that its disk is sound",
            Self::Codec { error: CodecError::Unsupported(_), .. } => {
                "set BINPKG_COMPRESS=\"zstd\" in make.conf of the build host, and build the package again"
            }
            Self::Codec { error: CodecError::TooLarge { .. }, .. } | Self::Image(_) => {
                "no package that Portage has built looks like this: find out where the file comes from"
            }
            Self::PartlySigned { .. } => {
                "sign the package again with `gpkg-sign`, or build it again with FEATURES=binpkg-signing"
            }
            Self::Signature { error, .. } => error.hint(),
            Self::Mismatch { .. } => {
                "the file was changed or damaged since it was built: copy it again from the build host"
            }
            Self::Container { .. } | Self::Xpak { .. } | Self::Codec { .. } => {
                "the file is cut short, damaged or no binary package: copy it again from the build host"
            }
            Self::Member { .. } | Self::Manifest { .. } | Self::Metadata(_) => {
                "build the package again with a current Portage"
            }
        }
    }

    /// What went wrong with the container of a package.
    pub(super) fn of_container(error: UstarError) -> Self {
        match error {
            UstarError::Read(error) => Self::Read(error),
            UstarError::Malformed { offset, reason } => Self::Container { offset, reason },
        }
    }

    pub(super) fn member(name: impl Into<Vec<u8>>, reason: impl Into<String>) -> Self {
        Self::Member { name: name.into(), reason: reason.into() }
    }
}
