//! The texts that say which build is the newest: whether they may be published, and which of them still are.
//!
//! They are what clients ask for first, and the only files of a tree that change. So each has to be signed where there
//! are keys, none goes back to an earlier time, and what one names is in the tree with that size.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::manifest::{Content, TreePath};

use super::latest::{Latest, Named};
use super::look::FileHere;
use super::name::{Beside, Medium, Place, Series, Stamp, TextPlace};
use super::signed::{SignedText, TEXT_BYTES_MAX, hint};
use super::stock::{Kept, Stock};
use crate::kinds::beside::{SmallFile, read_small};
use crate::kinds::{Before, KindError, Refusal};
use crate::openpgp::{KeyRing, Signer};
use crate::source::assembled::{AssembledSource, Part};
use crate::time::UnixTime;

/// How far the clock of whoever has written a text may be ahead, in seconds.
const EARLY_SECONDS_MAX: u64 = 3600;
/// What to do about a text that is older than the one before.
const OLD_HINT: &str = "fetch it again: what is published is newer, and does not go back";
/// What to do about a text that names what is not there.
const MISSING_HINT: &str = "bring the file that it names, or leave the text out";

/// A text of the next tree.
pub(super) struct Text<'a> {
    pub(super) latest: Latest,
    kept: Kept,
    /// Where it is, if it is in the directory.
    here: Option<&'a TreePath>,
    pub(super) signer: Option<Signer>,
}

/// Texts by their places.
pub(super) type Texts<'a> = BTreeMap<TextPlace, Text<'a>>;

/// The texts that are published now.
pub(super) fn published<'a>(
    before: Option<&dyn Before>,
    files: &BTreeMap<TreePath, Content>,
) -> Result<Texts<'a>, KindError> {
    let Some(before) = before else { return Ok(Texts::new()) };
    let places = files.iter().filter_map(|(path, content)| match Place::parse(path) {
        Some(Place::Text(place)) => Some((place, path, *content)),
        _ => None,
    });
    let places: Vec<(TextPlace, &TreePath, Content)> = places.collect();
    let contents: Vec<Content> = places.iter().map(|(_, _, content)| *content).collect();
    let bytes = before.read(&contents, TEXT_BYTES_MAX)?;
    let read = |((place, path, content), bytes): ((TextPlace, &TreePath, Content), Vec<u8>)| {
        let wrong = |error: &dyn std::error::Error| KindError::Before(format!("{path}: {error}"));
        let text = SignedText::read(&bytes).map_err(|error| wrong(&error))?;
        let latest = Latest::parse(&text.text).map_err(|error| wrong(&error))?;
        let kept = Kept { part: Part::Published(content), size: content.size };
        Ok((place, Text { latest, kept, here: None, signer: None }))
    };
    places.into_iter().zip(bytes).map(read).collect()
}

/// What is needed to look at the texts of a directory.
pub(super) struct Reader<'a> {
    pub(super) directory: &'a AssembledSource,
    pub(super) ring: Option<&'a KeyRing>,
    pub(super) now: UnixTime,
}

