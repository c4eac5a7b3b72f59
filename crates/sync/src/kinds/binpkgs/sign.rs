//! A package that is signed: the same metadata and the same files, with a signature of each and a signed Manifest.
//!
//! The container is read once more and written anew as it goes by; the image, which may be large, is never held. What
//! is written is checked against what was found in the package before, so that nothing is signed that nobody has looked
//! at.

use std::io::{self, Read, Write};

use super::PackageError;
use super::container::{ContainerWriter, MakeError};
use super::package::Package;
use super::ustar::PlainFiles;
use crate::openpgp::SigningKey;
use crate::time::UnixTime;

/// Writes a GPKG that is not signed as one that is.
pub(super) fn sign(
    source: impl Read,
    package: &Package,
    key: &SigningKey,
    now: UnixTime,
    out: impl Write,
) -> Result<(), MakeError> {
    let mut files = PlainFiles::new(source);
    let basename = package.basename.as_deref().ok_or(MakeError::Changed)?;
    let mut writer = ContainerWriter::new(out, basename, Some(key), now)?;
    for (at, member) in package.members.iter().enumerate() {
        let file = files.next_file().map_err(PackageError::of_container)?.ok_or(MakeError::Changed)?;
        if file.size != member.size || !file.name.ends_with(format!("/{}", member.name).as_bytes()) {
            return Err(MakeError::Changed);
        }
        // The first one says which format this is, which the writer has said already.
        if at > 0 {
            let mut body = Body { files: &mut files, failure: None };
            let written = writer.part(&member.name, member.size, &mut body);
            if let Some(failure) = body.failure {
                return Err(failure.into());
            }
            if written? != member.digests {
                return Err(MakeError::Changed);
            }
        }
    }
    writer.finish()
}

/// The bytes of a member.
struct Body<'a, R> {
    files: &'a mut PlainFiles<R>,
    /// Why they could not be read, which the archive that is written would not say.
    failure: Option<PackageError>,
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.files.read_body(buffer).map_err(|error| {
            self.failure = Some(PackageError::of_container(error));
            io::Error::other("the package cannot be read")
        })
    }
}
