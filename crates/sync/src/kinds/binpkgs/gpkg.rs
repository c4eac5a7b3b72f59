//! GPKG (GLEP 78): a tar archive with the metadata, the files and the digests of a package.
//!
//! The file is read once, from its first byte to its last, and every digest is computed on the way. Only what is small
//! is kept: the metadata, the signatures and the Manifest. The image, which may be large, goes by.

use std::io::Read;

use sha2::Sha512;

use super::PackageError;
use super::codec::Codec;
use super::digest::{Hashed, MemberHasher, PIECE_LEN};
use super::manifest::{MANIFEST_BYTES_MAX, Manifest};
use super::metadata::{Metadata, PACKED_BYTES_MAX};
use super::package::{Container, ImagePart, Member, MemberDigests, Package};
use super::signature::{Signature, SignedParts};
use super::ustar::{PlainFile, PlainFiles};
use crate::openpgp::Signatures;

/// What the first member is called, and with it the version of the format.
pub(super) const VERSION_MEMBER: &str = "gpkg-1";
/// The most bytes of a signature.
const SIGNATURE_BYTES_MAX: u64 = 16 << 10;
/// The most bytes of the directory's name: the name of a file.
const BASENAME_BYTES_MAX: usize = 255;

/// The members of a container in the order in which they have to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Version,
    Metadata(Codec),
    MetadataSignature,
    Image(Codec),
    ImageSignature,
    Manifest,
}

impl Role {
    fn of(name: &str) -> Option<Self> {
        let codec = |prefix: &str| name.strip_prefix(prefix).and_then(Codec::of_suffix);
        if let Some(signed) = name.strip_suffix(".sig") {
            return match Self::of(signed)? {
                Self::Metadata(_) => Some(Self::MetadataSignature),
                Self::Image(_) => Some(Self::ImageSignature),
                _ => None,
            };
        }
        match name {
            VERSION_MEMBER => Some(Self::Version),
            "Manifest" => Some(Self::Manifest),
            _ => codec("metadata.tar").map(Self::Metadata).or_else(|| codec("image.tar").map(Self::Image)),
        }
    }

    /// Whether a member of the other role may come right after one of this.
    fn is_followed_by(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Version, Self::Metadata(_))
                | (Self::Metadata(_), Self::MetadataSignature | Self::Image(_))
                | (Self::MetadataSignature, Self::Image(_))
                | (Self::Image(_), Self::ImageSignature | Self::Manifest)
                | (Self::ImageSignature, Self::Manifest)
        )
    }
}

/// Reads a package from the beginning of its file to the end.
pub fn read(input: impl Read) -> Result<Package, PackageError> {
    let mut files = PlainFiles::new(Hashed::new(input));
    let mut reading = Reading::default();
    while let Some(file) = files.next_file().map_err(PackageError::of_container)? {
        reading.take(&mut files, &file)?;
    }
    reading.finish(files.into_input())
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    basename: Option<String>,
    last: Option<(Role, String)>,
    members: Vec<Member>,
    metadata: Vec<u8>,
    metadata_codec: Option<Codec>,
    image: Option<ImagePart>,
    metadata_signature: Option<String>,
    image_signature: Option<String>,
    /// The image, hashed with the function that signatures ask for as a rule.
    image_hashed: Option<Sha512>,
    manifest: Vec<u8>,
}

impl Reading {
    fn take(
        &mut self,
        files: &mut PlainFiles<Hashed<impl Read>>,
        file: &PlainFile,
    ) -> Result<(), PackageError> {
        let name = self.member_name(file)?;
        let refuse = |reason: &str| PackageError::member(file.name.clone(), reason);
        let role = Role::of(&name).ok_or_else(|| refuse("no member of a GPKG is called so"))?;
        match &self.last {
            _ if self.members.iter().any(|member| member.name == name) => {
                return Err(refuse("it comes twice"));
            }
            None if role == Role::Version => {}
            None => return Err(refuse("the first member has to be gpkg-1")),
            Some((last, _)) if last.is_followed_by(role) => {}
            Some((_, last)) => return Err(refuse(&format!("it must not follow {last}"))),
        }
        let limit = match role {
            Role::Version => 0,
            Role::Metadata(_) => PACKED_BYTES_MAX,
            Role::MetadataSignature | Role::ImageSignature => SIGNATURE_BYTES_MAX,
            Role::Image(_) => u64::MAX - file.offset,
            Role::Manifest => MANIFEST_BYTES_MAX,
        };
        if file.size > limit {
            return Err(refuse(&format!("it has {} bytes, and {limit} are allowed", file.size)));
        }
        let digests = if let Role::Image(codec) = role {
            self.image = Some(ImagePart { codec, range: file.offset..file.offset + file.size });
            let (digests, hashed) = hash(files)?;
            self.image_hashed = Some(hashed);
            digests
        } else {
            let bytes = files.read_whole().map_err(PackageError::of_container)?;
            let digests = MemberHasher::of(&bytes);
            self.keep(role, &name, bytes)?;
            digests
        };
        if role != Role::Manifest {
            self.members.push(Member { name: name.clone(), size: file.size, digests });
        }
        self.last = Some((role, name));
        Ok(())
    }

