//! What differs between the files of two packages.

use std::collections::BTreeMap;
use std::io::{BufReader, Seek as _, SeekFrom};

use smart_sync_store::manifest::TreePath;
use smart_sync_sync::kinds::binpkgs::image::{ImageEntry, ImageKind, list};
use smart_sync_sync::kinds::binpkgs::package::Container;
use smart_sync_sync::kinds::binpkgs::{PackageError, gpkg, xpak};

use super::{Package, Shelf};
use crate::args::packages::PackageDiffArgs;
use crate::commands::Listing;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Format;
use crate::sync::Surroundings;

/// Shows it, a line for each path.
pub(super) fn diff(
    args: &PackageDiffArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let shelf = Shelf::open(&args.tree, config, surroundings)?;
    let (from, to) = (newest(&shelf, &args.from)?, newest(&shelf, &args.to)?);
    let (before, after) = (files(&shelf, &from)?, files(&shelf, &to)?);
    let mut listing = Listing::default();
    let mut say = |what: &str, path: &TreePath, entry: &ImageEntry| {
        if output.format() == Format::Json {
            output.event(&serde_json::json!({
                "event": "difference",
                "what": what,
                "path": path.to_string(),
            }));
        } else {
            listing.line(&format!("{what:<8} {path}{}", shown(entry)));
        }
    };
    let mut paths: Vec<&TreePath> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        match (before.get(path), after.get(path)) {
            (Some(gone), None) => say("removed", path, gone),
            (None, Some(new)) => say("added", path, new),
            (Some(old), Some(new)) if old != new => say("changed", path, new),
            _ => {}
        }
    }
    listing.print(output)?;
    Ok(Exit::Success)
}

fn shown(entry: &ImageEntry) -> String {
    match &entry.kind {
        ImageKind::Directory => "/".to_owned(),
        ImageKind::File { size, .. } => format!(" ({size} bytes)"),
        ImageKind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
        ImageKind::Hardlink(target) => format!(" (another name of {target})"),
    }
}

/// The newest package that an atom names: the highest version, and of that the last build.
fn newest<'a>(shelf: &'a Shelf<'_>, atom: &str) -> Result<Package<'a>, Failure> {
    let named = shelf.named(&[atom.to_owned()])?;
    let newest = named
        .into_iter()
        .max_by(|one, other| one.cpv.version.cmp(&other.cpv.version).then(one.build_id.cmp(&other.build_id)));
    newest.ok_or_else(|| {
        Failure::message(Exit::General, format!("the index has no {atom}"))
            .hint("`smart-sync pkg list` shows what it has")
    })
}

fn files(shelf: &Shelf<'_>, package: &Package<'_>) -> Result<BTreeMap<TreePath, ImageEntry>, Failure> {
    let path = package.value("PATH");
    let wrong = |error: PackageError| Failure::new(Exit::General, error).context(format!("reading {path}"));
    let mut file = shelf.file(package)?;
    file.rewind()?;
    let read = match Container::of_name(path) {
        Some(Container::Gpkg) => gpkg::read(BufReader::new(&file)),
        _ => xpak::read(BufReader::new(&file)),
    };
    let read = read.map_err(wrong)?;
    let range = read.image.range;
    file.seek(SeekFrom::Start(range.start))?;
    let mut found = BTreeMap::new();
    let image = BufReader::new(&file);
    list(image, range.end - range.start, read.image.codec, read.container, |entry| {
        found.insert(entry.path.clone(), entry);
    })
    .map_err(wrong)?;
    Ok(found)
}
