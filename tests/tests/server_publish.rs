//! Publishing over the network: what is accepted, what is refused, and that a refusal leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::PathBuf;
use std::sync::Barrier;

use smart_sync_store::id::{BlobId, ContentId, PackId};
use smart_sync_store::manifest::{
    Attributes, BuildError, Content, Entry, Fidelity, GitMode, ManifestBuilder, Node, TreePath,
};
use smart_sync_store::object::ObjectKey;
use smart_sync_store::pack::PackWriter;
use smart_sync_store::recipe;
use smart_sync_sync::evidence::{Answer, Evidence};
use smart_sync_sync::ingest::{Ingested, Statistics};
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::publish::sign;
use smart_sync_tests::http::{get, send};
use smart_sync_tests::server::create_token;
use smart_sync_tests::{Publisher, Realm, TestEnvironment};

fn publisher<'environment>(
    environment: &'environment TestEnvironment,
    realm: &Realm,
) -> Publisher<'environment> {
    Publisher::new(
        environment,
        realm.server().url(),
        Realm::ORIGIN,
        &realm.key("publish"),
        Some(realm.token()),
    )
}

fn tree(environment: &TestEnvironment, name: &str, files: &[(&str, &str)]) -> PathBuf {
    for (path, content) in files {
        environment.write(&format!("{name}/{path}"), content);
    }
    environment.path(name)
}

/// The log's checkpoint: it changes whenever something is appended.
fn tree_of_log(environment: &TestEnvironment, realm: &Realm) -> String {
    let note = get(environment, &realm.url("checkpoint"), None).expect(200).text();
    note.lines().take(3).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_tree_is_uploaded_published_and_served() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let publisher = publisher(&environment, &realm);
    let large: String = (0..40_000u32).map(|line| line.to_string() + "\n").collect();
    let one = tree(&environment, "one", &[("a", "content of a"), ("d/b", &large), ("empty", "")]);
    let sent = publisher.publish("repos/x", "branch:main", &one, None);
    let evidence = Evidence::decode(&sent.answer.clone().expect(200).body).unwrap();
    let Evidence::Full(evidence) = evidence else { panic!("a publication has news") };
    assert!(matches!(&evidence.answer, Answer::Publication(leaf) if *leaf == sent.note), "{evidence:?}");
    let at =
        |path: &str| get(&environment, &realm.url(&format!("files/repos/x/main/{path}")), None).expect(200);
    assert_eq!(at("a").text(), "content of a");
    assert_eq!(at("d/b").text(), large);

    // Of an unchanged tree nothing is sent again, and a change is one small pack.
    let known = publisher.upload("repos/x", &one);
    assert_eq!(known.statistics.bytes_sent, 0, "{:?}", known.statistics);
    fs::write(one.join("a"), "changed").unwrap();
    let changed = publisher.upload("repos/x", &one);
    assert!(changed.statistics.bytes_sent < 2000, "{:?}", changed.statistics);
    let publication =
        publisher.publication(&publisher.target("repos/x", "branch:main"), &changed, Some(sent.standing()));
    publisher.submit(publication).answer.expect(200);
    assert_eq!(at("a").text(), "changed");
    realm.run(&environment, &["log", "audit"]).success();
    realm.run(&environment, &["check"]).success();
}

#[test]
fn a_publisher_learns_what_need_not_be_sent() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let publisher = publisher(&environment, &realm);
    let one = tree(&environment, "one", &[("a", "content of a")]);
    let uploaded = publisher.upload("repos/x", &one);
    let path = format!("v1/has-manifest/repos%2Fx/{}", uploaded.manifest.id);
    // It is all there, but nothing holds it before it is published.
    assert_eq!(publisher.get(&path).status, 404);
    publisher
        .submit(publisher.publication(&publisher.target("repos/x", "branch:main"), &uploaded, None))
        .answer
        .expect(200);
    assert_eq!(publisher.get(&path).expect(200).text(), "1");
    assert_eq!(publisher.get("v1/has-manifest/repos%2Fx/abc").status, 400);
    assert_eq!(get(&environment, &realm.url(&path), None).status, 401);
    for (path, body) in [
        ("v1/missing/repos%2Fx", &b"123"[..]),
        ("v1/missing/repos%2Fx", &[9; 33]),
        ("v1/missing/..%2Fx", &[0; 33]),
        ("v1/missing-contents/repos%2Fx", b"no question"),
        ("v1/publish", b"no submission"),
    ] {
        assert_eq!(publisher.send("POST", path, body).status, 400, "{path}");
    }
}

