//! Files that come from upstream when they are asked for first: once, for everybody, and only as they have to be.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::sync::{Arc, Barrier, Mutex};

use smart_sync_tests::hostile::{HostileServer, Reply};
use smart_sync_tests::http::{curl, get};
use smart_sync_tests::noise::noise;
use smart_sync_tests::program;
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::server::age_marks;
use smart_sync_tests::static_files::answer;
use smart_sync_tests::upstream::{CHANNEL, Mirroring, TREE, asked, upstream, without_layout, write_manifest};
use smart_sync_tests::{CountingProxy, Gentoo, Realm, TestEnvironment};

/// How much everybody has before an upstream goes on.
const PART: usize = 500_000;

#[test]
fn fifty_clients_of_a_file_that_is_missing_are_served_by_one_fetch() {
    let environment = TestEnvironment::new();
    let file = noise("file", 3_000_000);
    let given = file.clone();
    let upstream = upstream(move |_| Reply::Ok(given.clone()));
    let proxy = CountingProxy::start(upstream.url().trim_start_matches("http://"), Protocol::Http).unwrap();
    let scene = Mirroring::new(&environment, &[proxy.url()], &[("a-1.tar.gz", &file)]);
    assert_eq!(scene.get("none.tar.gz").status, 404);
    assert_eq!(scene.get("ab/ab/ab/none").status, 404);
    assert_eq!(upstream.take_requests(), [], "nothing names it, so nobody is asked");
    assert_eq!(scene.get("layout.conf").expect(200).text().lines().next(), Some("[structure]"));
    let head = curl(&environment, &scene.url("a-1.tar.gz"), ["--head"]).expect(200);
    assert_eq!(head.header("content-length"), "3000000");
    assert_eq!(upstream.take_requests(), [], "the head is known without it");

    proxy.hold_received_after(proxy.totals().received + 1_000_000);
    let begun = Arc::new(Barrier::new(51));
    let hashed = hashed(&environment, "a-1.tar.gz");
    let paths = ["a-1.tar.gz", hashed.as_str()];
    std::thread::scope(|scope| {
        for number in 0..50 {
            let (scene, file, begun, paths) = (&scene, &file, Arc::clone(&begun), &paths);
            scope.spawn(move || {
                let mut download = scene.begin(paths[number % 2], "").unwrap();
                assert!(download.head.starts_with("HTTP/1.1 200"), "{}", download.head);
                let first = download.read(PART).unwrap();
                begun.wait();
                // One in ten goes away in the middle.
                if number % 10 != 0 {
                    let rest = download.read(file.len() - PART).unwrap();
                    assert!([first, rest].concat() == *file, "client {number} has something else");
                }
            });
        }
        // Everybody has a part, and the upstream has not given all of it.
        begun.wait();
        let mut part = scene.begin("a-1.tar.gz", "Range: bytes=1000-1999\r\n").unwrap();
        assert!(part.head.contains(" 206 ") && part.head.contains("content-range: bytes 1000-1999/3000000"));
        assert_eq!(part.read(1000).unwrap(), file[1000..2000]);
        proxy.release();
    });
    assert_eq!(asked(&upstream, "a-1.tar.gz"), 1);

    // From now on it is here, whatever becomes of the upstream and of this server.
    let status = scene.status(1);
    assert_eq!((&status["kept_bytes"], &status["given_files"]), (&3_000_000.into(), &50.into()));
    drop((proxy, upstream));
    assert_eq!(scene.get("a-1.tar.gz").expect(200).body, file);
    age_marks(scene.realm.data());
    scene.realm.run(&environment, &["gc", "--yes"]).success();
    age_marks(scene.realm.data());
    scene.realm.run(&environment, &["gc", "--yes"]).success();
    let scene = scene.restart();
    let again = scene.get("a-1.tar.gz").expect(200);
    assert_eq!(again.body, file);
    assert_eq!(again.header("etag"), head.header("etag"));
    let part = curl(&environment, &scene.url("a-1.tar.gz"), ["--range", "2999990-"]).expect(206);
    assert_eq!(part.body, file[2_999_990..]);
    scene.realm.run(&environment, &["check"]).success();
}

