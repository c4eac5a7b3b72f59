//! Whom a host believes: adding, showing and forgetting realms, and the ceremony that changes their keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use smart_sync_tests::http::get;
use smart_sync_tests::server::create_token;
use smart_sync_tests::{Finished, Realm, TestEnvironment, program};

fn trust(environment: &TestEnvironment, arguments: &[&str]) -> Finished {
    environment.run_client([&["trust"][..], arguments].concat())
}

fn add(environment: &TestEnvironment, realm: &Realm) -> Finished {
    trust(environment, &["add", realm.server().url(), "--root", realm.fingerprint()])
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of the tests are text")
}

#[test]
fn a_realm_is_pinned_shown_and_forgotten() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let wrong = format!("sha256:{}", "0".repeat(64));
    let refused = trust(&environment, &["add", realm.server().url(), "--root", &wrong]).expect_code(7);
    refused.stderr_contains("none of the root documents that the server shows is sha256:0000");
    let nothing = trust(&environment, &["show"]).success();
    assert!(nothing.stdout.contains("no realm is trusted yet"), "{nothing:?}");

    let added = add(&environment, &realm).success();
    assert!(added.stdout.contains("test.example is trusted"), "{added:?}");
    let shown = trust(&environment, &["show"]).success();
    for words in
        [realm.fingerprint(), realm.server().url(), "test.example/publish", "cannot be hidden for longer"]
    {
        assert!(shown.stdout.contains(words), "no {words:?} in {}", shown.stdout);
    }
    let json = trust(&environment, &["show", Realm::ORIGIN, "--json"]).success();
    let json: serde_json::Value = serde_json::from_str(json.stdout.trim()).unwrap();
    assert_eq!(json["root"]["hash"], realm.fingerprint());
    assert_eq!(json["origin"], Realm::ORIGIN);

    let only_shown = trust(&environment, &["reset", Realm::ORIGIN]).success();
    assert!(only_shown.stdout.contains("nothing was changed"), "{only_shown:?}");
    assert!(trust(&environment, &["show"]).success().stdout.contains(Realm::ORIGIN));
    trust(&environment, &["reset", Realm::ORIGIN, "--yes"]).success();
    assert!(trust(&environment, &["show"]).success().stdout.contains("no realm is trusted yet"));
    trust(&environment, &["reset", Realm::ORIGIN]).expect_code(4);
}

#[test]
fn trust_on_first_use_says_what_it_is() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let added = trust(&environment, &["add", realm.server().url(), "--first-use"]).success();
    assert!(added.stderr.contains("trust on first use"), "{added:?}");
    assert!(added.stderr.contains(realm.fingerprint()), "{added:?}");
    // The second time there is nothing that would have to be taken on faith.
    let again = trust(&environment, &["add", realm.server().url(), "--first-use"]).success();
    assert!(!again.stderr.contains("trust on first use"), "{again:?}");
}

#[test]
fn a_server_of_another_realm_does_not_get_in_under_a_known_name() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    add(&environment, &realm).success();
    let impostor = Realm::start(&environment, "impostor");
    // How many days are left of a year changes at any second.
    let shown = || trust(&environment, &["show"]).success().stdout.replace("in 365 days", "in 364 days");
    let before = shown();
    for arguments in [&["--first-use"][..], &["--root", impostor.fingerprint()]] {
        let arguments = [&["add", impostor.server().url()][..], arguments].concat();
        trust(&environment, &arguments).expect_code(7).stderr_contains("does not show the root document");
    }
    assert_eq!(shown(), before);
}

#[test]
fn a_host_without_a_server_or_trust_is_told_what_to_do() {
    let environment = TestEnvironment::new();
    let url = Realm::start(&environment, "realm").server().url().to_owned();
    trust(&environment, &["add", &url, "--first-use"]).expect_code(5).stderr_contains("could not be reached");
    let sync = environment.run_client(["ls", "--channel", "repos/x"]).expect_code(7);
    sync.stderr_contains("smart-sync trust add");
}

/// The document in force, as a file.
fn current(environment: &TestEnvironment, realm: &Realm) -> PathBuf {
    let note = get(environment, &realm.url("v1/root/latest"), None).expect(200).body;
    environment.write("current.note", note)
}

fn generate(environment: &TestEnvironment, name: &str) -> (PathBuf, String) {
    let path = environment.path(&format!("{name}.key"));
    let made =
        environment.run_client(["key", "generate", &format!("test.example/{name}"), "-o", text(&path)]);
    let vkey = made.success().stdout;
    let vkey = vkey.lines().find_map(|line| line.strip_prefix("signature ")).expect("a key is shown").trim();
    (path, vkey.to_owned())
}

