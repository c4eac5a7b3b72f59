//! Channels that follow an upstream: only what is new there comes, and only what it has to be is published.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;

use rustix::process::Signal;
use smart_sync_tests::followed::{CHANNEL, Followed, NAME, SUMS, tagged, write_upstream};
use smart_sync_tests::hostile::{HostileServer, Reply};
use smart_sync_tests::noise::noise;
use smart_sync_tests::program::Running;
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::static_files::answer;
use smart_sync_tests::{CountingProxy, Gpg, Realm, TestEnvironment};

/// The paths that an upstream was asked for since the last time.
fn asked(upstream: &HostileServer) -> Vec<String> {
    let mut paths: Vec<String> = upstream.take_requests().into_iter().map(|request| request.path).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn only_what_is_new_upstream_comes() {
    let environment = TestEnvironment::new();
    let (one, two, other) = (noise("one", 300_000), noise("two", 2000), noise("other", 5000));
    write_upstream(&environment, &[("one.tar", &one), ("sub/two words.tar", &two)]);
    let upstream = HostileServer::start(tagged(&environment));
    let scene = Followed::unsigned(&environment, &[upstream.url()]);
    scene
        .sync(&[])
        .success()
        .stdout_contains("3 files are new upstream")
        .stdout_contains("branch:main number 1: 3 entries");
    assert_eq!(asked(&upstream), ["/SHA512SUMS", "/one.tar", "/sub/two%20words.tar"]);
    assert_eq!(scene.get("one.tar").expect(200).body, one);
    assert_eq!(scene.get("sub/two%20words.tar").expect(200).body, two);
    let sums = fs::read(environment.path("upstream").join(SUMS)).unwrap();
    assert_eq!(scene.get(SUMS).expect(200).body, sums, "as upstream has it");

    // Nothing is new: one question, which says that this is so.
    scene.sync(&[]).success().stdout_contains("repos/files has all that upstream has: 3 files");
    let requests = upstream.take_requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].headers.contains_key("if-none-match"), "{requests:?}");
    // Nor is it where nothing is remembered: what is published is compared.
    scene.realm.run(&environment, &["mirror", "remove", NAME]).success();
    let add = |options: &[&str]| {
        let words = ["mirror", "add", NAME, "--channel", CHANNEL, "--kind", "files", "--source"];
        let url = upstream.url();
        scene.realm.run(&environment, &[&words[..], &[url.as_str()], options].concat())
    };
    add(&["--digests", SUMS]).expect_code(4).stderr_contains("whoever is upstream could say what they like");
    add(&[]).expect_code(4).stderr_contains("nothing says what the files have to be");
    add(&["--digests", SUMS, "--allow-unsigned", "--every", "5s"])
        .expect_code(4)
        .stderr_contains("from 1m to 30d");
    add(&["--digests", SUMS, "--allow-unsigned", "--every", "6h", "--max-gib", "1"]).success();
    scene.sync(&[]).success().stdout_contains("repos/files has all that upstream has: 3 files");
    assert_eq!(asked(&upstream), ["/SHA512SUMS"]);

    write_upstream(&environment, &[("one.tar", &one), ("two.tar", &other)]);
    scene.sync(&[]).success().stdout_contains("2 files are new upstream");
    assert_eq!(asked(&upstream), ["/SHA512SUMS", "/two.tar"]);
    assert_eq!(scene.get("two.tar").expect(200).body, other);
    assert_eq!(scene.get("sub/two%20words.tar").status, 404);
    let follow = &scene.status()["follow"];
    assert!(follow["looked"].is_u64() && follow["changed"].is_u64() && follow["error"].is_null(), "{follow}");
    assert_eq!((&follow["files"], &follow["failures"], &follow["held"]), (&3.into(), &0.into(), &().into()));
    let shown = scene.shown();
    for text in
        ["files at repos/files, of the kind files", "  looked 20", ", next 20", "  has    3 files with "]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    scene.realm.run(&environment, &["check"]).success();
}

#[test]
fn a_run_that_is_killed_is_gone_on_with() {
    let environment = TestEnvironment::new();
    let file = noise("large", 4_000_000);
    write_upstream(&environment, &[("large.tar", &file)]);
    let directory = environment.path("upstream");
    let upstream = HostileServer::start(move |request| match (answer(&directory, request), &request.range) {
        (Reply::Ok(bytes), Some(range)) => {
            let (from, last, size) = (range.start, bytes.len() - 1, bytes.len());
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{last}/{size}\r\nContent-Length: {}",
                size - from
            );
            Reply::Raw(head, bytes[from..].to_vec())
        }
        (reply, _) => reply,
    });
    let proxy = CountingProxy::start(upstream.url().trim_start_matches("http://"), Protocol::Http).unwrap();
    let scene = Followed::unsigned(&environment, &[proxy.url()]);
    proxy.hold_received_after(proxy.totals().received + 1_500_000);
    let mut command = environment.server();
    command.args(Followed::sync_arguments(&[])).arg("--data").arg(scene.realm.data());
    let mut running = Running::start(&mut command);
    let here = || {
        let parts = fs::read_dir(scene.parts()).into_iter().flatten();
        parts.filter_map(|part| Some(part.ok()?.metadata().ok()?.len())).max().unwrap_or(0)
    };
    while here() < 1_000_000 {
        assert!(running.is_alive(), "it waits for the rest");
    }
    running.signal(Signal::KILL);
    running.wait();
    let begun = usize::try_from(here()).unwrap();
    proxy.release();
    upstream.take_requests();
    scene.sync(&[]).success();
    let ranges: Vec<_> = upstream.take_requests().into_iter().filter_map(|request| request.range).collect();
    assert_eq!(ranges.iter().map(|range| range.start).collect::<Vec<_>>(), [begun]);
    assert_eq!(scene.get("large.tar").expect(200).body, file);
    assert_eq!(here(), 0, "nothing is left");
}

