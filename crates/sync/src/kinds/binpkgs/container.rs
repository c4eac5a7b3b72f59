//! Writing a GPKG (GLEP 78), member by member, signed or not.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use smart_sync_store::id::to_hex;

use super::PackageError;
use super::digest::MemberHasher;
use super::gpkg::VERSION_MEMBER;
use super::package::MemberDigests;
use crate::openpgp::{KeyError, SigningKey};
use crate::time::UnixTime;

/// Why a package was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    /// What it is made of could not be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// That is another one than it was.
    #[error("the file has changed since it was looked into")]
    Changed,
    /// The key has failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is made could not be written.
    #[error("writing the package")]
    Write(#[source] io::Error),
}

/// A container that is being written. Its members come in the order of the format.
pub(super) struct ContainerWriter<'a, W: Write> {
    archive: tar::Builder<W>,
    basename: &'a str,
    key: Option<&'a SigningKey>,
    now: UnixTime,
    /// What the Manifest says.
    lines: String,
}

impl<'a, W: Write> ContainerWriter<'a, W> {
    /// Begins a container with the member that says which format it is. It has no signature.
    pub(super) fn new(
        out: W,
        basename: &'a str,
        key: Option<&'a SigningKey>,
        now: UnixTime,
    ) -> Result<Self, MakeError> {
        let archive = tar::Builder::new(out);
        let mut writer = Self { archive, basename, key, now, lines: String::new() };
        writer.append(VERSION_MEMBER, 0, io::empty())?;
        Ok(writer)
    }

    /// Adds a part of the package, and its signature where there is a key; returns the digests of the part.
    pub(super) fn part(
        &mut self,
        name: &str,
        size: u64,
        body: impl Read,
    ) -> Result<MemberDigests, MakeError> {
        let hasher = self.append(name, size, body)?;
        if let Some(key) = self.key {
            let signature = key.sign_hashed(&hasher.sha512(), self.now)?;
            self.append(&format!("{name}.sig"), signature.len() as u64, signature.as_bytes())?;
        }
        Ok(hasher.finish())
    }

    /// Writes a member, and lets the Manifest name it.
    fn append(&mut self, name: &str, size: u64, body: impl Read) -> Result<MemberHasher, MakeError> {
        let hasher = self.write(name, size, body)?;
        let digests = hasher.clone().finish();
        let (sha512, blake2b) = (to_hex(&digests.sha512), to_hex(&digests.blake2b));
        // Writing to a string does not fail.
        let _ = writeln!(self.lines, "DATA {name} {size} SHA512 {sha512} BLAKE2B {blake2b}");
        Ok(hasher)
    }

    fn write(&mut self, name: &str, size: u64, body: impl Read) -> Result<MemberHasher, MakeError> {
        let mut header = plain_header(size, self.now);
        let mut body = Hashing { body, hasher: MemberHasher::default() };
        let path = format!("{}/{name}", self.basename);
        self.archive.append_data(&mut header, path, &mut body).map_err(MakeError::Write)?;
        Ok(body.hasher)
    }

    /// Ends the container with the Manifest.
    pub(super) fn finish(mut self) -> Result<(), MakeError> {
        let manifest = match self.key {
            Some(key) => key.sign_clear_text(&self.lines, self.now)?,
            None => std::mem::take(&mut self.lines),
        };
        self.write("Manifest", manifest.len() as u64, manifest.as_bytes())?;
        let mut out = self.archive.into_inner().map_err(MakeError::Write)?;
        out.flush().map_err(MakeError::Write)
    }
}

/// The header of a plain file in the form of GNU, which can say a size of any number of bytes and a name of any length.
pub(super) fn plain_header(size: u64, now: UnixTime) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(now.seconds());
    header
}

/// Bytes that are hashed as they go by.
struct Hashing<R> {
    body: R,
    hasher: MemberHasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.body.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        Ok(len)
    }
}
