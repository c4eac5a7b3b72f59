//! A destination in memory that believes nothing, and trees as they come out of it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use smart_sync_store::id::{ObjectId, PackId};
use smart_sync_store::manifest::{
    Attributes, Content, Entry, Manifest, ManifestSummary, Node, PageError, PageSource,
};
use smart_sync_store::object::{ObjectKey, ObjectKind, VerifiedObject};
use smart_sync_store::pack::{OpenedPack, VerifiedPack, decode_frame};
use smart_sync_store::recipe::{Recipe, WalkError, chunks};
use smart_sync_sync::ingest::{Destination, DestinationError, IngestOptions, Ingested, ingest};
use smart_sync_sync::source::TreeSource;

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) objects: HashMap<ObjectKey, VerifiedObject>,
    pub(crate) packs: Vec<PackId>,
    /// Whether it says that it has a manifest when it has the root page.
    pub(crate) keeps_manifests: bool,
    /// Contents that could not be proven from their pack alone.
    pub(crate) unproven: usize,
    /// Fails from this pack on.
    pub(crate) fails_at: Option<usize>,
}

impl Destination for Memory {
    fn missing(&mut self, keys: &[ObjectKey]) -> Result<Vec<bool>, DestinationError> {
        Ok(keys.iter().map(|key| !self.objects.contains_key(key)).collect())
    }

    fn missing_contents(&mut self, contents: &[Content]) -> Result<Vec<bool>, DestinationError> {
        Ok(contents.iter().map(|content| self.find_content(content).is_none()).collect())
    }

    fn has_manifest(&mut self, manifest: &ManifestSummary) -> Result<bool, DestinationError> {
        Ok(self.keeps_manifests && self.objects.contains_key(&ObjectKey::page(manifest.id.root_page())))
    }

    fn put_pack(&mut self, own: &VerifiedPack) -> Result<(), DestinationError> {
        if self.fails_at == Some(self.packs.len()) {
            return Err("the disk is full".into());
        }
        // What a publisher says of its own packs is what anybody finds in them.
        let pack = OpenedPack::open(own.bytes().clone())?.verify(Vec::new())?;
        assert_eq!((pack.id(), pack.index()), (own.id(), own.index()));
        for frame in pack.index().frames() {
            let start = frame.offset as usize;
            let stored = pack.bytes().slice(start..start + frame.stored as usize);
            for object in decode_frame(frame, &stored)? {
                let twice = self.objects.insert(object.key(), object);
                assert!(twice.is_none(), "an object was sent that was not missing");
            }
        }
        self.packs.push(pack.id());
        self.unproven += pack.recipes().iter().filter(|recipe| !recipe.is_proven).count();
        Ok(())
    }
}

impl PageSource for Memory {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        self.objects.get(&ObjectKey::page(*id)).map(|object| object.bytes().clone()).ok_or(PageError::Absent)
    }
}

impl Memory {
    pub(crate) fn ingest(&mut self, source: &mut dyn TreeSource) -> Ingested {
        ingest(source, self, IngestOptions::default()).unwrap()
    }

    pub(crate) fn entries(&self, ingested: &Ingested) -> Vec<Entry> {
        let manifest =
            Manifest::open(self, ingested.manifest.id, Some(ingested.manifest.root_length)).unwrap();
        manifest.iter().map(Result::unwrap).collect()
    }

    /// Puts a content together again.
    pub(crate) fn content(&self, content: &Content) -> Vec<u8> {
        self.find_content(content).expect("the content is there")
    }

    fn find_content(&self, content: &Content) -> Option<Vec<u8>> {
        if content.size == 0 {
            return Some(Vec::new());
        }
        if let Some(chunk) = self.objects.get(&ObjectKey::chunk(content.id.as_chunk())) {
            return Some(chunk.bytes().to_vec());
        }
        let of_content = |object: &&VerifiedObject| {
            object.kind() == ObjectKind::Recipe
                && Recipe::decode(object.bytes()).unwrap().content == content.id
        };
        let recipe = self.objects.values().find(of_content)?;
        let page = |id| Ok::<_, WalkError>(self.objects[&ObjectKey::recipe_page(id)].clone());
        let chunks = chunks(Recipe::decode(recipe.bytes()).unwrap(), page).unwrap();
        Some(
            chunks
                .iter()
                .flat_map(|chunk| self.objects[&ObjectKey::chunk(chunk.id)].bytes().to_vec())
                .collect(),
        )
    }

    /// The tree as a person would write it down: path, mode or kind, bytes.
    pub(crate) fn tree(&self, ingested: &Ingested) -> BTreeMap<String, (String, Vec<u8>)> {
        let describe = |entry: Entry| {
            let bytes = entry.content().map(|content| self.content(content)).unwrap_or_default();
            let mode = match &entry.attributes {
                Attributes::Git(mode) => format!("{:o}", mode.bits()),
                Attributes::System(Some(metadata)) => format!("{:o}", metadata.mode),
                Attributes::System(None) => String::new(),
            };
            let kind = match &entry.node {
                Node::File(_) => "file".to_owned(),
                Node::Symlink(_) => "link".to_owned(),
                Node::Directory => "directory".to_owned(),
                Node::Submodule(commit) => format!("commit {commit}"),
                Node::Hardlink(target) => format!("also {target}"),
                Node::Device { kind, major, minor } => format!("{kind:?} {major}:{minor}"),
                Node::Fifo => "pipe".to_owned(),
                Node::Socket => "socket".to_owned(),
            };
            (entry.path.to_string(), (format!("{kind} {mode}").trim().to_owned(), bytes))
        };
        self.entries(ingested).into_iter().map(describe).collect()
    }
}

/// Bytes that do not compress and are the same in every run.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    blake3::Hasher::new_keyed(&key).finalize_xof().fill(&mut bytes);
    bytes
}
