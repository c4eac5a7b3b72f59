//! `diff`: what differs between two versions of a tree.
//!
//! The manifests are compared page by page, so that looking at a small change in a large tree costs little. Texts are
//! fetched for the files that changed, some at a time, and compared here.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use similar::TextDiff;
use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::{Attributes, Change, Content, Entry, Manifest, Node, diff};
use smart_sync_sync::apply::run::Target;
use smart_sync_sync::apply::tree_dir::TreeDir;
use smart_sync_sync::name::RefQuery;

use super::contents::Contents;
use super::{Listing, for_people, open_realm, print, wait_for};
use crate::args::inspect::DiffArgs;
use crate::args::sync::ChannelArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::realm::locate::Tree;
use crate::realm::pages::RemotePages;
use crate::sync::Surroundings;
use crate::sync::pages::Pages;
use crate::versions;

/// Larger files are said to differ, and not compared.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// The number of bytes of texts that are fetched together.
const BATCH_BYTES: u64 = 16 << 20;
/// The number of changes that are looked at together.
const BATCH_CHANGES: usize = 256;
/// The lines of context around a change.
const CONTEXT: usize = 3;

/// Shows how two refs differ.
pub fn run(args: &DiffArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let tree = ChannelArgs {
        channel: args.channel.clone(),
        servers: args.servers.clone(),
        max_age: args.max_age,
        // What is compared is said by the two refs.
        reference: Some(args.from.clone()),
        at: None,
    };
    let (realm, settings) = open_realm(&tree, config, surroundings)?;
    let resolve = |query: &RefQuery| {
        wait_for(surroundings, realm.resolve(&settings.channel, query, None, surroundings.output))
    };
    let (from, to) = (resolve(&args.from)?, resolve(&args.to)?);
    let pages = RemotePages::new(&to.remotes, surroundings);
    let open = |manifest: smart_sync_sync::record::ManifestRef| {
        Manifest::open(&pages, manifest.id, Some(manifest.bytes)).map_err(|error| pages.failure(error))
    };
    let (old, new) = (open(from.verified.manifest)?, open(to.verified.manifest)?);
    if old.fidelity() != new.fidelity() {
        return Err(Failure::message(
            Exit::General,
            format!(
                "{} and {} keep different amounts of metadata, and cannot be compared",
                args.from, args.to
            ),
        ));
    }
    let trees = vec![Tree::of(&to.verified), Tree::of(&from.verified)];
    let contents = Contents::new(&to.remotes, trees, surroundings);
    let fetch = |changes: &[Change]| {
        let mut wanted: Vec<Content> = changes.iter().flat_map(texts).copied().collect();
        wanted.sort_by_key(|content| content.id);
        wanted.dedup_by_key(|content| content.id);
        contents.small(&wanted)
    };
    let changes = diff(&old, &new).map(|change| change.map_err(|error| pages.failure(error)));
    show(changes, args, &fetch, surroundings.output)
}

/// Shows how two versions of a target differ that are kept on this host.
pub fn of_generations(
    args: &DiffArgs,
    target: &Path,
    state_dir: &Path,
    output: &Output,
) -> Result<Exit, Failure> {
    let number = |query: &RefQuery| {
        query.to_string().parse::<u64>().map_err(|_| {
            Failure::message(Exit::Arguments, format!("`{query}` is not the number of a generation"))
                .hint("`smart-sync generations` lists those that are kept")
        })
    };
    let numbers = (number(&args.from)?, number(&args.to)?);
    let versions = Pair::open(target, numbers, state_dir)?;
    let (old, new) = (versions.from.manifest()?, versions.to.manifest()?);
    let read = |changes: &[Change]| Ok(changes.iter().flat_map(|change| versions.texts(change)).collect());
    let changes = diff(&old, &new).map(|change| change.map_err(Failure::from));
    show(changes, args, &read, output)
}

/// Two versions of a target.
struct Pair {
    opened: Target,
    from: Side,
    to: Side,
}

struct Side {
    manifest: ManifestId,
    pages: Pages,
    files: Files,
}

