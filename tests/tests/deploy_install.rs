//! Carrying the program to hosts that do not have it, by a stand-in for ssh that runs the real shell and the real program.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use smart_sync_tests::{Fleet, TestEnvironment, program};

/// Hosts of which the first does not have the program, and where it is to be on each.
struct Scene<'environment> {
    fleet: Fleet<'environment>,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment) -> Self {
        let fleet = Fleet::new(environment, &["one", "two"]);
        let scene = Self { fleet };
        let table =
            |name: &str| format!("[hosts.{name}]\nprogram = \"{}\"\n", scene.installed(name).display());
        environment.write("etc/config.toml", ["one", "two"].map(table).concat());
        fs::remove_file(scene.fleet.path("one", "bin/smart-sync")).unwrap();
        scene.fleet.publish("first");
        scene
    }

    fn installed(&self, name: &str) -> PathBuf {
        self.fleet.path(name, "opt/smart-sync")
    }

    /// A program of a host.
    fn program(&self, name: &str, program: &str, script: &str) {
        let path = format!("bin/{program}");
        self.fleet.write(name, &path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.fleet.path(name, &path), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn is_program(path: &Path) -> bool {
    fs::read(path).is_ok_and(|found| found == fs::read(program::built("smart-sync")).unwrap())
}

/// Names in the directory where the program is placed.
fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path.parent().unwrap()) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_program_is_carried_once_and_then_only_the_command_is() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let (fleet, path) = (&scene.fleet, scene.installed("one"));
    let without = fleet.deploy(&["one"]).expect_code(2);
    assert!(without.stdout.contains("`--install` carries it there"), "{}", without.stdout);
    let planned = fleet.deploy(&["one", "--install", "--dry-run"]).success().stdout;
    assert!(
        planned.contains(&format!("one: would install smart-sync 0.1.0 as {}", path.display())),
        "{planned}"
    );
    assert!(planned.contains("one: done: smart-sync is not there yet"), "{planned}");
    assert!(!path.exists());

    let said = fleet.deploy(&["one", "--install"]).success().stdout;
    assert!(said.contains(&format!("one: smart-sync 0.1.0 is installed as {}", path.display())), "{said}");
    assert!(said.contains("one: applied: repos/tree branch:main number 1"), "{said}");
    assert!(is_program(&path));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
    assert_eq!((names(&path), fleet.version("one")), (vec!["smart-sync".to_owned()], "first".to_owned()));

    // Now it is there: one look, and the command. The other host has the same program elsewhere.
    fleet.order();
    let inode = fs::metadata(&path).unwrap().ino();
    let said = fleet.deploy(&["one", "two", "--install"]).success().stdout;
    assert!(!said.contains("is installed as"), "{said}");
    assert_eq!(fleet.order().len(), 4);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert!(!scene.installed("two").exists());
    // Without --install, what is configured is what runs.
    fleet.asked();
    fleet.deploy(&["one", "--", "status"]).success();
    assert!(fleet.asked()[0].ends_with(&format!("{} --json status", path.display())));
}

#[test]
fn another_version_is_replaced_as_a_whole_and_one_of_a_package_only_when_asked() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let (fleet, path) = (&scene.fleet, scene.installed("one"));
    let old = "#!/bin/sh\necho 'smart-sync 0.0.1'\n";
    fleet.write("one", "opt/smart-sync", old);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    scene.program(
        "one",
        "dpkg-query",
        &format!("[ \"$2\" = '{0}' ] && echo 'smart-sync: {0}'", path.display()),
    );
    let refused = fleet.deploy(&["one", "--install"]).expect_code(1);
    let expected = format!(
        "one: failed (status 1): {} belongs to the package smart-sync: smart-sync 0.0.1",
        path.display()
    );
    assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    assert!(refused.stdout.contains("add --replace"), "{}", refused.stdout);
    assert_eq!(fs::read_to_string(&path).unwrap(), old);
    assert_eq!(fleet.version("one"), "", "nothing was run");

    let said = fleet.deploy(&["one", "--install", "--replace"]).success().stdout;
    assert!(said.contains("in place of smart-sync 0.0.1"), "{said}");
    assert!(is_program(&path));
    assert_eq!(fleet.version("one"), "first");
}

#[test]
fn what_does_not_arrive_whole_is_not_placed() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let (fleet, path) = (&scene.fleet, scene.installed("one"));
    let old = "#!/bin/sh\necho 'smart-sync 0.0.1'\n";
    fleet.write("one", "opt/smart-sync", old);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let check = |damage: &str, status: i32, expected: &str| {
        fleet.write("one", "ssh", &format!("case $line in *mktemp*) {damage} ;; esac\n"));
        let ended = fleet.deploy(&["one", "two", "--install", "--canary", "1"]).expect_code(status);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(ended.stdout.contains("two: not tried"), "{}", ended.stdout);
        assert_eq!(names(&path), ["smart-sync"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), old);
    };
    check("line=\"head -c 100000 | $line\"", 7, "one: refused (status 7): what arrived is not what was sent");
    check("line=\"sed s/ELF/FLE/ | $line\"", 7, "what arrived is not what was sent");
    check("line=\"true\"", 1, "nobody said that the program is in its place");
    check("echo 'kex: reset' >&2; exit 255", 5, "one: not reached (status 5): kex: reset");
    // A file system that is full, or that nobody may write to.
    scene.program("one", "mktemp", "echo 'mktemp: no space' >&2; exit 1");
    check(":", 3, "one: failed (status 3): mktemp: no space");
    fs::remove_file(fleet.path("one", "bin/mktemp")).unwrap();
    fs::remove_file(fleet.path("one", "ssh")).unwrap();
    fleet.deploy(&["one", "--install"]).success();
    assert!(is_program(&path));
}

#[test]
fn a_machine_of_another_kind_is_known_before_anything_is_sent() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let fleet = &scene.fleet;
    scene.program("one", "uname", "case $1 in -s) echo Linux ;; *) echo vax ;; esac");
    let refused = fleet.deploy(&["one", "--install"]).expect_code(1);
    assert!(
        refused
            .stderr
            .contains("it is a machine of another kind: Linux vax, and this program is built for Linux "),
        "{}",
        refused.stderr
    );
    assert_eq!(fleet.order(), ["one"], "it was only looked at");
    assert!(!scene.installed("one").exists());
    // What has no shell says so.
    fleet.write("one", "ssh", "line=\"echo This account is not available.\"\n");
    let refused = fleet.deploy(&["one", "--install"]).expect_code(1);
    assert!(refused.stderr.contains("no POSIX shell answers there"), "{}", refused.stderr);
}