#[test]
fn root_keys_are_replaced_by_two_signers_and_hosts_follow() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    add(&environment, &realm).success();
    environment.write("tree/a", "content");
    realm.publish_local(&environment, "repos/x", "main", &environment.path("tree"), &[]).success();
    let current = current(&environment, &realm);
    let (alice, alice_vkey) = generate(&environment, "alice");
    let (bob, bob_vkey) = generate(&environment, "bob");
    let root = |arguments: &[&str]| environment.run_client([&["root"][..], arguments].concat());

    let role = format!("root 2 {alice_vkey} {bob_vkey}");
    root(&["edit", text(&current), "--role", &role, "--expires", "2999-01-01", "-o", "draft"]).success();
    root(&["edit", text(&current), "-o", "draft"]).expect_code(4).stderr_contains("exists already");
    fs::copy(environment.path("draft"), environment.path("draft.bob")).unwrap();
    let unsigned = root(&["show", "draft"]).success().stdout;
    assert!(unsigned.contains("missing: 2 more signatures of its root keys"), "{unsigned}");
    root(&["sign", "draft", "--key", text(&alice)]).success();
    root(&["sign", "draft.bob", "--key", text(&bob), "--key", text(&realm.key("root"))]).success();
    let half_signed = root(&["show", "draft"]).success().stdout;
    assert!(!half_signed.contains("fingerprint"), "another signature would change it: {half_signed}");

    let assemble = ["assemble", "draft", "draft.bob", "-o", "next.note"];
    root(&["assemble", "draft", "--current", text(&current)]).expect_code(7).stderr_contains("enough keys");
    root(&assemble).expect_code(4).stderr_contains("--current FILE");
    let next = root(&[&assemble[..], &["--current", text(&current)]].concat()).success();
    let fingerprint =
        next.stdout.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned();

    let publish = |token: &str| {
        program::run(
            environment.client().args(["root", "publish", "next.note"]).env("SMART_SYNC_TOKEN", token),
        )
    };
    publish(realm.token()).expect_code(3).stderr_contains("does not allow root documents");
    publish(&create_token(&environment, realm.data(), "admin", "")).success();
    // A host that has the old pin walks to the new document, one that is given the new pin begins there.
    environment.run_client(["ls", "--channel", "repos/x"]).success();
    let shown = trust(&environment, &["show"]).success().stdout;
    assert!(shown.contains(&format!("version 2, {fingerprint}")), "{shown}");
    add(&environment, &realm).success();
    trust(&environment, &["add", realm.server().url(), "--root", &fingerprint]).success();
    realm.run(&environment, &["log", "audit"]).success();
}

#[test]
fn a_publish_key_that_goes_without_being_revoked_is_warned_of() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let current = current(&environment, &realm);
    let (_, vkey) = generate(&environment, "new");
    let edit = |role: &str, output: &str| {
        environment.run_client(["root", "edit", text(&current), "--role", role, "-o", output]).success()
    };
    let replaced = edit(&format!("publish repos/* 1 {vkey}"), "replaced");
    assert!(replaced.stderr.contains("hosts will not accept anything that it ever signed"), "{replaced:?}");
    let old = environment.run_client(["key", "show", text(&realm.key("publish"))]).success().stdout;
    let old = old.lines().find_map(|line| line.strip_prefix("signature ")).unwrap().trim();
    let both = edit(&format!("publish repos/* 1 {old} {vkey}"), "both");
    assert!(!both.stderr.contains("ever signed"), "{both:?}");
}

#[test]
fn drafts_that_make_no_document_are_refused() {
    let environment = TestEnvironment::new();
    let (_, vkey) = generate(&environment, "one");
    let new = |arguments: &[&str]| {
        environment.run_client([&["root", "new", "lab.example.org", "-o", "draft"][..], arguments].concat())
    };
    new(&[]).expect_code(4).stderr_contains("the role `root` has no keys");
    let (root, log) = (format!("root 1 {vkey}"), format!("log 1 {vkey}"));
    let clock = format!("clock 1 {vkey}");
    let all = ["--role", &root, "--role", &log, "--role", &clock];
    new(&all).expect_code(4).stderr_contains("is in two roles");
    new(&["--role", "publish"]).expect_code(4).stderr_contains("names no role");
    new(&["--expires", "2001-01-01"]).expect_code(4).stderr_contains("no date in the future");
    assert!(!environment.path("draft").exists());
    environment.write("text", "smart-sync/root/v1\norigin x\n");
    environment.run_client(["root", "show", "text"]).expect_code(7).stderr_contains("is no root document");
}

#[test]
fn keys_are_encrypted_never_overwritten_and_refused_when_others_can_read_them() {
    let environment = TestEnvironment::new();
    let generate = |passphrase: &str| {
        let mut command = environment.client();
        command.args(["key", "generate", "test/key", "-o", "key", "--passphrase"]);
        program::run(command.env("SMART_SYNC_PASSPHRASE", passphrase))
    };
    let made = generate("secret").success().stdout;
    generate("other").expect_code(4).stderr_contains("never overwritten");
    let show = |passphrase: &str| {
        program::run(
            environment.client().args(["key", "show", "key"]).env("SMART_SYNC_PASSPHRASE", passphrase),
        )
    };
    let shown = show("secret").success().stdout;
    assert!(made.ends_with(&shown), "{made}\n{shown}");
    show("wrong").expect_code(4).stderr_contains("the passphrase is wrong");
    let keygen = program::run(environment.command("ssh-keygen").args(["-l", "-f", "key"])).success().stdout;
    let fingerprint = keygen.split(' ').nth(1).unwrap();
    assert!(shown.contains(fingerprint), "{shown}\n{keygen}");
    fs::set_permissions(environment.path("key"), fs::Permissions::from_mode(0o640)).unwrap();
    show("secret").expect_code(3).stderr_contains("chmod 600");
    environment.run_client(["key", "generate", "two words", "-o", "other"]).expect_code(4);
}
