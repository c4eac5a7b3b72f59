//! Private channels and tokens: what is private does not show, and a token opens exactly what it is for.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::PathBuf;

use smart_sync_store::manifest::Content;
use smart_sync_sync::evidence::{Answer as Claimed, Evidence};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::publish::Standing;
use smart_sync_sync::wire::fetch_map::FetchMap;
use smart_sync_sync::wire::locate::{self, Wanted};
use smart_sync_tests::http::{Answer, curl, get, send};
use smart_sync_tests::server::{create_token, serve};
use smart_sync_tests::{Publisher, Realm, Server, TestEnvironment, program};

const SECRET: &str = "what only few may read\n";

/// A realm in which `repos/open` is public and everything below `repos/secret` is not.
struct Private {
    environment: TestEnvironment,
    realm: Realm,
    reader: String,
    manifest: String,
}

impl Private {
    fn new() -> Self {
        let environment = TestEnvironment::new();
        let realm = Realm::start_with(&environment, "realm", "", &["--private", "repos/secret/*"]);
        let open = environment.write("open/file", "for everybody\n");
        let secret = environment.write("secret/file", SECRET);
        let publish = |channel: &str, file: PathBuf| {
            let directory = file.parent().unwrap();
            realm.publish_local(&environment, channel, "main", directory, &[]).success();
        };
        publish("repos/open", open);
        publish("repos/secret/a", secret.clone());
        publish("repos/secret/b", secret);
        let reader = create_token(&environment, realm.data(), "read", "repos/secret/a");
        let refs = get(&environment, &realm.url("v1/refs/repos%2Fsecret%2Fa"), Some(&reader)).expect(200);
        let refs: serde_json::Value = serde_json::from_slice(&refs.body).unwrap();
        let manifest = refs[0]["manifest"].as_str().unwrap().strip_prefix("blake3:").unwrap().to_owned();
        Self { environment, realm, reader, manifest }
    }

    fn get(&self, path: &str, token: Option<&str>) -> Answer {
        get(&self.environment, &self.realm.url(path), token)
    }

    fn locate(&self, token: Option<&str>) -> FetchMap {
        let content: Content = smart_sync_store::content::name_content(SECRET.as_bytes());
        let body = locate::encode(&[Wanted { id: content.id, size: content.size }]);
        let answer = send(&self.environment, "POST", &self.realm.url("v1/locate"), token, &body).expect(200);
        FetchMap::decode(&answer.body).unwrap()
    }
}

#[test]
fn a_private_channel_is_answered_like_one_that_does_not_exist() {
    let private = Private::new();
    let other = create_token(&private.environment, private.realm.data(), "read", "repos/secret/b");
    let evil = create_token(&private.environment, private.realm.data(), "read", "repos/secret/");
    let pack = hex_id_of_pack(&private);
    for token in [None, Some(other.as_str())] {
        for (hidden, absent) in [
            ("files/repos/secret/a/main/file", "files/repos/absent/a/main/file"),
            ("files/repos/secret/a/", "files/repos/absent/a/"),
            ("repos/secret/a/file", "repos/absent/a/file"),
            ("repos/secret/a", "repos/absent/a"),
            ("repos/secret/a/", "repos/absent/a/"),
            ("at/2999-01-01/repos/secret/a/file", "at/2999-01-01/repos/absent/a/file"),
            ("v1/history/repos%2Fsecret%2Fa/main", "v1/history/repos%2Fabsent%2Fa/main"),
            ("v1/signed/repos%2Fsecret%2Fa/main/SUMS", "v1/signed/repos%2Fabsent%2Fa/main/SUMS"),
            (
                "v1/signed/repos%2Fsecret%2Fa/main/publication",
                "v1/signed/repos%2Fabsent%2Fa/main/publication",
            ),
            ("v1/refs/repos%2Fsecret%2Fa", "v1/refs/repos%2Fabsent%2Fa"),
        ] {
            let (hidden, absent) = (private.get(hidden, token), private.get(absent, token));
            assert_eq!((hidden.status, hidden.text()), (absent.status, absent.text()));
            assert_eq!(hidden.headers.keys().collect::<Vec<_>>(), absent.headers.keys().collect::<Vec<_>>());
        }
        // Evidence says that there is no such ref that anybody may see, which is true.
        let claimed = |channel: &str| {
            let answer = private.get(&format!("v1/update/{channel}/branch:main"), token).expect(200);
            match Evidence::decode(&answer.body).unwrap() {
                Evidence::Full(evidence) => evidence.answer,
                Evidence::Unchanged { .. } => panic!("nothing was said to be known"),
            }
        };
        assert_eq!(claimed("repos%2Fsecret%2Fa"), Claimed::Absent);
        assert_eq!(claimed("repos%2Fabsent%2Fa"), Claimed::Absent);
        let have = format!("v1/update/repos%2Fsecret%2Fa/main?have={}&size=8", private.manifest);
        assert!(matches!(
            Evidence::decode(&private.get(&have, token).expect(200).body).unwrap(),
            Evidence::Full(_)
        ));
    }
    for token in [None, Some("sst_")] {
        let status = |path: &str| private.get(path, token).status;
        let expected = if token.is_none() { 404 } else { 401 };
        for path in [
            format!("page/{}", private.manifest),
            format!("v1/delta/none/{}", private.manifest),
            format!("v1/delta/{0}/{0}", private.manifest),
            format!("pack/{pack}"),
        ] {
            assert_eq!(status(&path), expected, "{path}");
        }
    }
    // A domain does not help another: the same content in b does not show that of a.
    assert_eq!(private.get(&format!("pack/{pack}"), Some(&private.reader)).status, 200);
    assert!(private.locate(None).contents.is_empty());
    assert_eq!(private.locate(Some(&private.reader)).contents.len(), 1);
    assert_eq!(private.locate(Some(&evil)).contents.len(), 1, "a prefix that covers both");
    let refs = private.get("v1/refs", None).expect(200).text();
    assert!(refs.contains("repos/open") && !refs.contains("secret"), "{refs}");
    let index = private.get("files/repos/", None).expect(200).text();
    assert!(index.contains("open") && !index.contains("secret"), "{index}");
}

