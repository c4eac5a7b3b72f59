//! Kernels: what lies where they are booted from, and what boot loaders are told.

use std::fs;

use smart_sync_tests::program;
use smart_sync_tests::small_disk::in_namespace;
use smart_sync_tests::strace::KILL;
use smart_sync_tests::supervisors::{end_all, start_again, wait_until_none_stands_by};
use smart_sync_tests::{Strace, TestEnvironment};

use super::{CHECK, Machine, names};

const SYSTEMD_BOOT: &str = "[[run]]\nkernel = { loader = \"systemd-boot\", boot = \"ROOT/boot\", modules = \"ROOT/modules\", entry-options = \"root=LABEL=root ro\" }\n";

/// Publishes a kernel beside those that are in the tree, with what the script for `sh` makes below `lib/modules/VERSION`.
fn publish_kernel(machine: &Machine<'_>, version: &str, modules: &str) {
    publish_kernel_as(machine, version, modules, version);
}

/// The same as this version of the tree.
fn publish_kernel_as(machine: &Machine<'_>, version: &str, modules: &str, tree: &str) {
    let host = machine.host.host.environment();
    let directory = format!("kernels/{version}");
    for (name, content) in
        [("vmlinuz", "image"), ("System.Map", "map"), ("Kernel.Config", "config"), ("initramfs", "ram")]
    {
        machine.host.write(&format!("{directory}/{name}"), format!("{content} of {version}"));
    }
    let script = format!(
        "rm -rf made && mkdir -p made/lib/modules/{version}/kernel && cd made/lib/modules/{version}\n\
         echo module > kernel/a.ko; ln -s kernel/a.ko b.ko; ln -s /usr/src/linux build\n{modules}\n\
         cd ../../.. && tar --create --gzip --file '{}' lib",
        host.path(&format!("tree/{directory}/modules.tar.gz")).display()
    );
    program::run(host.command("sh").arg("-ec").arg(script)).success();
    machine.publish(tree);
}

fn kernels<'environment>(
    environment: &'environment TestEnvironment,
    triggers: &str,
) -> Machine<'environment> {
    let machine = Machine::new(environment, &format!("{triggers}{CHECK}"));
    for directory in ["boot/grub", "modules"] {
        fs::create_dir_all(machine.path(directory)).unwrap();
    }
    machine
}

/// Starts the machine again, and this kernel comes up.
fn boot_kernel(machine: &Machine<'_>, number: u32, version: &str) {
    let environment = machine.host.host.environment();
    start_again(environment, number);
    let name = environment.write(&format!("osrelease-{number}"), format!("{version}\n"));
    let mut mount = environment.command("mount");
    program::run(mount.arg("--bind").arg(name).arg("/proc/sys/kernel/osrelease")).success();
}

#[test]
fn whoever_goes_back_by_hand_boots_the_kernel_of_that_version() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let machine = kernels(&environment, SYSTEMD_BOOT);
    machine.programs.add("bootctl", "");
    publish_kernel(&machine, "6.9.1-test", "");
    machine.sync(&[]).expect_code(12);
    boot_kernel(&machine, 1, "6.9.1-test");
    machine.run(&["recover"]).success();
    fs::remove_dir_all(machine.path("tree/kernels/6.9.1-test")).unwrap();
    publish_kernel_as(&machine, "6.10.1-test", "", "next");
    machine.sync(&[]).expect_code(12);
    boot_kernel(&machine, 2, "6.10.1-test");
    machine.run(&["recover"]).success();
    machine.recorded();
    let shown = machine.run(&["rollback", "--dry-run"]).success().stdout;
    assert!(shown.contains("would place VERSION in "), "{shown}");
    machine.run(&["rollback"]).expect_code(12).stderr_contains("it takes a reboot");
    // It ran before, and is the default at once.
    assert_eq!(machine.recorded(), "bootctl set-default smart-sync-6.9.1-test.conf\n");
    assert_eq!(names(machine.path("modules")), ["6.10.1-test", "6.9.1-test"]);
}

