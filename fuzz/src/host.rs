//! What a host or a publisher reads of its own: archives, configuration, caches and the files of a run.

use std::path::Path;
use std::sync::LazyLock;

use smart_sync::config::Config;
use smart_sync::github::Address;
use smart_sync::server_url::ServerUrl;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::Fidelity;
use smart_sync_sync::apply::stat_cache::StatCache;
use smart_sync_sync::apply::versions::Kept;
use smart_sync_sync::apply::{Version, journal, ledger};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::tar::{TarOptions, TarSource, spool_file};
use smart_sync_sync::source::{SourceNode, TreeSource as _};

use crate::{Verdict, check_bytes, store};

/// The manifest that caches here are of.
pub const MANIFEST: ManifestId = ManifestId::from_bytes([7; 32]);

/// Where the contents of tar streams go.
static SPOOL: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("there is a place for files"));

fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    [bytes, blake3::hash(bytes).as_bytes()].concat()
}

/// The record of what is applied, without its checksum.
pub fn applied_version(bytes: &[u8]) -> Verdict {
    let whole = with_checksum(bytes);
    if !bytes.starts_with(b"ssap\0\0\0\x01") {
        return check_bytes(&whole, Version::decode, Version::encode);
    }
    // The former format is read, and written as the present one.
    let Ok(version) = Version::decode(&whole) else { return Verdict::Refused };
    assert_eq!(Version::decode(&version.encode()), Ok(version));
    Verdict::Accepted
}

/// The record of a version that is kept, without its checksum.
pub fn kept_version(bytes: &[u8]) -> Verdict {
    check_bytes(&with_checksum(bytes), Kept::decode, Kept::encode)
}

/// A ledger, without its checksum.
pub fn ledger(bytes: &[u8]) -> Verdict {
    check_bytes(&with_checksum(bytes), ledger::decode, ledger::encode)
}

/// A journal. The input is its records, each a length of two bytes and the body; a last one may be torn.
pub fn journal(bytes: &[u8]) -> Verdict {
    let mut whole = b"ssjl\0\0\0\x02".to_vec();
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len));
        let body = &after[..len.min(after.len())];
        whole.extend_from_slice(&u32::try_from(len).expect("it has 16 bits").to_le_bytes());
        whole.extend_from_slice(&blake3::hash(body).as_bytes()[..16]);
        whole.extend_from_slice(body);
        rest = &after[body.len()..];
    }
    let Ok((unfinished, len)) = journal::decode(&whole) else { return Verdict::Refused };
    assert!(len <= whole.len());
    assert_eq!(
        journal::decode(&whole[..len]),
        Ok((unfinished, len)),
        "a torn record changes what those before it say"
    );
    Verdict::Accepted
}

/// A stat cache behind its manifest, without its checksum.
pub fn stat_cache(bytes: &[u8]) -> Verdict {
    let body = [&b"sssc\0\0\0\x01"[..], MANIFEST.as_bytes(), bytes].concat();
    let Some(cache) = StatCache::decode(with_checksum(&body), MANIFEST) else { return Verdict::Refused };
    for position in 0..cache.len() {
        let record = cache.record(position);
        assert_eq!((record.path, record.expected), (cache.path(position), cache.expected(position)));
        if let Some(found) = cache.find(record.path) {
            assert_eq!(cache.path(found), record.path);
        }
    }
    Verdict::Accepted
}

/// The cache of a publisher, without its checksum.
pub fn content_cache(bytes: &[u8]) -> Verdict {
    match ContentCache::decode(&with_checksum(bytes)) {
        Ok(_) => Verdict::Accepted,
        Err(_) => Verdict::Refused,
    }
}

/// Patterns, one in a line, asked about what stands behind an empty line.
pub fn exclusions(bytes: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    let (patterns, paths) = text.split_once("\n\n").unwrap_or((text, "a/b"));
    let Ok(exclusions) = Exclusions::new(patterns.lines()) else { return Verdict::Refused };
    for path in paths.lines().filter_map(|path| store::path(path.as_bytes())) {
        let (as_directory, as_file) = (exclusions.excludes(&path, true), exclusions.excludes(&path, false));
        assert!(as_directory || !as_file, "a pattern that excludes a file excludes a directory");
        assert!(!Exclusions::none().excludes(&path, true));
    }
    Verdict::Accepted
}

/// The configuration file of a client.
pub fn client_config(bytes: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    match Config::parse(Path::new("/etc/smart-sync/config.toml"), text) {
        Ok(_) => Verdict::Accepted,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Verdict::Refused
        }
    }
}

/// The address of a server or of a repository.
pub fn server_address(bytes: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    let server = text.parse::<ServerUrl>();
    if let Ok(server) = &server {
        let url = server.as_url();
        assert!(matches!(url.scheme(), "http" | "https" | "file") && url.path().ends_with('/'));
        assert_eq!(url.as_str().parse().as_ref(), Ok(server));
    }
    if server.is_ok() | text.parse::<Address>().is_ok() { Verdict::Accepted } else { Verdict::Refused }
}

/// A tar stream; the first byte chooses how much of its metadata is kept.
pub fn tar(bytes: &[u8]) -> Verdict {
    let Some((first, stream)) = bytes.split_first() else { return Verdict::Refused };
    let fidelity = if first & 1 == 0 { Fidelity::Git } else { Fidelity::System };
    let options = TarOptions { fidelity, exclusions: Exclusions::default() };
    let spool = spool_file(SPOOL.path()).expect("a file without a name can be made");
    let Ok(mut source) = TarSource::read(stream, spool, &options) else { return Verdict::Refused };
    let contents = source.contents();
    let mut reader = contents.reader();
    let mut last = None;
    while let Some(entry) = source.next_entry().expect("the stream was read to its end") {
        assert!(last.as_ref().is_none_or(|last| *last < entry.path), "{} is out of order", entry.path);
        if let SourceNode::Content { size, handle, .. } = &entry.node {
            let mut len = 0;
            let read = reader.read(&entry.path, handle, &mut |bytes| {
                len += bytes.len() as u64;
                Ok(())
            });
            assert!(read.is_ok() && len == *size && len <= stream.len() as u64);
        }
        last = Some(entry.path);
    }
    source.take_warnings();
    Verdict::Accepted
}