fn hex_id_of_pack(private: &Private) -> String {
    let map = private.locate(Some(&private.reader));
    map.packs[0].id.to_string()
}

#[test]
fn the_log_does_not_name_what_is_private() {
    let private = Private::new();
    let leaves = private.get("tile/entries/000.p/8", None).expect(200);
    let text = leaves.text();
    assert!(text.contains("repos/open") && text.contains("smart-sync/sealed/v1"), "{text}");
    assert!(!text.contains("repos/secret") && !text.contains(&private.manifest), "{text}");
    // An export is for everybody.
    let directory = private.environment.path("export");
    private.realm.run(&private.environment, &["export", directory.to_str().unwrap()]).success();
    let pack = hex_id_of_pack(&private);
    assert!(directory.join("checkpoint").is_file() && !directory.join("pack").join(pack).exists());
}

#[test]
fn a_token_opens_what_it_is_for() {
    let private = Private::new();
    let token = Some(private.reader.as_str());
    assert_eq!(private.get("files/repos/secret/a/main/file", token).expect(200).text(), SECRET);
    private.get("files/repos/secret/b/main/file", token).expect(404);
    assert_eq!(private.get("repos/secret/a/file", token).expect(200).text(), SECRET);
    private.get("repos/secret/b/file", token).expect(404);
    private.get("files/repos/open/main/file", token).expect(200);
    private.get(&format!("page/{}", private.manifest), token).expect(200);
    private.get(&format!("v1/delta/none/{}", private.manifest), token).expect(200);
    private.get("v1/history/repos%2Fsecret%2Fa/main", token).expect(200);
    let evidence = private.get("v1/update/repos%2Fsecret%2Fa/branch:main", token).expect(200);
    let Evidence::Full(evidence) = Evidence::decode(&evidence.body).unwrap() else { panic!("news") };
    assert!(matches!(evidence.answer, Claimed::Sealed { .. }));

    let url = private.realm.url("files/repos/secret/a/main/file");
    let basic = format!("anybody:{}", private.reader);
    let answer = curl(&private.environment, &url, ["--user", &basic]).expect(200);
    assert_eq!(answer.header("cache-control"), "private, no-cache");

    let mut wget = private.environment.command("wget");
    wget.args(["--quiet", "--auth-no-challenge", "--user=anybody", "--output-document=-"]);
    let fetched = program::run(wget.arg(format!("--password={}", private.reader)).arg(&url)).success();
    assert_eq!(fetched.stdout, SECRET);

    // Whoever may publish may read what he published, and nothing else.
    let publisher = create_token(&private.environment, private.realm.data(), "publish", "repos/secret/b");
    private.get("files/repos/secret/b/main/file", Some(&publisher)).expect(200);
    private.get("files/repos/secret/a/main/file", Some(&publisher)).expect(404);
}

#[test]
fn a_private_channel_is_published_to_from_here_and_from_afar() {
    let private = Private::new();
    let (environment, realm) = (&private.environment, &private.realm);
    let token = create_token(environment, realm.data(), "publish", "repos/secret/");
    let publisher =
        Publisher::new(environment, realm.server().url(), Realm::ORIGIN, &realm.key("publish"), Some(&token));
    let history = private.get("v1/signed/repos%2Fsecret%2Fa/main/publication", Some(&token)).expect(200);
    let first = Standing { seq: 1, leaf: LogHash::of_leaf(&history.body) };
    let changed = environment.write("changed/file", "second");
    let directory = changed.parent().unwrap();
    let second = publisher.publish("repos/secret/a", "branch:main", directory, Some(first));
    second.answer.clone().expect(200);
    publisher.submit_note(&second.note).expect(409);
    fs::write(&changed, "third").unwrap();
    realm.publish_local(environment, "repos/secret/a", "main", directory, &[]).success();
    assert_eq!(private.get("files/repos/secret/a/main/file", Some(&token)).expect(200).text(), "third");
    let sound = realm.run(environment, &["log", "audit"]).success();
    assert!(sound.stdout.contains("is sound"), "{}", sound.stdout);
    private.get("files/repos/secret/a/main/file", None).expect(404);
}

