//! `/files`: what clients get that know nothing of smart-sync. curl and wget are such clients.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use smart_sync_tests::http::{curl, get};
use smart_sync_tests::{Realm, Snapshot, TestEnvironment, program};

/// Bytes that do not compress and have no pattern, so that a wrong range is seen.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// A realm with one directory published as `repos/tree`, branch `main`.
fn published(environment: &TestEnvironment, fill: impl FnOnce(&std::path::Path)) -> Realm {
    let tree = environment.path("tree");
    fs::create_dir_all(&tree).unwrap();
    fill(&tree);
    let realm = Realm::start(environment, "realm");
    realm.publish_local(environment, "repos/tree", "main", &tree, &[]).success();
    realm
}

#[test]
fn a_file_has_validators_and_ranges() {
    let environment = TestEnvironment::new();
    let content = noise(700_000);
    let realm = published(&environment, |tree| {
        fs::write(tree.join("large.bin"), &content).unwrap();
        fs::write(tree.join("README"), "read me\n").unwrap();
        fs::write(tree.join("empty"), "").unwrap();
    });
    let url = realm.url("files/repos/tree/main/large.bin");
    let whole = get(&environment, &url, None).expect(200);
    assert_eq!(whole.body, content);
    assert_eq!(whole.header("content-length"), "700000");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-type"), "application/octet-stream");
    let (etag, modified) = (whole.header("etag"), whole.header("last-modified"));
    assert!(etag.starts_with('"') && modified.ends_with(" GMT"), "{etag} {modified}");

    let head = curl(&environment, &url, ["--head"]).expect(200);
    assert_eq!(head.header("content-length"), "700000");
    assert_eq!(head.header("etag"), etag);

    let part = |range: &str| curl(&environment, &url, ["--range", range]);
    for (range, start, end) in [
        ("0-0", 0, 1),
        ("699999-", 699_999, 700_000),
        ("-5", 699_995, 700_000),
        ("131000-400001", 131_000, 400_002),
        ("5-99999999", 5, 700_000),
    ] {
        let answer = part(range).expect(206);
        assert_eq!(answer.body, content[start..end], "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {start}-{}/700000", end - 1));
    }
    assert_eq!(part("700000-").expect(416).header("content-range"), "bytes */700000");

    let with = |header: String| curl(&environment, &url, ["--header".to_owned(), header]);
    assert!(with(format!("If-None-Match: {etag}")).expect(304).body.is_empty());
    with(format!("If-Modified-Since: {modified}")).expect(304);
    with("If-Modified-Since: Thu, 01 Jan 1970 00:00:01 GMT".to_owned()).expect(200);
    with("If-Match: \"other\"".to_owned()).expect(412);
    let if_range = |value: &str| {
        let header = format!("If-Range: {value}");
        curl(&environment, &url, ["--range", "0-9", "--header", &header])
    };
    if_range(etag).expect(206);
    if_range(modified).expect(206);
    if_range("\"other\"").expect(200);

    let text = get(&environment, &realm.url("files/repos/tree/main/README"), None).expect(200);
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    let empty = realm.url("files/repos/tree/main/empty");
    assert!(get(&environment, &empty, None).expect(200).body.is_empty());
    curl(&environment, &empty, ["--range", "0-0"]).expect(416);
}

