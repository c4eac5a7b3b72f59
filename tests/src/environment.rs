//! A hermetic machine for one test.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::git::Repository;
use crate::program::{self, Finished};

/// The seconds since the epoch that git commits made here begin at: 2026-01-01.
pub const FIRST_COMMIT_TIME: u64 = 1_767_225_600;

/// A temporary machine: its home, its state and its files, gone when this is dropped.
#[derive(Debug)]
pub struct TestEnvironment {
    root: TempDir,
}

impl TestEnvironment {
    /// An empty machine.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// An empty machine whose files lie below a directory, for those that need its space or its file system.
    pub fn below(directory: &Path) -> Self {
        let root = tempfile::Builder::new().prefix("smart-sync-test-").tempdir_in(directory);
        let environment = Self { root: root.expect("a temporary directory can be made") };
        for directory in [environment.home(), environment.state_directory(), environment.path("tmp")] {
            fs::create_dir_all(&directory).expect("a directory can be made in a new temporary directory");
        }
        environment.write("home/.gitconfig", GIT_CONFIGURATION);
        environment.write("etc/config.toml", "");
        environment
    }

    /// The directory that everything of this machine lies in.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path on this machine. Nothing is created.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// The home directory.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Where the client keeps trust, applied versions and journals.
    pub fn state_directory(&self) -> PathBuf {
        self.path("state")
    }

    /// The client's configuration file, which is empty until [`write`](Self::write) fills it.
    pub fn configuration_file(&self) -> PathBuf {
        self.path("etc/config.toml")
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        let parent = path.parent().expect("a path below the root has a parent");
        fs::create_dir_all(parent).unwrap_or_else(|error| panic!("creating {}: {error}", parent.display()));
        fs::write(&path, content).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        path
    }

    /// A command on this machine: its environment is this machine's alone, and its directory the root.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.root());
        // The search path names the tools under test; the others carry coverage data and backtraces out.
        for name in ["PATH", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.home())
            .env("TMPDIR", self.path("tmp"))
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.home().join(".gitconfig"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("SMART_SYNC_STATE_DIR", self.state_directory())
            .env("SMART_SYNC_CONFIG", self.configuration_file());
        command
    }

    /// `smart-sync`, as cargo built it.
    pub fn client(&self) -> Command {
        self.command(program::built("smart-sync"))
    }

    /// `smart-sync-server`, as cargo built it.
    pub fn server(&self) -> Command {
        self.command(program::built("smart-sync-server"))
    }

    /// Runs `smart-sync` to its end.
    pub fn run_client<I, S>(&self, arguments: I) -> Finished
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        program::run(self.client().args(arguments))
    }

    /// Runs `smart-sync-server` to its end.
    pub fn run_server<I, S>(&self, arguments: I) -> Finished
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        program::run(self.server().args(arguments))
    }

    /// A new git repository with a branch `main` and no commit.
    pub fn repository(&self, relative: &str) -> Repository<'_> {
        Repository::create(self, &self.path(relative))
    }
}

impl Default for TestEnvironment {
    fn default() -> Self {
        Self::new()
    }
}

/// What git reads instead of the settings of whoever runs the tests.
const GIT_CONFIGURATION: &str = "\
[user]
\tname = Test
\temail = test@example.org
[init]
\tdefaultBranch = main
[core]
\tautocrlf = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[commit]
\tgpgSign = false
[safe]
\tdirectory = *
[protocol \"file\"]
\tallow = always
";
