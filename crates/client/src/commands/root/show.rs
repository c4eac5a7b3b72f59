//! `root show`: a root document in words, and what it lacks.

use std::path::Path;

use serde_json::json;
use smart_sync_sync::key::VerifierKey;
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{NoteRecord as _, Role, Root};
use smart_sync_sync::trust::pin_of;

use super::file::{read, refused};
use crate::commands::{Listing, count, span};
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::realm::resolve::now;

pub(super) fn run(path: &Path, output: &Output) -> Result<Exit, Failure> {
    let note = read(path)?;
    let root = Root::parse(note.text()).map_err(|error| refused(path, error))?;
    let signed = signers(path, &note, &root)?;
    match output.format() {
        Format::Json => output.event(&as_json(&note, &root, &signed)),
        Format::Text => as_text(&note, &root, &signed).print(output)?,
    }
    if root.expires <= now() {
        output.warning(&format!("it expired at {}", root.expires));
    }
    Ok(Exit::Success)
}

/// The root keys of the document that have signed it. Others may have signed as keys of the version before.
fn signers<'a>(path: &Path, note: &Note, root: &'a Root) -> Result<Vec<&'a VerifierKey>, Failure> {
    let verified = note.verified_by(&root.root.keys).map_err(|error| refused(path, error.into()))?;
    Ok(verified.iter().map(|by| by.key).collect())
}

fn as_text(note: &Note, root: &Root, signed: &[&VerifierKey]) -> Listing {
    let mut listing = Listing::default();
    listing.line(&format!("root document of {}, version {}", root.origin, root.version));
    let previous = root.prev.map_or_else(|| "none, it is the first".to_owned(), |prev| prev.to_string());
    listing.line(&format!("version before: {previous}"));
    let left = root.expires.seconds_since(now());
    listing.line(&format!(
        "expires: {}, {}",
        root.expires,
        if left == 0 { "gone".into() } else { format!("in {}", span(left)) }
    ));
    listing.line(&format!("hosts go on with the newest proof for {}", span(root.max_age_seconds)));
    let mut role = |what: &str, role: &Role| {
        listing.line(&format!(
            "{what}: {} of {}",
            role.threshold,
            count(role.keys.len() as u64, "key", "keys"),
        ));
        for key in &role.keys {
            listing.line(&format!("    {key}"));
        }
    };
    role("root (replaces any key)", &root.root);
    role("log (signs checkpoints)", &root.log);
    role("clock (says how fresh they are)", &root.clock);
    if let Some(witness) = &root.witness {
        role("witness (vouches for one history)", witness);
    }
    for publish in &root.publish {
        role(&format!("publish {}", publish.pattern), &publish.role);
    }
    for revoked in &root.revoked {
        listing.line(&format!("revoked: what was signed after leaf {} of the log by", revoked.after));
        listing.line(&format!("    {}", revoked.key));
    }
    for signature in note.signatures() {
        let name = signature.name();
        let is_root = signed.iter().any(|key| key.name() == name && key.hash() == signature.hash());
        let verdict = if is_root { "a root key" } else { "no root key of this version" };
        listing.line(&format!("signed by {name}, {verdict}"));
    }
    match root.root.threshold.checked_sub(signed.len()).filter(|missing| *missing > 0) {
        Some(missing) => listing.line(&format!(
            "missing: {} of its root keys",
            count(missing as u64, "more signature", "more signatures")
        )),
        None if root.version > 1 => {
            listing
                .line("enough of its own root keys have signed; those of the version before have to as well");
        }
        None => listing.line("enough of its root keys have signed"),
    }
    if let Some(fingerprint) = fingerprint(note, root, signed) {
        listing.line(&format!("fingerprint: {fingerprint}"));
    }
    listing
}

/// The hash that the document will be known by. Every further signature changes it, so a document that is not signed by
/// enough of its keys has none yet.
fn fingerprint(note: &Note, root: &Root, signed: &[&VerifierKey]) -> Option<String> {
    (signed.len() >= root.root.threshold).then(|| pin_of(&note.to_bytes()).to_string())
}

fn as_json(note: &Note, root: &Root, signed: &[&VerifierKey]) -> serde_json::Value {
    json!({
        "event": "root",
        "origin": root.origin.as_str(),
        "version": root.version,
        "prev": root.prev.map(|prev| prev.to_string()),
        "expires": root.expires.seconds(),
        "max_age": root.max_age_seconds,
        "text": note.text(),
        "signed": signed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "threshold": root.root.threshold,
        "hash": fingerprint(note, root, signed),
    })
}
