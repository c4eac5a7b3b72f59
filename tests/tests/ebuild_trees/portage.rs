//! Stock Portage.

use std::fs;

use smart_sync_tests::{Finished, Gentoo, TestEnvironment};

use crate::scene::Scene;

/// A host whose only repository is brought by `emaint sync` from a URL.
fn follow(gentoo: &Gentoo<'_>, kind: &str, url: &str) {
    let location = gentoo.path("synced");
    fs::create_dir_all(gentoo.path("tmp")).expect("a directory can be made");
    gentoo.write(
        "etc/portage/repos.conf",
        &format!(
            "[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = {}\nsync-type = {kind}\nsync-uri = {url}\nauto-sync = yes\n\
             sync-rsync-verify-metamanifest = no\nsync-git-verify-commit-signature = no\n",
            location.display()
        ),
    );
}

fn sync(gentoo: &Gentoo<'_>) -> Finished {
    let mut command = gentoo.command("emaint");
    smart_sync_tests::program::run(command.args(["sync", "--repo", "gentoo"]))
}

/// The tree that Portage knows of a system, in the scene's own.
fn publish_repository(scene: &Scene<'_>, gentoo: &Gentoo<'_>) {
    for path in ["profiles/repo_name", "profiles/arch.list", "profiles/categories", "metadata/layout.conf"] {
        scene.write(path, fs::read(gentoo.path(&format!("repository/{path}"))).expect("every system has it"));
    }
    for path in ["profiles/default/eapi", "profiles/default/make.defaults"] {
        scene.write(path, fs::read(gentoo.path(&format!("repository/{path}"))).expect("every system has it"));
    }
    scene.publish();
}

#[track_caller]
fn check_synced(scene: &Scene<'_>, gentoo: &Gentoo<'_>) {
    let synced = gentoo.path("synced/").display().to_string();
    let compared = scene.rsync(&["-rlpnic", "--delete", "--exclude", "/.git", "tree/", &synced]).success();
    assert_eq!(compared.stdout, "", "Portage has another tree");
}

#[test]
fn portage_syncs_by_git() {
    let environment = TestEnvironment::new();
    let Some(gentoo) = Gentoo::new(&environment, "gentoo") else { return };
    let scene = Scene::new(&environment);
    publish_repository(&scene, &gentoo);
    follow(&gentoo, "git", &scene.repository("repos/gentoo"));
    sync(&gentoo).success();
    check_synced(&scene, &gentoo);
    for number in [2, 3] {
        scene.write(&format!("app-test/hello/hello-{number}.ebuild"), "EAPI=8\n");
        fs::remove_file(environment.path(&format!("tree/app-test/hello/hello-{}.ebuild", number - 1)))
            .unwrap();
        scene.publish();
        sync(&gentoo).success();
        check_synced(&scene, &gentoo);
    }
}

#[test]
fn portage_syncs_by_rsync() {
    let environment = TestEnvironment::new();
    let Some(gentoo) = Gentoo::new(&environment, "gentoo") else { return };
    let scene = Scene::new(&environment);
    publish_repository(&scene, &gentoo);
    scene.wait_for_rsync(1);
    follow(&gentoo, "rsync", scene.module().trim_end_matches('/'));
    sync(&gentoo).success();
    check_synced(&scene, &gentoo);
    let unchanged = sync(&gentoo).success();
    assert!(unchanged.stdout.contains("You are already up to date"), "{unchanged:?}");

    scene.write("metadata/timestamp.chk", "Mon, 30 Nov 2026 10:30:00 +0000\n");
    scene.write("app-test/hello/hello-2.ebuild", "EAPI=8\n");
    fs::remove_file(environment.path("tree/app-test/hello/hello-1.ebuild")).unwrap();
    scene.publish();
    scene.wait_for_rsync(2);
    let updated = sync(&gentoo).success();
    assert!(updated.stdout.contains("Number of regular files transferred: 2"), "{updated:?}");
    check_synced(&scene, &gentoo);
}