/// Where a mirror with hashed names has a file.
fn hashed(environment: &TestEnvironment, name: &str) -> String {
    environment.write(&format!("names/{name}"), name);
    let name_file = environment.path(&format!("names/{name}"));
    let digest = program::run(environment.command("b2sum").arg(name_file)).success().stdout;
    format!("{}/{name}", &digest[..2])
}

#[test]
fn upstreams_that_misbehave_are_passed_over_and_each_is_said() {
    let environment = TestEnvironment::new();
    let file = noise("small", 20_000);
    let wrong = noise("other", 20_000);
    let page = "<html>This mirror has moved</html>".to_owned();
    let whole = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let piece = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let cases: Vec<(&str, Reply)> = vec![
        ("it does not have the file", Reply::Status(404, "not found")),
        ("it answered 500", Reply::Status(500, "broken")),
        ("where 20000 have to come", Reply::Raw(whole(page.len()), page.clone().into_bytes())),
        (
            "it answered with a page",
            Reply::Raw(format!("{}\r\nContent-Type: text/html", whole(20_000)), wrong.clone()),
        ),
        ("its digests are not those", Reply::Raw(whole(20_000), wrong.clone())),
        ("it compressed", Reply::Raw(format!("{}\r\nContent-Encoding: gzip", whole(20_000)), wrong.clone())),
        ("after 7 of 20000 bytes", Reply::Raw(whole(20_000), file[..7].to_vec())),
        ("it ended", Reply::Whole([chunked.as_bytes(), &piece(&file[..9]), b"0\r\n\r\n"].concat())),
        (
            "it gave more",
            Reply::Whole([chunked.as_bytes(), &piece(&noise("long", 20_001)), b"0\r\n\r\n"].concat()),
        ),
        ("the connection broke", Reply::Close),
        ("it redirects more than 5 times", Reply::redirect("/a-1.tar.gz")),
        ("it answered 302", Reply::redirect("file:///etc/passwd")),
        ("an address inside of this network", Reply::redirect("http://127.0.0.2/a-1.tar.gz")),
        ("it is too slow", Reply::Trickle(format!("{}\r\n\r\n", whole(20_000)))),
    ];
    let servers: Vec<HostileServer> =
        cases.iter().cloned().map(|(_, reply)| upstream(move |_| reply.clone())).collect();
    // One that accepts connections and says nothing, and one that nobody listens at.
    let silent =
        CountingProxy::start(servers[0].url().trim_start_matches("http://"), Protocol::Http).unwrap();
    silent.hold_received_after(0);
    let nobody = upstream(|_| Reply::Close).url();
    let given = file.clone();
    let good = upstream(move |_| Reply::Ok(given.clone()));
    let mut sources: Vec<String> = servers.iter().map(HostileServer::url).collect();
    sources.extend([silent.url(), nobody.clone(), good.url()]);
    let scene = Mirroring::with_stall(&environment, &sources, &[("a-1.tar.gz", &file)], 5);
    assert_eq!(scene.get("a-1.tar.gz").expect(200).body, file);

    let log = scene.realm.server().log();
    let said: Vec<(&str, String)> =
        cases.iter().zip(&servers).map(|((said, _), server)| (*said, server.url())).collect();
    let said = said.into_iter().chain([("it did not answer", silent.url()), ("connecting failed", nobody)]);
    for (said, url) in said {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&url)).collect();
        assert!(lines.iter().any(|line| line.contains(said)), "{said}: {lines:#?}");
    }
}

