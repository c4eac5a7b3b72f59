//! What of a directory of patch files is installed, and the report of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use smart_sync_tests::{PublishingHost, TestEnvironment, program};

#[test]
fn a_report_is_published_with_what_everybody_may_read() {
    let environment = TestEnvironment::new();
    let host = PublishingHost::new(&environment);
    let patch = environment.path("patchfiles");
    let root = environment.path("root");
    for directory in ["patchfiles/etc", "patchfiles/portage", "root/etc/portage"] {
        fs::create_dir_all(environment.path(directory)).unwrap();
    }
    let write = |name: &str, text: &str| fs::write(environment.path(name), text).unwrap();
    write("patchfiles/etc/hosts", "127.0.0.1 localhost\n");
    write("patchfiles/etc/motd", "welcome\n");
    write("patchfiles/etc/shadow", "root:new\n");
    write("patchfiles/portage/make.conf", "USE=\"new\"\n");
    symlink("/usr/share/zoneinfo/UTC", patch.join("etc/localtime")).unwrap();
    write("root/etc/hosts", "127.0.0.1 localhost\n");
    write("root/etc/shadow", "root:secret\n");
    write("root/etc/portage/make.conf", "USE=\"old\"\n");
    fs::set_permissions(root.join("etc/shadow"), fs::Permissions::from_mode(0o640)).unwrap();
    let patched = |more: &[&str]| {
        let mut command = environment.client();
        command.arg("patched").arg(&patch).arg("--root").arg(&root).args(more);
        command.env("SMART_SYNC_TOKEN", host.realm.token());
        program::run(&mut command)
    };
    let expected = "missing    /etc/localtime\n\
                    missing    /etc/motd\n\
                    differs    /etc/portage/make.conf\n\
                    differs    /etc/shadow\n";
    let found = patched(&[]).expect_code(11);
    let is_ours = |line: &&str| line.starts_with("[smart-sync]");
    let lines: Vec<&str> = found.stdout.lines().filter(|line| !is_ours(line)).collect();
    assert_eq!(lines.join("\n") + "\n", expected);
    assert!(found.stdout.contains("5 files compared: 1 installed as they are, 2 differ, 2 missing"));
    assert!(patched(&["--diff"]).expect_code(11).stdout.contains("-root:secret\n+root:new\n"));

    let key = host.realm.key("publish");
    let key = key.to_str().unwrap();
    let report = ["--publish", "repos/report", "--key", key];
    patched(&report).expect_code(11);
    assert_eq!(host.file("repos/report/main/patched.txt"), format!("same       /etc/hosts\n{expected}"));
    let differences = host.file("repos/report/main/differences.diff");
    assert!(differences.contains("-USE=\"old\"\n+USE=\"new\"\n"), "{differences}");
    assert!(!differences.contains("secret"), "{differences}");
    assert!(patched(&report).expect_code(11).stdout.contains("is that tree already"));

    // When all of it is installed, the report says so.
    for name in ["motd", "shadow"] {
        fs::copy(patch.join("etc").join(name), root.join("etc").join(name)).unwrap();
    }
    fs::copy(patch.join("portage/make.conf"), root.join("etc/portage/make.conf")).unwrap();
    symlink("/usr/share/zoneinfo/UTC", root.join("etc/localtime")).unwrap();
    patched(&report).success();
    assert_eq!(host.file("repos/report/main/differences.diff"), "");

    patched(&["--map", "nonsense"]).expect_code(4);
    patched(&["--publish", "repos/report"]).expect_code(4);
}
