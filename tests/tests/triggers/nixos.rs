//! NixOS systems: what is asked of `nixos-rebuild`, what is booted when, and what is gone back to.

use std::fs;
use std::os::unix::fs::symlink;

use smart_sync_tests::TestEnvironment;
use smart_sync_tests::program;
use smart_sync_tests::small_disk::in_namespace;
use smart_sync_tests::supervisors::{start_again, wait_until_none_stands_by};

use super::{CHECK, Machine};

/// A machine whose systems are directories: `nixos-rebuild` makes one that is named after the version.
fn nixos<'environment>(environment: &'environment TestEnvironment, action: &str) -> Machine<'environment> {
    nixos_in(environment, "generations", action)
}

/// The same with a target of another kind.
fn nixos_in<'environment>(
    environment: &'environment TestEnvironment,
    kind: &'static str,
    action: &str,
) -> Machine<'environment> {
    let nixos = format!(
        "[[run]]\nnixos = {{ action = \"{action}\", host = \"host\", input = \"hypervisor\", system = \"ROOT/run/current-system\", profile = \"ROOT/profiles/system\" }}\n"
    );
    let machine = Machine::of_kind(environment, kind, &format!("{nixos}{CHECK}"));
    for name in ["one", "two", "bad"] {
        let system = machine.path(&format!("store/{name}"));
        let running = machine.path("run/current-system");
        let script = format!(
            "test \"$NIXOS_INSTALL_BOOTLOADER\" = 0 || exit 9\n\
             test $1 = boot || ln -sfn '{}' '{}'\ntest ! -e '{}'",
            system.display(),
            running.display(),
            machine.path("fails").display()
        );
        machine.programs.add_at(
            &system.join("bin/switch-to-configuration"),
            &format!("{name}/switch"),
            &script,
        );
    }
    for link in ["run/current-system", "profiles/system"] {
        let link = machine.path(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(machine.path("store/one"), link).unwrap();
    }
    let rebuild = "tree=$(echo \"$*\" | sed 's/.*path:\\([^ ]*\\).*/\\1/')\n\
                   system=ROOT/store/$(cat \"$tree/version\")\n\
                   case $1 in\n\
                   test) ln -sfn $system ROOT/run/current-system ;;\n\
                   build) ln -sfn $system result ;;\n\
                   esac";
    let root = machine.path("").display().to_string();
    machine.programs.add("nixos-rebuild", &rebuild.replace("ROOT/", &root));
    let set = "ln -sfn $(readlink -f $4) $2";
    machine.programs.add("nix-env", set);
    machine.programs.add("nix-store", "ln -sfn $2 $4");
    machine
}

fn leads_to(machine: &Machine<'_>, link: &str) -> String {
    let system = fs::canonicalize(machine.path(link)).unwrap();
    system.file_name().unwrap().to_string_lossy().into_owned()
}

fn systems(machine: &Machine<'_>) -> (String, String) {
    (leads_to(machine, "run/current-system"), leads_to(machine, "profiles/system"))
}

fn pair(running: &str, boots: &str) -> (String, String) {
    (running.to_owned(), boots.to_owned())
}

#[test]
fn a_system_is_booted_when_it_is_confirmed_and_the_one_before_is_activated_when_it_is_not() {
    let environment = TestEnvironment::new();
    let machine = nixos(&environment, "switch");
    machine.publish("one");
    machine.sync(&[]).success();
    machine.recorded();
    machine.publish("two");
    let shown = machine.sync(&["--dry-run"]).success().stdout;
    insta::assert_snapshot!(would(&machine, &shown));
    assert_eq!(machine.recorded(), "");
    machine.sync(&[]).success();
    insta::assert_snapshot!(machine.recorded());
    assert_eq!(systems(&machine), pair("two", "two"));

    machine.publish("bad");
    machine.sync(&[]).expect_code(8);
    insta::assert_snapshot!(machine.recorded());
    assert_eq!(systems(&machine), pair("two", "two"));
}

/// The lines of what would be done, without what differs from run to run.
fn would(machine: &Machine<'_>, shown: &str) -> String {
    let root = fs::canonicalize(machine.path("")).unwrap();
    let states = fs::read_dir(machine.host.state().join("targets")).unwrap().map_while(Result::ok);
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains(" would")).collect();
    let mut text = lines.join("\n");
    text = text.replace(&*root.to_string_lossy(), "ROOT");
    for state in states {
        text = text.replace(&*state.file_name().to_string_lossy(), "TARGET");
    }
    text
}

