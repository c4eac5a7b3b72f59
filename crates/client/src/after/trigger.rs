//! Commands that run after an update: what is configured, and which of them an update needs.

use std::time::Duration;

use serde::Deserialize;
use smart_sync_sync::exclude::{ExclusionError, Exclusions};

use super::check::Check;
use super::confirmation::Confirmation;
use crate::config::Span;

/// How long a command may take that does not say otherwise.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A command that runs after an update, as it is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trigger {
    /// What it is called in messages.
    pub name: Option<String>,
    /// A program and its arguments.
    pub command: Vec<String>,
    /// Patterns of paths one of which has to have changed; any path where none is named.
    #[serde(default)]
    pub paths: Vec<String>,
    /// How long it may take.
    pub timeout: Option<Span>,
    /// What it waits for.
    #[serde(default)]
    pub when: When,
    /// Whether what it does takes effect when the machine is started again, and not before.
    #[serde(default)]
    pub reboot: bool,
}

/// What a command waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// A tree was switched to, be it a new one or one that is gone back to.
    #[default]
    Switched,
    /// A new one was found to be healthy.
    Confirmed,
}

/// Why commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A new tree is in its place.
    Update,
    /// It is confirmed.
    Confirmed,
    /// The one before is in its place again.
    Rollback,
}

impl Stage {
    /// What commands are told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Confirmed => "confirmed",
            Self::Rollback => "rollback",
        }
    }
}

impl Trigger {
    /// Why this is not one, if it is not.
    pub fn mistake(&self) -> Option<String> {
        if self.command.is_empty() {
            return Some("the command of `run` names a program".to_owned());
        }
        if self.reboot && self.when == When::Confirmed {
            return Some(
                "a command that needs a reboot runs before a version is confirmed, which it is after the reboot"
                    .to_owned(),
            );
        }
        self.patterns().err().map(|error| error.to_string())
    }

    /// Whether the version can only be looked at when the machine was started again.
    pub const fn needs_reboot(&self) -> bool {
        self.reboot
    }

    fn patterns(&self) -> Result<Exclusions, ExclusionError> {
        Exclusions::new(self.paths.iter().map(String::as_str))
    }

    /// What it is called.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.command.join(" "))
    }

    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(TIMEOUT, |span| span.0)
    }

    fn runs_at(&self, stage: Stage) -> bool {
        (self.when == When::Confirmed) == (stage == Stage::Confirmed)
    }

    fn is_for(&self, changed: &[Box<[u8]>]) -> bool {
        let Ok(patterns) = self.patterns() else { return true };
        let is_named = |path: &[u8]| {
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            patterns.names(path, false) || ends.into_iter().any(|end| patterns.names(&path[..end], true))
        };
        self.paths.is_empty() || changed.iter().any(|path| is_named(path))
    }
}

/// What happens after an update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct After {
    /// Commands, in their order.
    pub run: Vec<Trigger>,
    /// Checks, in their order.
    pub check: Vec<Check>,
    /// Who confirms what comes out of it.
    pub confirm: Confirmation,
}

impl After {
    /// Whether nothing does.
    pub const fn is_empty(&self) -> bool {
        self.run.is_empty() && self.check.is_empty() && matches!(self.confirm, Confirmation::ByChecks)
    }

    /// The commands of a stage for an update that changes these paths.
    pub fn chosen(&self, changed: Changed<'_>, stage: Stage) -> Vec<&Trigger> {
        let all = self.run.iter().filter(|trigger| trigger.runs_at(stage));
        match changed {
            Changed::Unknown => all.collect(),
            Changed::Paths([]) => Vec::new(),
            Changed::Paths(paths) => all.filter(|trigger| trigger.is_for(paths)).collect(),
        }
    }
}

/// What an update has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed<'a> {
    /// These paths.
    Paths(&'a [Box<[u8]>]),
    /// It is not known any more.
    Unknown,
}
