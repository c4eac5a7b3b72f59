//! A backend of the older kind, as `/var/lib/portage`, with everything in it that must not be taken over, run or followed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::environment::TestEnvironment;
use crate::git::Repository;
use crate::kernel_files;
use crate::program;

/// What stands for every password and key in it.
pub const SECRET: &str = "correct-horse-battery";

/// A backend in a directory of a machine.
#[derive(Debug)]
pub struct Backend<'environment> {
    environment: &'environment TestEnvironment,
    directory: &'static str,
}

impl<'environment> Backend<'environment> {
    /// Everything but packages and an ebuild tree, which real programs make.
    pub fn new(environment: &'environment TestEnvironment) -> Self {
        let backend = Self { environment, directory: "old" };
        backend.lists();
        backend.patch_files();
        backend.configuration();
        backend.kernels();
        backend.traps();
        backend
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.environment.path(self.directory)
    }

    /// A file that is there once something of it was run.
    pub fn ran(&self) -> PathBuf {
        self.environment.path("ran")
    }

    /// Writes a file of it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.environment.write(&format!("{}/{path}", self.directory), content)
    }

    /// Takes a directory of the machine into it.
    pub fn copy(&self, from: &Path, to: &str) {
        let to = self.path().join(to);
        fs::create_dir_all(to.parent().expect("it lies in the backend")).expect("a directory can be made");
        let mut copy = self.environment.command("cp");
        program::run(copy.args(["--recursive", "--no-target-directory"]).arg(from).arg(to)).success();
    }

    /// A script that leaves a trace when it is run.
    fn script(&self, path: &str, more: &str) {
        let file = self.write(path, format!("#!/bin/sh\ntouch {}\n{more}", self.ran().display()));
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("the mode can be changed");
    }

    fn lists(&self) {
        self.write("packages/common.uses", "*/* -X\n");
        self.write("packages/17.1/server.pkgs", "app-test/hello\n");
        self.write(
            "packages/17.1/server.conf",
            format!("JOBS=4\nROOT_PASSWORD=\"{SECRET}\"\nUSE=\"a\n b\"\n"),
        );
        self.script("packages/17.1/server.services", "");
        self.script("packages/17.1/server.updates", &format!("echo root:{SECRET} | chpasswd\n"));
        self.write("meta/web/uses", "www-servers/nginx http2\n");
        self.write("distfiles/stray-1.0.bin", "a distfile");
    }

    fn patch_files(&self) {
        self.write("patchfiles/etc/motd", "hello\n");
        self.write("patchfiles/etc/shadow", format!("root:{SECRET}:19000::::::\n"));
        self.write("patchfiles/root/.netrc", format!("machine a login b password {SECRET}\n"));
        let settings = format!("USE=\"wayland\"\nBINPKG_GPG_SIGNING_KEY=\"0x{SECRET}\"\n");
        self.write("patchfiles/portage/make.conf", settings);
        symlink("/etc/passwd", self.path().join("patchfiles/etc/passwd")).expect("a link can be made");
        let name = OsStr::from_bytes(b"caf\xe9");
        fs::write(self.path().join("patchfiles/etc").join(name), "no text in its name")
            .expect("it can be written");
        let pipe = self.path().join("patchfiles/etc/pipe");
        program::run(self.environment.command("mkfifo").arg(pipe)).success();
    }

    fn configuration(&self) {
        let mirrors =
            format!("# near\nhttp://127.0.0.1:9/distfiles\nhttp://me:{SECRET}@127.0.0.1:9/distfiles\n");
        self.write("config/mirrors/distfiles", mirrors);
        self.write("config/mirrors/kernel", "rsync://127.0.0.1/kernels\n");
        self.write("config/host.cfg", format!("name:web1\nrepos:\n  -gentoo\nrootpw:{SECRET}\n"));
    }

    fn kernels(&self) {
        let place = |path: &str| format!("{}/kernels/{path}", self.directory);
        kernel_files::old_layout(self.environment, &place("deprecated/6.9.1-gentoo"), "6.9.1-gentoo");
        kernel_files::old_layout(self.environment, &place("current/6.10.1-gentoo"), "6.10.1-gentoo");
    }

    fn traps(&self) {
        symlink("/etc", self.path().join("snapshots")).expect("a link can be made");
        self.script("tools/run.sh", "");
        let work = Repository::create(self.environment, &self.environment.path("work"));
        work.write("README", "of a repository\n");
        work.commit("first");
        let bare = self.path().join("repository");
        let bare = bare.to_str().expect("paths of the tests are text");
        work.git(["clone", "--quiet", "--bare", ".", bare]);
        self.script("repository/hooks/post-checkout", "");
        self.script("repository/hooks/fsmonitor", "");
    }
}