#[test]
fn a_machine_that_dies_before_the_confirmation_boots_the_system_before() {
    let environment = TestEnvironment::new();
    let machine = nixos(&environment, "switch");
    machine.publish("one");
    machine.sync(&[]).success();
    // The check kills the run, as a crash of the machine would.
    let text = fs::read_to_string(machine.path("etc/config.toml")).unwrap();
    let text = text.replace("! grep -q bad version", "grep -q one version || kill -9 $PPID");
    environment.write("etc/config.toml", text);
    machine.publish("two");
    assert_eq!(machine.sync(&[]).code, None);
    assert_eq!(systems(&machine), pair("two", "one"));
    machine.recorded();
    machine.run(&["recover"]).expect_code(8);
    assert_eq!(systems(&machine), pair("one", "one"));
    assert_eq!(machine.recorded(), "one/switch test\n");
}

#[test]
fn whoever_goes_back_by_hand_gets_the_very_system_that_ran_then() {
    let environment = TestEnvironment::new();
    let machine = nixos(&environment, "switch");
    for version in ["one", "two"] {
        machine.publish(version);
        machine.sync(&[]).success();
    }
    machine.recorded();
    let shown = machine.run(&["rollback", "--dry-run"]).success().stdout;
    let shown = would(&machine, &shown);
    let (first, steps) = shown.split_once('\n').unwrap();
    assert!(first.contains("would be at generation 1: "), "{first}");
    insta::assert_snapshot!(steps);
    assert_eq!(machine.recorded(), "");
    machine.run(&["rollback"]).success();
    assert_eq!(systems(&machine), pair("one", "one"));
    // Nothing is built for it.
    let recorded = machine.recorded();
    assert!(!recorded.contains("nixos-rebuild"), "{recorded}");
    assert!(
        recorded.starts_with("one/switch test\nnix-env -p ROOT/profiles/system --set ROOT/store/one\n"),
        "{recorded}"
    );

    // Without the system, it is built again.
    let target = fs::read_dir(machine.host.state().join("targets")).unwrap().next().unwrap().unwrap();
    fs::remove_dir_all(target.path().join("nixos/systems")).unwrap();
    machine.run(&["rollback", "2"]).success();
    assert_eq!(systems(&machine), pair("two", "two"));
    insta::assert_snapshot!(machine.recorded());
    // One that cannot be activated is said, and the target stays where it was taken to.
    fs::write(machine.path("fails"), "").unwrap();
    let failed = machine.run(&["rollback", "1"]).expect_code(9);
    failed.stderr_contains("is back at generation 1, but activating the system of this version ended with");
    assert_eq!(fs::read_to_string(machine.host.seen().join("version")).unwrap(), "one");
    assert_eq!(leads_to(&machine, "profiles/system"), "two");
    machine.run(&["rollback", "2", "--skip-rebuild"]).success();
}

#[test]
fn in_a_plain_directory_the_system_before_comes_back_and_the_files_stay() {
    let environment = TestEnvironment::new();
    let machine = nixos_in(&environment, "directory", "switch");
    machine.publish("one");
    machine.sync(&[]).success();
    machine.publish("bad");
    machine.recorded();
    let back = machine.sync(&[]).expect_code(8);
    back.stderr_contains("what ran before is in its place again; the tree in").stderr_contains("host stays");
    assert_eq!(systems(&machine), pair("one", "one"));
    assert!(machine.recorded().ends_with("one/switch test\n"));
    assert_eq!(fs::read_to_string(machine.host.seen().join("version")).unwrap(), "bad");
    let status = machine.run(&["status"]).success().stdout;
    assert!(status.contains("not healthy, and what runs is what ran before it; its files stay"), "{status}");
    machine.sync(&[]).expect_code(8).stderr_contains("--retry-failed tries it again");
    wait_until_none_stands_by(&machine.host.state());

    // Killed in the middle of it, it is taken back by what stands by.
    kill_in_check(&machine);
    machine.publish("two");
    assert_eq!(machine.sync(&[]).code, None);
    wait_until_none_stands_by(&machine.host.state());
    assert_eq!(systems(&machine), pair("one", "one"));

    // What else ran stays, and then the machine is not what it was.
    let text = fs::read_to_string(machine.path("etc/config.toml")).unwrap();
    let text = text.replace("grep -q one version || kill -9 $PPID", "! grep -q bad version");
    let command = "run]]\nname = \"other\"\ncommand = [\"true\"]\n";
    let text = format!("{text}[[targets.\"{}\".{command}", machine.host.target().display());
    environment.write("etc/config.toml", text);
    machine.publish("bad");
    machine.host.write("again", "");
    machine.host.host.publish().success();
    let failed = machine.sync(&[]).expect_code(9);
    failed.stderr_contains("what other did cannot be taken back");
    assert_eq!(systems(&machine), pair("one", "one"));
    // Where the system was not even built, nothing else was begun.
    machine.programs.add("nixos-rebuild", "echo error: infinite recursion; exit 1");
    machine.publish("three");
    machine.sync(&[]).expect_code(8).stderr_contains("infinite recursion");
    assert_eq!(systems(&machine), pair("one", "one"));
}

