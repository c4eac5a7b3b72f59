//! What `nixos-rebuild` is asked for, and what is gone back to.

use super::super::tests::shown;
use super::*;

const TREE: &str = "/srv/a b#/versions/smart-sync-1";

fn nixos(action: Action) -> Nixos {
    Nixos {
        action,
        host: Some("host".into()),
        input: Some("hypervisor".into()),
        show_trace: true,
        impure: true,
        ..Nixos::default()
    }
}

fn all(nixos: &Nixos, found: &Found) -> String {
    let stages = [Stage::Update, Stage::Confirmed, Stage::Rollback, Stage::Chosen];
    let shown = stages.map(|stage| {
        let steps = nixos.steps(stage, found, Path::new(TREE), Path::new("/state/nixos"));
        format!("{stage:?}:\n{}\n", shown(&steps))
    });
    shown.concat()
}

fn found() -> Found {
    let path = |path: &str| Some(PathBuf::from(path));
    Found {
        running: path("/nix/store/2"),
        default: path("/nix/store/1"),
        running_before: path("/nix/store/1"),
        default_before: path("/nix/store/1"),
        built: path("/nix/store/2"),
        manifest: Some(ManifestId::from_bytes([2; 32])),
        of_tree: None,
    }
}

#[test]
fn a_switch_boots_what_it_runs_only_when_it_is_confirmed() {
    insta::assert_snapshot!(all(&nixos(Action::Switch), &found()));
}

#[test]
fn a_boot_is_taken_back_by_what_was_booted_before() {
    let found = Found { default: Some("/nix/store/2".into()), ..found() };
    insta::assert_snapshot!(all(&nixos(Action::Boot), &found));
}

#[test]
fn a_confirmation_that_failed_half_way_is_taken_back_as_well() {
    let found = Found { default: Some("/nix/store/2".into()), ..found() };
    let steps = nixos(Action::Switch).steps(Stage::Rollback, &found, Path::new(TREE), Path::new("/n"));
    insta::assert_snapshot!(shown(&steps));
}

#[test]
fn what_changes_nothing_has_nothing_to_go_back_from() {
    for action in [Action::Build, Action::DryBuild, Action::DryActivate] {
        let shown = all(&nixos(action), &found());
        let name = action.name();
        assert!(
            shown.contains(&format!("run nixos-rebuild {name}: nixos-rebuild {name} --flake")),
            "{shown}"
        );
        assert!(shown.contains("Confirmed:\n\nRollback:\n\nChosen:\nrun nixos-rebuild"), "{shown}");
    }
    // Nor has an update that did not get as far.
    let nothing = Found::default();
    for action in [Action::Switch, Action::Test, Action::Boot] {
        let steps = nixos(action).steps(Stage::Rollback, &nothing, Path::new(TREE), Path::new("/n"));
        assert_eq!(steps, []);
    }
}

#[test]
fn whoever_goes_back_gets_the_very_system_that_it_was_and_boots_it_too() {
    let known = Found { of_tree: Some("/nix/store/0".into()), ..found() };
    let shown = |action: Action| {
        shown(&nixos(action).steps(Stage::Chosen, &known, Path::new(TREE), Path::new("/state/nixos")))
    };
    let all = [Action::Switch, Action::Test, Action::Boot].map(shown);
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn the_flake_is_the_tree_where_the_tree_is_no_input() {
    let line = |nixos: Nixos| shown(&[nixos.rebuild(Action::Build, Path::new(TREE), Path::new("/n"))]);
    let tree =
        "run nixos-rebuild build: nixos-rebuild build --flake path:/srv/a%20b%23/versions/smart-sync-1";
    assert_eq!(line(Nixos::default()), format!("{tree} --no-write-lock-file"));
    let host = Nixos { host: Some("h".into()), ..Nixos::default() };
    assert_eq!(line(host), format!("{tree}#h --no-write-lock-file"));
    let flake = Nixos { flake: Some("github:o/r".into()), ..Nixos::default() };
    let other = "run nixos-rebuild build: nixos-rebuild build --flake github:o/r --no-write-lock-file";
    assert_eq!(line(flake), other);
}

#[test]
fn mistakes_are_found() {
    #[track_caller]
    fn check(nixos: &Nixos, expected: Option<&str>) {
        assert_eq!(nixos.mistake().as_deref(), expected);
    }
    check(&nixos(Action::Switch), None);
    let input = Nixos { input: Some("--option".into()), ..Nixos::default() };
    check(&input, Some("`--option` is not the name of an input of a flake"));
    let host = Nixos { host: Some("a b".into()), ..Nixos::default() };
    check(&host, Some("`a b` is not the name of a host"));
    let flake = Nixos { flake: Some("/etc/nixos#host".into()), ..Nixos::default() };
    let message = "`/etc/nixos#host` is not a flake without a fragment; `host` names the system in it";
    check(&flake, Some(message));
}
