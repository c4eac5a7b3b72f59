//! Drafts and root documents as files.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use smart_sync_sync::note::{NOTE_BYTES_MAX, Note, NoteError};
use smart_sync_sync::record::{RecordError, Root, Signed, Unverified};

use crate::failure::{Exit, Failure};

/// Reads a draft, with or without signatures.
pub(super) fn read(path: &Path) -> Result<Note, Failure> {
    let bytes = read_bytes(path)?;
    // A root document has no blank lines, so the first one begins the signatures.
    let is_signed = bytes.windows(2).any(|pair| pair == b"\n\n");
    let note = if is_signed {
        Note::parse(&bytes)
    } else {
        String::from_utf8(bytes).map_err(|_| NoteError::NotUtf8).and_then(Note::new)
    };
    note.map_err(|error| refused(path, error.into()))
}

/// Reads a root document that enough of its own keys have signed.
pub(super) fn read_signed(path: &Path) -> Result<Signed<Root>, Failure> {
    let bytes = read_bytes(path)?;
    let signed = Unverified::<Root>::parse(&bytes).and_then(Unverified::verify_own);
    signed.map_err(|error| {
        refused(path, error).hint(
            "the file of the whole document is needed, with its signatures, as `root assemble` writes it",
        )
    })
}

/// Writes a file durably in place of what was there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::from(error).context(format!("writing {}", path.display()));
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = path.with_extension("tmp");
    let written = fs::write(&temporary, bytes)
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(parent)?.sync_all());
    written.map_err(failed)
}

pub(super) fn refused(path: &Path, error: RecordError) -> Failure {
    Failure::new(Exit::Refused, error).context(format!("{} is no root document", path.display()))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let context = format!("reading {}", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => Failure::new(Exit::Arguments, error).context(context),
            _ => Failure::from(error).context(context),
        }
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(NOTE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