/// From now on the check kills the run, as a crash of the machine would.
fn kill_in_check(machine: &Machine<'_>) {
    let text = fs::read_to_string(machine.path("etc/config.toml")).unwrap();
    let text = text.replace("! grep -q bad version", "grep -q one version || kill -9 $PPID");
    machine.host.host.environment().write("etc/config.toml", text);
}

#[test]
fn a_rebuild_that_dies_is_taken_back_by_what_stands_by() {
    let environment = TestEnvironment::new();
    // What is said on the command line is what has to be taken back.
    let machine = nixos(&environment, "build");
    machine.publish("one");
    machine.sync(&[]).success();
    machine.publish("two");
    machine.sync(&["--skip-rebuild"]).success();
    kill_in_check(&machine);
    assert_eq!(machine.run(&["rebuild", "switch"]).code, None);
    wait_until_none_stands_by(&machine.host.state());
    assert_eq!(systems(&machine), pair("one", "one"));
    assert_eq!(fs::read_to_string(machine.host.seen().join("version")).unwrap(), "two");
    // The tree was not found to be bad.
    let listed = machine.run(&["generations"]).success().stdout;
    assert!(!listed.contains("not healthy"), "{listed}");
}

#[test]
fn what_the_command_line_says_of_a_system_is_what_is_taken_back() {
    let environment = TestEnvironment::new();
    let machine = nixos(&environment, "build");
    machine.publish("one");
    machine.sync(&[]).success();
    kill_in_check(&machine);
    machine.publish("two");
    let update = || {
        let url = machine.host.host.realm.server().url().to_owned();
        machine.run(&[
            "update",
            "--yes",
            "--rebuild-action",
            "switch",
            "--channel",
            "repos/tree",
            "--server",
            &url,
        ])
    };
    assert_eq!(update().code, None);
    wait_until_none_stands_by(&machine.host.state());
    assert_eq!(systems(&machine), pair("one", "one"));
    assert_eq!(fs::read_to_string(machine.host.seen().join("version")).unwrap(), "one");
}

#[test]
fn a_rebuild_waits_for_a_person_where_an_update_does() {
    let environment = TestEnvironment::new();
    let machine = nixos(&environment, "switch");
    machine.publish("one");
    machine.sync(&[]).success();
    machine.publish("two");
    machine.sync(&["--skip-rebuild"]).success();
    let text = fs::read_to_string(machine.path("etc/config.toml")).unwrap();
    let waits = "kind = \"generations\"\nconfirm = \"person\"\nconfirm-within = \"1h\"";
    environment.write("etc/config.toml", text.replacen("kind = \"generations\"", waits, 1));
    machine
        .run(&["rebuild"])
        .success()
        .stderr_contains("within 1 h, else what runs since then is taken back");
    let status = machine.run(&["status"]).success().stdout;
    assert!(status.contains("else what runs since then is taken back"), "{status}");
    assert_eq!(systems(&machine), pair("two", "one"));
    machine.run(&["confirm", "--same-connection"]).success();
    assert_eq!(systems(&machine), pair("two", "two"));
    // Too late.
    let text = fs::read_to_string(machine.path("etc/config.toml")).unwrap();
    environment.write("etc/config.toml", text.replace("\"1h\"", "\"1s\""));
    fs::write(machine.path("tree/version"), "one").unwrap();
    machine.host.host.publish().success();
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["confirm", "--same-connection"]).success();
    machine.run(&["rebuild"]).success();
    wait_until_none_stands_by(&machine.host.state());
    assert_eq!(systems(&machine), pair("two", "two"));
}

#[test]
fn a_rebuild_that_fails_takes_the_system_back_and_leaves_the_tree() {
    let environment = TestEnvironment::new();
    let machine = nixos(&environment, "switch");
    machine.publish("one");
    machine.run(&["rebuild"]).expect_code(1).stderr_contains("nothing was applied");
    machine.sync(&["--skip-rebuild"]).success();
    assert_eq!(machine.recorded(), "");
    machine
        .run(&["rebuild", "dry-activate", "--show-trace", "--flake", "/srv/flake", "--host", "b"])
        .success();
    insta::assert_snapshot!(machine.recorded());
    // The tree is what is built from, whatever is configured.
    machine.publish("bad");
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["rebuild", "test"]).expect_code(8).stderr_contains("what ran before is in its place again");
    assert_eq!(systems(&machine), pair("one", "one"));
    assert_eq!(fs::read_to_string(machine.host.seen().join("version")).unwrap(), "bad");
    machine.recorded();
    // Where going back fails too, that is the worse of both.
    fs::write(machine.path("fails"), "").unwrap();
    machine.run(&["rebuild", "test"]).expect_code(9);
}

