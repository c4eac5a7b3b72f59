//! A realm that was honest, its server, and a host that follows it.

use smart_sync_sync::evidence::{Evidence, FullEvidence};
use smart_sync_sync::record::Publication;
use smart_sync_sync::testing::{TestRealm, main_branch};
use smart_sync_tests::hostile::{
    Host, HostileServer, Tree, TreeBuilder, World, at, evidence, honest_realm, name_tree, publish, question,
};

/// The signers of root documents: two of three.
pub(crate) const TWO: &[&str] = &["root-a", "root-b"];

/// A realm that was honest, its server, and a host that has followed it.
pub(crate) struct Scene {
    pub(crate) realm: TestRealm,
    pub(crate) old: Tree,
    pub(crate) new: Tree,
    pub(crate) server: HostileServer,
    pub(crate) host: Host,
}

impl Scene {
    /// After a log of three leaves.
    pub(crate) fn new() -> Self {
        Self::grown(|_, _| {})
    }

    /// After an honest log that a test has added to.
    pub(crate) fn grown(change: impl FnOnce(&mut TestRealm, &Tree)) -> Self {
        let old = TreeBuilder::of(&[("a", "old\n"), ("b/c", "the same\n")]).build();
        let new = TreeBuilder::of(&[("a", "new\n"), ("b/c", "the same\n")]).build();
        let mut realm = honest_realm(&old);
        change(&mut realm, &old);
        let world = World::new(evidence(&realm, 0, at(100)), &[&old]);
        let server = HostileServer::start(move |request| world.answer(request));
        let host = Host::new(&server);
        host.sync().success();
        Self { realm, old, new, server, host }
    }

    pub(crate) fn base(&self) -> u64 {
        self.realm.size()
    }

    /// From now on the server answers so, and has both trees.
    pub(crate) fn serve(&self, evidence: Vec<u8>) {
        let world = World::new(evidence, &[&self.old, &self.new]);
        self.server.set(move |request| world.answer(request));
    }

    /// Evidence of a realm that grew as it should not have.
    pub(crate) fn grow(&self, change: impl FnOnce(&mut TestRealm)) -> Vec<u8> {
        let mut realm = self.realm.clone();
        change(&mut realm);
        evidence(&realm, self.base(), at(200))
    }

    /// Evidence that was right before it was changed.
    pub(crate) fn change(&self, change: impl FnOnce(&TestRealm, &mut FullEvidence)) -> Vec<u8> {
        let realm = self.updated();
        let mut full = realm.evidence(&question(), self.base(), at(200));
        change(&realm, &mut full);
        Evidence::Full(Box::new(full)).encode()
    }

    /// The realm after an honest update.
    pub(crate) fn updated(&self) -> TestRealm {
        let mut realm = self.realm.clone();
        publish(&mut realm, &main_branch(), &self.new);
        realm.heads(at(150));
        realm
    }

    /// Plays the attacks, and shows that the host still follows the honest realm; returns what it said of each.
    #[track_caller]
    pub(crate) fn play(&self, attacks: Vec<(&str, Vec<u8>)>) -> String {
        let mut said = String::new();
        for (what, evidence) in attacks {
            self.serve(evidence);
            said.push_str(&self.host.refuses(what, 7));
        }
        self.serve(evidence(&self.updated(), self.base(), at(200)));
        self.host.sync().success();
        let text = std::fs::read_to_string(self.host.target().join("a")).expect("the target has its file");
        assert_eq!(text, "new\n");
        said
    }
}

pub(crate) fn encode(full: FullEvidence) -> Vec<u8> {
    Evidence::Full(Box::new(full)).encode()
}

/// Publishes a tree as `main`, signed by whomever and changed at will.
pub(crate) fn publish_as(
    realm: &mut TestRealm,
    tree: &Tree,
    signers: &[&str],
    change: impl FnOnce(&mut Publication),
) -> u64 {
    realm.publish_with(&main_branch(), signers, |publication| {
        name_tree(publication, tree);
        change(publication);
    })
}
