//! Whether the packages of an index are what it says: each is fetched, read to its end and compared.
//!
//! One package at a time waits in a file without a name. What is wrong with one is said, and the next one is looked at.

use std::collections::BTreeMap;
use std::io::Read as _;

use smart_sync_store::manifest::{Content, TreePath};
use smart_sync_sync::kinds::binpkgs::check::{Checked, check};
use smart_sync_sync::kinds::binpkgs::index::{Block, INDEX_BYTES_MAX, IndexError};
use smart_sync_sync::kinds::binpkgs::{INDEX, INDEX_GZ};
use smart_sync_sync::kinds::{SignaturePolicy, Unsigned};
use smart_sync_sync::openpgp::KeyRing;

use super::{Package, Shelf};
use crate::args::packages::PackageVerifyArgs;
use crate::commands::Listing;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, count};
use crate::realm::resolve::now;
use crate::sync::Surroundings;

/// How many packages may not come one after the other because of the network.
const NOT_FETCHED_MAX: u32 = 3;

/// Says what is wrong, a line for each thing.
pub(super) fn verify(
    args: &PackageVerifyArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let ring = match args.keyrings.as_slice() {
        [] => None,
        paths => Some(KeyRing::open(paths).map_err(|error| {
            let hint = error.hint();
            Failure::new(Exit::Arguments, error).hint(hint)
        })?),
    };
    let unsigned = if args.allow_unsigned { Unsigned::Accepted } else { Unsigned::Refused };
    let policy = SignaturePolicy { key_ring: ring.as_ref(), unsigned, ..SignaturePolicy::default() };
    let shelf = Shelf::open(&args.tree, config, surroundings).map_err(|failure| {
        // An index that is not whole is the first thing that could be found.
        if failure.cause::<IndexError>().is_some() { failure.with_exit(Exit::Refused) } else { failure }
    })?;
    let files = shelf.files()?;
    let blocks = blocks(&shelf, &args.atoms)?;
    let mut tally = Tally { surroundings, wrong: 0 };
    tally.note(INDEX_GZ, None, &wrong_with_gz(&shelf, &files)?, None)?;
    let bytes = blocks.iter().filter_map(|block| content(block, &files)).map(|content| content.size).sum();
    let mut progress = surroundings.output.progress("verifying", bytes);
    let (mut not_fetched, mut in_a_row) = (None, 0);
    for block in &blocks {
        let path = block.get("PATH").unwrap_or_default();
        match look(&shelf, block, &files, &policy) {
            Ok((faults, signer)) => {
                in_a_row = 0;
                tally.note(path, Some(block), &faults, signer.as_deref())?;
            }
            Err(failure) if failure.exit() == Exit::Network && in_a_row < NOT_FETCHED_MAX => {
                in_a_row += 1;
                surroundings.output.warning(&format!("{path}: {}", failure.in_one_line()));
                not_fetched = Some(failure);
            }
            Err(failure) => return Err(failure),
        }
        progress.advance(content(block, &files).map_or(0, |content| content.size));
    }
    drop(progress);
    let looked_at = count(blocks.len() as u64, "package was", "packages were");
    if tally.wrong == 0 {
        if let Some(failure) = not_fetched {
            return Err(failure.context("not all packages could be fetched"));
        }
        surroundings.output.info(&format!("{looked_at} verified, and all is what the index says"));
        return Ok(Exit::Success);
    }
    let text = format!(
        "{looked_at} verified, and {} not what the index says",
        count(tally.wrong, "file is", "files are")
    );
    Err(Failure::message(Exit::Refused, text).hint(
        "build what is named again and publish it; where it is damaged on the server only, its operator should run `smart-sync-server check`",
    ))
}

/// What an index says of the packages that one of these atoms names; of all where there are none.
fn blocks<'a>(shelf: &'a Shelf<'_>, atoms: &[String]) -> Result<Vec<&'a Block>, Failure> {
    if atoms.is_empty() {
        return Ok(shelf.index.packages.iter().collect());
    }
    let named: Vec<&Block> = shelf.named(atoms)?.into_iter().map(|package| package.block).collect();
    if named.is_empty() {
        return Err(Failure::message(Exit::General, format!("the index has no {}", atoms.join(", ")))
            .hint("`smart-sync pkg list` shows what it has"));
    }
    Ok(named)
}