    /// The name of a member below the directory, which all of them share.
    fn member_name(&mut self, file: &PlainFile) -> Result<String, PackageError> {
        let refuse = |reason: &str| PackageError::member(file.name.clone(), reason);
        let name = str::from_utf8(&file.name).map_err(|_| refuse("the name is no UTF-8"))?;
        let (basename, member) = match name.split_once('/') {
            Some((basename, member)) if !member.contains('/') => (basename, member),
            _ => return Err(refuse("it is not in exactly one directory")),
        };
        match &self.basename {
            None if is_basename(basename) => self.basename = Some(basename.to_owned()),
            None => return Err(refuse("its directory is not the name of a package")),
            Some(known) if known == basename => {}
            Some(_) => return Err(refuse("it is in another directory than the member before")),
        }
        Ok(member.to_owned())
    }

    fn keep(&mut self, role: Role, name: &str, bytes: Vec<u8>) -> Result<(), PackageError> {
        let armored = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(text) if is_armored(&text) => Ok(Some(text)),
            _ => Err(PackageError::member(name, "it is no armored signature")),
        };
        match role {
            Role::Version | Role::Image(_) => {}
            Role::Metadata(codec) => (self.metadata, self.metadata_codec) = (bytes, Some(codec)),
            Role::MetadataSignature => self.metadata_signature = armored(bytes)?,
            Role::ImageSignature => self.image_signature = armored(bytes)?,
            Role::Manifest => self.manifest = bytes,
        }
        Ok(())
    }

    fn finish(self, input: Hashed<impl Read>) -> Result<Package, PackageError> {
        let ended =
            |after: &str| Err(PackageError::member(after, "the container ends here, before its Manifest"));
        let (image, codec) = match (self.last, self.image, self.metadata_codec) {
            (Some((Role::Manifest, _)), Some(image), Some(codec)) => (image, codec),
            (Some((_, name)), ..) => return ended(&name),
            (None, ..) => {
                return Err(PackageError::Container { offset: 0, reason: "there are no members".to_owned() });
            }
        };
        let manifest = Manifest::parse(&self.manifest)?;
        manifest.check(&self.members)?;
        let missing = |missing| Err(PackageError::PartlySigned { missing });
        let signature = match (manifest.signed, self.metadata_signature, self.image_signature) {
            (None, None, None) => Signature::Unsigned,
            (Some(manifest), Some(metadata_signature), Some(image_signature)) => {
                let signatures = Signatures::detached(image_signature.as_bytes()).ok();
                let image_digested = signatures
                    .zip(self.image_hashed)
                    .and_then(|(signatures, hashed)| signatures.digest_hashed(&hashed));
                Signature::Signed(Box::new(SignedParts {
                    manifest,
                    metadata: self.metadata.clone(),
                    metadata_signature,
                    image_signature,
                    image_digested,
                }))
            }
            (None, ..) => return missing("the signature of the Manifest"),
            (_, None, _) => return missing("the signature of the metadata"),
            (_, _, None) => return missing("the signature of the image"),
        };
        Ok(Package {
            container: Container::Gpkg,
            basename: self.basename,
            metadata: Metadata::read_archive(&self.metadata, codec)?,
            image,
            digests: input.finish(),
            members: self.members,
            signature,
        })
    }
}

/// Hashes a member that is not kept.
fn hash(files: &mut PlainFiles<Hashed<impl Read>>) -> Result<(MemberDigests, Sha512), PackageError> {
    let mut hasher = MemberHasher::default();
    let mut piece = vec![0; PIECE_LEN];
    loop {
        let len = files.read_body(&mut piece).map_err(PackageError::of_container)?;
        if len == 0 {
            let sha512 = hasher.sha512();
            return Ok((hasher.finish(), sha512));
        }
        hasher.update(&piece[..len]);
    }
}

fn is_basename(name: &str) -> bool {
    (1..=BASENAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

fn is_armored(text: &str) -> bool {
    let text = text.trim_end_matches('\n');
    text.starts_with("-----BEGIN PGP SIGNATURE-----\n") && text.ends_with("\n-----END PGP SIGNATURE-----")
}
