//! The publication: "this channel's ref is this manifest".

use smart_sync_store::id::{CommitId, ContentId, ManifestId, TreeId};

use super::lines::{Lines, or_none};
use super::{NoteRecord, RecordError, Root, Signed, Unverified};
use crate::log::merkle::LogHash;
use crate::name::{Channel, Kind, Origin, RefName};
use crate::time::UnixTime;

/// The most bytes of a manifest's root page.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The realm.
    pub origin: Origin,
    /// The channel.
    pub channel: Channel,
    /// Counts the publications of this channel and ref, from 1.
    pub seq: u64,
    /// The leaf hash of the one before.
    pub prev: Option<LogHash>,
    /// When it was made, by the publisher's clock.
    pub time: UnixTime,
    /// What the channel carries.
    pub kind: Kind,
    /// The ref.
    pub reference: RefName,
    /// The tree, or none where the ref is withdrawn.
    pub manifest: Option<ManifestRef>,
    /// How much the tree holds.
    pub content: ContentSummary,
    /// When the content was made, which may be long before it was published.
    pub content_time: UnixTime,
    /// A content that says where the tree came from.
    pub meta: Option<ContentId>,
    /// What git calls the tree.
    pub git: Option<GitIds>,
}

/// A manifest, by the id and the length of its root page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ManifestRef {
    /// The id.
    pub id: ManifestId,
    /// The number of bytes of the root page.
    pub bytes: u64,
}

/// How much a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentSummary {
    /// The number of entries.
    pub entries: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// A commit and its tree, as git names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GitIds {
    /// The commit.
    pub commit: CommitId,
    /// Its tree.
    pub tree: TreeId,
}

impl Publication {
    fn check(&self, lines: &Lines<'_>) -> Result<(), RecordError> {
        let refuse = |reason: &str| Err(lines.refuse(reason));
        if self.seq == 0 || (self.seq == 1) != self.prev.is_none() {
            return refuse("seq 1 has no previous publication, and every other has one");
        }
        match &self.manifest {
            None if self.seq == 1 => return refuse("a ref that was never published cannot be withdrawn"),
            None if self.content != ContentSummary::default() || self.git.is_some() => {
                return refuse("a withdrawn ref has no content and no commit");
            }
            Some(manifest) if !(1..=PAGE_BYTES_MAX).contains(&manifest.bytes) => {
                return refuse("the root page of a manifest has between one byte and 1 MiB");
            }
            Some(_) if self.reference.is_tag() && self.seq > 1 => {
                return refuse("a tag is written once; after that it can only be withdrawn");
            }
            _ => {}
        }
        match (&self.reference, &self.git) {
            (RefName::Commit(commit), git) if self.manifest.is_some() => {
                if git.is_none_or(|git| git.commit != *commit) {
                    return refuse("the ref is a commit, and the tree is not said to be of that commit");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Unverified<Publication> {
    /// Checks that the publishers of `channel` have signed this as leaf `index` of the log, that it is for that
    /// channel, and for this realm.
    pub fn verify(
        self,
        root: &Signed<Root>,
        channel: &Channel,
        index: u64,
    ) -> Result<Signed<Publication>, RecordError> {
        root.record().check_publishers(self.note(), channel, index)?;
        let publication = self.claims()?;
        if publication.origin != root.record().origin {
            return Err(RecordError::Chain(format!(
                "the publication is of {}, not of {}",
                publication.origin,
                root.record().origin
            )));
        }
        if publication.channel != *channel {
            return Err(RecordError::Chain(format!(
                "the publication is for the channel {}, not for {channel}",
                publication.channel
            )));
        }
        Ok(self.into_signed(publication))
    }
}

impl NoteRecord for Publication {
    const HEADER: &'static str = "smart-sync/pub/v1";

    fn parse(text: &str) -> Result<Self, RecordError> {
        let mut lines = Lines::open(Self::HEADER, text)?;
        let origin = lines.parse("origin")?;
        let channel = lines.parse("channel")?;
        let seq = lines.number("seq")?;
        let prev = lines.hash_or_none("prev")?;
        let time = lines.time("time")?;
        let kind = lines.parse("kind")?;
        let reference = lines.value("ref")?;
        let reference = RefName::from_record(reference).map_err(|error| lines.refuse(error.to_string()))?;
        let manifest = parse_manifest(&mut lines)?;
        let value = lines.value("content")?;
        let [entries, bytes] = lines.as_parts(value)?;
        let content = ContentSummary { entries: lines.as_number(entries)?, bytes: lines.as_number(bytes)? };
        let content_time = lines.time("content-time")?;
        let meta = match lines.value("meta")? {
            "none" => None,
            value => Some(lines.as_parsed(strip(&lines, value, "blake3:")?)?),
        };
        let git = parse_git(&mut lines)?;
        let publication = Self {
            origin,
            channel,
            seq,
            prev,
            time,
            kind,
            reference,
            manifest,
            content,
            content_time,
            meta,
            git,
        };
        publication.check(&lines)?;
        lines.finish()?;
        Ok(publication)
    }

    fn to_text(&self) -> String {
        let manifest = self.manifest.map(|manifest| format!("blake3:{} {}", manifest.id, manifest.bytes));
        let meta = self.meta.map(|meta| format!("blake3:{meta}"));
        let git = self.git.map(|git| format!("commit:{} tree:{}", git.commit, git.tree));
        format!(
            "{}\norigin {}\nchannel {}\nseq {}\nprev {}\ntime {}\nkind {}\nref {}\nmanifest {}\ncontent {} {}\n\
             content-time {}\nmeta {}\ngit {}\n",
            Self::HEADER,
            self.origin,
            self.channel,
            self.seq,
            or_none(self.prev.as_ref()),
            self.time.seconds(),
            self.kind,
            self.reference.to_record(),
            or_none(manifest.as_ref()),
            self.content.entries,
            self.content.bytes,
            self.content_time.seconds(),
            or_none(meta.as_ref()),
            or_none(git.as_ref()),
        )
    }
}

fn parse_manifest(lines: &mut Lines<'_>) -> Result<Option<ManifestRef>, RecordError> {
    let value = lines.value("manifest")?;
    if value == "none" {
        return Ok(None);
    }
    let [id, bytes] = lines.as_parts(value)?;
    let id = lines.as_parsed(strip(lines, id, "blake3:")?)?;
    Ok(Some(ManifestRef { id, bytes: lines.as_number(bytes)? }))
}

fn parse_git(lines: &mut Lines<'_>) -> Result<Option<GitIds>, RecordError> {
    let value = lines.value("git")?;
    if value == "none" {
        return Ok(None);
    }
    let [commit, tree] = lines.as_parts(value)?;
    Ok(Some(GitIds {
        commit: lines.as_parsed(strip(lines, commit, "commit:")?)?,
        tree: lines.as_parsed(strip(lines, tree, "tree:")?)?,
    }))
}

fn strip<'a>(lines: &Lines<'_>, value: &'a str, prefix: &str) -> Result<&'a str, RecordError> {
    value.strip_prefix(prefix).ok_or_else(|| lines.refuse(format!("expected {prefix}… or none")))
}