#[test]
fn what_broke_off_goes_on_at_the_next_upstream() {
    let environment = TestEnvironment::new();
    let file = noise("large", 2_000_000);
    let (half, rest, given) = (file[..1_000_000].to_vec(), file[1_000_000..].to_vec(), file.clone());
    let breaks = upstream(move |_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2000000", half.clone()));
    let continues = upstream(move |request| match &request.range {
        Some(range) if range.start == 1_000_000 => Reply::raw(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 1000000\r\nContent-Range: bytes 1000000-1999999/2000000",
            rest.clone(),
        ),
        _ => Reply::Status(500, "it asked for something else"),
    });
    let knows_no_ranges =
        upstream(move |_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2000000", given.clone()));
    for second in [&continues, &knows_no_ranges] {
        let environment = TestEnvironment::new();
        let scene = Mirroring::new(&environment, &[breaks.url(), second.url()], &[("a-1.tar.gz", &file)]);
        assert_eq!(scene.get("a-1.tar.gz").expect(200).body, file);
        assert_eq!((asked(&breaks, "a-1.tar.gz"), asked(second, "a-1.tar.gz")), (1, 1));
    }
    // The only upstream there is is asked again.
    let tries = Mutex::new(0);
    let given = file.clone();
    let recovers = upstream(move |request| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        match (&request.range, *tries) {
            (None, 1) => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2000000", given[..10].to_vec()),
            (Some(range), 2) if range.start == 10 => {
                Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2000000", given.clone())
            }
            _ => Reply::Status(500, "unexpected"),
        }
    });
    let scene = Mirroring::new(&environment, &[recovers.url()], &[("a-1.tar.gz", &file)]);
    assert_eq!(scene.get("a-1.tar.gz").expect(200).body, file);
}

#[test]
fn whoever_has_a_part_of_what_is_wrong_is_cut_off_and_nothing_is_kept() {
    let environment = TestEnvironment::new();
    let (file, wrong) = (noise("right", 300_000), noise("wrong", 300_000));
    let upstream = upstream(move |_| Reply::Ok(wrong.clone()));
    let scene = Mirroring::new(&environment, &[upstream.url()], &[("a-1.tar.gz", &file)]);
    assert_eq!(scene.get("none.tar.gz").status, 404);
    let mut download = scene.begin("a-1.tar.gz", "").unwrap();
    assert!(download.head.starts_with("HTTP/1.1 200"), "{}", download.head);
    assert!(download.read(file.len()).is_err(), "the end is held back");
    scene.get("a-1.tar.gz").expect(502);
    assert_eq!(asked(&upstream, "a-1.tar.gz"), 1, "it is not asked for the same again and again");

    let given = file.clone();
    upstream.set(without_layout(move |_| Reply::Ok(given.clone())));
    let scene = scene.restart();
    assert_eq!(scene.get("a-1.tar.gz").expect(200).body, file);
}

#[test]
fn what_came_what_that_saved_and_what_went_wrong_is_shown() {
    let environment = TestEnvironment::new();
    let file = noise("shown", 100_000);
    let given = file.clone();
    let (broken, good) =
        (upstream(|_| Reply::Status(500, "broken")), upstream(move |_| Reply::Ok(given.clone())));
    let files: [(&str, &[u8]); 2] = [("a-1.tar.gz", &file), ("b-1.tar.gz", b"nobody has it")];
    let scene = Mirroring::new(&environment, &[broken.url(), good.url()], &files);
    for _ in 0..2 {
        assert_eq!(scene.get("a-1.tar.gz").expect(200).body, file);
    }
    let before = scene.status(1);
    let number = |name: &str| before[name].as_u64().unwrap();
    assert_eq!(before["channel"], "repos/distfiles");
    assert_eq!((number("names"), number("kept_bytes")), (2, 100_000));
    assert_eq!((number("given_files"), number("given_bytes"), number("saved_bytes")), (2, 200_000, 100_000));
    let sources = &before["sources"];
    assert_eq!((&sources[0]["url"], &sources[0]["files"]), (&broken.url().into(), &0.into()));
    assert_eq!(
        (&sources[0]["failures"], &sources[0]["error"]),
        (&1.into(), &"it answered 500 Internal Server Error".into())
    );
    assert_eq!((&sources[1]["files"], &sources[1]["bytes"]), (&1.into(), &100_000.into()));

    good.set(without_layout(|_| Reply::Status(404, "not found")));
    assert_ne!(scene.get("b-1.tar.gz").status, 200);
    let scene = scene.restart();
    let after = scene.status(1);
    assert_eq!(after["given_bytes"], before["given_bytes"], "what is counted stays");
    let event = &after["events"][0];
    assert_eq!((&event["file"], &event["source"]), (&"b-1.tar.gz".into(), &serde_json::Value::Null));
    let shown = scene.realm.run(&environment, &["mirror", "status"]).success();
    for text in [
        "upstream at repos/distfiles; repos/gentoo names 2 files",
        "kept   1 file with 100000 bytes, the last one since ",
        "given  2 files with 200000 bytes, of which 100000 did not come from upstream for it",
        "gave nothing yet, failed ",
        "gave 1 file and 100000 bytes, worked ",
        &format!("a-1.tar.gz: {}: it answered 500", broken.url()),
    ] {
        assert!(shown.stdout.contains(text), "{text}: {}", shown.stdout);
    }
}

#[test]
fn a_server_that_is_killed_while_a_file_comes_begins_again() {
    let environment = TestEnvironment::new();
    let file = noise("killed", 2_000_000);
    let given = file.clone();
    let upstream = upstream(move |_| Reply::Ok(given.clone()));
    let proxy = CountingProxy::start(upstream.url().trim_start_matches("http://"), Protocol::Http).unwrap();
    let scene = Mirroring::new(&environment, &[proxy.url()], &[("a-1.tar.gz", &file)]);
    assert_eq!(scene.get("none.tar.gz").status, 404);
    proxy.hold_received_after(proxy.totals().received + 1_000_000);
    let mut download = scene.begin("a-1.tar.gz", "").unwrap();
    download.read(PART).unwrap();
    let incoming = scene.realm.data().join("incoming");
    let Mirroring { realm, .. } = scene;
    let realm = realm.restart(&environment, |server| {
        server.kill();
        assert_eq!(fs::read_dir(&incoming).unwrap().count(), 1, "nobody could tidy up");
    });
    assert_eq!(fs::read_dir(&incoming).unwrap().count(), 0);
    assert!(download.read(file.len() - PART).is_err());
    proxy.release();
    let scene = Mirroring { environment: &environment, realm };
    assert_eq!(scene.get("a-1.tar.gz").expect(200).body, file);
    assert_eq!(asked(&upstream, "a-1.tar.gz"), 2);
}

#[test]
fn a_private_mirror_is_not_there_for_others_and_names_may_come_out_of_a_directory() {
    let environment = TestEnvironment::new();
    let file = noise("private", 1000);
    let given = file.clone();
    let upstream = upstream(move |_| Reply::Ok(given.clone()));
    write_manifest(&environment, "files", &[("a-1.tar.gz", &file)]);
    let tree = environment.path("tree").display().to_string();
    let line = format!("sources = [\"{}\"]", upstream.url());
    let scene = Mirroring::start(&environment, &tree, &line, 3600, &["--private", "repos/distfiles"]);
    let token = Some(scene.realm.token());
    let of_holder = loop {
        let answer = get(&environment, &scene.url("a-1.tar.gz"), token);
        if answer.status != 503 {
            break answer;
        }
    };
    assert_eq!(of_holder.expect(200).body, file);
    let others = |path: &str| get(&environment, &scene.realm.url(path), None);
    assert_eq!(others("repos/distfiles/a-1.tar.gz").status, 404, "though it is kept");
    assert_eq!(others("repos/distfiles/layout.conf").status, 404);
    assert!(others("v1/mirrors").expect(200).text().ends_with("\"mirrors\":[]}"));
    let status = get(&environment, &scene.realm.url("v1/mirrors"), token).expect(200).text();
    assert!(status.contains(&upstream.url()), "{status}");
    assert_eq!(asked(&upstream, "a-1.tar.gz"), 1);
}

#[test]
fn a_mirror_is_added_and_removed_by_commands() {
    let environment = TestEnvironment::new();
    let file = noise("added", 1000);
    let given = file.clone();
    let upstream = upstream(move |_| Reply::Ok(given.clone()));
    let realm = Realm::start(&environment, "realm");
    let settings = || fs::read_to_string(realm.data().join("server.toml")).unwrap();
    let before = settings();
    let url = upstream.url();
    let add = |source: &str| {
        let words =
            ["mirror", "add", "upstream", "--channel", CHANNEL, "--names-from", TREE, "--source", source];
        realm.run(&environment, &words)
    };
    add("gopher://example.org/").expect_code(4).stderr_contains("begins with none of");
    assert_eq!(settings(), before);
    add(&url).success().stdout_contains("upstream is in server.toml");
    add(&url).expect_code(4).stderr_contains("another one has its name");
    let scene = Mirroring { environment: &environment, realm }.restart();
    scene.name_files("files", &[("a-1.tar.gz", &file)]);
    assert_eq!(scene.get("a-1.tar.gz").expect(200).body, file);
    let remove = || scene.realm.run(&environment, &["mirror", "remove", "upstream"]);
    remove().success().stdout_contains("is not in server.toml any more");
    remove().expect_code(4).stderr_contains("there is no [[mirror]]");
    let settings = fs::read_to_string(scene.realm.data().join("server.toml")).unwrap();
    assert_eq!(settings.trim_end(), before.trim_end());
    assert_eq!(scene.restart().get("a-1.tar.gz").status, 404);
}

#[test]
fn manifests_that_cannot_be_believed_or_contradict_each_other_are_not_relied_on() {
    let environment = TestEnvironment::new();
    let (one, other) = (noise("one", 1000), noise("other", 2000));
    let (given, asked_for) = (one.clone(), other.clone());
    let upstream = upstream(move |request| {
        Reply::Ok(if request.path.ends_with("/both.tar") { asked_for.clone() } else { given.clone() })
    });
    environment.write("tree/app-test/broken/Manifest", "DIST broken.tar 1000 SHA512 00\n");
    write_manifest(&environment, "first", &[("both.tar", &one)]);
    let scene = Mirroring::new(&environment, &[upstream.url()], &[("good.tar", &one), ("both.tar", &other)]);
    assert_eq!(scene.get("good.tar").expect(200).body, one);
    assert_eq!(scene.get("broken.tar").status, 404);
    assert!(scene.realm.server().log().contains("what a list names is not believed"));
    assert_eq!(scene.get("both.tar").status, 404, "nobody knows which of them is meant");
    environment.write("both", &other);
    let digest = program::run(environment.command("sha512sum").arg("both")).success().stdout;
    let by_content = format!("{}/{}/{}/{}", &digest[..2], &digest[2..4], &digest[4..6], &digest[..128]);
    assert_eq!(scene.get(&by_content).expect(200).body, other);
}

#[test]
fn what_came_is_published_when_that_is_asked_for() {
    let environment = TestEnvironment::new();
    let (one, other) = (noise("one", 200_000), noise("other", 1000));
    let given = (one.clone(), other.clone());
    let upstream = upstream(move |request| {
        Reply::Ok(if request.path.ends_with("/one.tar") { given.0.clone() } else { given.1.clone() })
    });
    let files: [(&str, &[u8]); 2] = [("one.tar", &one), ("other.tar", &other)];
    let scene = Mirroring::new(&environment, &[upstream.url()], &files);
    let sync = |name: &str| scene.realm.run(&environment, &["mirror", "sync", name]);
    sync("none").expect_code(4).stderr_contains("there is no [[mirror]] \"none\"");
    sync("upstream").success().stdout_contains("has all that came from upstream");
    for (count, (name, bytes)) in (1..).zip(files) {
        assert_eq!(scene.get(name).expect(200).body, bytes);
        scene.status(count);
        sync("upstream").success().stdout_contains("1 file came from upstream and is not published yet");
        sync("upstream").success().stdout_contains("has all that came from upstream");
    }
    // Now it is a tree as any other: of a date, signed, with a Manifest that somebody's digests are in.
    let manifest = scene.get("Manifest").expect(200).text();
    let lines: Vec<&str> = manifest.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("DIST one.tar 200000 BLAKE2B "), "{manifest}");
    assert_eq!(fs::read_to_string(environment.path("tree/app-test/files/Manifest")).unwrap(), manifest);
    for (name, bytes) in files {
        let url = scene.realm.url(&format!("files/repos/distfiles/main/{name}"));
        assert_eq!(get(&environment, &url, None).expect(200).body, bytes);
    }
    let requests = upstream.take_requests();
    assert_eq!(
        requests.iter().filter(|request| !request.path.ends_with("layout.conf")).count(),
        2,
        "{requests:?}"
    );
    scene.realm.run(&environment, &["check"]).success();
    scene.realm.run(&environment, &["log", "audit"]).success();
}

