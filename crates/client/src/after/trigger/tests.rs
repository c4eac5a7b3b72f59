//! Which triggers are one, and what waits for which stage.

use super::*;
use crate::after::check::Check;

/// Steps as they are shown, each on a line.
pub(in crate::after) fn shown(steps: &[Step]) -> String {
    steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn trigger(text: &str) -> Trigger {
    toml::from_str(text).unwrap()
}

#[test]
fn a_trigger_is_of_one_kind() {
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(trigger(text).mistake().as_deref(), expected, "{text}");
    }
    let one = Some("what is run is one of `command`, `units`, `nixos`, `emerge`, `kernel` and `portage`");
    check("", one);
    check("command = ['true']\nunits = { daemon-reload = true }", one);
    check("command = []", Some("the command of `run` names a program"));
    check("command = ['true']", None);
    check("units = { reload = ['a.service'] }", None);
    check("nixos = {}", None);
    check("nixos = { action = 'dry-activate', input = 'a' }\npaths = ['*.nix']", None);
    assert!(toml::from_str::<Trigger>("nixos = { action = 'jump' }").is_err());
    assert!(toml::from_str::<Trigger>("units = { start = ['a.service'] }").is_err());
    let two = After { run: vec![trigger("nixos = {}"), trigger("nixos = {}")], ..After::default() };
    assert_eq!(two.mistake().unwrap(), "it rebuilds at most one NixOS system");
}

#[test]
fn each_stage_has_what_waits_for_it() {
    let scene = Scene {
        tree: "/t".into(),
        state: "/s".into(),
        manifest: None,
        goes_back: None,
        purpose: Purpose::Showing,
    };
    let after = After {
        run: vec![
            trigger("name = 'now'\ncommand = ['one']"),
            trigger("command = ['two']\nwhen = 'confirmed'"),
            trigger("name = 'web'\nunits = { reload = ['a.service'] }\npaths = ['etc/']"),
        ],
        check: vec![Check { tcp: Some("localhost:22".into()), ..Check::default() }],
        ..After::default()
    };
    let foreseen = |path: &str| after.foreseen(&[path.as_bytes().into()], &scene);
    let expected = ["would run now: one", "would check localhost:22", "would, when all is well, run two"];
    assert_eq!(foreseen("version"), expected);
    assert_eq!(foreseen("etc/x")[1], "would run web: systemctl try-reload-or-restart a.service");
    assert_eq!(after.foreseen(&[], &scene), [""; 0]);
    let at = |stage| -> Vec<String> {
        after.chosen(Changed::Unknown, stage).iter().map(|trigger| trigger.title()).collect()
    };
    assert_eq!(at(Stage::Rollback), ["now", "web"]);
    // Whoever goes back by hand leaves a version for which all of them have run.
    assert_eq!(at(Stage::Chosen), ["now", "web", "two"]);
}

#[test]
fn where_the_tree_stays_some_triggers_take_back_what_they_did() {
    #[track_caller]
    fn check(text: &str, expected: Undoing) {
        assert_eq!(trigger(text).undoing(), expected, "{text}");
    }
    check("nixos = {}", Undoing::Itself);
    check("nixos = { action = 'boot' }\nwhen = 'confirmed'", Undoing::Itself);
    check("nixos = { action = 'dry-activate' }", Undoing::NotNeeded);
    check("kernel = { loader = 'none' }", Undoing::Itself);
    check("units = { reload = ['a.service'] }", Undoing::Again);
    check("portage = { profile = 'a' }", Undoing::Nothing);
    check("emerge = { sets = ['@world'] }", Undoing::Nothing);
    check("command = ['true']", Undoing::Nothing);
}
