//! An export behind a web server.

use std::fs;
use std::process::Stdio;

use smart_sync_tests::hostile::{HostileServer, Reply};
use smart_sync_tests::noise::noise;
use smart_sync_tests::program::Running;
use smart_sync_tests::{skipped, static_files};

use crate::scene::{CHANNEL, Scene, besides_ranges, counts, serve_with};

#[test]
fn a_bundle_in_an_export_brings_an_update_without_ranges() {
    let scene = Scene::with_settings("");
    let web = scene.serve();
    scene.trust(&web.url());
    scene.sync(&[], &[]).success();
    scene.write("d1/f1", b"changed\n");
    scene.write("new", &noise("new", 20_000));
    scene.publish();
    // What is asked about is computed and stored.
    scene.realm.run(&scene.environment, &["cost", CHANNEL, "#1", "#2"]).success();
    scene.export(&[]);
    counts(&web);
    scene.sync(&[], &[]).success();
    scene.assert_synced();
    let update = counts(&web);
    assert_eq!(
        (update.get("bundle"), update.get("delta"), update.get("pack")),
        (Some(&1), None, None),
        "{update:?}"
    );
    assert!(besides_ranges(&update) <= 4, "{update:?}");
}

#[test]
fn a_host_follows_an_export_with_at_most_six_requests_besides_ranges() {
    let scene = Scene::new();
    let web = scene.serve();
    scene.trust(&web.url());
    assert_eq!(counts(&web).into_keys().collect::<Vec<_>>(), ["root"]);
    scene.sync(&[], &[]).success();
    scene.assert_synced();
    let first = counts(&web);
    // One of them is for a bundle, which is not there yet.
    assert!(besides_ranges(&first) <= 3, "{first:?}");

    // Nothing new.
    scene.sync(&[], &[]).success();
    assert_eq!(counts(&web), [("update".to_owned(), 1)].into());

    // A step from what is here, in a log that grew.
    scene.write("d1/f1", b"changed\n");
    scene.write("new", b"new\n");
    scene.publish();
    scene.export(&[]);
    scene.sync(&[], &[]).success();
    scene.assert_synced();
    let update = counts(&web);
    assert!(besides_ranges(&update) <= 4, "{update:?}");

    // What was changed on the host is brought back, though no file answers where a content lies.
    fs::write(scene.target().join("d2/f2"), "drift").unwrap();
    fs::remove_file(scene.target().join("d3/f3")).unwrap();
    scene.write("new", b"newer\n");
    scene.publish();
    scene.export(&[]);
    scene.sync(&[], &["--force-full"]).success();
    scene.assert_synced();
    let drifted = counts(&web);
    assert!(besides_ranges(&drifted) <= 6, "{drifted:?}");

    // A version from which there is no step any more.
    for number in 0..12 {
        scene.write("new", format!("{number}\n").as_bytes());
        scene.publish();
    }
    scene.export(&[]);
    scene.sync(&[], &[]).success();
    scene.assert_synced();
    let far = counts(&web);
    assert!(besides_ranges(&far) <= 6, "{far:?}");
}

#[test]
fn refs_are_found_in_an_export_as_at_a_server() {
    let scene = Scene::new();
    scene.publish_as("tag:V2.1");
    scene.write("new", b"after the tag\n");
    scene.publish_as("branch:Feature/x");
    scene.publish_as("branch:feature");
    scene.export(&[]);
    let web = scene.serve();
    scene.trust(&web.url());
    // There is no branch of that name, which the export shows.
    scene.sync(&[], &["--ref", "V2.1"]).success();
    assert!(!scene.target().join("new").exists());
    scene.sync(&[], &["--ref", "Feature/x"]).success();
    scene.assert_synced();
    let absent = scene.sync(&[], &["--ref", "branch:V2.1"]);
    absent.expect_code(1).stderr_contains("no branch:V2.1");
    scene.sync(&[], &["--ref", "nothing"]).expect_code(5).stderr_contains("404");
    // What looks at a tree without having it works as well.
    let look = |arguments: &[&str]| {
        scene.environment.run_client([arguments, &["--channel", crate::scene::CHANNEL][..]].concat())
    };
    let listing = look(&["ls", "--ref", "feature"]).success().stdout;
    assert!(listing.contains("new\n") && listing.contains("d1/\n"), "{listing}");
    assert_eq!(look(&["cat", "new", "--ref", "feature"]).success().stdout, "after the tag\n");
    let differs = look(&["diff", "main", "feature"]).success().stdout;
    assert!(differs.contains("+after the tag"), "{differs}");
}

