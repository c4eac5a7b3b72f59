//! What a kept ebuild tree names never goes, neither from a channel of distfiles nor of what came from upstream.

use std::fs;

use smart_sync_tests::hostile::Reply;
use smart_sync_tests::noise::noise;
use smart_sync_tests::upstream::{CHANNEL, Mirroring, TREE, upstream, write_manifest};
use smart_sync_tests::{Finished, Realm, TestEnvironment, program, skipped};

/// The server's own program, so many days from now; none where clocks cannot be set.
fn days_later(
    environment: &TestEnvironment,
    realm: &Realm,
    days: u32,
    arguments: &[&str],
) -> Option<Finished> {
    if environment.command("faketime").arg("--version").output().is_err() {
        skipped("faketime is not installed");
        return None;
    }
    let mut command = environment.command("faketime");
    command.args(["-f", &format!("+{days}d")]).arg(program::built("smart-sync-server"));
    Some(program::run(command.args(arguments).arg("--data").arg(realm.data())))
}

fn settings(realm: &Realm, more: &str) {
    let path = realm.data().join("server.toml");
    let text = fs::read_to_string(&path).expect("a server has settings") + more;
    fs::write(&path, text).expect("a file can be written");
}

#[test]
fn a_distfile_stays_as_long_as_a_kept_version_of_an_ebuild_tree_names_it() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    for (name, bytes) in [("a.tar", "of a"), ("b.tar", "of b"), ("c.tar", "of c")] {
        environment.write(&format!("dist/{name}"), bytes);
    }
    let publish_tree = |named: &[(&str, &[u8])]| {
        write_manifest(&environment, "thing", named);
        realm.publish_local(&environment, TREE, "main", &environment.path("tree"), &[]).success();
    };
    publish_tree(&[("a.tar", b"of a"), ("b.tar", b"of b")]);
    publish_tree(&[("b.tar", b"of b")]);
    let dist = environment.path("dist");
    let kind = ["--kind", "distfiles"];
    realm.publish_local(&environment, CHANNEL, "main", &dist, &kind).success();
    for name in ["a.tar", "c.tar"] {
        fs::remove_file(dist.join(name)).expect("it was written");
    }
    let replace = ["--kind", "distfiles", "--replace"];
    // Where nobody can say what is needed, nothing is published at all.
    let unknown = [&replace[..], &["--kept-by", "repos/none"]].concat();
    let refused = realm.publish_local(&environment, CHANNEL, "main", &dist, &unknown).expect_code(1);
    refused.stderr_contains("repos/none holds no tree");
    realm.publish_local(&environment, CHANNEL, "main", &dist, &replace).success();

    let dist = dist.to_str().expect("paths of tests are text");
    let again = ["publish-local", "--channel", CHANNEL, "--kind", "distfiles", dist];
    let asking = [&again[..], &["--kept-by", TREE]].concat();
    let Some(unasked) = days_later(&environment, &realm, 8, &again) else { return };
    unasked.success().stdout_contains("2 files would go by now").stdout_contains("the tree has 3 distfiles");
    // The older version of the tree is kept, and a host may be at it.
    let asked = days_later(&environment, &realm, 8, &asking).expect("clocks can be set").success();
    asked.stdout_contains("1 file that would go stay").stdout_contains("the tree has 2 distfiles");
    settings(&realm, &format!("[[retention]]\nchannels = [\"{TREE}\"]\nkeep = 1\n"));
    let replacing = [&asking[..], &["--replace"]].concat();
    days_later(&environment, &realm, 9, &replacing).expect("clocks can be set").success();
    let asked = days_later(&environment, &realm, 17, &asking).expect("clocks can be set").success();
    asked.stdout_contains("the tree has 1 distfile");

    let of_tree = ["publish-local", "--channel", "repos/x", "--kind", "tree", "--kept-by", TREE, dist];
    realm.run(&environment, &of_tree).expect_code(4).stderr_contains("--kept-by means nothing");
}

#[test]
fn files_from_upstream_are_forgotten_when_nothing_that_is_kept_names_them() {
    let environment = TestEnvironment::new();
    let (one, other) = (noise("one", 20_000), noise("other", 20_000));
    let (given_one, given_other) = (one.clone(), other.clone());
    let upstream = upstream(move |request| {
        Reply::Ok(if request.path.contains("one") { given_one.clone() } else { given_other.clone() })
    });
    let named: [(&str, &[u8]); 2] = [("one.tar", &one), ("other.tar", &other)];
    let scene = Mirroring::new(&environment, &[upstream.url()], &named);
    assert_eq!(scene.get("one.tar").expect(200).body, one);
    assert_eq!(scene.get("other.tar").expect(200).body, other);
    scene.status(2);
    let prune = ["mirror", "prune", "upstream"];
    scene.realm.run(&environment, &prune).expect_code(4).stderr_contains("nothing is forgotten: forget-days");
    settings(&scene.realm, &format!("[[retention]]\nchannels = [\"{TREE}\"]\nkeep = 1\n"));
    let path = scene.realm.data().join("server.toml");
    let text = fs::read_to_string(&path).expect("a server has settings");
    fs::write(&path, text.replace("[upstream]\n", "[upstream]\nforget-days = 30\n"))
        .expect("it can be written");

    scene.name_files("files", &[("one.tar", &one)]);
    // The names are learnt in the background: one that is new says that all are.
    scene.name_files("more", &[("new.tar", b"new")]);
    assert_eq!(scene.get("new.tar").status, 502, "upstream has something else");
    scene.realm.run(&environment, &prune).success().stdout_contains("0 files with 0 bytes");
    let Some(planned) = days_later(&environment, &scene.realm, 31, &prune) else { return };
    planned
        .success()
        .stdout_contains("other.tar  20000 bytes\n1 file with 20000 bytes")
        .stdout_contains("--yes");
    assert_eq!(scene.get("other.tar").expect(200).body, other);
    let yes = [&prune[..], &["--yes"]].concat();
    let pruned = days_later(&environment, &scene.realm, 31, &yes).expect("clocks can be set").success();
    pruned.stdout_contains("1 file forgotten");
    scene.status(1);
    assert_eq!(scene.get("one.tar").expect(200).body, one);
}
