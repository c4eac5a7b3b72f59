//! A realm whose first root document was assembled elsewhere, by the holders of its root keys.
//!
//! Only the log's key has to be here, and the clock's where it runs here. A document that this server could not keep
//! a log under is refused now: later nobody could follow the realm, and its name is spent.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context;
use smart_sync_sync::key::{KeyType, SecretKey, Signer as _};
use smart_sync_sync::note::NOTE_BYTES_MAX;
use smart_sync_sync::record::{Root, Signed, Unverified};
use smart_sync_sync::time::UnixTime;

use super::super::Failure;
use super::Founding;
use crate::args::InitArgs;

/// Reads and verifies the document and the keys.
pub(super) fn found(args: &InitArgs, path: &Path, time: UnixTime) -> anyhow::Result<Founding> {
    let bytes = read(path)?;
    let root = verify(&bytes, time).map_err(|failure| match failure {
        Failure::Refused(reason) => Failure::Refused(format!("{}: {reason}", path.display())),
        other => other,
    })?;
    let origin = &root.record().origin;
    if let Some(asked) = args.origin.as_ref().filter(|asked| *asked != origin.as_str()) {
        let text = format!("{} is the root document of {origin}, not of {asked}", path.display());
        return Err(Failure::Arguments(text).into());
    }
    let log_path = args.log_key.as_deref().context("a root document comes with --log-key FILE")?;
    let log = load(log_path, &root, "log")?;
    let clock = args.clock_key.as_deref().map(|path| load(path, &root, "clock")).transpose()?;
    Ok(Founding { root, log, clock, others: None })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(reading)?;
    // One byte more than a note may have shows that it is no note.
    file.take(NOTE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(reading)?;
    Ok(bytes)
}

/// Takes a document as the first of a realm's whose log has one key here.
fn verify(bytes: &[u8], now: UnixTime) -> Result<Signed<Root>, Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::Refused(format!(
            "{error}\nhint: `smart-sync root assemble` makes a root document of what its signers have signed"
        ))
    };
    let unverified = Unverified::<Root>::parse(bytes).map_err(|error| refused(&error))?;
    let signed = unverified.verify_own().map_err(|error| refused(&error))?;
    let root = signed.record();
    if root.version != 1 {
        let text = format!("it is version {}, and a log begins with version 1", root.version);
        return Err(Failure::Refused(text));
    }
    if root.expires <= now {
        return Err(Failure::Refused(format!("it expired at {}", root.expires)));
    }
    if root.log.threshold > 1 {
        let text = format!("its log needs {} signatures, and a server has one log key", root.log.threshold);
        return Err(Failure::Refused(text));
    }
    Ok(signed)
}

/// A key of the server, which the document has to name for what the server does with it.
fn load(path: &Path, root: &Signed<Root>, what: &str) -> anyhow::Result<SecretKey> {
    let key = SecretKey::load(path, &mut || None)?;
    let (role, key_type) = match what {
        "clock" => (&root.record().clock, KeyType::Cosignature),
        _ => (&root.record().log, KeyType::Ed25519),
    };
    let own = key.verifier_key(key_type);
    if role.keys.contains(&own) {
        return Ok(key);
    }
    let text = format!(
        "{} is {own}, which is not a {what} key of the root document\nhint: the document names {}",
        path.display(),
        role.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    );
    Err(Failure::Arguments(text).into())
}

#[cfg(test)]
mod tests {
    use smart_sync_sync::note::Note;
    use smart_sync_sync::record::{NoteRecord as _, Role};

    use super::*;

    const NOW: UnixTime = UnixTime::new(1_767_300_000).unwrap();

    fn key(name: &str, seed: u8) -> SecretKey {
        SecretKey::from_seed(name.parse().unwrap(), &[seed; 32])
    }

    fn role(threshold: usize, keys: &[SecretKey], key_type: KeyType) -> Role {
        Role { threshold, keys: keys.iter().map(|key| key.verifier_key(key_type)).collect() }
    }

    /// A first root document that needs two signatures, changed and signed by so many.
    fn document(signatures: usize, change: impl FnOnce(&mut Root)) -> Vec<u8> {
        let signers = [key("lab.example/a", 1), key("lab.example/b", 2)];
        let mut root = Root {
            origin: "lab.example".parse().unwrap(),
            version: 1,
            prev: None,
            expires: NOW.plus(1),
            max_age_seconds: 3600,
            root: role(2, &signers, KeyType::Ed25519),
            log: role(1, &[key("lab.example", 3), key("lab.example/log", 4)], KeyType::Ed25519),
            clock: role(1, &[key("lab.example/clock", 5)], KeyType::Cosignature),
            witness: None,
            publish: Vec::new(),
            revoked: Vec::new(),
        };
        change(&mut root);
        let mut note = Note::new(root.to_text()).unwrap();
        for signer in &signers[..signatures] {
            note.sign(signer).unwrap();
        }
        note.sort_signatures();
        note.to_bytes()
    }

    #[test]
    fn only_a_whole_first_document_begins_a_realm() {
        verify(&document(2, |_| ()), NOW).unwrap();
        let check = |bytes: &[u8], expected: &str| {
            let failure = verify(bytes, NOW).unwrap_err();
            assert!(matches!(failure, Failure::Refused(_)), "{failure}");
            assert!(failure.to_string().contains(expected), "{failure}");
        };
        check(&document(1, |_| ()), "1 of 2");
        check(&document(2, |root| root.expires = NOW), "it expired at");
        check(&document(2, |root| root.log.threshold = 2), "its log needs 2 signatures");
        let second = document(2, |root| {
            root.version = 2;
            root.prev = Some(smart_sync_sync::log::merkle::LogHash::of_leaf(b"the first"));
        });
        check(&second, "it is version 2");
        check(&document(2, |_| ())[..200], "smart-sync root assemble");
        check(&vec![b'a'; NOTE_BYTES_MAX + 1], "over the limit");
        let mut flipped = document(2, |_| ());
        flipped[60] ^= 1;
        check(&flipped, "smart-sync root assemble");
    }
}