#[test]
fn a_token_that_does_not_count_is_refused_by_name_of_the_reason() {
    let private = Private::new();
    let (environment, realm) = (&private.environment, &private.realm);
    let open = "files/repos/open/main/file";
    let unknown = private.get(open, Some("sst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")).expect(401);
    assert!(unknown.headers["www-authenticate"].contains("Basic"), "{unknown:?}");
    private.get(open, Some("")).expect(401);
    private.get(open, Some(&"x".repeat(5000))).expect(401);
    private.get(open, Some(&private.reader.to_lowercase())).expect(401);

    // The end of a token is in a file; moving it there is what waiting would do.
    let expired = create_token(environment, realm.data(), "read", "repos/secret/");
    private.get(open, Some(&expired)).expect(200);
    let path = realm.data().join("tokens.toml");
    let tokens: String =
        fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| {
                if line.starts_with("expires") { "expires = 1000\n".to_owned() } else { format!("{line}\n") }
            })
            .collect();
    let replaced = realm.data().join("tokens.new");
    fs::write(&replaced, tokens).unwrap();
    fs::rename(replaced, path).unwrap();
    let answer = private.get("files/repos/secret/a/main/file", Some(&expired)).expect(401);
    assert!(answer.text().contains("expired"), "{}", answer.text());
}

#[test]
fn a_token_has_verbs_and_a_prefix_of_whole_names() {
    let private = Private::new();
    let (environment, realm) = (&private.environment, &private.realm);
    let status = |channel: &str, token: Option<&str>| {
        let url = realm.url(&format!("v1/missing/{}", channel.replace('/', "%2F")));
        send(environment, "POST", &url, token, &[0; 33]).status
    };
    assert_eq!(status("repos/open", None), 401);
    assert_eq!(status("repos/secret/a", Some(&private.reader)), 403, "it may only read");
    let open = create_token(environment, realm.data(), "publish", "repos/open");
    assert_eq!(status("repos/open", Some(&open)), 200);
    for channel in ["repos/open-evil", "repos/open/sub", "repos", "repos/secret/a", "other"] {
        assert_eq!(status(channel, Some(&open)), 403, "{channel}");
    }
    let admin = create_token(environment, realm.data(), "admin", "");
    assert_eq!(status("repos/open", Some(&admin)), 403);
    private.get("files/repos/secret/a/main/file", Some(&admin)).expect(404);

    // A token is gone the moment it is revoked, without a restart.
    realm.run(environment, &["token", "revoke", "publish repos/open"]).success();
    assert_eq!(status("repos/open", Some(&open)), 401);
    let listed = realm.run(environment, &["token", "list"]).success();
    assert!(listed.stdout.contains("read repos/secret/a") && !listed.stdout.contains("sst_"));
}

#[test]
fn a_token_is_in_no_line_of_the_log() {
    let private = Private::new();
    let token = &private.reader;
    let environment = &private.environment;
    let data = private.realm.end(|server| assert!(server.stop().success()));
    for format in ["text", "json"] {
        let mut command = serve(environment, &data);
        command.args(["--log-format", format]).env("SMART_SYNC_LOG", "trace");
        let server = Server::start(&mut command);
        let url = |path: &str| format!("{}/{path}", server.url());
        get(environment, &url("files/repos/secret/a/main/file"), Some(token)).expect(200);
        get(environment, &url("files/repos/secret/a/main/none"), Some(token)).expect(404);
        get(environment, &url("v1/publish"), Some(token)).expect(405);
        curl(environment, &url("files/"), ["--user", &format!("u:{token}")]).expect(200);
        let log = server.log();
        assert!(log.contains("/files/repos/secret/a/main/none"), "{log}");
        assert!(!log.contains(token.as_str()), "the log has a token:\n{log}");
    }
}

#[test]
fn the_history_of_a_private_channel_is_shown_to_its_readers_with_its_places_in_the_log() {
    let private = Private::new();
    let environment = &private.environment;
    fs::write(environment.path("secret/file"), "another secret\n").unwrap();
    let directory = environment.path("secret");
    private.realm.publish_local(environment, "repos/secret/a", "main", &directory, &[]).success();
    let (url, pin) = (private.realm.server().url(), private.realm.fingerprint());
    environment.run_client(["trust", "add", url, "--root", pin]).success();
    let mut command = environment.client();
    command.args(["log", "--json", "--channel", "repos/secret/a"]).env("SMART_SYNC_TOKEN", &private.reader);
    let listed = program::run(&mut command).success().stdout;
    let places: Vec<_> = listed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| (event["seq"].as_u64().unwrap(), event["leaf"].as_u64().unwrap()))
        .collect();
    // The root document and its heads, then a publication and its heads four times.
    assert_eq!(places, [(2, 8), (1, 4)]);
}
