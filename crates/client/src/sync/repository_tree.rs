//! Following a repository behind GitHub's REST API.
//!
//! What is here is known by git's blob ids, so only blobs that are nowhere on this host are downloaded; the manifest
//! is made here, from what was downloaded and hashed. Downloads wait in the target's state directory, named by their
//! blob ids, so an interrupted run goes on where it stopped.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use smart_sync_store::content::ContentHasher;
use smart_sync_store::id::{BlobId, ContentId, ManifestId};
use smart_sync_store::manifest::{Attributes, Content, Entry, Fidelity, Node};
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::Stage;

use super::Surroundings;
use super::pages::Pages;
use super::place::{AppliedEvent, Label, Place, triggered_by};
use super::session::{Outcome, Purpose, Session, Wanted};
use crate::after::trigger::Changed;
use crate::after::{self, Settled};
use crate::failure::{Exit, Failure};
use crate::github::{
    Address, Head, Options, RemoteEntry, RemoteNode, RemoteTree, Repository, SystemClock, folder, tell_to,
};
use crate::output::count;
use crate::realm::resolve::now;
use crate::settings::{SyncMode, SyncSettings};
use crate::token::Tokens;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Brings a target to a ref of a repository.
pub(super) fn run(
    address: &Address,
    settings: &SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let network = surroundings.network;
    let options = Options {
        token: Tokens::of_github()?.choose(None).cloned(),
        folder: folder(surroundings.state_dir),
        connections: network.connections,
        stall: network.stall,
        rate_limit_wait: network.rate_limit_wait,
        clock: std::sync::Arc::new(SystemClock),
    };
    let repository = Repository::new(address.clone(), &options, tell_to(surroundings.output))?;
    let place = match settings.mode {
        SyncMode::Apply => Place::make(&settings.target, settings.policy.kind, surroundings.state_dir)?,
        SyncMode::DryRun | SyncMode::CheckOnly => {
            Place::look(&settings.target, settings.policy.kind, surroundings.state_dir)?
        }
    };
    let run = Run { address, settings, surroundings, repository, place: &place };
    let head = run.block_on(run.repository.resolve(&settings.tree.reference))?;
    match settings.mode {
        SyncMode::CheckOnly => run.check(head),
        _ => run.apply(head),
    }
}

struct Run<'a> {
    address: &'a Address,
    settings: &'a SyncSettings,
    surroundings: &'a Surroundings<'a>,
    repository: Repository,
    place: &'a Place,
}

