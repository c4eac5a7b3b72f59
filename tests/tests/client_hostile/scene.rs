//! A realm that was honest, its server, and a host that follows it.

use smart_sync_sync::evidence::{Evidence, FullEvidence};
use smart_sync_sync::record::Publication;
use smart_sync_sync::testing::{TestRealm, main_branch};
use smart_sync_tests::hostile::{
    Host, HostileServer, Reply, Request, Tree, TreeBuilder, World, at, evidence, honest_realm, name_tree,
    publish, question,
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

/// A host that follows a publisher who signs whatever a test wants.
pub(crate) struct Publisher {
    realm: TestRealm,
    pub(crate) server: HostileServer,
    pub(crate) host: Host,
    /// The size of the log that the host has seen.
    seen: u64,
    time: u64,
}

impl Publisher {
    /// After an honest publication of a tree, which the host has.
    pub(crate) fn of(tree: &Tree) -> Self {
        let realm = honest_realm(tree);
        let world = World::new(evidence(&realm, 0, at(100)), &[tree]);
        let server = HostileServer::start(move |request| world.answer(request));
        let host = Host::new(&server);
        host.sync().success();
        Self { seen: realm.size(), realm, server, host, time: 100 }
    }

    /// Publishes a tree, and returns what an honest server answers from then on.
    pub(crate) fn publish(&mut self, tree: &Tree) -> World {
        self.time += 10;
        publish(&mut self.realm, &main_branch(), tree);
        self.realm.heads(at(self.time));
        let world = World::new(evidence(&self.realm, self.seen, at(self.time)), &[tree]);
        // Whatever the tree is: it was signed by those who may, so that the host knows of it from now on.
        self.seen = self.realm.size();
        world
    }

    /// Publishes a tree that has to be refused with this status, and returns what the host said.
    #[track_caller]
    pub(crate) fn attack(&mut self, what: &str, code: i32, tree: &Tree) -> String {
        self.attack_with(what, code, tree, |_| None)
    }

    /// The same, with some answers that are not honest.
    #[track_caller]
    pub(crate) fn attack_with(
        &mut self,
        what: &str,
        code: i32,
        tree: &Tree,
        lie: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> String {
        let world = self.publish(tree);
        self.server.set(move |request| lie(request).unwrap_or_else(|| world.answer(request)));
        let said = self.host.keeps_target(what, code);
        assert!(said.contains("    hint: "), "it says what to do: {said}");
        let said = said.replace(&tree.id.to_string(), "MANIFEST").replace(&tree.pack.0, "PACK");
        said.lines()
            .filter(|line| !line.contains("hint: "))
            .fold(String::new(), |said, line| said + line + "\n")
    }

    /// Publishes a sound tree, which the host has to take.
    #[track_caller]
    pub(crate) fn recovers(&mut self, tree: &Tree) {
        let world = self.publish(tree);
        self.server.set(move |request| world.answer(request));
        self.host.sync().success();
    }
}
