//! Whether a host is fit for an update: every check is made, each result is said, and what is repaired is what was
//! shown.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use smart_sync_tests::program::{self, Finished};
use smart_sync_tests::{Recording, TestEnvironment, Versioned, skipped};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// A machine without any set of checks but those that a test configures, in the directory `root`.
struct Machine {
    environment: TestEnvironment,
}

impl Machine {
    fn new(checks: &str) -> Self {
        let environment = TestEnvironment::new();
        fs::create_dir(environment.path("root")).unwrap();
        let machine = Self { environment };
        machine.configure("[]", checks);
        machine
    }

    fn root(&self) -> PathBuf {
        self.environment.path("root").canonicalize().unwrap()
    }

    fn configure(&self, sets: &str, checks: &str) {
        let checks = checks.replace("ROOT", &self.root().display().to_string());
        self.environment.write("etc/config.toml", format!("validate-sets = {sets}\n{checks}"));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.environment.client();
        command.arg("validate").args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Finished {
        program::run(&mut self.command(words))
    }
}

#[test]
fn every_check_is_made_whatever_the_ones_before_have_found() {
    let machine = Machine::new(
        r#"
[[validate]]
file = "ROOT/first"
hint = "touch it"
[[validate]]
name = "the second"
command = ["sh", "-c", "echo no luck; exit 3"]
[[validate]]
directory = "ROOT"
[[validate]]
program = "no-such-program"
severity = "warn"
[[validate]]
space = "ROOT"
warn-below = "4000000T"
"#,
    );
    let found = machine.run(&["--verbose"]).expect_code(1);
    for expected in [
        "ERROR] ROOT/first: it is not there",
        "hint: touch it",
        "ERROR] the second: it ended with status 3: no luck",
        "[smart-sync] ROOT: it is there",
        "warning: the program no-such-program: it is not in the PATH",
        "warning: room in ROOT:",
        "ERROR] 2 of 6 checks failed, 2 are worth a look",
    ] {
        let expected = expected.replace("ROOT", &machine.root().display().to_string());
        assert!(found.stderr.contains(&expected), "no {expected:?} in\n{}", found.stderr);
    }
    // Without --verbose, what is well is not said; with --quick, programs and commands are not looked at.
    let quick = machine.run(&["--quick"]).expect_code(1);
    assert!(!quick.stderr.contains("it is there") && !quick.stderr.contains("second"), "{}", quick.stderr);
    assert!(quick.stderr.contains("1 of 4 checks failed, 1 is worth a look"), "{}", quick.stderr);
    // Once all is well, so is the host: warnings are none of the status.
    fs::write(machine.root().join("first"), "").unwrap();
    machine.run(&["--quick"]).success();
}

#[test]
fn programs_are_told_each_result() {
    let machine = Machine::new("[[validate]]\ndirectory = \"ROOT/d\"\nmode = \"0750\"\n");
    let found = machine.run(&["--json"]).expect_code(1);
    assert_eq!(found.stderr, "");
    let events: Vec<serde_json::Value> =
        found.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = events.iter().find(|event| event["of"] == "configuration").unwrap();
    assert_eq!((&event["event"], &event["state"]), (&"validation".into(), &"failed".into()));
    assert!(event["repairs"][0].as_str().unwrap().ends_with("root/d (mode 0750)"), "{event}");
    let ended = events.iter().find(|event| event["event"] == "validated").unwrap();
    assert_eq!((&ended["failed"], &ended["skipped"]), (&1.into(), &1.into()));
    assert_eq!(events.last().unwrap()["exit"], 1);
}

const REPAIRABLE: &str = r#"
[[validate]]
directory = "ROOT/a b/c"
mode = "0750"
[[validate]]
executable = "ROOT/scripts/*.sh"
[[validate]]
json = "ROOT/flake.lock"
fix = ["sh", "-c", "echo '{}' > 'ROOT/flake.lock'"]
"#;

#[test]
fn repairs_are_shown_then_made_and_looked_at_again() {
    let machine = Machine::new(REPAIRABLE);
    let root = machine.root();
    let script = machine.environment.write("root/scripts/a | [b].sh", "#!/bin/sh\n");
    machine.environment.write("root/scripts/data", "none of it");
    machine.environment.write("root/flake.lock", "{\"cut\":");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    let planned = machine.run(&["--fix"]).expect_code(1).stdout;
    let shown = root.display();
    for expected in [
        format!("would make the directory {shown}/a b/c (mode 0750)"),
        format!("would chmod 0755 {shown}/scripts/a | [b].sh"),
        format!("would run sh -c echo '{{}}' > '{shown}/flake.lock'"),
        "nothing was changed; add --yes to do it".to_owned(),
    ] {
        assert!(planned.contains(&expected), "no {expected:?} in\n{planned}");
    }
    assert!(!root.join("a b").exists() && mode(&script) == 0o644);
    let done = machine.run(&["--fix", "--yes"]).success().stdout;
    assert!(done.contains("4 checks, none failed"), "{done}");
    assert_eq!((mode(&root.join("a b/c")), mode(&script)), (0o750, 0o755));
    assert_eq!(mode(&root.join("scripts/data")), 0o644);
    assert_eq!(fs::read_to_string(root.join("flake.lock")).unwrap(), "{}\n");
    machine.run(&["--fix"]).success();
}

/// What stands in for a file is exchanged for a link after it was looked at, or lies behind one.
#[test]
fn a_repair_does_not_follow_a_link() {
    let machine = Machine::new("[[validate]]\ndirectory = \"ROOT/way/d\"\nmode = \"0700\"\n");
    let victim = machine.environment.path("victim");
    fs::create_dir_all(victim.join("d")).unwrap();
    fs::set_permissions(victim.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&victim, machine.root().join("way")).unwrap();
    machine.run(&["--fix", "--yes"]).expect_code(1).stderr_contains("not done: chmod 0700");
    assert_eq!(mode(&victim.join("d")), 0o755);
}

#[test]
fn a_repair_that_fails_or_does_not_help_is_no_success() {
    let machine = Machine::new(
        "[[validate]]\nfile = \"ROOT/a\"\nfix = [\"true\"]\n[[validate]]\nfile = \"ROOT/b\"\nfix = [\"sh\", \"-c\", \"echo oh; exit 5\"]\n",
    );
    let ended = machine.run(&["--fix", "--yes"]).expect_code(1);
    assert!(ended.stdout.contains("done: run true"), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("not done: run sh -c echo oh; exit 5: sh ended with status 5: oh"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("2 of 3 checks failed"), "{}", ended.stderr);
}

#[test]
fn owners_are_found_and_set() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may give files away");
    }
    let machine = Machine::new("");
    for path in ["root/etc/a", "root/etc/d/b"] {
        machine.environment.write(path, "");
    }
    symlink("/etc/passwd", machine.root().join("etc/link")).unwrap();
    machine.configure("[]", "[[validate]]\nowned = \"ROOT/etc\"\nowner = \"12345:54321\"\n");
    machine.run(&["--quick"]).success();
    let found = machine.run(&["--fix", "--yes"]).success();
    assert!(found.stdout.contains("done: chown 12345:54321"), "{}", found.stdout);
    for path in ["etc", "etc/a", "etc/d", "etc/d/b"] {
        let found = fs::symlink_metadata(machine.root().join(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (12345, 54321), "{path}");
    }
    assert_eq!(fs::metadata("/etc/passwd").unwrap().uid(), 0);
    machine.configure("[]", "[[validate]]\nowned = \"ROOT/etc\"\nowner = \"nobody-of-this-name\"\n");
    machine.run(&[]).expect_code(1).stderr_contains("there is no user `nobody-of-this-name` here");
}

#[test]
fn a_hypervisor_on_nixos_is_asked_with_its_own_programs() {
    let machine = Machine::new("");
    let recording = Recording::new(&machine.environment);
    recording.program("systemctl", "exit 3").program("virsh", "echo vm1").program("nixos-rebuild", "").program(
        "nix",
        "case \"$*\" in *metadata*) echo '{\"locks\":{\"root\":\"root\",\"nodes\":{\"root\":{\"inputs\":{\"hypervisor\":\"hypervisor\"}}}}}';; \
         *attrNames*) echo 'warning: dirty' >&2; echo '[\"machine\"]';; *) echo true;; esac",
    );
    machine.environment.write("root/flake.nix", "{ }");
    machine.configure(
        "[\"host\", \"nixos\", \"flake\", \"hypervisor\"]",
        "[[validate]]\nflake = \"ROOT\"\ninput = \"hypervisor\"\nhost = \"machine\"\n\
         [[validate]]\nname = \"another host\"\nflake = \"ROOT\"\nhost = \"other\"\n",
    );
    let mut command = machine.command(&["--verbose"]);
    recording.lead(&mut command);
    let found = program::run(&mut command).expect_code(1);
    let calls = recording.calls();
    for expected in [
        "nix eval --expr assert builtins ? getFlake; true",
        "nix --extra-experimental-features nix-command flakes flake metadata --json --no-write-lock-file .",
        "nix --extra-experimental-features nix-command flakes eval --json --no-write-lock-file .#nixosConfigurations --apply builtins.attrNames",
        "virsh --connect qemu:///system list --name",
        "systemctl is-active -- libvirtd.service",
    ] {
        assert!(calls.iter().any(|call| call == expected), "no {expected:?} in {calls:#?}");
    }
    assert!(found.stderr.contains("libvirt answers: it ended with status 0"), "{}", found.stderr);
    assert!(found.stderr.contains("libvirtd.service: it is not active"), "{}", found.stderr);
    assert!(found.stderr.contains("it has configurations for machine"), "{}", found.stderr);
    assert!(
        found.stderr.contains("another host: it has no configuration for `other`, only for machine"),
        "{}",
        found.stderr
    );
    // Looking has changed nothing, and nothing of services is asked for in a hurry.
    let mut quick = machine.command(&["--quick"]);
    recording.lead(&mut quick);
    program::run(&mut quick);
    assert_eq!(recording.calls(), Vec::<String>::new());
}

/// Nix itself says what a flake has, in a directory whose name means something to it, and writes no lock.
#[test]
fn nix_is_understood() {
    if !has("nix") {
        return skipped("there is no nix");
    }
    let machine = Machine::new(
        "[[validate]]\nname = \"good\"\nflake = \"ROOT/a ?#b\"\ninput = \"hypervisor\"\nhost = \"two\"\n\
         [[validate]]\nname = \"no such input\"\nflake = \"ROOT/a ?#b\"\ninput = \"other\"\n\
         [[validate]]\nname = \"broken\"\nflake = \"ROOT/broken\"\n",
    );
    let input = machine.environment.write("root/input/file", "").parent().unwrap().to_owned();
    let flake = "outputs = { ... }: { nixosConfigurations.one = { }; nixosConfigurations.two = { }; };";
    let flake = format!(
        "{{ inputs.hypervisor = {{ url = \"path:{}\"; flake = false; }}; {flake} }}",
        input.display()
    );
    let path = machine.environment.write("root/a ?#b/flake.nix", flake);
    machine.environment.write("root/broken/flake.nix", "{ outputs = { nixosConfigurations");
    let mut command = machine.command(&["--verbose"]);
    // Its store is one of this machine alone.
    command.env("NIX_REMOTE", machine.environment.path("nix"));
    let said = program::run(&mut command).expect_code(1).stderr;
    assert!(said.contains("good: it has configurations for one, two"), "{said}");
    assert!(said.contains("no such input: it has no input `other`"), "{said}");
    assert!(said.contains("ERROR] broken: it ended with status 1"), "{said}");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[test]
fn trees_of_targets_are_looked_at_where_they_are() {
    for kind in ["directory", "generations"] {
        let environment = TestEnvironment::new();
        let host = Versioned::new(&environment, kind, kind);
        let target = host.target();
        let check = format!(
            "validate-sets = []\n[targets.\"{}\"]\nkind = \"{kind}\"\n[[targets.\"{0}\".validate]]\nexecutable = \"bin/*.sh\"\n",
            target.display()
        );
        environment.write("etc/config.toml", check);
        let unapplied = host.run(&["validate", "--verbose"]).success().stderr;
        assert!(unapplied.contains("nothing was applied to the target yet"), "{unapplied}");
        host.write("bin/a.sh", "#!/bin/sh\n");
        let published = environment.path("tree/bin/a.sh");
        fs::set_permissions(&published, fs::Permissions::from_mode(0o644)).unwrap();
        host.host.publish().success();
        host.sync().success();
        let found = host.run(&["validate", "--fix", "--yes"]);
        if kind == "directory" {
            assert_eq!(mode(&host.seen().join("bin/a.sh")), 0o755, "{}", found.stderr);
        } else {
            // Versions are what was published.
            found.expect_code(1).stderr_contains("a version that is kept is not changed");
            assert_eq!(mode(&host.seen().join("bin/a.sh")) & 0o111, 0);
        }
    }
}

#[test]
fn what_smart_sync_itself_needs_is_looked_at() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "directory", "machine");
    let url = host.host.realm.server().url().to_owned();
    environment.write("etc/config.toml", "validate-sets = []\n");
    let known = program::run(environment.client().args(["validate", "--verbose"])).success().stderr;
    assert!(known.contains("the token for servers: not looked at: there is none"), "{known}");
    assert!(known.contains("its root document is good for"), "{known}");
    assert!(known.contains(": all answer"), "{known}");
    // A realm that is not trusted, with a server that is not there; and a token for everybody to read.
    let token = environment.write("home/.config/smart-sync/token", "sst_secret");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let text =
        format!("validate-sets = []\n[realms.\"other.example.org\"]\nservers = [\"{url}\", \"/nowhere\"]\n");
    environment.write("etc/config.toml", text);
    let found = program::run(environment.client().arg("validate")).expect_code(1).stderr;
    assert!(found.contains("trust in other.example.org: it is configured, but not trusted yet"), "{found}");
    assert!(found.contains("can be read by others (mode 0644)") && !found.contains("sst_secret"), "{found}");
    assert!(
        found.contains("warning: the servers of other.example.org: file:///nowhere does not answer"),
        "{found}"
    );
    // In a hurry, no server is asked.
    let quick = program::run(environment.client().args(["validate", "--quick"])).expect_code(1).stderr;
    assert!(!quick.contains("does not answer"), "{quick}");
}

#[test]
fn a_check_that_makes_no_sense_is_a_wrong_configuration() {
    for (text, expected) in [
        ("file = \"relative\"", "is not absolute"),
        ("file = \"/a\"\ndirectory = \"/a\"", "looks at one thing"),
        ("file = \"/a\"\nmod = \"0755\"", "unknown field `mod`"),
        ("directory = \"/a\"\nmode = \"4755\"", "a mode is three or four digits"),
        ("file = \"/a/../b\"", "is not a plain path"),
    ] {
        Machine::new(&format!("[[validate]]\n{text}\n")).run(&[]).expect_code(6).stderr_contains(expected);
    }
}