#[test]
fn a_pack_has_to_be_what_its_name_says() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let publisher = publisher(&environment, &realm);
    let mut pack = PackWriter::new(3);
    let content = b"some content".repeat(100);
    let key = ObjectKey::chunk(smart_sync_store::id::ObjectId::of(&content));
    pack.add(key, &content).unwrap();
    let (id, bytes) = pack.finish().unwrap();
    let put = |id: PackId, bytes: &[u8]| publisher.send("PUT", &format!("v1/pack/repos%2Fx/{id}"), bytes);
    for at in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        put(id, &wrong).expect(422);
    }
    put(id, &bytes[..bytes.len() - 1]).expect(422);
    put(id, b"").expect(422);
    put(PackId::from_bytes([1; 32]), &bytes).expect(422);
    assert_eq!(publisher.send("PUT", "v1/pack/repos%2Fx/abc", &bytes).status, 400);
    assert_eq!(get(&environment, &realm.url(&format!("pack/{id}")), None).status, 404);
    put(id, &bytes).expect(201);
    put(id, &bytes).expect(200);
    assert_eq!(get(&environment, &realm.url(&format!("pack/{id}")), None).expect(200).body, bytes);
}

#[test]
fn what_is_incomplete_is_refused_and_nothing_is_appended() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let publisher = publisher(&environment, &realm);
    let one = tree(&environment, "one", &[("a", "content of a")]);
    let uploaded = publisher.upload("repos/x", &one);
    let target = publisher.target("repos/x", "branch:main");
    let good = publisher.publication(&target, &uploaded, None);
    let before = tree_of_log(&environment, &realm);

    let mut never_uploaded = good.clone();
    let manifest = never_uploaded.manifest.as_mut().unwrap();
    manifest.id = smart_sync_store::id::ManifestId::from_bytes([7; 32]);
    let mut wrong_length = good.clone();
    wrong_length.manifest.as_mut().unwrap().bytes += 1;
    let mut wrong_sums = good.clone();
    wrong_sums.content.bytes += 1;
    let mut wrong_origin = good.clone();
    wrong_origin.origin = "other.example".parse().unwrap();
    let mut future = good.clone();
    future.time = smart_sync_sync::time::UnixTime::new(200_000_000_000).unwrap();
    for wrong in [never_uploaded, wrong_length, wrong_sums, wrong_origin, future] {
        publisher.submit(wrong).answer.expect(422);
    }

    // A manifest that names a content which nobody has sent.
    let absent = Content { size: 5, blob: BlobId::from_bytes([1; 20]), id: ContentId::from_bytes([2; 32]) };
    let sent = publisher.submit(publisher.publication(&target, &hand_made(&publisher, absent), None));
    assert!(sent.answer.clone().expect(422).text().contains("was not uploaded"), "{}", sent.answer.text());
    assert_eq!(tree_of_log(&environment, &realm), before);
    publisher.submit(good).answer.expect(200);
}

/// Uploads a manifest with one file of this content, and not the content.
fn hand_made(publisher: &Publisher<'_>, content: Content) -> Ingested {
    let mut pack = PackWriter::new(3);
    let mut builder = ManifestBuilder::new(Fidelity::Git, |id, bytes: Vec<u8>| {
        pack.add(ObjectKey::page(id), &bytes).expect("there is room");
        Ok::<_, BuildError>(())
    });
    let entry = Entry {
        path: TreePath::new(*b"file").unwrap(),
        node: Node::File(content),
        attributes: Attributes::Git(GitMode::FILE),
    };
    builder.push(&entry).unwrap();
    let manifest = builder.finish().unwrap();
    let (id, bytes) = pack.finish().unwrap();
    publisher.send("PUT", &format!("v1/pack/repos%2Fx/{id}"), &bytes).expect(201);
    Ingested { manifest, git_tree: None, warnings: Vec::new(), statistics: Statistics::default() }
}

#[test]
fn a_content_whose_git_name_is_a_lie_is_refused() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let publisher = publisher(&environment, &realm);
    let large = "a content of several chunks ".repeat(20_000);
    let one = tree(&environment, "one", &[("a", "content of a"), ("large", &large)]);
    publisher.publish("repos/x", "branch:main", &one, None).answer.expect(200);
    for (bytes, branch) in [("content of a", "branch:small"), (&large, "branch:large")] {
        let content = smart_sync_store::content::name_content(bytes.as_bytes());
        let lie = Content { blob: BlobId::from_bytes([1; 20]), ..content };
        let target = publisher.target("repos/x", branch);
        let answer =
            publisher.submit(publisher.publication(&target, &hand_made(&publisher, lie), None)).answer;
        assert!(answer.clone().expect(422).text().contains("to git"), "{}", answer.text());
        let honest = hand_made(&publisher, content);
        publisher.submit(publisher.publication(&target, &honest, None)).answer.expect(200);
    }
}

#[test]
fn a_pack_that_misnames_a_content_of_right_chunks_is_refused() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let publisher = publisher(&environment, &realm);
    let bytes: Vec<u8> =
        (0..90_000_u32).flat_map(|number| number.wrapping_mul(number).to_le_bytes()).collect();
    let put = |content: ContentId, status: u16| {
        let mut pack = PackWriter::new(3);
        let cut = smart_sync_store::content::cut_content(&bytes, |chunk, bytes| {
            pack.add(ObjectKey::chunk(chunk.id), bytes).unwrap();
        });
        for (kind, id, recipe) in recipe::build(content, &cut.chunks).unwrap().objects {
            pack.add(ObjectKey::new(kind, id), &recipe).unwrap();
        }
        let (id, pack) = pack.finish().unwrap();
        publisher.send("PUT", &format!("v1/pack/repos%2Fx/{id}"), &pack).expect(status)
    };
    let lie = put(ContentId::from_bytes([7; 32]), 422);
    assert!(lie.text().contains("makes the content"), "{}", lie.text());
    put(ContentId::of(&bytes), 201);
}