#[test]
fn what_is_not_there_is_404_and_a_directory_ends_in_a_slash() {
    let environment = TestEnvironment::new();
    let realm = published(&environment, |tree| {
        fs::create_dir(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/file"), "x").unwrap();
    });
    let status = |path: &str| get(&environment, &realm.url(path), None).status;
    for path in [
        "files/repos/tree/main/none",
        "files/repos/tree/main/sub/file/below",
        "files/repos/tree/main/sub/file/",
        "files/repos/tree/other/sub/file",
        "files/repos/none/main/",
        "files/none",
        "files/repos/tree/main/sub//file",
        "none",
        "v1/none",
        "pack/x",
        "page/00",
        "tile/0/x000/000",
        "tile/0/999",
        "v1/root/99",
    ] {
        assert_eq!(status(path), 404, "{path}");
    }
    for path in
        ["files", "files/repos", "files/repos/tree", "files/repos/tree/main", "files/repos/tree/main/sub"]
    {
        let answer = get(&environment, &realm.url(path), None);
        assert!(matches!(answer.status, 301 | 308), "{path}: {}", answer.status);
        assert_eq!(answer.header("location"), format!("/{path}/"), "{path}");
    }
    for path in ["", "files/", "files/repos/", "files/repos/tree/", "files/repos/tree/main/sub/"] {
        let page = get(&environment, &realm.url(path), None).expect(200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8", "{path}");
    }
}

#[test]
fn a_browser_gets_a_page_where_there_is_nothing() {
    let environment = TestEnvironment::new();
    let realm = published(&environment, |tree| fs::write(tree.join("file"), "x").unwrap());
    for path in ["files/none", "files/repos/tree/main/none", "files/repos/tree/main/%3Cb%3E/"] {
        let url = realm.url(path);
        let line = get(&environment, &url, None).expect(404);
        assert_eq!(
            (line.header("content-type"), line.text()),
            ("text/plain; charset=utf-8", "not found\n".into())
        );
        let page = curl(&environment, &url, ["--header", "Accept: text/html,*/*;q=0.8"]).expect(404);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8", "{path}");
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
        assert!(page.text().contains("not found") && !page.text().contains("<b>"), "{}", page.text());
    }
}

#[test]
fn a_page_says_what_is_shown_and_when_it_was_published() {
    let environment = TestEnvironment::new();
    let realm = published(&environment, |tree| {
        fs::create_dir(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/file"), noise(5000)).unwrap();
    });
    let page = |path: &str| get(&environment, &realm.url(path), None).expect(200).text();
    let tree = page("files/repos/tree/main/sub/");
    for part in [
        "branch main",
        "number 1, published ",
        "1 entry, 4.8 KiB",
        "title=\"5000 bytes\"",
        "manifest blake3:",
    ] {
        assert!(tree.contains(part), "{part}: {tree}");
    }
    let refs = page("files/repos/tree/");
    assert!(refs.contains(">main/</a> <small>branch</small>") && refs.contains("<time datetime="), "{refs}");
}

#[test]
fn a_branch_whose_name_has_a_slash_is_one_segment() {
    let environment = TestEnvironment::new();
    let realm = published(&environment, |tree| fs::write(tree.join("file"), "x").unwrap());
    let tree = environment.path("tree");
    realm.publish_local(&environment, "repos/tree", "fix/a/b", &tree, &[]).success();
    let status = |path: &str| get(&environment, &realm.url(path), None).status;
    for (path, expected) in [
        ("files/repos/tree/fix%2Fa%2Fb/", 200),
        ("files/repos/tree/fix%2Fa%2Fb/file", 200),
        ("files/repos/tree/branch:fix%2Fa%2Fb/file", 200),
        ("files/repos/tree/fix/a/b/file", 404),
        ("files/repos%2Ftree/fix%2Fa%2Fb/file", 404),
        ("files/repos/tree/fix%2Fa%2Fb%2Ffile", 404),
        ("files/repos/tree/fix%2Fa%2Fb%2F", 404),
    ] {
        assert_eq!(status(path), expected, "{path}");
    }
    let index = get(&environment, &realm.url("files/repos/tree/"), None).expect(200).text();
    assert!(index.contains("\"./fix%2Fa%2Fb/\""), "{index}");
}

#[test]
fn dots_and_slashes_that_are_encoded_lead_nowhere() {
    let environment = TestEnvironment::new();
    let realm = published(&environment, |tree| fs::write(tree.join("file"), "x").unwrap());
    for path in [
        "files/%2e%2e/%2e%2e/etc/passwd",
        "files/repos/tree/main/%2e%2e/%2e%2e/server.toml",
        "files/repos/tree/main/../main/file",
        "files/repos/tree/main/%2e/file",
        "files/repos/tree/main/..%2f..%2fserver.toml",
        "files/repos%2ftree/main/file",
        "files/repos/tree/main/file%00",
        "files/repos/tree/main/.git/config",
        "tile/../checkpoint",
        "tile/%2e%2e/checkpoint",
        "pack/%2e%2e%2f%2e%2e%2fserver.toml",
        "v1/signed/repos%2Ftree/main/..%2f..%2fkeys%2flog.key",
        "v1/signed/repos%2Ftree/main/x%2f..%2f..%2fkeys%2flog.key",
        "v1/root/..%2f1",
    ] {
        let answer = get(&environment, &realm.url(path), None);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}

#[test]
fn names_are_bytes() {
    let environment = TestEnvironment::new();
    let names: [&[u8]; 7] =
        [b"a b", b"100%", b"what?", b"#1", b"a+b&c;d=e", b"\xff\xfe", "naïve – ß".as_bytes()];
    let realm = published(&environment, |tree| {
        for name in names {
            fs::write(tree.join(OsStr::from_bytes(name)), name).unwrap();
        }
    });
    let page = get(&environment, &realm.url("files/repos/tree/main/"), None).expect(200).text();
    for name in names {
        let encoded: Vec<String> = name.iter().map(|byte| format!("%{byte:02X}")).collect();
        let encoded = encoded.concat();
        let url = realm.url(&format!("files/repos/tree/main/{encoded}"));
        assert_eq!(get(&environment, &url, None).expect(200).body, name, "{encoded}");
    }
    assert!(page.contains("href=\"./%FF%FE\""), "{page}");

    let copy = environment.path("copy");
    wget_tree(&environment, &realm.url("files/repos/tree/main/"), &copy);
    for name in names {
        assert_eq!(fs::read(copy.join(OsStr::from_bytes(name))).unwrap(), name);
    }
}

/// Mirrors a tree as a script would.
fn wget_tree(environment: &TestEnvironment, url: &str, copy: &std::path::Path) {
    let mut command = environment.command("wget");
    command.args(["--quiet", "--recursive", "--level=inf", "--no-parent", "--no-host-directories"]);
    command.args(["--cut-dirs=4", "--reject=index.html*", "--restrict-file-names=nocontrol,unix"]);
    command.args(["--execute", "robots=off", "--no-verbose", "--local-encoding=UTF-8", "--no-iri"]);
    program::run(command.arg("--directory-prefix").arg(copy).arg(url)).success();
}

#[test]
fn wget_mirrors_a_git_tree_byte_for_byte() {
    let environment = TestEnvironment::new();
    let repository = environment.repository("repository");
    for directory in 0..4 {
        for file in 0..20 {
            let path = format!("d{directory}/e/f{file}.txt");
            repository.write(&path, format!("{path}\n").repeat(file + 1));
        }
    }
    repository.write("large", noise(1_500_000));
    let commit = repository.commit("one");
    let realm = Realm::start(&environment, "realm");
    realm
        .publish_local(&environment, "repos/tree", "main", repository.directory(), &["--git", "HEAD"])
        .success();
    let refs = get(&environment, &realm.url("v1/refs"), None).expect(200).text();
    assert!(refs.contains(&commit), "{refs}");

    let copy = environment.path("copy");
    wget_tree(&environment, &realm.url("files/repos/tree/main/"), &copy);
    Snapshot::as_git(repository.directory()).assert_same(&Snapshot::as_git(&copy));

    // The same as `b3sum --check` would do.
    let sums = get(&environment, &realm.url("v1/signed/repos%2Ftree/main/SUMS"), None).expect(200).text();
    assert_eq!(sums.lines().count(), 81);
    for line in sums.lines() {
        let (sum, path) = line.split_once("  ").unwrap();
        assert_eq!(blake3::hash(&fs::read(copy.join(path)).unwrap()).to_hex().as_str(), sum, "{path}");
    }
}

#[test]
fn links_are_followed_inside_of_the_tree() {
    let environment = TestEnvironment::new();
    let realm = published(&environment, |tree| {
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "content").unwrap();
        symlink("a/b/file", tree.join("to-file")).unwrap();
        symlink("a", tree.join("to-directory")).unwrap();
        symlink("../to-file", tree.join("a/up")).unwrap();
        symlink("/etc/passwd", tree.join("absolute")).unwrap();
        symlink("../../../../../../etc/passwd", tree.join("outside")).unwrap();
        symlink("two", tree.join("one")).unwrap();
        symlink("one", tree.join("two")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
    });
    let ask = |path: &str| get(&environment, &realm.url(&format!("files/repos/tree/main/{path}")), None);
    for path in ["to-file", "to-directory/b/file", "a/up", "to-directory/up"] {
        assert_eq!(ask(path).expect(200).text(), "content", "{path}");
    }
    for path in ["absolute", "outside", "one", "dangling", "one/x"] {
        ask(path).expect(404);
    }
    ask("to-directory").expect(301);
    assert!(ask("to-directory/").expect(200).text().contains("./up"));
}

#[test]
fn a_broken_off_download_is_continued_and_an_update_is_not_mixed_in() {
    let environment = TestEnvironment::new();
    let content = noise(3_000_000);
    let realm = published(&environment, |tree| fs::write(tree.join("large"), &content).unwrap());
    let url = realm.url("files/repos/tree/main/large");
    let file = environment.write("download", &content[..1_234_567]);
    let mut command = environment.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--continue-at", "-", "--output"]);
    program::run(command.arg(&file).arg(&url)).success();
    assert!(fs::read(&file).unwrap() == content);

    let etag = get(&environment, &url, None).header("etag").to_owned();
    let mut changed = content.clone();
    changed[2_500_000] ^= 1;
    fs::write(environment.path("tree/large"), &changed).unwrap();
    realm.publish_local(&environment, "repos/tree", "main", &environment.path("tree"), &[]).success();
    let header = format!("If-Range: {etag}");
    let answer = curl(&environment, &url, ["--range", "1000000-", "--header", &header]).expect(200);
    assert!(answer.body == changed, "a range of the old version would have been mixed with the new one");
}

#[test]
fn a_download_that_was_begun_before_an_update_ends_on_the_old_version() {
    let environment = TestEnvironment::new();
    let content = noise(24_000_000);
    let realm = published(&environment, |tree| fs::write(tree.join("large"), &content).unwrap());
    let url = realm.url("files/repos/tree/main/large");
    // curl stops reading while nobody reads its output: the pipe and the socket fill up, and the server waits.
    let mut command = environment.command("curl");
    let mut download = command
        .args(["--silent", "--show-error", "--fail", "--no-buffer", &url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = download.stdout.take().unwrap();
    let mut beginning = [0; 1000];
    std::io::Read::read_exact(&mut output, &mut beginning).unwrap();

    fs::write(environment.path("tree/large"), b"new").unwrap();
    realm.publish_local(&environment, "repos/tree", "main", &environment.path("tree"), &[]).success();
    assert_eq!(get(&environment, &url, None).expect(200).body, b"new");

    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut output, &mut rest).unwrap();
    assert!(download.wait().unwrap().success());
    assert!([&beginning[..], &rest].concat() == content);
}
