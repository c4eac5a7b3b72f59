//! Several hosts by the real ssh and a real sshd, which listens on loopback with keys and a configuration of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use smart_sync_tests::folding_disk::in_namespace_of_root;
use smart_sync_tests::{Host, TestEnvironment, program, skipped};

/// How often another port is tried, when somebody else was faster.
const PORTS_MAX: u32 = 20;

/// A daemon that lets the user of the test in; it ends when this is dropped.
struct Sshd {
    child: Child,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps daemons where an ordinary user's PATH does not look.
    let places = std::env::split_paths(&search).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|place| place.join(name)).find(|path| path.is_file())
}

fn key(environment: &TestEnvironment, name: &str) -> PathBuf {
    let path = environment.path(&format!("ssh/{name}"));
    fs::create_dir_all(environment.path("ssh")).expect("a directory can be made");
    let mut command = environment.command("ssh-keygen");
    program::run(command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path)).success();
    path
}

/// Starts the daemon. What it runs has the state and the configuration of the test, and the program if that is there.
fn serve(environment: &TestEnvironment, sshd: &Path, has_program: bool) -> Option<Sshd> {
    let (host_key, user_key) = (key(environment, "host_key"), key(environment, "user_key"));
    fs::copy(user_key.with_extension("pub"), environment.path("ssh/authorized_keys"))
        .expect("a file can be copied");
    let bin = program::built("smart-sync");
    let bin = bin.parent().expect("it lies in a directory").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = if has_program { format!("{bin}:{path}") } else { path };
    let text = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
         SetEnv \"PATH={path}\" \"SMART_SYNC_CONFIG={}\" \"SMART_SYNC_STATE_DIR={}\"\n",
        host_key.display(),
        environment.path("ssh/authorized_keys").display(),
        environment.path("remote/config.toml").display(),
        environment.state_directory().display(),
    );
    let config = environment.write("ssh/sshd_config", text);
    for _ in 0..PORTS_MAX {
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).ok()?.port();
        let mut command = environment.command(sshd);
        command.args(["-D", "-e", "-o", &format!("ListenAddress=127.0.0.1:{port}"), "-f"]).arg(&config);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        let said = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let mut lines = said.lines().map_while(Result::ok);
        let listens = lines.by_ref().any(|line| line.contains("Server listening on"));
        // What it says later is read, so that it can go on.
        std::thread::spawn(move || lines.for_each(drop));
        let sshd = Sshd { child, port };
        if listens {
            return Some(sshd);
        }
    }
    None
}

/// Writes the configuration of ssh, and an `ssh` that uses it in place of that of whoever runs the test.
fn configure_client(environment: &TestEnvironment, port: u16) -> PathBuf {
    let key = fs::read_to_string(environment.path("ssh/host_key.pub")).expect("the key was made");
    environment.write("ssh/known_hosts", format!("[127.0.0.1]:{port} {key}"));
    let user = program::run(Command::new("id").arg("-un")).success().stdout;
    let path = |name: &str| environment.path(&format!("ssh/{name}"));
    let text = format!(
        "Host web\nHostName 127.0.0.1\nPort {port}\nUser {}\nIdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\n\
         ControlMaster auto\nControlPath {}/%C\nControlPersist 300\n",
        user.trim(),
        path("user_key").display(),
        path("known_hosts").display(),
        environment.root().display(),
    );
    let config = environment.write("ssh/config", text);
    let ssh = find("ssh").expect("it was looked for");
    let text = format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", ssh.display(), config.display());
    let wrapper = environment.write("bin/ssh", text);
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))
        .expect("the files of the test are its own");
    wrapper
}

/// Finds sshd, and makes room for it; nothing where it cannot run.
fn find_sshd() -> Option<PathBuf> {
    let (Some(sshd), Some(_)) = (find("sshd"), find("ssh")) else {
        skipped("sshd and ssh are not installed");
        return None;
    };
    if rustix::process::geteuid().is_root() {
        // As root, it needs a directory in /run that this machine may not have.
        if !in_namespace_of_root() {
            return None;
        }
        program::run(Command::new("mount").args(["-t", "tmpfs", "none", "/run"])).success();
        fs::create_dir("/run/sshd").expect("it is an empty file system");
    }
    Some(sshd)
}

/// A host that ssh reaches as `web`, and the program that does it; nothing where that is not possible.
fn reach(environment: &TestEnvironment, sshd: &Path, has_program: bool) -> Option<(Sshd, PathBuf)> {
    let Some(server) = serve(environment, sshd, has_program) else {
        skipped("no sshd listens here");
        return None;
    };
    let ssh = configure_client(environment, server.port);
    let reached = program::run(environment.command(&ssh).args(["-o", "BatchMode=yes", "web", "true"]));
    if reached.code != Some(0) {
        skipped(&format!("sshd lets this user not in: {}", reached.stderr.trim()));
        return None;
    }
    Some((server, ssh))
}