#[test]
fn everything_that_is_named_is_fetched_before_anybody_asks() {
    let environment = TestEnvironment::new();
    let (one, other) = (noise("one", 200_000), noise("other", 1000));
    let given = (one.clone(), other.clone());
    let upstream = upstream(move |request| match request.path.rsplit('/').next() {
        Some("one.tar") => Reply::Ok(given.0.clone()),
        Some("other.tar") => Reply::Ok(given.1.clone()),
        _ => Reply::Status(404, "not found"),
    });
    let files: [(&str, &[u8]); 3] =
        [("one.tar", &one), ("other.tar", &other), ("gone.tar", b"nobody has it")];
    let scene = Mirroring::new(&environment, &[upstream.url()], &files);
    let sync = || scene.realm.run(&environment, &["mirror", "sync", "upstream", "--prefetch"]);
    let synced = sync()
        .expect_code(5)
        .stderr_contains("1 file that is named did not come: gone.tar: no upstream has it");
    synced.stdout_contains("2 files that are named came from upstream before anybody asked");
    for (name, bytes) in &files[..2] {
        let url = scene.realm.url(&format!("files/repos/distfiles/main/{name}"));
        assert_eq!(get(&environment, &url, None).expect(200).body, *bytes);
    }
    upstream.take_requests();
    scene.name_files("files", &files[..2]);
    sync().success().stdout_contains("0 files that are named came from upstream before anybody asked");
    assert_eq!(upstream.take_requests(), [], "all of it is here");
}

