//! Units of systemd that are told of an update.

use serde::Deserialize;

use super::Stage;
use super::step::Step;

/// Units of systemd, as they are configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Units {
    /// Those that read their configuration again; where one cannot, it is restarted. What does not run stays so.
    #[serde(default)]
    pub reload: Vec<String>,
    /// Those that are restarted, or started.
    #[serde(default)]
    pub restart: Vec<String>,
    /// Whether systemd reads the files of units again before that.
    #[serde(default)]
    pub daemon_reload: bool,
}

impl Units {
    /// Why this says nothing that could be done.
    pub(super) fn mistake(&self) -> Option<String> {
        let is_unit = |name: &str| {
            let is_letter = |letter: char| letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter);
            !name.starts_with('-') && (1..=255).contains(&name.len()) && name.chars().all(is_letter)
        };
        if let Some(name) = self.reload.iter().chain(&self.restart).find(|name| !is_unit(name)) {
            return Some(format!("`{name}` is not the name of a unit"));
        }
        let is_nothing = self.reload.is_empty() && self.restart.is_empty() && !self.daemon_reload;
        is_nothing.then(|| "`units` names no unit to reload or restart".to_owned())
    }

    /// What is done; for a tree that is gone back to as for a new one.
    pub(super) fn steps(&self, stage: Stage) -> Vec<Step> {
        if stage == Stage::Confirmed {
            return Vec::new();
        }
        let systemctl = |verb: &str, units: &[String]| {
            let words = ["systemctl", verb].into_iter().chain(units.iter().map(String::as_str));
            Step::titled(words)
        };
        [
            self.daemon_reload.then(|| systemctl("daemon-reload", &[])),
            (!self.reload.is_empty()).then(|| systemctl("try-reload-or-restart", &self.reload)),
            (!self.restart.is_empty()).then(|| systemctl("restart", &self.restart)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What it is called.
    pub(super) fn title(&self) -> String {
        let names: Vec<&str> = self.reload.iter().chain(&self.restart).map(String::as_str).collect();
        if names.is_empty() { "systemctl daemon-reload".to_owned() } else { names.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::shown;
    use super::*;

    #[test]
    fn units_are_reloaded_and_restarted_after_their_files_were_read() {
        let units = Units {
            reload: vec!["nginx.service".into(), "bird@1.service".into()],
            restart: vec!["a.service".into()],
            daemon_reload: true,
        };
        let expected = "\
run systemctl daemon-reload
run systemctl try-reload-or-restart nginx.service bird@1.service
run systemctl restart a.service";
        assert_eq!(shown(&units.steps(Stage::Update)), expected);
        assert_eq!(shown(&units.steps(Stage::Rollback)), expected);
        assert_eq!(shown(&units.steps(Stage::Confirmed)), "");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let reload = |name: &str| Units { reload: vec![name.into()], ..Units::default() }.mistake();
        assert_eq!(reload("dev-disk-by\\x2duuid.device"), None);
        for name in ["", "-H", "a b", "../x", "a\n"] {
            assert_eq!(reload(name), Some(format!("`{name}` is not the name of a unit")));
        }
        assert_eq!(Units::default().mistake().unwrap(), "`units` names no unit to reload or restart");
    }
}
