//! Which triggers a run on trial has begun: only what was begun has to be taken back where the tree stays.
//!
//! It is noted before a trigger does anything, and for whoever goes on after a run that was killed. What a power cut may
//! take of it does not matter: a note that is not there, or not whole, says that all of them may have been begun.

use std::path::Path;

use super::pending::{read, write_json};
use super::trigger::Trigger;
use crate::failure::Failure;

const NOTE: &str = "begun";

/// Notes that none was begun yet.
pub(super) fn none(state: &Path) -> Result<(), Failure> {
    write_json(&state.join(NOTE), &[""; 0])
}

/// Notes that a trigger is about to be begun.
pub(super) fn note(state: &Path, trigger: &Trigger) -> Result<(), Failure> {
    let Some(mut all) = read::<Vec<String>>(&state.join(NOTE)).unwrap_or_default() else { return Ok(()) };
    let title = trigger.title();
    if all.contains(&title) {
        return Ok(());
    }
    all.push(title);
    write_json(&state.join(NOTE), &all)
}

/// Whether a trigger may have been begun.
pub(super) fn may_be(state: &Path, trigger: &Trigger) -> bool {
    let all = read::<Vec<String>>(&state.join(NOTE)).ok().flatten();
    all.is_none_or(|all| all.contains(&trigger.title()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_noted_was_not_begun_where_there_is_a_note() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        let trigger = |text: &str| -> Trigger { toml::from_str(text).unwrap() };
        let (one, two) = (trigger("command = ['one']"), trigger("name = 'two'\nnixos = {}"));
        let begun = || [&one, &two].map(|trigger| may_be(state, trigger));
        note(state, &one).unwrap();
        assert_eq!(begun(), [true, true]);
        none(state).unwrap();
        assert_eq!(begun(), [false, false]);
        note(state, &two).unwrap();
        note(state, &two).unwrap();
        assert_eq!(begun(), [false, true]);
        std::fs::write(state.join(NOTE), "[\"tw").unwrap();
        assert_eq!(begun(), [true, true]);
        note(state, &one).unwrap();
        assert_eq!(begun(), [true, true]);
        none(state).unwrap();
        assert_eq!(begun(), [false, false]);
    }
}