impl Run<'_> {
    fn block_on<T, E: Into<Failure>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        let work = async { work.await.map_err(Into::into) };
        self.surroundings.runtime.block_on(self.surroundings.interrupt.guard(work))
    }

    fn check(&self, head: Head) -> Result<Exit, Failure> {
        let applied = self.place.open()?.applied()?.and_then(|version| Label::of(&version));
        let output = self.surroundings.output;
        if applied.is_some_and(|label| self.is_of(&label, head)) {
            output.info(&format!("{} is up to date", self.address));
            return Ok(Exit::Success);
        }
        output.info(&format!("an update is available: {}, commit {}", self.address, head.commit));
        Ok(Exit::UpdateAvailable)
    }

    fn is_of(&self, label: &Label, head: Head) -> bool {
        label.origin == self.address.to_string() && label.commit == Some(head.commit.to_string())
    }

    fn apply(&self, head: Head) -> Result<Exit, Failure> {
        let (settings, output) = (self.settings, self.surroundings.output);
        let begun = Session::begin(self.place, &settings.policy, settings.validation, output)?;
        let session = match after::settled(begun.guarded(self.surroundings), settings, self.surroundings)? {
            Settled::Nothing(session) | Settled::Confirmed(session) => *session,
            Settled::Undone(exit) | Settled::Waits(exit) => return Ok(exit),
        };
        let label = session.applied.as_ref().and_then(Label::of);
        let scan = session.scan(Fidelity::Git)?;
        if let Some(label) = label.filter(|label| self.is_of(label, head))
            && scan.is_clean()
        {
            output.info(&format!(
                "{} is up to date ({})",
                self.address,
                count(self.repository.cost().requests, "request", "requests")
            ));
            if let Some(manifest) = session.manifest() {
                self.tell_applied(&label, manifest, 0);
            }
            return after::retry(session, settings, self.surroundings);
        }
        let tree = self.block_on(self.repository.tree(&head))?;
        let downloads = Downloads::open(&self.place.state)?;
        let mut known = known(&session, &tree, &downloads)?;
        let missing = missing(&tree, &known);
        if settings.mode != SyncMode::Apply {
            self.show(&missing);
            return Ok(Exit::Success);
        }
        self.download(&tree, &missing, &downloads, &mut known)?;
        let wanted = self.wanted(&tree, head, &known)?;
        let blobs: HashMap<ContentId, BlobId> =
            known.values().map(|content| (content.id, content.blob)).collect();
        if after::refuses(self.place, wanted.manifest, settings, self.surroundings)? {
            return Ok(Exit::RolledBack);
        }
        let outcome = session.apply(&wanted, scan, settings.mode, None, |needs, stage| {
            self.stage(&tree, needs, stage, &downloads, &blobs)
        })?;
        downloads.discard()?;
        let cost = self.repository.cost();
        let (changes, paths) = match outcome {
            Outcome::Applied { changes, changed } => (changes, changed),
            Outcome::Nothing | Outcome::Shown { .. } => (0, Vec::new()),
        };
        output.info(&format!(
            "{} at commit {} is applied: {} ({} received, {})",
            self.address,
            head.commit,
            count(changes as u64, "change", "changes"),
            HumanBytes(cost.bytes),
            count(cost.requests, "request", "requests")
        ));
        self.tell_applied(&wanted.label, wanted.manifest, changes);
        after::complete(session, &settings.policy.after, Changed::Paths(&paths), self.surroundings)
    }

    fn tell_applied(&self, label: &Label, manifest: ManifestId, changes: usize) {
        let cost = self.repository.cost();
        self.surroundings.output.event(&AppliedEvent {
            target: &self.place.target.to_string_lossy(),
            label,
            manifest: &format!("blake3:{manifest}"),
            changes,
            received: cost.bytes,
            requests: cost.requests,
        });
    }

    fn show(&self, missing: &[RemoteEntry]) {
        let output = self.surroundings.output;
        let mut bytes = 0;
        for entry in missing {
            if let RemoteNode::Blob { size, .. } = entry.node {
                output.info(&format!("fetch    {} ({size} bytes)", entry.path));
                bytes += size;
            }
        }
        let files = count(missing.len() as u64, "file", "files");
        output.info(&format!("{files} would be downloaded, {}", HumanBytes(bytes)));
        output.info("nothing was changed");
    }

    fn download(
        &self,
        tree: &RemoteTree,
        missing: &[RemoteEntry],
        downloads: &Downloads,
        known: &mut HashMap<BlobId, Content>,
    ) -> Result<(), Failure> {
        if missing.is_empty() {
            return Ok(());
        }
        let total: u64 = missing.iter().map(size_of).sum();
        let output = self.surroundings.output;
        let files = count(missing.len() as u64, "file", "files");
        output.info(&format!("downloading {} for {files}", HumanBytes(total)));
        let mut progress = output.progress("fetching", total);
        self.block_on(self.repository.download(tree, missing, &mut |blob| {
            let (id, size) = (blob.id, blob.size);
            let content = downloads.keep(id, size, &mut blob.into_reader())?;
            known.insert(id, content);
            progress.advance(size);
            Ok(())
        }))
    }

    fn wanted(
        &self,
        tree: &RemoteTree,
        head: Head,
        known: &HashMap<BlobId, Content>,
    ) -> Result<Wanted, Failure> {
        let entries = tree.entries.iter().map(|remote| Ok(entry_of(remote, known)));
        let (pages, summary) = Pages::build(Fidelity::Git, entries)?;
        let label = Label {
            origin: self.address.to_string(),
            channel: String::new(),
            r#ref: self.settings.tree.reference.to_string(),
            seq: 0,
            commit: Some(head.commit.to_string()),
            applied: now().seconds(),
            by: triggered_by(),
        };
        Ok(Wanted { pages, manifest: summary.id, fidelity: Fidelity::Git, label, purpose: Purpose::Update })
    }

    /// Puts what was downloaded into the stage, and downloads what was thought to be here and is not.
    fn stage(
        &self,
        tree: &RemoteTree,
        needs: &[&Need],
        stage: &Stage<'_>,
        downloads: &Downloads,
        blobs: &HashMap<ContentId, BlobId>,
    ) -> Result<(), Failure> {
        let blob_of = |need: &Need| blobs.get(&need.content.id).copied().unwrap_or(need.content.blob);
        let absent: HashSet<BlobId> =
            needs.iter().map(|need| blob_of(need)).filter(|blob| !downloads.path(*blob).exists()).collect();
        let mut seen = HashSet::new();
        let again: Vec<RemoteEntry> = tree
            .entries
            .iter()
            .filter(|entry| matches!(entry.node, RemoteNode::Blob { id, .. } if absent.contains(&id) && seen.insert(id)))
            .cloned()
            .collect();
        self.download(tree, &again, downloads, &mut HashMap::new())?;
        for need in needs {
            let mut writer = stage.writer(need)?;
            let mut file = File::open(downloads.path(blob_of(need)))?;
            copy(&mut file, |bytes| writer.write(bytes).map_err(Failure::from))?;
            writer.finish()?;
        }
        Ok(())
    }
}

