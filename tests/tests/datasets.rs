//! Datasets of ZFS, with the real client and a program that stands in for `zfs`.

use std::fs;

use smart_sync_tests::datasets::{asked, make_dataset};
use smart_sync_tests::versioned::tree_without;
use smart_sync_tests::{Host, TestEnvironment, Versioned, program};

fn publish(host: &Versioned<'_>, text: &str) {
    host.write("file", text);
    host.host.publish().success();
}

#[test]
fn a_dataset_is_changed_by_commands_that_name_one_snapshot() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "zfs", "machine");
    for text in ["one", "two", "three"] {
        publish(&host, text);
        host.sync().success();
    }
    host.run(&["prune", "--keep", "2", "--yes"]).success();
    let name = format!("pool{}", host.target().canonicalize().unwrap().display());
    let allowed = |line: &String| {
        let words: Vec<&str> = line.split(' ').collect();
        let is_ours = |word: &str| word.starts_with(&format!("{name}@smart-sync-"));
        match words[1] {
            "list" => true,
            "snapshot" | "destroy" => words.len() == 3 && is_ours(words[2]),
            "hold" | "release" => words.len() == 4 && words[2] == "smart-sync" && is_ours(words[3]),
            "holds" => words.len() == 4 && words[2] == "-H" && is_ours(words[3]),
            _ => false,
        }
    };
    let asked = asked(&host.target());
    assert!(asked.iter().all(allowed), "{asked:#?}");
    assert_eq!(asked.iter().filter(|line| line.contains(" destroy ")).count(), 1);
    assert_eq!(host.generations(), (vec![2, 3], 3));
}

#[test]
fn an_update_that_is_not_healthy_is_changed_back() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "zfs", "machine");
    environment.write(
        "etc/config.toml",
        format!(
            "[targets.\"{}\"]\nkind = \"zfs\"\n[[targets.\"{0}\".check]]\ncommand = [\"sh\", \"-c\", \"! grep -q broken file\"]\nretries = 0\n",
            host.target().display()
        ),
    );
    publish(&host, "well\n");
    host.sync().success();
    let before = tree_without(&host.seen(), &[]);
    publish(&host, "broken\n");
    host.sync().expect_code(8).stderr_contains("is back at generation 1");
    assert_eq!(tree_without(&host.seen(), &[]), before);
    assert_eq!(host.generations(), (vec![1, 2], 1));
    // Nothing waits for a confirmation any more.
    host.run(&["recover"]).success();
    host.run(&["rollback", "2"]).success();
    host.run(&["rollback"]).success();
    host.run(&["recover"]).success();
    assert_eq!(host.generations(), (vec![1, 2], 1));
}

#[test]
fn going_back_fetches_nothing_and_says_when_a_snapshot_is_gone() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "zfs", "machine");
    publish(&host, "one\n");
    host.sync().success();
    publish(&host, "two\n");
    host.sync().success();
    host.run(&["rollback"]).success().stdout_contains("is at generation 1 now");
    assert_eq!(fs::read_to_string(host.seen().join("file")).unwrap(), "one\n");
    host.run(&["rollback", "2"]).success();
    let snapshots = host.target().join(".zfs/snapshot");
    for name in fs::read_dir(&snapshots).unwrap() {
        let path = name.unwrap().path();
        if fs::read_to_string(path.join("file")).unwrap() == "one\n" {
            fs::remove_dir_all(&path).unwrap();
            fs::remove_dir_all(host.target().join(".zfs/holds").join(path.file_name().unwrap())).unwrap();
        }
    }
    host.run(&["rollback"]).success().stderr_contains("the snapshot of generation 1 is gone");
    assert_eq!(fs::read_to_string(host.seen().join("file")).unwrap(), "one\n");
    assert_eq!(fs::read_dir(&snapshots).unwrap().count(), 2);
}

#[test]
fn what_is_no_dataset_or_has_no_program_is_refused_and_left_alone() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "zfs", "machine");
    publish(&host, "one\n");
    fs::remove_dir(host.target().join(".zfs")).unwrap();
    host.sync().expect_code(1).stderr_contains("not a ZFS filesystem");
    make_dataset(host.target().parent().unwrap());
    host.sync().expect_code(4).stderr_contains("it is a directory of the dataset pool");
    assert_eq!(fs::read_dir(host.target()).unwrap().count(), 0);
    let mut without = host.sync_command();
    without.env("PATH", environment.path("nowhere"));
    program::run(&mut without).expect_code(2).stderr_contains("the program `zfs` is not installed");
    // Nothing was applied, so another kind can still be chosen.
    let url = host.host.realm.server().url();
    host.run(&["--channel", Host::CHANNEL, "--server", url, "--kind", "directory"]).success();
    host.sync().expect_code(6).stderr_contains("is kept as `directory`");
}