#[test]
fn an_upstream_that_shrinks_is_held_until_somebody_accepts_it() {
    let environment = TestEnvironment::new();
    let names: Vec<String> = (0..12).map(|number| format!("file-{number}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    write_upstream(&environment, &files);
    let upstream = HostileServer::start(tagged(&environment));
    let scene = Followed::unsigned(&environment, &[upstream.url()]);
    scene.sync(&[]).success();
    write_upstream(&environment, &files[..2]);
    for _ in 0..2 {
        scene
            .sync(&[])
            .expect_code(7)
            .stderr_contains("upstream had 13 files, and has 3")
            .stderr_contains("--accept");
    }
    assert_eq!(scene.get("file-11").expect(200).body, b"file-11");
    let status = scene.status();
    assert_eq!(status["follow"]["held"], "upstream had 13 files, and has 3");
    let held = |event: &&serde_json::Value| event["text"].as_str().unwrap().starts_with("held: ");
    assert_eq!(
        status["events"].as_array().unwrap().iter().filter(held).count(),
        1,
        "it is said once: {status}"
    );
    assert!(scene.shown().contains("  held since 20"), "{}", scene.shown());
    scene.sync(&["--accept"]).success();
    assert_eq!(scene.get("file-11").status, 404);
    assert_eq!(scene.status()["follow"]["held"], serde_json::Value::Null);
    scene.sync(&[]).success().stdout_contains("has all that upstream has: 3 files");
}

#[test]
fn digests_count_as_far_as_keys_that_count_have_signed_them() {
    let environment = TestEnvironment::new();
    let Some(gpg) = Gpg::new() else { return };
    let ours = gpg.make_key("releases <r@example.org>", "ed25519", "cert,sign", "never");
    let other = gpg.make_key("other", "ed25519", "cert,sign", "never");
    let ring = gpg.export_to(&ours, "ours.asc");
    let upstream = HostileServer::start(tagged(&environment));
    let lines = format!("kind = \"files\"\ndigests = \"{SUMS}\"\nkeyring = [\"{}\"]", ring.display());
    let scene = Followed::new(&environment, &[upstream.url()], &lines);
    let sums = environment.path("upstream").join(SUMS);
    let sums_text = || fs::read_to_string(&sums).unwrap();

    write_upstream(&environment, &[("a.tar", b"first")]);
    scene.sync(&[]).expect_code(7).stderr_contains("SHA512SUMS: it is not signed");
    assert_eq!(scene.get("a.tar").status, 404);
    fs::write(&sums, gpg.clear_sign(&ours, &sums_text())).unwrap();
    scene.sync(&[]).success();
    assert_eq!(scene.get("a.tar").expect(200).body, b"first");

    // The last good version stays, whatever comes that nobody who counts has signed.
    write_upstream(&environment, &[("a.tar", b"second")]);
    let signature = format!("{}.asc", sums.display());
    fs::write(&signature, gpg.sign(&other, sums_text().as_bytes())).unwrap();
    scene.sync(&[]).expect_code(7).stderr_contains("which no key ring has");
    fs::write(&signature, gpg.sign(&ours, b"other bytes")).unwrap();
    scene.sync(&[]).expect_code(7).stderr_contains("what it signs was changed");
    assert_eq!(scene.get("a.tar").expect(200).body, b"first");
    let status = scene.status();
    assert_eq!(status["follow"]["failures"], 2);
    assert!(status["events"][0]["text"].as_str().unwrap().contains("what it signs was changed"), "{status}");
    fs::write(&signature, gpg.sign(&ours, sums_text().as_bytes())).unwrap();
    scene.sync(&[]).success();
    assert_eq!(scene.get("a.tar").expect(200).body, b"second");
    assert_eq!(scene.get("SHA512SUMS.asc").expect(200).body, fs::read(&signature).unwrap());
}

#[test]
fn what_upstream_gives_in_place_of_a_file_is_not_published() {
    let environment = TestEnvironment::new();
    write_upstream(&environment, &[("a.tar", b"first")]);
    let good = HostileServer::start(tagged(&environment));
    let scene = Followed::unsigned(&environment, &[good.url()]);
    scene.sync(&[]).success();
    write_upstream(&environment, &[("a.tar", b"second")]);
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6";
    let cases: [(Reply, &str, i32); 4] = [
        (Reply::raw(page, *b"<html>"), "it answered with a page", 7),
        (Reply::Ok(b"another".to_vec()), "it is not what it has to be", 7),
        (Reply::Status(404, "not found"), "it does not have the file", 5),
        (Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 6", *b"sec"), "after 3 bytes", 5),
    ];
    for (reply, said, code) in cases {
        let sums = tagged(&environment);
        good.set(move |request| if request.path.ends_with(SUMS) { sums(request) } else { reply.clone() });
        scene.sync(&[]).expect_code(code).stderr_contains(said).stderr_contains("nothing was published");
        assert_eq!(scene.get("a.tar").expect(200).body, b"first", "{said}");
    }
    // A page in place of the digests.
    good.set(move |_| Reply::raw(page, *b"<html>"));
    scene.sync(&[]).expect_code(7).stderr_contains("SHA512SUMS: it answered with a page");
    assert_eq!(scene.status()["follow"]["failures"], 5);
}

#[test]
fn another_upstream_goes_on_where_one_vanishes() {
    let environment = TestEnvironment::new();
    let file = noise("vanishing", 400_000);
    write_upstream(&environment, &[("a.tar", &file)]);
    let sums = tagged(&environment);
    let begins = file[..100_000].to_vec();
    let vanishes = HostileServer::start(move |request| {
        if request.path.ends_with(SUMS) {
            return sums(request);
        }
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 400000", begins.clone())
    });
    let rest = file[100_000..].to_vec();
    let other = HostileServer::start(move |request| match &request.range {
        Some(range) if range.start == 100_000 => Reply::raw(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 300000\r\nContent-Range: bytes 100000-399999/400000",
            rest.clone(),
        ),
        _ => Reply::Status(500, "it asked for something else"),
    });
    let scene = Followed::unsigned(&environment, &[vanishes.url(), other.url()]);
    scene.sync(&[]).success();
    assert_eq!(scene.get("a.tar").expect(200).body, file);
    assert_eq!(asked(&other), ["/a.tar"]);
    let sources = &scene.status()["sources"];
    assert_eq!((&sources[0]["failures"], &sources[1]["files"]), (&1.into(), &1.into()), "{sources}");
    // Where the first one is away, the next one is asked what there is.
    vanishes.set(|_| Reply::Close);
    other.set(tagged(&environment));
    scene.sync(&[]).success().stdout_contains("has all that upstream has");
}

#[test]
fn a_server_looks_by_itself_when_it_is_the_turn_of_a_mirror() {
    let environment = TestEnvironment::new();
    write_upstream(&environment, &[("a.tar", b"first")]);
    let upstream = HostileServer::start(tagged(&environment));
    let lines = format!("kind = \"files\"\ndigests = \"{SUMS}\"\nallow-unsigned = true\nevery = \"7d\"");
    let scene = Followed::new(&environment, &[upstream.url()], &lines);
    // The first look is at some time within the interval.
    let next = loop {
        if let Some(next) = scene.status()["follow"]["next"].as_u64() {
            break next;
        }
    };
    let turn_comes = |realm: Realm| {
        realm.restart(&environment, |server| {
            assert!(server.stop().success());
            let db = rusqlite::Connection::open(environment.path("realm/upstream.db")).unwrap();
            assert_eq!(db.execute("UPDATE followed SET next = 1", []).unwrap(), 1);
        })
    };
    let changed = |scene: &Followed<'_>| loop {
        let status = scene.status();
        if status["follow"]["next"] != 1 {
            break status;
        }
    };
    let scene = Followed { realm: turn_comes(scene.realm), environment: &environment };
    let status = changed(&scene);
    assert!(status["follow"]["changed"].is_u64(), "{status}");
    assert!(status["follow"]["next"].as_u64().unwrap() > next - 7 * 86_400, "{status}");
    assert_eq!(scene.get("a.tar").expect(200).body, b"first");

    // A restart alone is no reason to look.
    upstream.take_requests();
    let realm = scene.realm.restart(&environment, |server| assert!(server.stop().success()));
    let scene = Followed { realm, environment: &environment };
    assert_eq!((scene.status()["follow"]["failures"].as_u64(), asked(&upstream).len()), (Some(0), 0));
    // What it cannot do is said, and it is tried again sooner.
    upstream.set(|_| Reply::Status(503, "busy"));
    let scene = Followed { realm: turn_comes(scene.realm), environment: &environment };
    let status = changed(&scene);
    assert_eq!(status["follow"]["failures"], 1, "{status}");
    assert!(status["follow"]["error"].as_str().unwrap().contains("503"), "{status}");
    assert_eq!(scene.get("a.tar").expect(200).body, b"first");
}
