//! A realm whose keys are all made here.

use anyhow::Context;
use smart_sync_sync::key::{KeyName, KeyType, SecretKey, Signer as _};
use smart_sync_sync::name::{ChannelPattern, Origin};
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{NoteRecord as _, PublishRole, Role, Root, Unverified};
use smart_sync_sync::time::UnixTime;

use super::{Founding, HOUR, OtherKeys};
use crate::args::InitArgs;

const DAY: u64 = 24 * HOUR;

/// Makes the keys and the first root document, which the root key signs.
pub(super) fn found(args: &InitArgs, time: UnixTime) -> anyhow::Result<Founding> {
    let origin: Origin = args.origin.as_ref().context("a realm has a name: --origin NAME")?.parse()?;
    let mut patterns: Vec<ChannelPattern> =
        args.publish.iter().map(|pattern| pattern.parse()).collect::<Result<_, _>>()?;
    patterns.sort_by_key(ToString::to_string);
    patterns.dedup();
    let others =
        OtherKeys { root: make(&format!("{origin}/root"))?, publish: make(&format!("{origin}/publish"))? };
    // The name of the log's key is the origin, as tlog-checkpoint recommends.
    let (log, clock) = (make(origin.as_str())?, make(&format!("{origin}/clock"))?);
    let root = Root {
        origin,
        version: 1,
        prev: None,
        expires: time.plus(args.expires_days * DAY),
        max_age_seconds: args.max_age_hours * HOUR,
        root: role(&others.root, KeyType::Ed25519),
        log: role(&log, KeyType::Ed25519),
        clock: role(&clock, KeyType::Cosignature),
        witness: None,
        publish: patterns
            .into_iter()
            .map(|pattern| PublishRole { pattern, role: role(&others.publish, KeyType::Ed25519) })
            .collect(),
        revoked: Vec::new(),
    };
    let mut note = Note::new(root.to_text())?;
    note.sign(&others.root)?;
    let root = Unverified::<Root>::parse(&note.to_bytes())?.verify_own()?;
    Ok(Founding { root, log, clock: Some(clock), others: Some(others) })
}

fn make(name: &str) -> anyhow::Result<SecretKey> {
    let key: KeyName = name.parse().with_context(|| format!("naming the key {name}"))?;
    SecretKey::generate(key).context("asking the system for random bytes")
}

fn role(key: &SecretKey, key_type: KeyType) -> Role {
    Role { threshold: 1, keys: vec![key.verifier_key(key_type)] }
}