#[test]
fn a_rebuild_that_brought_a_kernel_takes_it_away_again() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let machine = kernels(&environment, SYSTEMD_BOOT);
    machine.programs.add("bootctl", "");
    publish_kernel(&machine, "6.9.1-test", "");
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["rebuild"]).expect_code(12);
    assert_eq!(names(machine.path("boot/loader/entries")), ["smart-sync-6.9.1-test.conf"]);
    // Another kernel came up. The tree stays, and what was placed for it goes.
    start_again(&environment, 1);
    machine.run(&["recover"]).expect_code(8).stderr_contains("the tree in");
    assert_eq!(machine.recorded(), "bootctl set-oneshot smart-sync-6.9.1-test.conf\nbootctl set-oneshot \n");
    assert_eq!(names(machine.path("boot/loader/entries")), [""; 0]);
    assert_eq!(names(machine.path("modules")), [""; 0]);
    assert!(machine.host.seen().join("kernels/6.9.1-test/vmlinuz").exists());
    machine.run(&["recover"]).success();
}

#[test]
fn a_kernel_is_booted_once_and_goes_with_the_update_that_brought_it() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let machine = kernels(&environment, SYSTEMD_BOOT);
    // What an entry names is there when the boot loader is told of it.
    let there = "version=${2#smart-sync-}; test -z \"$2\" || test -s \"ROOT/boot/vmlinuz-${version%.conf}\"";
    machine.programs.add("bootctl", &there.replace("ROOT/", &machine.path("").to_string_lossy()));
    publish_kernel(&machine, "6.9.1-test", "");
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["rebuild"]).expect_code(12).stderr_contains("a reboot is pending");
    assert_eq!(machine.recorded(), "bootctl set-oneshot smart-sync-6.9.1-test.conf\n");
    let installed = [
        "System.map-6.9.1-test",
        "config-6.9.1-test",
        "grub",
        "initramfs-6.9.1-test.img",
        "loader",
        "vmlinuz-6.9.1-test",
    ];
    assert_eq!(names(machine.path("boot")), installed);
    assert_eq!(names(machine.path("modules")), ["6.9.1-test"]);
    assert_eq!(names(machine.path("modules/6.9.1-test")), [".smart-sync", "b.ko", "kernel"]);
    assert_eq!(fs::read_to_string(machine.path("modules/6.9.1-test/b.ko")).unwrap(), "module\n");
    let entry = fs::read_to_string(machine.path("boot/loader/entries/smart-sync-6.9.1-test.conf")).unwrap();
    insta::assert_snapshot!(entry);
    boot_kernel(&machine, 1, "6.9.1-test");
    machine.run(&["recover"]).success();
    assert_eq!(machine.recorded(), "bootctl set-default smart-sync-6.9.1-test.conf\n");

    fs::remove_dir_all(machine.path("tree/kernels/6.9.1-test")).unwrap();
    publish_kernel_as(&machine, "6.10.1-test", "", "next");
    let shown = machine.sync(&["--dry-run"]).success().stdout;
    assert!(shown.contains("would place VERSION in "), "{shown}");
    assert!(shown.contains("would run bootctl set-oneshot smart-sync-VERSION.conf\n"), "{shown}");
    machine.sync(&[]).expect_code(12).stderr_contains("a reboot is pending");
    // All is well after the reboot, but it is not that kernel which runs.
    start_again(&environment, 2);
    machine.run(&["recover"]).expect_code(8).stderr_contains("was started again, and runs something else");
    assert_eq!(machine.recorded(), "bootctl set-oneshot smart-sync-6.10.1-test.conf\nbootctl set-oneshot \n");
    assert_eq!(names(machine.path("boot")), installed);
    assert_eq!(names(machine.path("boot/loader/entries")), ["smart-sync-6.9.1-test.conf"]);
    assert_eq!(names(machine.path("modules")), ["6.9.1-test"]);

    // Confirmed, it stays, and so does the one before.
    machine.publish("good");
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["rebuild"]).expect_code(12);
    boot_kernel(&machine, 3, "6.10.1-test");
    machine.run(&["recover"]).success();
    assert_eq!(names(machine.path("modules")), ["6.10.1-test", "6.9.1-test"]);
}

