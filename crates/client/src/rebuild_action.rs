//! What rebuilding a NixOS host is to come to.
//!
//! The names are those of `nixos-rebuild`, so that a person types what is known from there. Here is only which there
//! are; what is run for them is decided where commands are.

use std::fmt;

use clap::ValueEnum;
use serde::Deserialize;

/// How far a rebuild goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebuildAction {
    /// Build the system, and leave it at that.
    Build,
    /// Switch the running system, but not what the next boot starts.
    Test,
    /// Switch the running system and what the next boot starts.
    Switch,
    /// Switch what the next boot starts, but not the running system.
    Boot,
    /// Say what would be built.
    DryBuild,
    /// Say what would change in the running system.
    DryActivate,
}

impl RebuildAction {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Test => "test",
            Self::Switch => "switch",
            Self::Boot => "boot",
            Self::DryBuild => "dry-build",
            Self::DryActivate => "dry-activate",
        }
    }
}

impl fmt::Display for RebuildAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_are_the_same_when_they_are_typed_configured_and_shown() {
        for action in RebuildAction::value_variants() {
            let name = action.name();
            assert_eq!(RebuildAction::from_str(name, false), Ok(*action));
            let configured: serde_json::Value = name.into();
            assert_eq!(serde_json::from_value::<RebuildAction>(configured).unwrap(), *action);
        }
    }
}