fn content<'a>(block: &Block, files: &'a BTreeMap<TreePath, Content>) -> Option<&'a Content> {
    files.get(&TreePath::new(block.get("PATH").unwrap_or_default().as_bytes()).ok()?)
}

/// What is wrong with a package, and who has signed it. Only what keeps all others from being looked at as well is a failure.
fn look(
    shelf: &Shelf<'_>,
    block: &Block,
    files: &BTreeMap<TreePath, Content>,
    policy: &SignaturePolicy<'_>,
) -> Result<(Vec<String>, Option<String>), Failure> {
    let wrong = |text: String| Ok((vec![text], None));
    let Some(content) = content(block, files) else { return wrong("it is not published".to_owned()) };
    let stated = block.get("SIZE").unwrap_or_default();
    if stated != content.size.to_string() {
        return wrong(format!("it has {} bytes, and the index says {stated:?}", content.size));
    }
    let mut file = match shelf.contents().spooled(content, shelf.surroundings.state_dir) {
        Ok(file) => file,
        Err(failure) if is_of_all(&failure) => return Err(failure),
        Err(failure) => return wrong(failure.in_one_line()),
    };
    let Checked { faults, signer } = check(&mut file, block, policy, now())?;
    let mut faults: Vec<String> = faults.iter().map(said).collect();
    if Package::of(block).is_none() {
        faults.push("the index does not say which package it is".to_owned());
    }
    Ok((faults, signer.map(|signer| signer.primary.to_string())))
}

/// Whether it says nothing about the package.
fn is_of_all(failure: &Failure) -> bool {
    failure.is_full() || matches!(failure.exit(), Exit::Interrupted | Exit::Permission | Exit::Network)
}

/// An error with its causes.
fn said(error: &(impl std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Clients ask for the compressed index first, so it has to say the same.
fn wrong_with_gz(shelf: &Shelf<'_>, files: &BTreeMap<TreePath, Content>) -> Result<Vec<String>, Failure> {
    let find = |name: &str| TreePath::new(name.as_bytes()).ok().and_then(|path| files.get(&path).copied());
    let Some((compressed, plain)) = find(INDEX_GZ).zip(find(INDEX)) else {
        return Ok(vec![format!("it is not there, and clients ask for it before {INDEX}")]);
    };
    if compressed.size > INDEX_BYTES_MAX as u64 {
        return Ok(vec![format!("it is larger than {INDEX_BYTES_MAX} bytes")]);
    }
    let (compressed, plain) = (shelf.bytes(compressed)?, shelf.bytes(plain)?);
    let mut found = Vec::new();
    // One byte more than it has to be is enough to see that it is not the same.
    let decoder = flate2::read::MultiGzDecoder::new(&compressed[..]);
    let read = decoder.take(plain.len() as u64 + 1).read_to_end(&mut found);
    Ok(match read {
        Err(error) => vec![format!("decompressing it: {error}")],
        Ok(_) if found != plain => vec![format!("it is another index than {INDEX}")],
        Ok(_) => Vec::new(),
    })
}

/// What was found so far.
struct Tally<'a> {
    surroundings: &'a Surroundings<'a>,
    wrong: u64,
}

impl Tally<'_> {
    /// Says what is wrong with a file, at once: it may take long until all have been looked at.
    fn note(
        &mut self,
        path: &str,
        block: Option<&Block>,
        faults: &[String],
        signer: Option<&str>,
    ) -> Result<(), Failure> {
        let output = self.surroundings.output;
        self.wrong += u64::from(!faults.is_empty());
        if output.format() == Format::Json {
            output.event(&serde_json::json!({
                "event": "verified",
                "path": path,
                "cpv": block.and_then(|block| block.get("CPV")),
                "build_id": block.and_then(|block| block.get("BUILD_ID")?.parse::<u64>().ok()),
                "signed_by": signer,
                "faults": faults,
            }));
            return Ok(());
        }
        let mut listing = Listing::default();
        for fault in faults {
            listing.line(&format!("{path}: {fault}"));
        }
        listing.print(output)
    }
}