/// Where the files of a version are.
enum Files {
    InTree(TreeDir),
    /// Each content is kept by itself.
    Apart,
}

impl Side {
    fn manifest(&self) -> Result<Manifest<&Pages>, Failure> {
        Ok(Manifest::open(&self.pages, self.manifest, None)?)
    }
}

impl Pair {
    fn open(target: &Path, numbers: (u64, u64), state_dir: &Path) -> Result<Self, Failure> {
        let (place, opened) = versions::open(target, state_dir)?;
        let kept = opened.kept()?;
        let side = |number: u64| {
            let kept = kept.iter().find(|kept| kept.number == number);
            let kept = kept.ok_or_else(|| versions::not_kept(number, &place.target))?;
            let files = match opened.version_tree(kept.name())? {
                Some(tree) => Files::InTree(tree),
                None if opened.is_overlay() => Files::Apart,
                None => return Err(versions::not_kept(number, &place.target)),
            };
            let manifest = kept.version.manifest();
            Ok::<_, Failure>(Side { manifest, pages: Pages::load(&place.state, manifest)?, files })
        };
        let (from, to) = (side(numbers.0)?, side(numbers.1)?);
        Ok(Self { opened, from, to })
    }

    /// The contents of a change, read where they are.
    fn texts(&self, change: &Change) -> Vec<(ContentId, Vec<u8>)> {
        let wanted: Vec<ContentId> = texts(change).map(|content| content.id).collect();
        let (old, new) = sides(change);
        let sides = [(old, &self.from), (new, &self.to)];
        let entries = sides.into_iter().filter_map(|(entry, side)| Some((entry?, side)));
        let read = entries.filter_map(|(entry, side)| {
            let content = entry.content().filter(|content| wanted.contains(&content.id))?;
            let path = entry.path.as_bytes();
            let file = match &side.files {
                Files::InTree(tree) if matches!(entry.node, Node::Symlink(_)) => {
                    return Some((content.id, tree.read_link(path).ok()?));
                }
                Files::InTree(tree) => tree.open_file(path).ok()?,
                Files::Apart => self.opened.kept_content(content.id).ok()??,
            };
            let mut bytes = Vec::new();
            file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
            Some((content.id, bytes))
        });
        // What was changed in a version is not shown as if it had been published.
        read.filter(|(id, bytes): &(ContentId, Vec<u8>)| ContentId::of(bytes) == *id).collect()
    }
}

/// The bytes of the texts of some changes, by their ids.
type Texts<'a> = &'a dyn Fn(&[Change]) -> Result<HashMap<ContentId, Vec<u8>>, Failure>;

fn show(
    changes: impl Iterator<Item = Result<Change, Failure>>,
    args: &DiffArgs,
    texts_of: Texts<'_>,
    output: &Output,
) -> Result<Exit, Failure> {
    let is_names = args.names_only || output.format() == Format::Json;
    let shower = Shower { texts_of, output };
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for change in changes {
        let change = change?;
        bytes += texts(&change).map(|content| content.size).sum::<u64>();
        batch.push(change);
        if batch.len() >= BATCH_CHANGES || bytes >= BATCH_BYTES {
            shower.show(&std::mem::take(&mut batch), is_names)?;
            bytes = 0;
        }
    }
    shower.show(&batch, is_names)?;
    Ok(Exit::Success)
}

struct Shower<'a> {
    texts_of: Texts<'a>,
    output: &'a Output,
}