/// Contents of the tree that are on this host already: in what was applied, in the target's files, or among the
/// downloads of an earlier run.
fn known(
    session: &Session<'_>,
    tree: &RemoteTree,
    downloads: &Downloads,
) -> Result<HashMap<BlobId, Content>, Failure> {
    let mut known: HashMap<BlobId, Content> = session.with_applied(|applied| {
        Ok(applied.filter_map(|entry| entry.content().map(|content| (content.blob, *content))).collect())
    })?;
    for entry in &tree.entries {
        let RemoteNode::Blob { id, size } = entry.node else { continue };
        if known.contains_key(&id) {
            continue;
        }
        if let Some(content) = downloads.content(id, size)? {
            known.insert(id, content);
        } else if let Some(content) = session.local_content(&entry.path, entry.mode, size)?
            && content.blob == id
        {
            known.insert(id, content);
        }
    }
    Ok(known)
}

fn missing(tree: &RemoteTree, known: &HashMap<BlobId, Content>) -> Vec<RemoteEntry> {
    let mut seen = HashSet::new();
    tree.entries
        .iter()
        .filter(|entry| match entry.node {
            RemoteNode::Blob { id, .. } => !known.contains_key(&id) && seen.insert(id),
            RemoteNode::Submodule(_) | RemoteNode::Directory => false,
        })
        .cloned()
        .collect()
}

const fn size_of(entry: &RemoteEntry) -> u64 {
    match entry.node {
        RemoteNode::Blob { size, .. } => size,
        RemoteNode::Submodule(_) | RemoteNode::Directory => 0,
    }
}

fn entry_of(remote: &RemoteEntry, known: &HashMap<BlobId, Content>) -> Entry {
    let node = match remote.node {
        RemoteNode::Blob { id, .. } => {
            let content = *known.get(&id).expect("every blob of the tree was known or downloaded");
            if remote.mode.is_symlink() { Node::Symlink(content) } else { Node::File(content) }
        }
        RemoteNode::Submodule(commit) => Node::Submodule(commit),
        RemoteNode::Directory => Node::Directory,
    };
    Entry { path: remote.path.clone(), node, attributes: Attributes::Git(remote.mode) }
}

/// Blobs that were downloaded for one target and are not applied yet.
struct Downloads {
    directory: PathBuf,
}

impl Downloads {
    fn open(state: &Path) -> Result<Self, Failure> {
        let directory = state.join("downloads");
        fs::create_dir_all(&directory)
            .map_err(|error| Failure::from(error).context(format!("making {}", directory.display())))?;
        Ok(Self { directory })
    }

    fn path(&self, blob: BlobId) -> PathBuf {
        self.directory.join(blob.to_string())
    }

    /// The names of a download, if it is here and whole.
    fn content(&self, blob: BlobId, size: u64) -> Result<Option<Content>, Failure> {
        let mut file = match File::open(self.path(blob)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if file.metadata()?.len() != size {
            return Ok(None);
        }
        Ok(name(&mut file, size)?.filter(|content| content.blob == blob))
    }

    /// Keeps a download, under its name only when it is whole.
    fn keep(&self, blob: BlobId, size: u64, reader: &mut dyn Read) -> io::Result<Content> {
        let temporary = self.directory.join(format!("{blob}.tmp"));
        let mut file = File::create(&temporary)?;
        io::copy(reader, &mut file)?;
        let content = name(&mut File::open(&temporary)?, size)?.filter(|content| content.blob == blob);
        let content = content.ok_or_else(|| io::Error::other(format!("blob {blob} is not what it was")))?;
        fs::rename(&temporary, self.path(blob))?;
        Ok(content)
    }

    fn discard(self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.directory)
            .map_err(|error| Failure::from(error).context(format!("removing {}", self.directory.display())))
    }
}

/// The names of a content of this size; none if it has another.
pub(super) fn name(reader: &mut dyn Read, size: u64) -> io::Result<Option<Content>> {
    let mut hasher = ContentHasher::new(size);
    let mut fits = true;
    copy(reader, |bytes| {
        fits = fits && hasher.update(bytes, |_, _| {}).is_ok();
        Ok::<_, io::Error>(())
    })?;
    Ok(if fits { hasher.finish().ok().map(|cut| cut.content) } else { None })
}

fn copy<E: From<io::Error>>(
    reader: &mut dyn Read,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut bytes = vec![0; PIECE];
    loop {
        match reader.read(&mut bytes)? {
            0 => return Ok(()),
            count => take(&bytes[..count])?,
        }
    }
}
