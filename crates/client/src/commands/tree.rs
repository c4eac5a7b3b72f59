//! `ls` and `cat`: looking into a published tree without having it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use smart_sync_store::manifest::{Attributes, DeviceKind, Entry, Found, Manifest, Node, TreePath};

use super::contents::{Contents, copy};
use super::{Listing, open_realm, wait_for};
use crate::args::inspect::{CatArgs, LsArgs};
use crate::args::sync::ChannelArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::realm::locate::Tree;
use crate::realm::pages::RemotePages;
use crate::realm::resolve::Resolved;
use crate::sync::Surroundings;

/// Files up to this size wait in memory until they are verified.
const SMALL_BYTES_MAX: u64 = 8 << 20;
/// The number of lines that are written together.
const LINES: usize = 1000;

/// Lists a directory of a tree.
pub fn ls(args: &LsArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let resolved = resolve(&args.tree, config, surroundings)?;
    let pages = RemotePages::new(&resolved.remotes, surroundings);
    let manifest = resolved.verified.manifest;
    let manifest =
        Manifest::open(&pages, manifest.id, Some(manifest.bytes)).map_err(|error| pages.failure(error))?;
    let path = args.path.as_deref().map_or_else(|| Ok(TreePath::root()), parse_path)?;
    let mut lines =
        Lines { listing: Listing::default(), count: 0, is_long: args.long, output: surroundings.output };
    match manifest.find(&path).map_err(|error| pages.failure(error))? {
        None => return Err(no_such_path(&path, &resolved)),
        Some(Found::Entry(entry)) if entry.node != Node::Directory => lines.add(&entry.path, Some(&entry))?,
        Some(_) if args.recursive => {
            let below = if path.is_root() { Vec::new() } else { [path.as_bytes(), b"/"].concat() };
            for entry in manifest.iter_from(&below).map_err(|error| pages.failure(error))? {
                let entry = entry.map_err(|error| pages.failure(error))?;
                if !entry.path.as_bytes().starts_with(&below) {
                    break;
                }
                lines.add(&entry.path, Some(&entry))?;
            }
        }
        Some(_) => {
            let children = manifest.children(&path, None).map_err(|error| pages.failure(error))?;
            for child in children.into_iter().flatten() {
                let child = child.map_err(|error| pages.failure(error))?;
                lines.add(&child.path, child.entry.as_ref())?;
            }
        }
    }
    lines.finish()?;
    Ok(Exit::Success)
}

/// Writes the content of a file of a tree, once all of it is verified.
pub fn cat(args: &CatArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let output = surroundings.output;
    if output.format() == Format::Json {
        return Err(Failure::message(Exit::Arguments, "a file is written as it is, which is no JSON")
            .hint("leave --json out; `smart-sync ls --long --json` describes the file"));
    }
    let resolved = resolve(&args.tree, config, surroundings)?;
    let pages = RemotePages::new(&resolved.remotes, surroundings);
    let manifest = resolved.verified.manifest;
    let manifest =
        Manifest::open(&pages, manifest.id, Some(manifest.bytes)).map_err(|error| pages.failure(error))?;
    let path = parse_path(&args.path)?;
    let find = |path: &TreePath| manifest.find(path).map_err(|error| pages.failure(error));
    let mut found = find(&path)?.ok_or_else(|| no_such_path(&path, &resolved))?;
    if let Found::Entry(Entry { node: Node::Hardlink(target), .. }) = &found {
        found = find(target)?.ok_or_else(|| no_such_path(target, &resolved))?;
    }
    let content = match &found {
        Found::Entry(entry) => entry.content().copied(),
        Found::ImpliedDirectory => None,
    };
    let content = content.ok_or_else(|| {
        Failure::message(Exit::Arguments, format!("{path} is no file"))
            .hint(format!("smart-sync ls {path} lists it, if it is a directory"))
    })?;
    let trees = vec![Tree::of(&resolved.verified)];
    let contents = Contents::new(&resolved.remotes, trees, surroundings);
    if content.size <= SMALL_BYTES_MAX {
        let bytes = contents.small(&[content])?;
        super::print(output, bytes.get(&content.id).map_or(&[], Vec::as_slice))?;
        return Ok(Exit::Success);
    }
    let file = contents.spooled(&content, surroundings.state_dir)?;
    copy(&file, &mut |bytes| super::print(output, bytes))?;
    Ok(Exit::Success)
}