#[test]
fn portage_fetches_through_a_mirror_what_upstream_has_by_another_layout() {
    let environment = TestEnvironment::new();
    let Some(gentoo) = Gentoo::new(&environment, "gentoo") else { return };
    let bytes = noise("distfile", 400_000);
    gentoo.ebuild_of_distfile("thing", "1.0", &bytes);
    let place = hashed(&environment, "thing-1.0.bin");
    environment.write(&format!("upstream/distfiles/{place}"), &bytes);
    environment.write("upstream/distfiles/layout.conf", "[structure]\n0=filename-hash BLAKE2B 8\n");
    let directory = environment.path("upstream");
    let upstream = HostileServer::start(move |request| answer(&directory, request));
    let scene = Mirroring::new(&environment, &[format!("{}/distfiles/", upstream.url())], &[]);
    let tree = gentoo.path("repository");
    scene.realm.publish_local(&environment, TREE, "main", &tree, &[]).success();
    assert_eq!(scene.get("none.bin").status, 404);
    gentoo.fetch("thing", "1.0", &scene.realm.url("repos")).success();
    assert_eq!(fs::read(gentoo.distfile("thing-1.0.bin")).unwrap(), bytes);
    assert_eq!(asked(&upstream, "thing-1.0.bin"), 1);
}
