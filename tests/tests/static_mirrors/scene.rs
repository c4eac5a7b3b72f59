//! A realm that is exported, and a host that sees nothing but the export.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use smart_sync_tests::hostile::{HostileServer, Reply, Request};
use smart_sync_tests::noise::noise;
use smart_sync_tests::snapshot::Snapshot;
use smart_sync_tests::{Finished, Realm, TestEnvironment, program, static_files};

pub(crate) const CHANNEL: &str = "repos/tree";

pub(crate) struct Scene {
    pub(crate) environment: TestEnvironment,
    pub(crate) realm: Realm,
}

impl Scene {
    /// A realm with one publication, exported to `export`.
    ///
    /// Its server makes no bundles: an export has those that are there, and when that is nobody knows.
    pub(crate) fn new() -> Self {
        Self::with_settings("[bundles]\nenabled = false\n")
    }

    /// The same, with these lines at the end of the server's settings.
    pub(crate) fn with_settings(settings: &str) -> Self {
        let environment = TestEnvironment::new();
        let realm = Realm::start_with(&environment, "realm", settings, &["--private", "repos/secret/*"]);
        let scene = Self { environment, realm };
        for number in 0..40 {
            scene.write(&format!("d{}/f{number}", number % 4), &noise(&number.to_string(), 3_000));
        }
        scene.write("large", &noise("large", 3_000_000));
        scene.publish();
        scene.export(&[]);
        scene
    }

    /// Writes a file of the tree that is published.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        self.environment.write(&format!("tree/{path}"), bytes);
    }

    pub(crate) fn publish(&self) {
        self.publish_as("main");
    }

    pub(crate) fn publish_as(&self, reference: &str) {
        let tree = self.environment.path("tree");
        self.realm.publish_local(&self.environment, CHANNEL, reference, &tree, &[]).success();
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.environment.path("export")
    }

    /// Exports, and returns what was said.
    pub(crate) fn export(&self, options: &[&str]) -> String {
        let directory = self.directory();
        let directory = directory.to_str().expect("paths of the tests are text");
        self.realm.run(&self.environment, &[&["export", directory][..], options].concat()).success().stdout
    }

    /// A copy of the export as it is now.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let copy = self.environment.path(name);
        let mut command = self.environment.command("cp");
        program::run(command.arg("--archive").arg(self.directory()).arg(&copy)).success();
        copy
    }

    pub(crate) fn serve(&self) -> HostileServer {
        serve(&self.directory())
    }

    #[track_caller]
    pub(crate) fn trust(&self, server: &str) {
        let arguments = ["trust", "add", server, "--root", self.realm.fingerprint()];
        self.environment.run_client(arguments).success();
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.environment.path("host")
    }

    pub(crate) fn sync(&self, servers: &[&str], more: &[&str]) -> Finished {
        let mut command = self.environment.client();
        command.args(["--channel", CHANNEL, "--target"]).arg(self.target()).args(more);
        for server in servers {
            command.args(["--server", server]);
        }
        program::run(&mut command)
    }

    /// Fails the test unless the target is the published tree.
    #[track_caller]
    pub(crate) fn assert_synced(&self) {
        Snapshot::as_git(&self.environment.path("tree")).assert_same(&Snapshot::as_git(&self.target()));
    }

    /// What is believed.
    pub(crate) fn trust_state(&self) -> Vec<u8> {
        let path = self.environment.state_directory().join("trust").join(Realm::ORIGIN).join("state");
        fs::read(path).expect("the realm is trusted")
    }
}

/// A plain web server for a directory.
pub(crate) fn serve(directory: &Path) -> HostileServer {
    serve_with(directory, |_, reply| reply)
}

/// The same, with answers that are changed on their way.
pub(crate) fn serve_with(
    directory: &Path,
    change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> HostileServer {
    let directory = directory.to_owned();
    HostileServer::start(move |request| change(request, static_files::answer(&directory, request)))
}

/// How often each kind of thing was asked for since the last call: `pack` for ranges of packs.
pub(crate) fn counts(server: &HostileServer) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in server.take_requests() {
        let mut parts = request.path.trim_start_matches('/').split('/');
        let kind = parts.find(|part| *part != "v1").unwrap_or_default();
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    counts
}

/// The requests but those for ranges.
pub(crate) fn besides_ranges(counts: &BTreeMap<String, usize>) -> usize {
    counts.iter().filter(|(kind, _)| *kind != "pack").map(|(_, count)| count).sum()
}

/// Every file below a directory, by its path from there.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut next = vec![directory.to_owned()];
    while let Some(path) = next.pop() {
        for entry in fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if entry.file_type().expect("a type").is_dir() {
                next.push(path);
            } else {
                let name = path.strip_prefix(directory).expect("it lies below").to_str().expect("text");
                found.insert(name.to_owned(), fs::read(&path).expect("a file"));
            }
        }
    }
    found
}
