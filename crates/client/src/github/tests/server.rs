//! The server that imitates GitHub, as the tests of this module use it.

use std::ops::Deref;
use std::path::Path;

use smart_sync_tests::GithubServer;
pub(super) use smart_sync_tests::github::{git, reply};

use crate::github::Address;

/// A server of one repository, `o/r`.
pub(super) struct Server(GithubServer);

impl Server {
    pub(super) fn start(make: impl FnOnce(&Path)) -> Self {
        Self(GithubServer::start(make))
    }

    pub(super) fn with_everything() -> Self {
        Self(GithubServer::with_everything())
    }

    pub(super) fn address(&self) -> Address {
        self.url("/repos/o/r").parse().unwrap()
    }

    /// The same repository with a host for raw files.
    pub(super) fn address_with_raw(&self) -> Address {
        Address { raw: Some(self.url("/raw/o/r").parse().unwrap()), ..self.address() }
    }

    /// The tree of a commit as git has it: path, mode, content.
    pub(super) fn expected(&self, commit: &str) -> Vec<super::Shown> {
        let listed = self.git_bytes(&["ls-tree", "-r", "-z", commit]);
        let rows = listed.split(|byte| *byte == 0).filter(|row| !row.is_empty()).map(|row| {
            let tab = row.iter().position(|byte| *byte == b'\t').unwrap();
            let head: Vec<&str> = std::str::from_utf8(&row[..tab]).unwrap().split(' ').collect();
            let path = smart_sync_store::manifest::path::Shown(&row[tab + 1..]).to_string();
            let content = match head[1] {
                "blob" => super::brief(&self.git_bytes(&["cat-file", "blob", head[2]])),
                _ => head[2].to_owned(),
            };
            (path, head[0].to_owned(), content)
        });
        rows.collect()
    }
}

impl Deref for Server {
    type Target = GithubServer;

    fn deref(&self) -> &GithubServer {
        &self.0
    }
}