#[test]
fn a_system_that_is_only_booted_waits_for_a_reboot() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let machine = nixos(&environment, "boot");
    machine.publish("two");
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["rebuild"]).expect_code(12).stderr_contains("what was rebuilt is looked at after it");
    insta::assert_snapshot!(machine.recorded());
    assert_eq!(systems(&machine), pair("one", "two"));
    // Until then nothing else is done.
    machine.publish("bad");
    machine.sync(&[]).expect_code(12);
    assert_eq!(systems(&machine), pair("one", "two"));
    // The machine is started again, and what was booted does not come up: that is taken back, and not the tree.
    start_again(&environment, 1);
    machine.run(&["recover"]).expect_code(8).stderr_contains("was started again, and runs something else");
    assert_eq!(systems(&machine), pair("one", "one"));
    assert_eq!(fs::read_to_string(machine.host.seen().join("version")).unwrap(), "two");
    // It comes up.
    let boot = || {
        let system = fs::canonicalize(machine.path("profiles/system")).unwrap();
        fs::remove_file(machine.path("run/current-system")).unwrap();
        symlink(system, machine.path("run/current-system")).unwrap();
    };
    machine.run(&["rebuild"]).expect_code(12);
    start_again(&environment, 2);
    boot();
    machine.run(&["recover"]).success();
    assert_eq!(systems(&machine), pair("two", "two"));
    // An update that comes up and is not well goes with the next start of the machine.
    machine.sync(&[]).expect_code(12);
    assert_eq!(systems(&machine), pair("two", "bad"));
    start_again(&environment, 3);
    boot();
    machine
        .run(&["recover"])
        .expect_code(8)
        .stderr_contains("it takes a reboot until what runs is that version");
    assert_eq!(systems(&machine), pair("bad", "two"));
}

/// The command line of `nixos-rebuild` is handed on to the real nix, which evaluates the flake as `nixos-rebuild` would.
#[test]
fn a_lock_that_names_the_content_before_does_not_bring_it_back() {
    let environment = TestEnvironment::new();
    let root = environment.root().canonicalize().unwrap().display().to_string();
    let nix = format!(
        "for kind in STATE LOG CONF LOCALSTATE; do export NIX_${{kind}}_DIR='{root}'/nix-$kind; done\n\
         evaluate() {{ nix --extra-experimental-features 'nix-command flakes' --offline --store '{root}/nix' eval --raw \"$@\"; }}\n"
    );
    let probe = environment.write("flake/flake.nix", "{ outputs = _: { value = \"well\"; }; }");
    let probe = probe.parent().unwrap().display().to_string();
    let mut command = environment.command("sh");
    let tried = command.arg("-c").arg(format!("{nix}evaluate 'path:{probe}#value'")).output();
    let tried = tried.ok().filter(|tried| tried.stdout == b"well");
    if tried.is_none() {
        return smart_sync_tests::skipped("the program `nix` with flakes evaluates nothing here");
    }
    let text = "[[run]]\nnixos = { action = \"build\", flake = \"path:ROOT/flake\", host = \"value\", input = \"hypervisor\" }\n";
    let machine = Machine::new(&environment, text);
    machine.programs.add("nixos-rebuild", &format!("{nix}shift 2\nevaluate \"$@\" > '{root}/built'"));
    machine.host.write("flake.nix", "{ outputs = _: { version = builtins.readFile ./version; }; }");
    machine.publish("one");
    machine.sync(&["--skip-rebuild"]).success();
    // The lock is made of what is here now, by the name that the input had then.
    fs::rename(environment.path("tree"), environment.path("old")).unwrap();
    let flake = format!(
        "{{ inputs.hypervisor.url = \"path:{root}/old\"; outputs = {{ hypervisor, ... }}: {{ value = hypervisor.version; }}; }}"
    );
    environment.write("flake/flake.nix", flake);
    let mut lock = environment.command("sh");
    program::run(lock.arg("-c").arg(format!("{nix}evaluate 'path:{root}/flake#value'"))).success();
    let lock = fs::read(environment.path("flake/flake.lock")).unwrap();
    fs::rename(environment.path("old"), environment.path("tree")).unwrap();

    machine.publish("two");
    machine.sync(&[]).success();
    assert_eq!(fs::read_to_string(environment.path("built")).unwrap(), "two");
    assert_eq!(
        fs::read(environment.path("flake/flake.lock")).unwrap(),
        lock,
        "nothing is written into a flake"
    );
    let mut stale = environment.command("sh");
    let stale =
        program::run(stale.arg("-c").arg(format!("{nix}evaluate 'path:{root}/flake#value'"))).success();
    assert_eq!(stale.stdout, "one", "without the override the lock would decide");
}