impl Reader<'_> {
    /// Reads the texts of a directory, and adds why some of them are refused.
    pub(super) fn read<'a>(
        &self,
        here: &BTreeMap<TextPlace, FileHere<'a>>,
        published: &Texts<'_>,
        refused: &mut Vec<Refusal>,
    ) -> Result<Texts<'a>, KindError> {
        let mut texts = Texts::new();
        for (place, (path, stat)) in here {
            let bytes = read_small(self.directory, path, stat, TEXT_BYTES_MAX)?;
            let read = bytes.as_deref().ok_or_else(|| Refusal::new(path, "it is too long to be such a text"));
            let read = read.and_then(|bytes| self.one(place, path, bytes, published.get(place)));
            match read {
                Ok((latest, signer)) => {
                    let kept = Kept { part: SmallFile::Here(path, stat).part(), size: stat.size };
                    texts.insert(place.clone(), Text { latest, kept, here: Some(path), signer });
                }
                Err(refusal) => refused.push(refusal),
            }
        }
        Ok(texts)
    }

    fn one(
        &self,
        place: &TextPlace,
        path: &TreePath,
        bytes: &[u8],
        published: Option<&Text<'_>>,
    ) -> Result<(Latest, Option<Signer>), Refusal> {
        let judged = SignedText::read(bytes).and_then(|text| Ok((text.judge(self.ring, self.now)?, text)));
        let (signer, text) =
            judged.map_err(|error| Refusal { hint: Some(hint(&error)), ..Refusal::of(path, &error) })?;
        let latest = Latest::parse(&text.text).map_err(|error| Refusal::of(path, &error))?;
        let is_own = |named: &Named| {
            named.has_directory != place.is_current
                && (place.series.is_overview() || named.name.name == place.series.name)
        };
        if let Some(named) = latest.media.iter().find(|named| !is_own(named)) {
            return Err(Refusal::new(
                path,
                &format!("it names {}, which is not of its builds", named.name.file),
            ));
        }
        let time = UnixTime::new(latest.time).filter(|time| *time <= self.now.plus(EARLY_SECONDS_MAX));
        let Some(time) = time else {
            let reason = format!("it is of a time that is yet to come: ts={}", latest.time);
            let hint = Some("compare the clock of this machine with that of the one that has written it");
            return Err(Refusal { hint, ..Refusal::new(path, &reason) });
        };
        let known = published.and_then(|text| UnixTime::new(text.latest.time));
        match known.filter(|known| *known > time) {
            Some(known) => {
                let reason = format!("it is of {time}, and the one that is published is of {known}");
                Err(Refusal { hint: Some(OLD_HINT), ..Refusal::new(path, &reason) })
            }
            None => Ok((latest, signer)),
        }
    }
}

/// The builds that texts name, each the newest one of its series.
pub(super) fn named(texts: &Texts<'_>) -> BTreeSet<(Series, Stamp)> {
    let named = texts.iter().filter(|(place, _)| !place.is_current && !place.series.is_overview());
    let newest = |(place, text): (&TextPlace, &Text<'_>)| {
        let newest = text.latest.media.iter().map(|named| &named.name.stamp).max()?;
        Some((place.series.clone(), newest.clone()))
    };
    named.filter_map(newest).collect()
}

/// Adds the texts that fit a tree to its parts. One of the directory that names what is not there is refused; where it
/// is about everything that upstream has, or about the directory of the newest build, it is left out, and a line says so.
pub(super) fn place(
    texts: &Texts<'_>,
    stock: &Stock,
    newest: &BTreeMap<Series, Stamp>,
    parts: &mut BTreeMap<TreePath, Part>,
) -> Result<Vec<String>, KindError> {
    let (mut notes, mut refused) = (Vec::new(), Vec::new());
    for (place, text) in texts {
        let misfit = text.latest.media.iter().find_map(|named| misfit(place, named, stock, newest));
        let is_exact = !place.is_current && !place.series.is_overview();
        match (misfit, text.here) {
            (None, _) => {
                parts.insert(place.path()?, text.kept.part.clone());
            }
            (Some(reason), Some(path)) if is_exact => {
                refused.push(Refusal { hint: Some(MISSING_HINT), ..Refusal::new(path, &reason) });
            }
            (Some(reason), Some(path)) => notes.push(format!("{path} is left out: {reason}")),
            (Some(_), None) => {}
        }
    }
    if refused.is_empty() { Ok(notes) } else { Err(KindError::Refused(refused)) }
}

/// Why what a text names is not what a tree has.
fn misfit(
    place: &TextPlace,
    named: &Named,
    stock: &Stock,
    newest: &BTreeMap<Series, Stamp>,
) -> Option<String> {
    let medium = Medium { area: place.series.area.clone(), name: named.name.clone() };
    let (file, stamp) = (&named.name.file, &named.name.stamp);
    let Some(kept) = stock.get(&medium).and_then(|files| files.get(&Beside::Itself)) else {
        return Some(format!("it names {stamp}/{file}, which is not there"));
    };
    if kept.size != named.size {
        let size = kept.size;
        return Some(format!("it says that {file} has {} bytes, which has {size}", named.size));
    }
    let is_newest = newest.get(&medium.series()) == Some(stamp);
    (place.is_current && !is_newest).then(|| format!("it names {file}, which is not of the newest build"))
}
