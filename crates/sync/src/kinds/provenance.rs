//! Where the files of a tree came from, and who had signed them there.
//!
//! What was found out about a file before it was published is worth knowing as long as it is published. So it stands in
//! a file of the tree: a line `SIGNER SOURCE PATH` for each file of which one of the two is known, by their paths. It is
//! signed with the tree, goes with it to every mirror, and the publication names it.

use std::collections::{BTreeMap, HashMap};

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::TreePath;

use super::published::tree_path;
use super::{ArtifactKind, Before, Job, KindError, Prepared};
use crate::source::assembled::Part;

/// Where it is written, in a tree.
pub const FILE: &str = ".smart-sync/provenance";
/// The largest such file that is read and written.
const BYTES_MAX: u64 = 256 << 20;
/// Stands for what is not known.
const UNKNOWN: &str = "-";
/// The longest name of a signer, and the longest URL.
const WORD_LEN_MAX: usize = 4096;

/// What is known of files, by their paths.
pub type Provenance = BTreeMap<TreePath, Known>;

/// What is known of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The fingerprint of the key that had signed it.
    pub signer: Option<String>,
    /// The URL of the upstream that it was fetched from.
    pub source: Option<String>,
}

/// Has a tree put together by its kind, and adds what is known of its files.
///
/// `sources` says where files of the directory came from, by their paths there.
pub fn prepare(
    kind: &dyn ArtifactKind,
    job: Job<'_>,
    sources: &BTreeMap<TreePath, String>,
) -> Result<Prepared, KindError> {
    let before = job.before;
    let mut prepared = kind.prepare(job)?;
    let file = tree_path(FILE)?;
    prepared.parts.remove(&file);
    let is_kept = |part: &Part| matches!(part, Part::Published(_));
    let mut known = match before.filter(|_| prepared.parts.values().any(is_kept)) {
        Some(before) => known_before(before, &prepared.parts)?,
        None => Provenance::new(),
    };
    for (path, part) in &prepared.parts {
        let source = match part {
            Part::File(from) => sources.get(from),
            _ => None,
        };
        let signer = prepared.signers.get(path).filter(|signer| is_word(signer)).cloned();
        let source = source.filter(|source| is_word(source)).cloned();
        if signer.is_some() || source.is_some() {
            let known = known.entry(path.clone()).or_default();
            *known = Known { signer: signer.or(known.signer.take()), source: source.or(known.source.take()) };
        }
    }
    write(&known, file, &mut prepared.parts);
    Ok(prepared)
}

/// Keeps what is known of the files of a tree that is put together of nothing but published ones, wherever they lie now.
pub fn keep(before: &dyn Before, parts: &mut BTreeMap<TreePath, Part>) -> Result<(), KindError> {
    let file = tree_path(FILE)?;
    parts.remove(&file);
    let known = known_before(before, parts)?;
    write(&known, file, parts);
    Ok(())
}

fn write(known: &Provenance, file: TreePath, parts: &mut BTreeMap<TreePath, Part>) {
    let text = render(known);
    if !text.is_empty() && text.len() as u64 <= BYTES_MAX {
        parts.insert(file, Part::Made(text.into()));
    }
}

/// What a publication of a tree says of it: the name of the file.
pub fn named_by(parts: &BTreeMap<TreePath, Part>) -> Option<ContentId> {
    match parts.get(&tree_path(FILE).ok()?)? {
        Part::Made(text) => Some(ContentId::of(text)),
        Part::Published(content) => Some(content.id),
        Part::File(_) | Part::Aside { .. } | Part::Beside(_) => None,
    }
}

/// What was known of the files that stay as they are, at another path too.
fn known_before(before: &dyn Before, parts: &BTreeMap<TreePath, Part>) -> Result<Provenance, KindError> {
    let files = before.files()?;
    let Some(content) = files.get(&tree_path(FILE)?) else { return Ok(Provenance::new()) };
    let bytes = before.read(&[*content], BYTES_MAX)?.pop().unwrap_or_default();
    let was = parse(&bytes).map_err(KindError::Before)?;
    let contents = was.iter().filter_map(|(path, known)| Some((files.get(path)?.id, known)));
    let by_content: HashMap<ContentId, &Known> = contents.collect();
    let known = parts.iter().filter_map(|(path, part)| {
        let Part::Published(content) = part else { return None };
        let known = match files.get(path) {
            Some(before) if before == content => was.get(path),
            _ => by_content.get(&content.id).copied(),
        };
        Some((path.clone(), known?.clone()))
    });
    Ok(known.collect())
}

/// Reads the file.
pub fn parse(bytes: &[u8]) -> Result<Provenance, String> {
    let mut known = Provenance::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let mut word = || {
            let word = str::from_utf8(words.next()?).ok().filter(|word| is_word(word))?;
            Some((word != UNKNOWN).then(|| word.to_owned()))
        };
        let parsed = word().zip(word());
        let path = words.next().and_then(|path| TreePath::new(path).ok());
        let (Some((signer, source)), Some(path)) = (parsed, path) else { return Err(wrong(line)) };
        let is_sorted = known.last_key_value().is_none_or(|(last, _)| *last < path);
        if !is_sorted || (signer.is_none() && source.is_none()) {
            return Err(wrong(line));
        }
        known.insert(path, Known { signer, source });
        rest = &rest[end + 1..];
    }
    if rest.is_empty() { Ok(known) } else { Err(wrong(rest)) }
}

/// Writes the file. A path with a line break in it cannot be written.
fn render(known: &Provenance) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, known) in known.iter().filter(|(path, _)| !path.as_bytes().contains(&b'\n')) {
        for word in [&known.signer, &known.source] {
            bytes.extend_from_slice(word.as_deref().unwrap_or(UNKNOWN).as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// Whether it can be a word of a line.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= WORD_LEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn wrong(line: &[u8]) -> String {
    let line = &line[..line.len().min(200)];
    format!("{FILE}: {} is no line of it", smart_sync_store::manifest::Shown(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let known: Provenance = [
            ("a b", Known { signer: Some("0D53".to_owned()), source: None }),
            ("z", Known { signer: None, source: Some("http://a.example.org/z".to_owned()) }),
        ]
        .map(|(name, known)| (path(name), known))
        .into();
        let bytes = render(&known);
        assert_eq!(bytes, b"0D53 - a b\n- http://a.example.org/z z\n");
        assert_eq!(parse(&bytes), Ok(known));
        assert_eq!(parse(b""), Ok(Provenance::new()));
        for wrong in
            ["a b c", "a b\n", "- - c\n", "a b ../c\n", "a b c\na b c\n", "a b d\na b c\n", "\n", "a  c\n"]
        {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
