//! Git repositories, made by the git program, with ids that are the same on every run.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::{FIRST_COMMIT_TIME, TestEnvironment};
use crate::program;

/// A git repository with a working tree.
#[derive(Debug)]
pub struct Repository<'environment> {
    environment: &'environment TestEnvironment,
    directory: PathBuf,
    commits: Cell<u64>,
}

impl<'environment> Repository<'environment> {
    /// Makes an empty repository with a branch `main`.
    pub fn create(environment: &'environment TestEnvironment, directory: &Path) -> Self {
        fs::create_dir_all(directory)
            .unwrap_or_else(|error| panic!("creating {}: {error}", directory.display()));
        let repository = Self { environment, directory: directory.to_path_buf(), commits: Cell::new(0) };
        repository.git(["init", "--quiet"]);
        repository
    }

    /// The working tree.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs git in the working tree and returns what it printed, without the last line end.
    #[track_caller]
    pub fn git<I, S>(&self, arguments: I) -> String
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let date = format!("{} +0000", FIRST_COMMIT_TIME + self.commits.get());
        let mut command = self.environment.command("git");
        command
            .current_dir(&self.directory)
            .args(arguments)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date);
        let mut printed = program::run(&mut command).success().stdout;
        printed.truncate(printed.trim_end_matches('\n').len());
        printed
    }

    /// Writes a file of the working tree, and the directories above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.join(path);
        let parent = path.parent().expect("a path below the working tree has a parent");
        fs::create_dir_all(parent).unwrap_or_else(|error| panic!("creating {}: {error}", parent.display()));
        fs::write(&path, content).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        path
    }

    /// Commits everything in the working tree, deletions included, and returns the commit's id.
    ///
    /// Each commit is one second younger than the one before.
    pub fn commit(&self, message: &str) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--allow-empty", "--message", message]);
        self.commits.set(self.commits.get() + 1);
        self.head()
    }

    /// The id of the commit that is checked out.
    pub fn head(&self) -> String {
        self.git(["rev-parse", "HEAD"])
    }

    /// Tags the commit that is checked out.
    pub fn tag(&self, name: &str) {
        self.git(["tag", name]);
    }
}