#[test]
fn a_publication_counts_once() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let publisher = publisher(&environment, &realm);
    let one = tree(&environment, "one", &[("a", "1")]);
    let first = publisher.publish("repos/x", "branch:main", &one, None);
    first.answer.clone().expect(200);
    fs::write(one.join("a"), "2").unwrap();
    publisher.publish("repos/x", "branch:main", &one, Some(first.standing())).answer.expect(200);
    let before = tree_of_log(&environment, &realm);
    let answer = publisher.submit_note(&first.note).expect(409);
    assert!(answer.text().contains("publish again"), "{}", answer.text());
    assert_eq!(tree_of_log(&environment, &realm), before);

    // A tag is written once, and after it was withdrawn never again.
    let tag = publisher.publish("repos/x", "tag:v1", &one, None);
    tag.answer.clone().expect(200);
    publisher.publish("repos/x", "tag:v1", &one, None).answer.expect(409);
    let now = tag.publication.time;
    let withdrawal = publisher.target("repos/x", "tag:v1").withdrawal(Some(tag.standing()), now);
    let withdrawn = publisher.submit(withdrawal);
    withdrawn.answer.clone().expect(200);
    assert_eq!(get(&environment, &realm.url("files/repos/x/v1/a"), None).status, 404);
    publisher.publish("repos/x", "tag:v1", &one, Some(withdrawn.standing())).answer.expect(422);
}

#[test]
fn of_two_publishers_who_race_one_is_first() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let start = Barrier::new(8);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let racing: Vec<_> = (0..8)
            .map(|number| {
                let (environment, realm, start) = (&environment, &realm, &start);
                scope.spawn(move || {
                    let publisher = publisher(environment, realm);
                    let name = format!("tree-{number}");
                    let uploaded = publisher.upload("repos/x", &tree(environment, &name, &[("a", &name)]));
                    let target = publisher.target("repos/x", "branch:main");
                    let publication = publisher.publication(&target, &uploaded, None);
                    start.wait();
                    publisher.submit(publication).answer.status
                })
            })
            .collect();
        racing.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
    realm.run(&environment, &["log", "audit"]).success();
}

#[test]
fn only_the_channels_keys_may_publish() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let one = tree(&environment, "one", &[("a", "1")]);
    let before = tree_of_log(&environment, &realm);
    let stranger = SecretKey::generate("stranger".parse().unwrap()).unwrap();
    let publisher_of = |key: SecretKey| publisher(&environment, &realm).with_key(key);
    publisher_of(stranger).publish("repos/x", "branch:main", &one, None).answer.expect(422);
    for name in ["log", "root"] {
        let key = SecretKey::load(&realm.key(name), &mut || None).unwrap();
        publisher_of(key).publish("repos/x", "branch:main", &one, None).answer.expect(422);
    }
    // A token for everything does not make up for a key that is for repos/* only.
    let token = create_token(&environment, realm.data(), "publish", "");
    let everywhere = Publisher::new(
        &environment,
        realm.server().url(),
        Realm::ORIGIN,
        &realm.key("publish"),
        Some(&token),
    );
    everywhere.publish("repos-evil/x", "branch:main", &one, None).answer.expect(422);
    let unsigned = everywhere.publication(
        &everywhere.target("repos/x", "branch:main"),
        &everywhere.upload("repos/x", &one),
        None,
    );
    everywhere.submit_note(&sign(&unsigned, &[]).unwrap()).expect(422);
    assert_eq!(tree_of_log(&environment, &realm), before);
}

#[test]
fn cosignatures_and_roots_of_strangers_are_refused() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let admin = create_token(&environment, realm.data(), "admin", "");
    let checkpoint = get(&environment, &realm.url("checkpoint"), None).expect(200).body;
    let root = get(&environment, &realm.url("v1/root/1"), None).expect(200).body;
    let post = |path: &str, token: Option<&str>, body: &[u8]| {
        send(&environment, "POST", &realm.url(path), token, body).status
    };
    assert_eq!(post("v1/root", None, &root), 401);
    assert_eq!(post("v1/root", Some(realm.token()), &root), 403);
    assert_eq!(post("v1/root", Some(&admin), &root), 422, "it is not the next one");
    assert_eq!(post("v1/cosignature", None, b"x"), 422);
    assert_eq!(post("v1/cosignature", None, &vec![b'x'; 70_000]), 413);
    assert_eq!(post("v1/cosignature", None, &checkpoint), 200, "its own signature changes nothing");
    let text = String::from_utf8(checkpoint).unwrap();
    let (text, signatures) = text.split_once("\n\n").unwrap();
    let grown = format!("{}\n\n{signatures}", text.replacen("\n2\n", "\n3\n", 1));
    assert_eq!(post("v1/cosignature", None, grown.as_bytes()), 409);
}
