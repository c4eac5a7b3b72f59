//! Which target is meant, and what protects it.

use std::path::{Path, PathBuf};

use smart_sync_sync::apply::versions::{Kind, prune};

use super::same_target::{is_same_target, is_written_alike};
use crate::after::confirmation::Confirmation;
use crate::after::trigger::After;
use crate::after::trigger::nixos::Override;
use crate::config::{Allowed, Config, Fidelity, TargetConfig, TargetKind};
use crate::failure::{Exit, Failure};

/// What belongs to the host in every target that does not say otherwise.
pub const DEFAULT_EXCLUSIONS: [&str; 6] =
    [".git/", "result/", "target/", "tools/target/", "var/", "*.socket"];

/// What protects a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Patterns of paths that belong to the host.
    pub exclusions: Vec<String>,
    /// The only fidelity that is taken.
    pub fidelity: Option<Fidelity>,
    /// What is taken although it is refused as a rule.
    pub allow: Vec<Allowed>,
    /// How it is kept, where that is said.
    pub kind: Option<Kind>,
    /// How many versions are kept, where they are.
    pub keep: usize,
    /// What happens after an update.
    pub after: After,
    /// The other targets of this host, in which an overlay places nothing.
    pub others: Vec<PathBuf>,
}

/// Decides which target is meant, and what protects it, for commands that look at one.
pub fn target(argument: Option<&Path>, config: &Config) -> Result<(PathBuf, TargetPolicy), Failure> {
    let target = target_directory(argument, config)?;
    let policy = policy(target_section(&target, config), config);
    Ok((target, policy))
}

/// Decides which targets are meant by commands that are about all of them where none is named.
pub fn targets(argument: Option<&Path>, config: &Config) -> Result<Vec<(PathBuf, TargetPolicy)>, Failure> {
    if argument.is_some() || config.targets.is_empty() {
        return Ok(vec![target(argument, config)?]);
    }
    config.targets.keys().map(|path| target(Some(&path.0), config)).collect()
}

/// Where the target is, and whether the command line may leave it out.
pub(super) fn target_directory(argument: Option<&Path>, config: &Config) -> Result<PathBuf, Failure> {
    let target = match (argument, &config.target, config.targets.len()) {
        (Some(argument), _, _) => argument.to_owned(),
        (None, Some(default), _) => default.0.clone(),
        (None, None, 1) => config.targets.keys().map(|path| path.0.clone()).collect(),
        (None, None, 0) => {
            return Err(Failure::message(
                Exit::Arguments,
                "no target: nothing says which directory to bring up to date",
            )
            .hint("name one with --target DIR, or set `target = \"/DIR\"` in /etc/smart-sync/config.toml"));
        }
        (None, None, _) => {
            let names: Vec<_> = config.targets.keys().map(|path| path.0.display().to_string()).collect();
            return Err(Failure::message(
                Exit::Arguments,
                "there are several targets, and none of them is the default",
            )
            .hint(format!("name one with --target: {}", names.join(", "))));
        }
    };
    if target.as_os_str().is_empty() {
        return Err(Failure::message(Exit::Arguments, "--target is empty"));
    }
    Ok(target)
}

/// The table of this target: the one that names it as it is typed, else one whose path leads to the same directory.
pub(super) fn target_section<'a>(target: &Path, config: &'a Config) -> Option<&'a TargetConfig> {
    let find =
        |is_it: fn(&Path, &Path) -> bool| config.targets.iter().find(|(path, _)| is_it(&path.0, target));
    find(is_written_alike).or_else(|| find(is_same_target)).map(|(_, section)| section)
}

/// What protects a target with this table, or with none.
pub fn policy(section: Option<&TargetConfig>, config: &Config) -> TargetPolicy {
    let is_overlay = |section: &TargetConfig| section.kind == Some(TargetKind::Overlay);
    let others = config.targets.iter().filter(|(_, other)| !is_overlay(other));
    let others = others.map(|(path, _)| path.0.clone()).collect();
    let usual = || DEFAULT_EXCLUSIONS.map(ToOwned::to_owned).to_vec();
    let Some(section) = section else {
        return TargetPolicy {
            exclusions: usual(),
            fidelity: None,
            allow: Vec::new(),
            kind: None,
            keep: prune::KEPT,
            after: After::default(),
            others,
        };
    };
    let mut exclusions = section.exclude.clone().unwrap_or_else(usual);
    exclusions.extend_from_slice(&section.exclude_also);
    TargetPolicy {
        exclusions,
        fidelity: section.fidelity,
        allow: section.allow.clone(),
        kind: section.kind.map(Into::into),
        keep: section.keep.map_or(prune::KEPT, |keep| keep.0),
        after: after(section),
        others,
    }
}

pub(super) fn after(section: &TargetConfig) -> After {
    After {
        run: section.run.clone(),
        check: section.check.clone(),
        // What is none was refused with the configuration.
        confirm: Confirmation::of(section.confirm, section.confirm_within).unwrap_or_default(),
        said: Override::default(),
    }
}