#[test]
fn a_server_without_ranges_will_do() {
    let scene = Scene::new();
    let directory = scene.directory();
    let web = HostileServer::start(move |request| static_files::answer_whole(&directory, request));
    scene.trust(&web.url());
    scene.sync(&[], &[]).success();
    scene.assert_synced();
    let packs = fs::read_dir(scene.directory().join("pack")).unwrap().count();
    let asked = counts(&web)["pack"];
    // Each pack once, and the first ranges, which were answered otherwise than they were asked for.
    assert!(asked <= packs + 3, "{asked} for {packs}");
}

#[test]
fn the_web_server_of_python_will_do() {
    let scene = Scene::new();
    let script = "import http.server, os, sys\n\
        os.chdir(sys.argv[1])\n\
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
        open('../port.tmp', 'w').write(str(server.server_address[1]))\n\
        os.rename('../port.tmp', '../port')\n\
        server.serve_forever()\n";
    let mut command = scene.environment.command("python3");
    if command.arg("--version").stdout(Stdio::null()).status().is_err() {
        return skipped("python3 is not installed");
    }
    let mut command = scene.environment.command("python3");
    command.args(["-c", script]).arg(scene.directory());
    let mut web = Running::start(&mut command);
    let port = scene.environment.path("port");
    while !port.exists() {
        assert!(web.is_alive(), "it ended before it listened");
        std::thread::yield_now();
    }
    let url = format!("http://127.0.0.1:{}", fs::read_to_string(port).unwrap());
    scene.trust(&url);
    scene.sync(&[], &[]).success();
    scene.assert_synced();
    scene.write("d1/f1", &noise("changed", 5_000));
    scene.publish();
    scene.export(&[]);
    fs::write(scene.target().join("d2/f2"), "drift").unwrap();
    scene.sync(&[], &["--force-full"]).success();
    scene.assert_synced();
}

/// What is sent in the place of a file.
type Lie = fn(Vec<u8>) -> Reply;

#[test]
fn what_is_wrong_with_files_is_refused_and_moves_nothing() {
    let scene = Scene::new();
    // A log of six leaves that grows to ten: how it does that is not in the evidence of its end.
    scene.write("other", b"other\n");
    scene.publish();
    scene.export(&[]);
    let web = scene.serve();
    scene.trust(&web.url());
    scene.sync(&[], &[]).success();
    let before = scene.trust_state();
    for text in ["newer", "new"] {
        scene.write("new", text.as_bytes());
        scene.publish();
    }
    scene.export(&[]);
    let garble: Lie = |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Reply::Ok(bytes)
    };
    let lies: [(&str, &str, i32, Lie); 8] = [
        ("garbled evidence", "/v1/update", 7, garble),
        ("torn evidence", "/v1/update", 5, |bytes| Reply::Ok(bytes[..bytes.len() / 2].to_vec())),
        ("a page for people", "/", 5, |_| Reply::Ok(b"<!DOCTYPE html><title>Hello</title>".to_vec())),
        ("another tile", "/tile/", 7, |bytes| Reply::Ok(vec![7; bytes.len()])),
        ("a torn tile", "/tile/", 5, |bytes| Reply::Ok(bytes[1..].to_vec())),
        ("an endless tile", "/tile/", 5, |_| Reply::Endless("HTTP/1.1 200 OK\r\n\r\n".to_owned())),
        ("no tile", "/tile/", 7, |_| Reply::Status(404, "not found")),
        ("nothing at all", "/", 5, |_| Reply::Close),
    ];
    for (what, path, code, lie) in lies {
        let liar = serve_with(&scene.directory(), move |request, reply| match reply {
            Reply::Ok(bytes) if request.path.starts_with(path) => lie(bytes),
            other => other,
        });
        let finished = scene.sync(&[&liar.url()], &[]);
        assert_eq!(finished.code, Some(code), "{what}: {finished:?}");
        assert!(scene.trust_state() == before, "{what}");
        assert!(!scene.target().join("new").exists(), "{what}");
    }
    scene.sync(&[], &[]).success();
    scene.assert_synced();
}
