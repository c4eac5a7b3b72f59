//! The Manifest of a GPKG: the size and the digests of every other member.

use smart_sync_store::id::from_hex;

use super::PackageError;
use super::cleartext::ClearSigned;
use super::package::{Member, MemberDigests};

/// The most bytes of a Manifest, its signature included.
pub(super) const MANIFEST_BYTES_MAX: u64 = 64 << 10;
/// The most digests of one line.
const DIGESTS_MAX: usize = 16;

/// What the Manifest of a package says.
#[derive(Debug)]
pub(super) struct Manifest {
    lines: Vec<(usize, Member)>,
    /// The whole text, where it is signed.
    pub(super) signed: Option<ClearSigned>,
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        let refuse = |line: usize, reason: &str| PackageError::Manifest { line, reason: reason.to_owned() };
        let text = str::from_utf8(bytes).map_err(|_| refuse(1, "it is no UTF-8"))?;
        let signed = if ClearSigned::is_meant(text) {
            Some(ClearSigned::parse(text).map_err(|(line, reason)| refuse(line, reason))?)
        } else {
            None
        };
        let before = signed.as_ref().map_or(0, ClearSigned::lines_before);
        let records = signed.as_ref().map_or(text, ClearSigned::text);
        let mut lines: Vec<(usize, Member)> = Vec::new();
        for (at, line) in records.split_inclusive('\n').enumerate() {
            let number = before + at + 1;
            let member = record(line).map_err(|reason| refuse(number, reason))?;
            if lines.iter().any(|(_, known)| known.name == member.name) {
                return Err(refuse(number, "a member that was named before"));
            }
            lines.push((number, member));
        }
        Ok(Self { lines, signed })
    }

    /// Checks that the members of a container are those of the Manifest, and have its sizes and digests.
    pub(super) fn check(&self, members: &[Member]) -> Result<(), PackageError> {
        for member in members {
            let (_, stated) =
                self.lines.iter().find(|(_, line)| line.name == member.name).ok_or_else(|| {
                    PackageError::member(member.name.as_bytes(), "the Manifest does not know it")
                })?;
            let mismatch = |what| Err(PackageError::Mismatch { member: member.name.clone(), what });
            if stated.size != member.size {
                return mismatch("size");
            }
            if stated.digests.sha512 != member.digests.sha512 {
                return mismatch("SHA512");
            }
            if stated.digests.blake2b != member.digests.blake2b {
                return mismatch("BLAKE2B");
            }
        }
        match self.lines.iter().find(|(_, line)| members.iter().all(|member| member.name != line.name)) {
            Some((line, stated)) => Err(PackageError::Manifest {
                line: *line,
                reason: format!("there is no member {}", stated.name),
            }),
            None => Ok(()),
        }
    }
}

/// One line: `DATA name size`, and pairs of an algorithm and its digest, of which SHA512 and BLAKE2B have to be there.
fn record(line: &str) -> Result<Member, &'static str> {
    let line = line.strip_suffix('\n').ok_or("it does not end with a newline")?;
    let mut fields = line.split(' ');
    if fields.next() != Some("DATA") {
        return Err("it does not begin with DATA");
    }
    let name = fields.next().filter(|name| is_member_name(name)).ok_or("there is no name of a member")?;
    let size = fields.next().and_then(size).ok_or("the size is no number")?;
    let (mut sha512, mut blake2b) = (None, None);
    let mut count = 0;
    while let Some(algorithm) = fields.next() {
        let digest = fields.next().ok_or("there is an algorithm without a digest")?;
        count += 1;
        let is_too_many = match algorithm {
            "SHA512" => sha512.replace(from_hex(digest).ok_or("the digest SHA512 is none")?).is_some(),
            "BLAKE2B" => blake2b.replace(from_hex(digest).ok_or("the digest BLAKE2B is none")?).is_some(),
            // Portage looks at no others.
            _ => count > DIGESTS_MAX,
        };
        if is_too_many {
            return Err("there are too many digests");
        }
    }
    let digests = MemberDigests {
        sha512: sha512.ok_or("the digest SHA512 is missing")?,
        blake2b: blake2b.ok_or("the digest BLAKE2B is missing")?,
    };
    Ok(Member { name: name.to_owned(), size, digests })
}

fn is_member_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

/// A number that is written as numbers are: without a sign, and without zeros in front.
fn size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(size)
}