#[test]
fn the_program_is_carried_over_a_connection_of_the_real_ssh() {
    let Some(sshd) = find_sshd() else { return };
    let environment = TestEnvironment::new();
    let host = Host::new(&environment);
    environment.write("tree/version", "one");
    host.publish().success();
    let Some((_server, ssh)) = reach(&environment, &sshd, false) else { return };
    let placed = environment.path("opt/bin/smart-sync");
    environment.write("etc/config.toml", format!("[hosts.web]\nprogram = \"{}\"\n", placed.display()));
    environment.write("remote/config.toml", "");
    let target = environment.path("site").display().to_string();
    let url = host.realm.server().url();
    let words = ["--channel", Host::CHANNEL, "--server", url, "--target", &target];
    let search = format!(
        "{}:{}",
        ssh.parent().expect("it lies in a directory").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for installed in [true, false] {
        let mut command = environment.client();
        command.env("PATH", &search).args(["deploy", "web", "--install", "--"]).args(words);
        let said = program::run(&mut command).success().stdout;
        assert_eq!(said.contains("is installed as "), installed, "{said}");
        assert!(said.contains("repos/tree branch:main number 1"), "{said}");
    }
    let is_same = fs::read(&placed).expect("it was placed")
        == fs::read(program::built("smart-sync")).expect("it was built");
    assert!(is_same, "another program was placed");
    assert_eq!(fs::read_to_string(environment.path("site/version")).expect("it was applied"), "one");
    program::run(environment.command(&ssh).args(["-O", "exit", "web"])).success();
}

#[test]
fn hosts_are_reached_by_the_real_ssh_also_over_a_connection_that_is_kept() {
    let Some(sshd) = find_sshd() else { return };
    let environment = TestEnvironment::new();
    let host = Host::new(&environment);
    environment.write("tree/version", "one");
    host.publish().success();
    let Some((_server, ssh)) = reach(&environment, &sshd, true) else { return };
    let directory = ssh.parent().expect("it lies in a directory").display().to_string();
    let search = format!("{directory}:{}", std::env::var("PATH").unwrap_or_default());
    let deploy = |words: &[&str]| {
        let mut command = environment.client();
        // What a terminal would read from is not what a host gets.
        command.env("PATH", &search).env("SMART_SYNC_TOKEN", "sst_secret").arg("deploy").args(words);
        program::run(&mut command)
    };
    let url = host.realm.server().url();
    // Every character of this name means something to a shell.
    let target = environment.path("it's $HOME; \"a\" \\ `b` *");
    let words =
        ["--channel", Host::CHANNEL, "--server", url, "--target", target.to_str().expect("it is text")];
    environment.write("remote/config.toml", "");
    let said = deploy(&[&["web", "--"], &words[..]].concat()).success().stdout;
    assert!(said.contains("web: applied: repos/tree branch:main number 1"), "{said}");
    assert_eq!(fs::read_to_string(target.join("version")).expect("it was applied"), "one");
    // An update with a check that fails: a plain directory has nothing to go back to.
    environment.write("tree/version", "two");
    host.publish().success();
    let table =
        format!("[[targets.{:?}.check]]\ncommand = [\"false\"]\nretries = 0\n", target.display().to_string());
    environment.write("remote/config.toml", table);
    let ended = deploy(&[&["web", "web", "--canary", "1", "--"], &words[..]].concat()).expect_code(9);
    assert!(ended.stderr.contains("web: not healthy (status 9)"), "{}", ended.stderr);
    let ended = deploy(&["nowhere.invalid", "web", "--", "--no-such-argument"]).expect_code(4);
    assert!(ended.stderr.contains("--no-such-argument"), "{}", ended.stderr);
    let ended = deploy(&[&["nowhere.invalid", "web", "--", "status"], &words[4..]].concat()).expect_code(5);
    assert!(ended.stderr.contains("nowhere.invalid: not reached (status 5): "), "{}", ended.stderr);
    assert!(ended.stdout.contains("web: done: no local changes"), "{}", ended.stdout);
    // A version that waits for somebody is confirmed over a connection that is not the one of the update.
    let site = environment.path("site");
    let table =
        format!("[targets.{:?}]\nconfirm = \"person\"\nkind = \"generations\"\n", site.display().to_string());
    environment.write("remote/config.toml", table);
    let words = ["--channel", Host::CHANNEL, "--server", url, "--target", site.to_str().expect("it is text")];
    deploy(&[&["web", "--confirm", "--"], &words[..]].concat()).success();
    environment.write("tree/version", "three");
    host.publish().success();
    let said = deploy(&[&["web", "--confirm", "--"], &words[..]].concat()).success().stdout;
    assert!(said.contains("number 3, ") && said.contains(", confirmed"), "{said}");
    let status = environment.run_client(["status", "--target", site.to_str().expect("it is text")]).success();
    assert!(status.stdout.contains("[smart-sync] confirmed\n"), "{}", status.stdout);
    program::run(environment.command(&ssh).args(["-O", "exit", "web"])).success();
}
