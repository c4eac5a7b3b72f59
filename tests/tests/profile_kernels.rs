//! Kernels that come with a set of targets: what becomes of the set, and of the kernel, where that does not come up.

use std::fs;

use smart_sync_tests::small_disk::in_namespace;
use smart_sync_tests::supervisors::start_again;
use smart_sync_tests::{Finished, Profiled, StandIns, TestEnvironment, program};

const SITE: &str = r#"
[targets."ROOT/srv/site"]
channel = "repos/site"
kind = "generations"
"#;
const TOOL: &str = r#"
[targets."ROOT/srv/tool"]
channel = "repos/tool"
kind = "generations"
"#;
const KERNEL: &str = r#"
[[targets."ROOT/srv/tool".run]]
kernel = { loader = "systemd-boot", boot = "ROOT/boot", modules = "ROOT/modules", entry-options = "root=LABEL=root ro" }
"#;
const IMAGE: &str = "boot/vmlinuz-6.9.1-test";
const ALL: [&str; 2] = ["site", "tool"];

/// A host that pulls a kernel with its tools, in a mount namespace in which it can be started again.
struct Machine<'environment> {
    host: Profiled<'environment>,
    programs: StandIns,
    environment: &'environment TestEnvironment,
}

impl<'environment> Machine<'environment> {
    /// One whose profile was pulled once: these tables of it.
    fn new(environment: &'environment TestEnvironment, before: &str) -> Self {
        let host = Profiled::new(environment);
        host.configure("allow = [\"run\", \"check\"]\n");
        for name in ALL {
            host.publish(&format!("repos/{name}"), "main", &[("version", "one")]);
        }
        host.publish_profile(Profiled::PROFILE, "main", before);
        host.pull(&[]).success();
        host.publish_profile(Profiled::PROFILE, "main", &format!("{SITE}{TOOL}{KERNEL}"));
        let programs = StandIns::new(environment);
        programs.add("bootctl", "");
        for directory in ["boot", "modules"] {
            fs::create_dir(environment.path(directory)).expect("a directory can be made");
        }
        Self { host, programs, environment }
    }

    fn publish_kernel(&self) {
        self.host.publish("repos/site", "main", &[("version", "two")]);
        let kernel = [
            ("version", "two"),
            ("6.9.1-test/vmlinuz", "an image"),
            ("6.9.1-test/lib/modules/6.9.1-test/kernel/a.ko", "a module"),
        ];
        self.host.publish("repos/tool", "main", &kernel);
    }

    fn run(&self, words: &[&str]) -> Finished {
        let mut command = self.host.command(words);
        self.programs.lead(&mut command);
        program::run(&mut command)
    }

    fn pull(&self) -> Finished {
        self.run(&["pull", Profiled::PROFILE])
    }

    fn has_kernel(&self) -> bool {
        self.environment.path(IMAGE).exists()
    }
}

#[test]
fn a_kernel_that_did_not_come_up_takes_all_targets_back() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let machine = Machine::new(&environment, &format!("{SITE}{TOOL}"));
    machine.publish_kernel();
    machine.pull().expect_code(12).stderr_contains("a reboot is pending");
    assert!(machine.has_kernel());
    // All is well after the reboot, but it is not that kernel which runs.
    start_again(&environment, 1);
    machine.run(&["recover"]).expect_code(8).stderr_contains("was started again, and runs something else");
    assert_eq!(machine.host.versions(&ALL), ["one", "one"]);
    assert!(!machine.has_kernel());
    let told = machine.programs.recorded();
    assert_eq!(told, "bootctl set-oneshot smart-sync-6.9.1-test.conf\nbootctl set-oneshot \n");
    machine.host.assert_nothing_is_left();
}

#[test]
fn what_a_kernel_of_a_first_version_did_is_taken_back_and_its_tree_stays() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let machine = Machine::new(&environment, SITE);
    machine.publish_kernel();
    machine.pull().expect_code(12);
    assert!(machine.has_kernel());
    // It is not that kernel which comes up.
    start_again(&environment, 1);
    machine
        .run(&["recover"])
        .expect_code(8)
        .stderr_contains("srv/tool: what ran before is in its place again; the tree stays")
        .stderr_contains("all other targets of profiles/host are back at set 1");
    assert_eq!(machine.host.versions(&ALL), ["one", "two"]);
    assert!(!machine.has_kernel());
    let tool = machine.host.target("tool");
    let status = machine.run(&["status", "--json", "--target", tool.to_str().expect("it is text")]).success();
    assert!(status.stdout.contains(r#""health":"rolled-back""#), "{}", status.stdout);
    machine.pull().expect_code(8).stderr_contains("--retry-failed tries them again");
}