#[test]
fn kernels_whose_archives_lead_out_or_that_others_placed_are_refused() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let machine = kernels(&environment, SYSTEMD_BOOT);
    machine.programs.add("bootctl", "");
    machine.publish("one");
    machine.sync(&[]).success().stderr_contains("holds no kernel");
    let refused = |version: &str, modules: &str, expected: &str| {
        publish_kernel(&machine, version, modules);
        machine.sync(&[]).expect_code(8).stderr_contains(expected);
        assert_eq!(names(machine.path("modules")), [""; 0]);
        fs::remove_dir_all(machine.path(&format!("tree/kernels/{version}"))).unwrap();
    };
    refused("6.9.1-test", "ln -s /etc kernel/etc", "kernel/etc is a link that leads out of them");
    refused("6.9.2-test", "ln -s ../../../../x kernel/x", "kernel/x is a link that leads out of them");
    refused("6.9.3-test", "echo x > ../x", "lib/modules/x is not one of them");
    refused("6.9.4-test", "mkdir ../../other; echo x > ../../other/x", "lib/other/x is not one of them");
    assert_eq!(names(machine.path("boot")), ["grub"]);
    environment.write("boot/vmlinuz-6.9.5-test", "of somebody else");
    refused("6.9.5-test", "", "somebody else has put it there");
    assert_eq!(fs::read_to_string(machine.path("boot/vmlinuz-6.9.5-test")).unwrap(), "of somebody else");
    // The very same image is taken over, and stays when the update goes.
    environment.write("boot/vmlinuz-6.9.6-test", "image of 6.9.6-test");
    publish_kernel_as(&machine, "6.9.6-test", "", "bad");
    machine.sync(&[]).expect_code(12);
    start_again(&environment, 1);
    machine.run(&["recover"]).expect_code(8);
    assert!(machine.path("boot/vmlinuz-6.9.6-test").exists());
}

#[test]
fn grub_boots_a_kernel_once_by_the_name_that_it_gave_it() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let text = "[[run]]\nkernel = { loader = \"grub\", boot = \"ROOT/boot\", modules = \"ROOT/modules\", from = \"kernels\" }\n";
    let machine = kernels(&environment, text);
    let script = "for image in ROOT/boot/vmlinuz-*; do\n\
                  version=${image##*vmlinuz-}\n\
                  printf \"menuentry 'Linux' \\$menuentry_id_option 'gnulinux-$version-abc' {\\n\\tlinux /vmlinuz-$version ro\\n}\\n\"\n\
                  done > $2";
    machine.programs.add("grub-mkconfig", &script.replace("ROOT/", &machine.path("").to_string_lossy()));
    for program in ["grub-reboot", "grub-set-default", "grub-editenv"] {
        machine.programs.add(program, "");
    }
    publish_kernel(&machine, "6.9.1-test", "");
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["rebuild"]).expect_code(12);
    boot_kernel(&machine, 1, "6.9.1-test");
    machine.run(&["recover"]).success();
    // Modules may be a directory of the tree as well; its images may have their version in their names.
    machine.host.write("kernels/vmlinuz-6.10.1-test", "image");
    machine.host.write("kernels/lib/modules/6.10.1-test/kernel/a.ko", "module");
    machine.publish("two");
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["rebuild"]).expect_code(12);
    assert_eq!(names(machine.path("modules/6.10.1-test")), [".smart-sync", "kernel"]);
    assert_eq!(fs::read_to_string(machine.path("modules/6.10.1-test/kernel/a.ko")).unwrap(), "module");
    boot_kernel(&machine, 2, "6.10.1-test");
    machine.run(&["recover"]).success();
    insta::assert_snapshot!(machine.recorded());
    // With nothing new, nothing is written.
    let before = fs::metadata(machine.path("boot/vmlinuz-6.10.1-test")).unwrap().modified().unwrap();
    machine.publish("three");
    machine.sync(&["--skip-rebuild"]).success();
    machine.run(&["rebuild"]).success();
    assert_eq!(fs::metadata(machine.path("boot/vmlinuz-6.10.1-test")).unwrap().modified().unwrap(), before);
}

/// What an entry names is there as a whole, and modules are as a whole or not there.
fn assert_bootable(machine: &Machine<'_>, version: &str, context: &str) {
    let read = |path: String| fs::read_to_string(machine.path(&path));
    if let Ok(entry) = read(format!("boot/loader/entries/smart-sync-{version}.conf")) {
        assert!(entry.ends_with("root=LABEL=root ro\n"), "{context}: {entry}");
        let image = read(format!("boot/vmlinuz-{version}"));
        assert_eq!(image.ok(), Some(format!("image of {version}")), "{context}");
        let ram = read(format!("boot/initramfs-{version}.img"));
        assert_eq!(ram.ok(), Some(format!("ram of {version}")), "{context}");
        assert!(machine.path(&format!("modules/{version}")).exists(), "{context}");
    }
    if machine.path(&format!("modules/{version}")).exists() {
        let modules = names(machine.path(&format!("modules/{version}")));
        assert_eq!(modules, [".smart-sync", "b.ko", "kernel"], "{context}");
    }
}

