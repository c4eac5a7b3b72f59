//! Packages of Gentoo, and the configuration of Portage.

use std::fs;

use smart_sync_tests::TestEnvironment;

use super::{CHECK, Machine, names};

#[test]
fn packages_are_pretended_before_they_are_merged_and_nothing_takes_them_back() {
    let environment = TestEnvironment::new();
    let emerge = "[[run]]\nemerge = { sets = [\"@world\"], getbinpkg = true, options = [\"--update\"], root = \"ROOT/mnt\" }\n";
    let machine = Machine::new(&environment, &format!("{emerge}{CHECK}"));
    environment.write("mnt/etc/conf.d/net", "by hand");
    let merge =
        "case \"$*\" in *--pretend*) echo would merge ;; *) touch ROOT/mnt/etc/conf.d/._cfg0000_net ;; esac";
    let merge = merge.replace("ROOT/", &machine.path("").to_string_lossy());
    machine.programs.add("emerge", &merge);
    machine.publish("one");
    let synced = machine.sync(&[]).success().stderr_contains("1 file of configuration waits to be merged");
    assert!(synced.stdout.contains("emerge @world (pretending): would merge"), "{}", synced.stdout);
    assert!(synced.stderr.contains("etc/conf.d/._cfg0000_net"), "{}", synced.stderr);
    insta::assert_snapshot!(machine.recorded());
    assert_eq!(fs::read_to_string(machine.path("mnt/etc/conf.d/net")).unwrap(), "by hand");
    // What cannot be done ends it before anything is.
    machine.programs.add("emerge", "case \"$*\" in *--pretend*) echo all ebuilds are masked; exit 1 ;; esac");
    machine.publish("two");
    machine.sync(&[]).expect_code(8).stderr_contains("all ebuilds are masked");
    assert_eq!(machine.recorded().lines().count(), 1);
    machine.programs.add("emerge", "");
    machine.publish("bad");
    machine.sync(&[]).expect_code(8).stderr_contains("stay as emerge left them");
    assert_eq!(machine.recorded().lines().count(), 2);
}

#[test]
fn portage_is_configured_by_lists_of_the_tree_and_goes_back_with_it() {
    let environment = TestEnvironment::new();
    let text = "[[run]]\nportage = { profile = \"17.1/desktop\", into = \"ROOT/portage\" }\n";
    let machine = Machine::new(&environment, &format!("{text}{CHECK}"));
    environment.write("portage/make.conf", "USE=\"own\"\n");
    environment.write("portage/package.use/own", "app-misc/own x\n");
    for (path, content) in [
        ("common.uses", "# for all\n*/* -X"),
        ("17.1/desktop.uses", "app-misc/a b\n"),
        ("common.pkgs", "app-misc/a\n"),
        ("common.conf", "FEATURES=\"buildpkg\"\n"),
        ("common.services", "touch /tmp/never\n"),
    ] {
        machine.host.write(path, content);
    }
    machine.publish("one");
    machine.sync(&[]).success().stderr_contains("add the line `source ");
    let read = |path: &str| fs::read_to_string(machine.path("portage").join(path)).unwrap();
    insta::assert_snapshot!(read("package.use/smart-sync"));
    assert!(read("make.conf.smart-sync").ends_with("FEATURES=\"buildpkg\"\n"));
    assert_eq!(names(machine.path("portage")), ["make.conf", "make.conf.smart-sync", "package.use", "sets"]);
    assert_eq!(names(machine.path("portage/package.use")), ["own", "smart-sync"]);

    // What is gone back to says what there is.
    let make_conf = format!("source {}\n", machine.path("portage/make.conf.smart-sync").display());
    environment.write("portage/make.conf", make_conf);
    fs::remove_file(machine.path("tree/common.pkgs")).unwrap();
    machine.host.write("common.mask", "app-misc/b\n");
    machine.publish("bad");
    let back = machine.sync(&[]).expect_code(8);
    assert!(!back.stderr.contains("source "), "{}", back.stderr);
    assert_eq!(names(machine.path("portage/sets")), ["smart-sync"]);
    assert_eq!(names(machine.path("portage/package.mask")), [""; 0]);

    // What a channel must not say refuses all of it.
    machine.host.write("common.conf", "FETCHCOMMAND=\"id\"\n");
    machine.host.write("common.uses", "app-misc/new c\n");
    machine.publish("two");
    machine.sync(&[]).expect_code(8).stderr_contains("common.conf: FETCHCOMMAND is for the host to decide");
    assert!(read("package.use/smart-sync").contains("*/* -X"));
}