impl Shower<'_> {
    fn show(&self, changes: &[Change], is_names: bool) -> Result<(), Failure> {
        if is_names {
            return self.show_names(changes);
        }
        let found = (self.texts_of)(changes)?;
        for change in changes {
            print(self.output, &Self::describe(change, &found))?;
        }
        Ok(())
    }

    fn show_names(&self, changes: &[Change]) -> Result<(), Failure> {
        let mut listing = Listing::default();
        for change in changes {
            let (letter, word) = match change {
                Change::Added(_) => ('A', "added"),
                Change::Removed(_) => ('D', "removed"),
                Change::Changed { .. } => ('M', "changed"),
            };
            let path = change.path();
            if self.output.format() == Format::Json {
                self.output.event(&serde_json::json!({
                    "event": "difference",
                    "change": word,
                    "path": String::from_utf8_lossy(path.as_bytes()),
                }));
            } else {
                listing.line(&format!("{letter} {path}"));
            }
        }
        listing.print(self.output)
    }

    fn describe(change: &Change, found: &HashMap<ContentId, Vec<u8>>) -> Vec<u8> {
        let (old, new) = sides(change);
        let path = change.path();
        let mut out = format!("diff {path}\n").into_bytes();
        let mut note = |text: String| out.extend_from_slice(format!("{text}\n").as_bytes());
        match (old, new) {
            (None, Some(new)) => note(format!("new {}", kind(new))),
            (Some(old), None) => note(format!("removed {}", kind(old))),
            (Some(old), Some(new)) if kind(old) != kind(new) => {
                note(format!("old {}", kind(old)));
                note(format!("new {}", kind(new)));
            }
            _ => {}
        }
        let contents = (old.and_then(Entry::content), new.and_then(Entry::content));
        if contents.0.map(|content| content.id) == contents.1.map(|content| content.id) {
            if old.is_some() && new.is_some() && old.map(kind) == new.map(kind) {
                note("metadata differs".to_owned());
            }
            return out;
        }
        let (Some(one), Some(other)) = (text(contents.0, found), text(contents.1, found)) else {
            note("contents differ, and are not texts of at most 1 MiB".to_owned());
            return out;
        };
        let name = |side: &str, entry: Option<&Entry>| match entry {
            Some(_) => format!("{side}/{path}"),
            None => "/dev/null".to_owned(),
        };
        let compared = TextDiff::from_lines(one, other);
        let unified = compared
            .unified_diff()
            .context_radius(CONTEXT)
            .header(&name("a", old), &name("b", new))
            .to_string();
        out.extend_from_slice(for_people(&unified).as_bytes());
        out
    }
}

fn sides(change: &Change) -> (Option<&Entry>, Option<&Entry>) {
    match change {
        Change::Added(new) => (None, Some(new)),
        Change::Removed(old) => (Some(old), None),
        Change::Changed { old, new } => (Some(old), Some(new)),
    }
}

/// The contents that have to be fetched to show a change; none where one of them is too large to be compared.
fn texts(change: &Change) -> impl Iterator<Item = &Content> {
    let (old, new) = sides(change);
    let contents: Vec<&Content> = [old, new].into_iter().flatten().filter_map(Entry::content).collect();
    let differ = contents.len() < 2 || contents[0].id != contents[1].id;
    let small = contents.iter().all(|content| content.size <= TEXT_BYTES_MAX);
    contents.into_iter().filter(move |_| differ && small)
}

/// The text of a content, or nothing where there is none; none where it is no text.
fn text<'a>(content: Option<&Content>, found: &'a HashMap<ContentId, Vec<u8>>) -> Option<&'a str> {
    let Some(content) = content else { return Some("") };
    let bytes = found.get(&content.id)?;
    str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

fn kind(entry: &Entry) -> String {
    let mode = match &entry.attributes {
        Attributes::Git(mode) => format!(" {:06o}", mode.bits()),
        Attributes::System(Some(metadata)) => {
            format!(" {:04o} {}:{}", metadata.mode, metadata.uid, metadata.gid)
        }
        Attributes::System(None) => String::new(),
    };
    let what = match &entry.node {
        Node::File(_) => "file".to_owned(),
        Node::Symlink(_) => "symbolic link".to_owned(),
        Node::Directory => "directory".to_owned(),
        Node::Submodule(commit) => format!("submodule {commit}"),
        Node::Hardlink(target) => format!("link to {target}"),
        Node::Device { major, minor, .. } => format!("device {major}:{minor}"),
        Node::Fifo => "pipe".to_owned(),
        Node::Socket => "socket".to_owned(),
    };
    format!("{what}{mode}")
}