fn resolve(
    args: &ChannelArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Resolved, Failure> {
    let (realm, settings) = open_realm(args, config, surroundings)?;
    let resolving = realm.resolve(&settings.channel, &settings.reference, None, surroundings.output);
    wait_for(surroundings, resolving)
}

/// A path as it is typed: relative to the top of the tree, with or without slashes around it.
fn parse_path(typed: &OsStr) -> Result<TreePath, Failure> {
    let mut bytes = typed.as_bytes();
    bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    while let Some(shorter) = bytes.strip_suffix(b"/") {
        bytes = shorter;
    }
    if bytes.is_empty() || bytes == b"." {
        return Ok(TreePath::root());
    }
    TreePath::new(bytes).map_err(|error| {
        Failure::new(Exit::Arguments, error).context(format!(
            "{} is no path of a tree",
            smart_sync_store::manifest::path::Shown(typed.as_bytes())
        ))
    })
}

fn no_such_path(path: &TreePath, resolved: &Resolved) -> Failure {
    let publication = resolved.verified.publication.record();
    Failure::message(Exit::General, format!("{} {} has no {path}", publication.channel, resolved.reference))
}

/// Lines about entries, written some at a time.
struct Lines<'a> {
    listing: Listing,
    count: usize,
    is_long: bool,
    output: &'a Output,
}

impl Lines<'_> {
    fn add(&mut self, path: &TreePath, entry: Option<&Entry>) -> Result<(), Failure> {
        if self.output.format() == Format::Json {
            self.output.event(&as_json(path, entry));
            return Ok(());
        }
        self.listing.line(&if self.is_long { long(path, entry) } else { short(path, entry) });
        self.count += 1;
        if self.count.is_multiple_of(LINES) {
            std::mem::take(&mut self.listing).print(self.output)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        self.listing.print(self.output)
    }
}

fn short(path: &TreePath, entry: Option<&Entry>) -> String {
    let is_directory = entry.is_none_or(|entry| entry.node == Node::Directory);
    let path = if path.is_root() { ".".to_owned() } else { path.to_string() };
    format!("{path}{}", if is_directory { "/" } else { "" })
}

fn long(path: &TreePath, entry: Option<&Entry>) -> String {
    let (size, id) = match entry.map(|entry| &entry.node) {
        Some(Node::File(content) | Node::Symlink(content)) => {
            (content.size.to_string(), format!("blake3:{}", content.id))
        }
        Some(Node::Submodule(commit)) => ("-".to_owned(), format!("commit:{commit}")),
        Some(Node::Hardlink(target)) => ("-".to_owned(), format!("link to {target}")),
        Some(Node::Device { major, minor, .. }) => ("-".to_owned(), format!("{major}:{minor}")),
        _ => ("-".to_owned(), "-".to_owned()),
    };
    format!("{:<22} {size:>12} {id:<71} {}", mode(entry), short(path, entry))
}

/// The kind and the metadata: six digits as git has them, or a letter, four digits and the owner.
fn mode(entry: Option<&Entry>) -> String {
    match entry.map(|entry| (&entry.attributes, &entry.node)) {
        None => "040000".to_owned(),
        Some((Attributes::Git(mode), _)) => format!("{:06o}", mode.bits()),
        Some((Attributes::System(None), _)) => "h".to_owned(),
        Some((Attributes::System(Some(metadata)), node)) => {
            let name = |name: &[u8], number: u32| match name {
                [] => number.to_string(),
                name => String::from_utf8_lossy(name).into_owned(),
            };
            let (user, group) = (name(&metadata.user, metadata.uid), name(&metadata.group, metadata.gid));
            format!("{} {:04o} {user}:{group}", letter(node), metadata.mode)
        }
    }
}

const fn letter(node: &Node) -> char {
    match node {
        Node::File(_) => '-',
        Node::Symlink(_) => 'l',
        Node::Directory => 'd',
        Node::Submodule(_) => 'm',
        Node::Hardlink(_) => 'h',
        Node::Device { kind: DeviceKind::Character, .. } => 'c',
        Node::Device { kind: DeviceKind::Block, .. } => 'b',
        Node::Fifo => 'p',
        Node::Socket => 's',
    }
}

fn as_json(path: &TreePath, entry: Option<&Entry>) -> serde_json::Value {
    let content = entry.and_then(Entry::content);
    serde_json::json!({
        "event": "entry",
        "path": String::from_utf8_lossy(path.as_bytes()),
        // Names are bytes, and JSON has texts.
        "path_hex": str::from_utf8(path.as_bytes()).is_err().then(|| smart_sync_store::id::to_hex(path.as_bytes())),
        "kind": entry.map_or('d', |entry| letter(&entry.node)).to_string(),
        "mode": mode(entry),
        "size": content.map(|content| content.size),
        "content": content.map(|content| format!("blake3:{}", content.id)),
        "blob": content.map(|content| content.blob.to_string()),
    })
}