#[test]
fn an_entry_names_what_is_there_whenever_the_run_is_killed() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let machine = kernels(&environment, SYSTEMD_BOOT);
    machine.programs.add("bootctl", "");
    let version = "6.9.1-test";
    publish_kernel(&machine, version, "");
    machine.sync(&["--skip-rebuild"]).success();
    let mut rebuild = machine.host.command(&["rebuild"]);
    machine.programs.lead(&mut rebuild);
    let clear = || {
        let targets = fs::read_dir(machine.host.state().join("targets")).unwrap();
        let notes = targets.map(|target| target.unwrap().path().join("kernel"));
        for directory in notes.chain([machine.path("boot"), machine.path("modules")]) {
            let _ = fs::remove_dir_all(&directory);
        }
        // A reboot that the run before waits for is not what this is about.
        for target in fs::read_dir(machine.host.state().join("targets")).unwrap() {
            let _ = fs::remove_file(target.unwrap().path().join("pending"));
        }
        end_all(&machine.host.state());
        fs::create_dir_all(machine.path("boot")).unwrap();
        fs::create_dir_all(machine.path("modules")).unwrap();
    };
    let mut kills = 0;
    for call in ["rename", "fsync", "syncfs"] {
        for when in 1..40 {
            clear();
            let run = strace.run(&rebuild, call, &when.to_string(), KILL);
            if run.code.is_some() {
                break;
            }
            kills += 1;
            let context = format!("killed at {call} {when}");
            assert_bootable(&machine, version, &context);
            // What was begun is taken back, by what stands by or by the next run, and then it is done.
            wait_until_none_stands_by(&machine.host.state());
            assert_bootable(&machine, version, &context);
            let next = machine.run(&["rebuild"]);
            if next.code != Some(12) {
                next.expect_code(8);
                assert_eq!(names(machine.path("modules")), [""; 0], "{context}");
                machine.run(&["rebuild"]).expect_code(12);
            }
            assert_bootable(&machine, version, &context);
            let boot = [
                "System.map-6.9.1-test",
                "config-6.9.1-test",
                "initramfs-6.9.1-test.img",
                "loader",
                "vmlinuz-6.9.1-test",
            ];
            assert_eq!(names(machine.path("boot")), boot, "{context}");
            assert_eq!(
                names(machine.path("boot/loader/entries")),
                ["smart-sync-6.9.1-test.conf"],
                "{context}"
            );
            assert_eq!(names(machine.path("modules")), [version], "{context}");
        }
    }
    assert!(kills >= 12, "only {kills} runs were killed");
}

#[test]
fn the_kernel_that_runs_is_neither_removed_nor_replaced() {
    let environment = TestEnvironment::new();
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let running = running.trim();
    let machine = kernels(&environment, SYSTEMD_BOOT);
    machine.programs.add("bootctl", "");
    machine.publish("one");
    machine.sync(&[]).success();
    publish_kernel_as(&machine, running, "", "bad");
    machine.sync(&[]).expect_code(8).stderr_contains("stays: it runs");
    let image = || fs::read_to_string(machine.path(&format!("boot/vmlinuz-{running}"))).unwrap();
    assert_eq!(image(), format!("image of {running}"));
    assert!(machine.path(&format!("modules/{running}/kernel/a.ko")).exists());
    // Confirmed while it runs, it is what is booted, and nothing waits for a reboot.
    machine.recorded();
    machine.publish("two");
    machine.sync(&[]).success();
    machine.run(&["rebuild"]).success();
    assert_eq!(machine.recorded(), format!("bootctl set-default smart-sync-{running}.conf\n").repeat(2));
    // Another build of the version would leave nothing to go back to.
    machine.host.write(&format!("kernels/{running}/vmlinuz"), "another image");
    machine.publish("three");
    machine.sync(&[]).expect_code(8).stderr_contains("runs or ran last");
    assert_eq!(image(), format!("image of {running}"));
}
