//! The walk from the root document that is trusted to the one in force.

use super::ROOT_STEPS_MAX;
use super::refusal::RootFault;
use super::state::{Anchor, TrustState};
use crate::log::merkle::LogHash;
use crate::record::{Root, Signed, Unverified};

/// Walks the chain, one version at a time. Only its last root is judged by the time: those between may have expired
/// long ago, and still hand over to the next.
pub(super) fn walk(state: &TrustState, notes: &[Vec<u8>]) -> Result<Signed<Root>, RootFault> {
    if notes.len() > ROOT_STEPS_MAX {
        return Err(RootFault::TooMany(notes.len()));
    }
    let trusted = match &state.anchor {
        Anchor::Pin(pin) => *pin,
        Anchor::Seen(seen) => seen.root.leaf(),
    };
    // A server may send roots that are known already; the walk begins after the one that is trusted.
    let place = notes.iter().position(|note| LogHash::of_leaf(note) == trusted);
    let (mut root, rest) = match (&state.anchor, place) {
        (Anchor::Seen(seen), place) => (seen.root.clone(), &notes[place.map_or(0, |place| place + 1)..]),
        (Anchor::Pin(pin), Some(place)) => {
            let root = Unverified::parse(&notes[place])
                .and_then(|note| note.verify_pinned(pin))
                .map_err(|source| RootFault::Step { after: 0, source })?;
            (root, &notes[place + 1..])
        }
        (Anchor::Pin(pin), None) => return Err(RootFault::PinNotFound(*pin)),
    };
    if root.record().origin != state.origin {
        let (expected, found) = (state.origin.clone(), root.record().origin.clone());
        return Err(RootFault::OtherOrigin { expected, found });
    }
    for note in rest {
        let after = root.record().version;
        root = Unverified::parse(note)
            .and_then(|note| note.verify_next(&root))
            .map_err(|source| RootFault::Step { after, source })?;
    }
    Ok(root)
}
