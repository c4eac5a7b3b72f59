//! Files that come from upstream by FTP, by rsync and out of a directory, from the servers that mirrors have.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use smart_sync_tests::TestEnvironment;
use smart_sync_tests::daemon::{ftp, rsync};
use smart_sync_tests::hostile::Reply;
use smart_sync_tests::noise::noise;
use smart_sync_tests::upstream::{Mirroring, upstream};

/// Asks for files that an upstream has, has not, and has otherwise, and for the rest of one that broke off elsewhere.
fn check(environment: &TestEnvironment, url: &str, right: &[u8]) {
    let begins = right[..100_000].to_vec();
    let breaks_off = upstream(move |request| {
        let is_right = request.path.ends_with("b-1.tar.gz");
        if is_right {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 300000", begins.clone())
        } else {
            Reply::Status(404, "not found")
        }
    });
    environment
        .write("mirrors", format!("# of the old backend\n{}/\n\n{url}/ # the other one\n", breaks_off.url()));
    let list = format!("source-lists = [\"{}\"]", environment.path("mirrors").display());
    let absent = b"it is named, and nobody has it";
    let (other, longer) = (noise("other", 300_000), noise("longer", 300_000));
    let files: [(&str, &[u8]); 4] = [
        ("a+b-1.tar.gz", right),
        ("absent-1.tar.gz", absent),
        ("other-1.tar.gz", &other),
        ("short-1.tar.gz", &longer),
    ];
    let scene = Mirroring::with(environment, &list, &files, 3600);
    // Before one of them fails: one that is left alone may have it.
    assert_eq!(scene.get("absent-1.tar.gz").status, 404, "{url}");
    assert_eq!(scene.get("a+b-1.tar.gz").expect(200).body, right, "{url}");
    let mut cut = scene.begin("other-1.tar.gz", "").unwrap();
    assert!(cut.head.starts_with("HTTP/1.1 200"), "{}", cut.head);
    assert!(cut.read(other.len()).is_err(), "{url}: the end is held back");
    // One whose file ends early may be taken for one that broke off, and is left alone for a while.
    let mut short = scene.begin("short-1.tar.gz", "").unwrap();
    assert!(short.read(longer.len()).is_err(), "{url}");
    assert_eq!(scene.status(1)["kept_bytes"], 300_000);
}

/// A directory of upstream, with one file that is right, one that is another one and one that is too short.
fn files(environment: &TestEnvironment) -> Vec<u8> {
    let right = noise("right", 300_000);
    environment.write("upstream/distfiles/a+b-1.tar.gz", &right);
    environment.write("upstream/distfiles/other-1.tar.gz", noise("wrong", 300_000));
    environment.write("upstream/distfiles/short-1.tar.gz", "short");
    right
}

#[test]
fn files_come_out_of_a_directory() {
    let environment = TestEnvironment::new();
    let right = files(&environment);
    check(&environment, &format!("file://{}", environment.path("upstream/distfiles").display()), &right);
}

#[test]
fn files_come_over_rsync() {
    let environment = TestEnvironment::new();
    let right = files(&environment);
    let daemon = rsync(&environment, &environment.path("upstream")).expect("rsync starts");
    check(&environment, &format!("rsync://127.0.0.1:{}/gentoo/distfiles", daemon.port()), &right);
}

#[test]
fn files_come_over_ftp() {
    let environment = TestEnvironment::new();
    let right = files(&environment);
    let Some(daemon) = ftp(&environment, &environment.path("upstream")) else { return };
    check(&environment, &format!("ftp://127.0.0.1:{}/distfiles", daemon.port()), &right);
}
