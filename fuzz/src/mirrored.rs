//! What mirrors of others say of their files: texts that name release media and their digests, how distfiles are named,
//! archives of ebuild trees.

use smart_sync_store::manifest::TreePath;
use smart_sync_sync::kinds::ArtifactKind as _;
use smart_sync_sync::kinds::binpkgs::codec::Codec;
use smart_sync_sync::kinds::distfiles::Distfiles;
use smart_sync_sync::kinds::pull::Expected;
use smart_sync_sync::kinds::stages::digests::{self, Algorithm};
use smart_sync_sync::kinds::stages::latest::Latest;
use smart_sync_sync::kinds::stages::name::MediumName;
use smart_sync_sync::kinds::treesnapshots::archive;

use crate::{Verdict, any};

/// The text that names the newest build: what it names is a file of a directory of that time, and nothing else.
pub fn latest(bytes: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    let Ok(latest) = Latest::parse(text) else { return Verdict::Refused };
    assert!(!latest.media.is_empty());
    for named in &latest.media {
        assert_eq!(MediumName::parse(&named.name.file).as_ref(), Some(&named.name));
        let path = format!("{}/{}", named.name.stamp, named.name.file);
        assert!(path.matches('/').count() == 1 && TreePath::new(path.as_bytes()).is_ok());
    }
    Verdict::Accepted
}

/// The text with digests, with and without the names of algorithms.
pub fn digests(bytes: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    let read = |always| {
        let Ok(found) = digests::parse(text, always) else { return Verdict::Refused };
        assert!(found.keys().all(|name| !name.contains(['/', '\n', '\0']) && !name.starts_with('.')));
        Verdict::Accepted
    };
    any(&[read(None), read(Some(Algorithm::Sha256))])
}

/// How a mirror names distfiles: wherever it says that one is, that is below its URL.
pub fn layout(bytes: &[u8]) -> Verdict {
    let expected = Expected { size: 1, blake2b: [0xab; 64], sha512: [0xcd; 64] };
    let kind = Distfiles.pull_through().expect("distfiles come from mirrors");
    let path = kind.read_layout(Some(bytes)).path("foo+bar-1.0.tar.gz", &expected);
    assert!(TreePath::new(path.as_bytes()).is_ok(), "{path}");
    Verdict::Accepted
}

/// An archive of an ebuild tree; the first byte chooses how it is compressed.
pub fn snapshot(bytes: &[u8]) -> Verdict {
    let Some((first, packed)) = bytes.split_first() else { return Verdict::Refused };
    let codec = [Codec::Plain, Codec::Xz, Codec::Bzip2][usize::from(first % 3)];
    if archive::timestamp(packed, codec).is_ok() { Verdict::Accepted } else { Verdict::Refused }
}
