//! Notes, keys, records, names and the lines that they are made of.

use std::sync::LazyLock;

use smart_sync_store::domain::Domain;
use smart_sync_store::id::{BlobId, ContentId, ManifestId};
use smart_sync_sync::key::{SecretKey, SidecarDigests, Signer as _, VerifierKey, minisig, sshsig};
use smart_sync_sync::log::checkpoint::{Checkpoint, SignedCheckpoint};
use smart_sync_sync::log::heads::Head;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::{Channel, ChannelPattern, Kind, Origin, RefName, RefQuery, decode_file_segment};
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{Heads, NoteRecord, Publication, Root, Sealed, Unverified};
use smart_sync_sync::testing;
use smart_sync_sync::time::UnixTime;

use crate::{Verdict, any, check_bytes, check_name, check_text};

static ROOT: LazyLock<Root> = LazyLock::new(testing::root);
static PUBLISHER: LazyLock<SecretKey> = LazyLock::new(|| testing::secret("publish-repos"));
static KEYS: LazyLock<Vec<VerifierKey>> = LazyLock::new(|| {
    let signers = ["root-a", "log", "publish-repos"].map(testing::vkey);
    signers.into_iter().chain([testing::cosigner("clock")]).collect()
});

/// A signed note, and whatever it may be taken for.
pub fn note(bytes: &[u8]) -> Verdict {
    let verdict = check_bytes(bytes, Note::parse, Note::to_bytes);
    if let Ok(note) = Note::parse(bytes) {
        let mut again = Note::new(note.text().to_owned()).expect("its text is that of a note");
        again.merge(&note);
        assert_eq!(again.signatures(), note.signatures());
        if let Ok(by) = note.verified_by(&*KEYS) {
            assert!(by.len() <= note.signatures().len(), "a signature counts twice");
        }
    }
    claims::<Root>(bytes);
    claims::<Publication>(bytes);
    if let Ok(checkpoint) = SignedCheckpoint::verify(bytes, &ROOT) {
        assert_eq!(checkpoint.checkpoint().origin, ROOT.origin);
    }
    verdict
}

/// What a note claims has one spelling, believed or not.
fn claims<T: NoteRecord>(bytes: &[u8]) {
    if let Ok(unverified) = Unverified::<T>::parse(bytes)
        && let Ok(record) = unverified.claims()
    {
        assert_eq!(record.to_text(), unverified.note().text());
    }
}

/// A verifier key.
pub fn vkey(bytes: &[u8]) -> Verdict {
    str::from_utf8(bytes).map_or(Verdict::Refused, check_name::<VerifierKey>)
}

/// The text of a root document.
pub fn root(bytes: &[u8]) -> Verdict {
    check_text(bytes, Root::parse, |root| {
        for role in [&root.root, &root.log, &root.clock] {
            assert!((1..=role.keys.len()).contains(&role.threshold));
        }
        root.to_text()
    })
}

/// The text of a publication.
pub fn publication(bytes: &[u8]) -> Verdict {
    check_text(bytes, Publication::parse, Publication::to_text)
}

/// A sealed publication.
pub fn sealed(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, Sealed::parse, |sealed| sealed.to_text().into_bytes())
}

/// A heads leaf.
pub fn heads(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, Heads::parse, |heads| heads.to_text().into_bytes())
}

/// The text of a checkpoint.
pub fn checkpoint(bytes: &[u8]) -> Verdict {
    check_text(bytes, Checkpoint::parse, Checkpoint::to_text)
}

/// A line of the table of heads.
pub fn head_line(bytes: &[u8]) -> Verdict {
    check_text(bytes, Head::from_line, |head| {
        if let Some((channel, reference)) = head.key.channel_and_ref() {
            assert_eq!(smart_sync_sync::log::heads::HeadKey::open(&channel, &reference), head.key);
        }
        head.to_line()
    })
}

/// Names of all kinds, refs as people type them and URLs hold them, dates and ids.
pub fn names(bytes: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    if let Ok(query) = text.parse::<RefQuery>() {
        assert_eq!(query.to_string().parse(), Ok(query.clone()), "a ref as it is shown means another one");
        assert_eq!(RefQuery::from_url_segment(&query.to_url_segment()), Ok(query.clone()));
        assert!(!query.reference.candidates().is_empty());
    }
    if let Ok(query) = RefQuery::from_url_segment(text) {
        assert_eq!(RefQuery::from_url_segment(&query.to_url_segment()), Ok(query));
    }
    if let Ok(channel) = Channel::from_url_segment(text) {
        assert_eq!(Channel::from_url_segment(&channel.to_url_segment()), Ok(channel.clone()));
        check_name::<Domain>(channel.as_str());
    }
    if let Ok(name) = decode_file_segment(text)
        && let Ok(channel) = name.parse::<Channel>()
        && text.contains('~')
    {
        assert_eq!(channel.to_file_segment().as_deref(), Some(text), "a name of a file has two spellings");
    }
    if let Some(time) = UnixTime::parse_typed(text) {
        assert_eq!(
            UnixTime::parse_typed(&time.to_string()),
            Some(time),
            "a date as it is shown means another one"
        );
    }
    any(&[
        check_name::<Origin>(text),
        check_name::<Channel>(text),
        check_name::<Kind>(text),
        check_name::<ChannelPattern>(text),
        check_name::<RefName>(text),
        check_name::<Domain>(text),
        check_name::<LogHash>(text),
        check_name::<BlobId>(text),
        check_name::<ContentId>(text),
        check_name::<ManifestId>(text),
        check_text(bytes, RefName::from_record, RefName::to_record),
    ])
}

/// Signature files of minisign and ssh-keygen.
pub fn sidecar(bytes: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    let (key, digests) = (PUBLISHER.public_key(), SidecarDigests::of(b"what is signed"));
    let verdicts =
        [minisig::verify(text, key, &digests).is_ok(), sshsig::verify(text, key, &digests).is_ok()];
    let other = SidecarDigests::of(b"what is not signed");
    assert!(minisig::verify(text, key, &other).is_err() && sshsig::verify(text, key, &other).is_err());
    if verdicts.contains(&true) { Verdict::Accepted } else { Verdict::Refused }
}
