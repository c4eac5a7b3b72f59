//! Mistakes that no single value shows: targets within each other, and what says too little or too much.

use super::target::after;
use crate::after::confirmation::Confirmation;
use crate::config::{AbsolutePath, Config, TargetConfig, TargetKind};
use crate::failure::{Exit, Failure};
use crate::validate::item::{Item, Standing};

/// Refuses targets of which one lies in another, because what one of them applies, the other would take for its own,
/// unless the other is an overlay, which looks at nothing but what it has placed; and commands and checks that say too little or too much.
pub fn check_targets(config: &Config) -> Result<(), Failure> {
    let mistakes = |items: &[Item], standing| items.iter().find_map(|item| item.mistake(standing));
    if let Some(mistake) = mistakes(&config.validate, Standing::Host) {
        return Err(Failure::message(Exit::Configuration, mistake));
    }
    for (target, section) in &config.targets {
        if let Some(mistake) = mistakes(&section.validate, Standing::Target) {
            let text = format!("the target {}: {mistake}", target.0.display());
            return Err(Failure::message(Exit::Configuration, text));
        }
        let confirm = Confirmation::of(section.confirm, section.confirm_within).err().map(ToOwned::to_owned);
        if let Some(mistake) = after(section).mistake().or(confirm).or_else(|| server_of_none(section)) {
            return Err(Failure::message(
                Exit::Configuration,
                format!("the target {}: {mistake}", target.0.display()),
            ));
        }
    }
    for (name, own) in &config.profiles {
        if let Err(mistake) = Confirmation::of(own.confirm, own.confirm_within) {
            return Err(Failure::message(Exit::Configuration, format!("the profile {}: {mistake}", name.0)));
        }
    }
    let is_overlay = |section: &TargetConfig| section.kind == Some(TargetKind::Overlay);
    for (outer, _) in config.targets.iter().filter(|(_, section)| !is_overlay(section)) {
        let lies_in = |inner: &&AbsolutePath| inner.0 != outer.0 && inner.0.starts_with(&outer.0);
        if let Some(inner) = config.targets.keys().find(lies_in) {
            return Err(Failure::message(
                Exit::Configuration,
                format!("the target {} lies in the target {}", inner.0.display(), outer.0.display()),
            )
            .hint("give each target a directory that no other one has to do with"));
        }
    }
    Ok(())
}

/// A repository has no realm whose servers could be asked.
fn server_of_none(section: &TargetConfig) -> Option<String> {
    let asks = section.check.iter().any(|check| check.server);
    (asks && section.source.is_some())
        .then(|| "the check `server` asks a realm, and the target follows a repository".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn targets_do_not_lie_in_each_other() {
        let checked = |text: &str| check_targets(&Config::parse(Path::new("config.toml"), text).unwrap());
        checked("[targets.\"/srv/a\"]\n[targets.\"/srv/ab\"]").unwrap();
        let failure =
            checked("[[targets.\"/srv/a\".check]]\nhttp = \"http://localhost/\"\ntcp = \"a:1\"").unwrap_err();
        let message = "the target /srv/a: a check is one of `command`, `http`, `tcp`, `unit` and `server`";
        assert_eq!(
            (failure.exit(), failure.messages().next().unwrap().as_str()),
            (Exit::Configuration, message)
        );
        let mistakes = [
            ("source = \"github:o/r\"\n[[targets.\"/srv/a\".check]]\nserver = true", "follows a repository"),
            ("confirm-within = \"5m\"", "goes with `confirm = \"person\"`"),
            ("[[targets.\"/srv/a\".run]]\ncommand = [\"a\"]\nreboot = true\nwhen = \"confirmed\"", "reboot"),
        ];
        for (text, expected) in mistakes {
            let failure = checked(&format!("[targets.\"/srv/a\"]\n{text}")).unwrap_err();
            assert_eq!(failure.exit(), Exit::Configuration);
            assert!(failure.messages().next().unwrap().contains(expected), "{failure:?}");
        }
        checked("[targets.\"/\"]\nkind = \"overlay\"\n[targets.\"/srv/a\"]").unwrap();
        let failure =
            checked("[targets.\"/srv/a\"]\n[targets.\"/srv/a/b\"]\nkind = \"overlay\"").unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        let failure = checked("[targets.\"/srv/a\"]\n[targets.\"/srv/a/b\"]").unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert_eq!(failure.messages().next().unwrap(), "the target /srv/a/b lies in the target /srv/a");
    }
}
