//! Contents of files from servers, to be looked at.
//!
//! Where the chunks of a content are is something that a server says and nobody signed: only when the whole content
//! has its id is anything of it handed on. What is too large to wait in memory waits in a file without a name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use smart_sync_store::content::ContentHasher;
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::{Content, Manifest, TreePath};
use smart_sync_sync::fetch_plan::FetchPlan;
use smart_sync_sync::source::tar::spool_file;
use smart_sync_sync::trust::Verified;
use smart_sync_sync::wire::fetch_map::FetchMap;
use smart_sync_sync::wire::locate::Wanted;

use super::wait_for;
use crate::failure::{DAMAGED_HINT, Exit, Failure};
use crate::realm::locate::{Tree, locate};
use crate::realm::mirrors::Mirrors;
use crate::realm::pages::RemotePages;
use crate::realm::remote::Remote;
use crate::sync::Surroundings;
use crate::sync::landing::decode;

/// The number of bytes that are copied at once.
const COPY_BYTES: usize = 256 << 10;

/// Takes a chunk: which content it is of, where in it, and its bytes.
type Put<'a> = &'a mut dyn FnMut(ContentId, u64, &[u8]) -> io::Result<()>;

/// Contents that servers have.
pub(crate) struct Contents<'a> {
    remotes: &'a [Remote],
    /// The trees that the contents are of.
    trees: Vec<Tree>,
    mirrors: Mirrors,
    surroundings: &'a Surroundings<'a>,
}

impl<'a> Contents<'a> {
    pub(crate) fn new(remotes: &'a [Remote], trees: Vec<Tree>, surroundings: &'a Surroundings<'a>) -> Self {
        let mirrors = Mirrors::new(remotes.to_vec(), 1, surroundings.output.clone());
        Self { remotes, trees, mirrors, surroundings }
    }

    /// Fetches contents into memory.
    pub(crate) fn small(&self, contents: &[Content]) -> Result<HashMap<ContentId, Vec<u8>>, Failure> {
        let mut found: HashMap<ContentId, Vec<u8>> = HashMap::new();
        for content in contents {
            let length = usize::try_from(content.size)
                .map_err(|_| Failure::message(Exit::General, "a file is too large for memory"))?;
            found.insert(content.id, vec![0; length]);
        }
        self.fetch(contents, &mut |id, offset, bytes| {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let place = found.get_mut(&id).and_then(|whole| whole.get_mut(start..start + bytes.len()));
            place.ok_or_else(|| io::Error::other("a chunk lies outside its content"))?.copy_from_slice(bytes);
            Ok(())
        })?;
        match found.iter().find(|(id, bytes)| ContentId::of(bytes) != **id) {
            Some((id, _)) => Err(wrong(*id)),
            None => Ok(found),
        }
    }

    /// Fetches a content into a file without a name in this directory.
    pub(super) fn spooled(&self, content: &Content, directory: &Path) -> Result<File, Failure> {
        let file = spool_file(directory).map_err(|error| {
            Failure::from(error).context(format!("making room in {}", directory.display()))
        })?;
        self.fetch(&[*content], &mut |_, offset, bytes| file.write_all_at(bytes, offset))?;
        let mut hasher = ContentHasher::new(content.size);
        copy(&file, &mut |bytes| hasher.update(bytes, |_, _| ()).map_err(|_| wrong(content.id)))?;
        match hasher.finish() {
            Ok(cut) if cut.content.id == content.id => Ok(file),
            _ => Err(wrong(content.id)),
        }
    }

    fn fetch(&self, contents: &[Content], put: Put<'_>) -> Result<(), Failure> {
        let wanted: Vec<Wanted> = (contents.iter().filter(|content| content.size > 0))
            .map(|content| Wanted { id: content.id, size: content.size })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let is_wanted = |id, size| wanted.iter().any(|wanted| wanted.id == id && wanted.size == size);
        let plans: Vec<FetchPlan> = (self.locate(&wanted)?.into_iter())
            .map(|map| FetchPlan::new(map, |content| is_wanted(content.id, content.size).then_some(0)))
            .collect();
        for wanted in &wanted {
            let mut contents = plans.iter().flat_map(|plan| &plan.map().contents);
            if !contents.any(|content| content.id == wanted.id && content.size == wanted.size) {
                let text =
                    format!("no server has content {}; the version may have been collected", wanted.id);
                return Err(Failure::message(Exit::General, text));
            }
        }
        plans.iter().try_for_each(|plan| self.fetch_ranges(plan, put))
    }

    fn fetch_ranges(&self, plan: &FetchPlan, put: Put<'_>) -> Result<(), Failure> {
        for range in plan.ranges() {
            let pack = plan.map().packs[range.pack as usize].id;
            let path = format!("pack/{pack}");
            let arrived = wait_for(self.surroundings, async {
                Ok(self.mirrors.get_range(&path, range.bytes.start, range.bytes.end).await?)
            })?;
            for frame in &range.frames {
                let frame = decode(plan, range, *frame, &arrived.bytes)?;
                for (chunk, places) in frame.chunks {
                    for place in places {
                        let content = plan.map().contents[place.content as usize].id;
                        put(content, place.offset, &frame.raw[chunk.clone()])?;
                    }
                }
            }
        }
        Ok(())
    }

    fn locate(&self, wanted: &[Wanted]) -> Result<Vec<FetchMap>, Failure> {
        wait_for(self.surroundings, async {
            let mut last = None;
            for remote in self.remotes {
                match locate(remote, wanted, &self.trees).await {
                    Ok(maps) if maps.iter().any(|map| !map.contents.is_empty()) => return Ok(maps),
                    Ok(maps) => last = Some(Ok(maps)),
                    Err(failure) => last = last.or(Some(Err(failure))),
                }
            }
            last.unwrap_or_else(|| Err(Failure::message(Exit::Network, "no server could be asked")))
        })
    }
}

/// The files of a tree that is proven.
pub(super) fn files_of(
    verified: &Verified,
    remotes: &[Remote],
    surroundings: &Surroundings<'_>,
) -> Result<BTreeMap<TreePath, Content>, Failure> {
    let pages = RemotePages::new(remotes, surroundings);
    let manifest = verified.manifest;
    let read = || {
        let manifest = Manifest::open(&pages, manifest.id, Some(manifest.bytes))?;
        let mut files = BTreeMap::new();
        for entry in &manifest {
            let entry = entry?;
            if let Some(content) = entry.content() {
                files.insert(entry.path.clone(), *content);
            }
        }
        Ok(files)
    };
    read().map_err(|error| pages.failure(error))
}

/// Hands a file on from its beginning to its end.
pub(super) fn copy(
    mut file: &File,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    file.rewind()?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        take(&buffer[..length])?;
    }
}

fn wrong(id: ContentId) -> Failure {
    Failure::message(
        Exit::Refused,
        format!("what the server sent is not content {id}, and nothing of it is shown"),
    )
    .hint(DAMAGED_HINT)
}
