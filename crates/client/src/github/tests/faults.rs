//! What a hostile or broken server does, and that none of it gets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use futures::stream::{self, StreamExt};

use super::server::{Server, git, reply};
use super::{Client, Exit};
use crate::failure::Failure;
use crate::github::SourceError;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Git is no way out in these tests: they show what is refused.
fn is_git(path: &str) -> bool {
    path.starts_with("/o/r.git/")
}

fn endless() -> Body {
    Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 65536]))))
}

#[tokio::test]
async fn the_token_stays_at_home_when_a_redirect_leads_away() {
    let (server, elsewhere) = (Server::with_everything(), Server::with_everything());
    let target = elsewhere.url("");
    server.set_fault(move |asked| {
        if asked.path.contains("/blobs/") {
            reply(302, &[("location", &format!("{target}{}", asked.path))], "")
        } else {
            None
        }
    });
    let client = Client::new(&server);
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
    assert!(server.asked().iter().all(|asked| asked.headers["authorization"] == "Bearer ghp_secret"));
    assert!(!elsewhere.asked().is_empty());
    assert!(elsewhere.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_repository_that_moved_on_the_same_server_is_followed_with_the_token() {
    let server = Server::with_everything();
    let home = server.url("/repos/o/r/");
    server.set_fault(move |asked| {
        let rest = asked.path.strip_prefix("/repos/old/name/")?;
        reply(301, &[("location", &format!("{home}{rest}"))], "")
    });
    let client = Client::of(server.url("/repos/old/name").parse().unwrap());
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
    assert!(server.asked().iter().all(|asked| asked.headers.contains_key("authorization")));
}

#[tokio::test]
async fn redirects_in_a_circle_or_into_the_file_system_are_refused() {
    for (location, reason) in [
        ("/repos/o/r/round", "there are too many redirects"),
        ("file:///etc/passwd", "only http: and https: are followed"),
    ] {
        let server = Server::with_everything();
        server.set_fault(move |_| reply(302, &[("location", location)], ""));
        let (exit, message) = Client::new(&server).failure("main").await;
        assert_eq!(exit, Exit::Network);
        assert!(message.ends_with(reason), "{message}");
        assert!(server.asked().len() <= 6);
    }
}

#[tokio::test]
async fn bytes_that_are_not_the_file_never_reach_the_sink() {
    for body in ["read me, too\n", "", "read m", "<html>not found</html>"] {
        let server = Server::with_everything();
        let readme = server.git(&["rev-parse", "main:README"]);
        server
            .set_fault(move |asked| if asked.path.ends_with(&readme) { reply(200, &[], body) } else { None });
        let (exit, message) = Client::new(&server).failure("main").await;
        assert_eq!(exit, Exit::Refused, "{body}");
        assert!(message.contains("sent for `README` is not blob"), "{message}");
    }
}

#[tokio::test]
async fn a_cache_that_lags_once_is_outlasted() {
    let server = Server::with_everything();
    let mut answers = vec![reply(200, &[], "yesterday\n")];
    server
        .set_fault(move |asked| if asked.path.contains("/blobs/") { answers.pop().flatten() } else { None });
    let client = Client::new(&server);
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
    assert_eq!(client.told(), ["retrying"]);
}

#[tokio::test]
async fn a_listing_that_is_not_the_tree_is_refused() {
    let server = Server::with_everything();
    server.set_fault(|asked| {
        if is_git(&asked.path) {
            return reply(404, &[], "");
        }
        let tree = asked.path.strip_prefix("/repos/o/r/git/trees/")?.trim_end_matches("?recursive=1");
        let row = serde_json::json!({"path": "evil", "mode": "100755", "type": "blob", "sha": "1".repeat(40), "size": 4});
        reply(200, &[JSON], serde_json::json!({"sha": tree, "tree": [row], "truncated": false}).to_string())
    });
    let client = Client::new(&server);
    let (exit, message) = client.failure("main").await;
    assert_eq!(exit, Exit::Network);
    assert!(message.starts_with("git fetch failed"), "{message}");
    assert!(client.told()[0].contains("does not hash to it"), "{:?}", client.told());
}

#[tokio::test]
async fn names_that_lead_out_of_the_tree_or_into_a_repository_are_refused() {
    let nested = |folder: &std::path::Path, names: &[&str]| {
        let blob = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        git(folder, &["hash-object", "-w", "-t", "blob", "/dev/null"]);
        let (mut row, names) =
            (format!("100644 blob {blob}\t{}\n", names[names.len() - 1]), &names[..names.len() - 1]);
        for name in names.iter().rev() {
            row = format!("040000 tree {}\t{name}\n", mktree(folder, &row));
        }
        let root = mktree(folder, &row);
        let commit = String::from_utf8(git(folder, &["commit-tree", "-m", "one", &root])).unwrap();
        git(folder, &["update-ref", "refs/heads/main", commit.trim_end()]);
    };
    for names in [&["..", "x"][..], &[".GIT", "config"], &["a", ".git", "hooks"], &["."]] {
        let server = Server::start(|folder| nested(folder, names));
        let (exit, message) = Client::new(&server).failure("main").await;
        assert_eq!(exit, Exit::Refused, "{names:?}");
        assert!(message.starts_with("the tree holds `"), "{message}");
    }
}

#[tokio::test]
async fn a_page_instead_of_an_answer_is_recognised() {
    let server = Server::with_everything();
    server.set_fault(|asked| {
        if is_git(&asked.path) {
            reply(404, &[], "")
        } else {
            reply(200, &[("content-type", "text/html")], "<html>Log in")
        }
    });
    let client = Client::new(&server);
    assert_eq!(client.failure("main").await.0, Exit::Network);
    let told = client.told();
    assert!(told[0].contains("not JSON, it begins with <html>Log in"), "{told:?}");
    let failure = Failure::from(SourceError::NotTheApi { url: String::new(), found: String::new() });
    assert_eq!(failure.exit(), Exit::Network);
    assert!(failure.hints()[0].contains("captive portal"));
}

#[tokio::test]
async fn bodies_without_end_are_cut_off() {
    for headers in [&[JSON][..], &[JSON, ("content-length", "99999999999")]] {
        let server = Server::with_everything();
        server.set_fault(move |asked| {
            if is_git(&asked.path) { reply(404, &[], "") } else { reply(200, headers, endless()) }
        });
        let client = Client::new(&server);
        assert_eq!(client.failure("main").await.0, Exit::Network);
        assert!(client.told()[0].contains("sent more than 1048576 bytes"), "{:?}", client.told());
        assert!(client.repository.cost().bytes < 3 << 20);
    }
    let server = Server::with_everything();
    server.set_fault(|asked| if asked.path.contains("/blobs/") { reply(200, &[], endless()) } else { None });
    assert_eq!(Client::new(&server).failure("main").await.0, Exit::Refused);
}

#[tokio::test]
async fn a_compressed_bomb_is_cut_off_by_what_it_becomes() {
    let bomb = std::process::Command::new("sh")
        .args(["-c", "head -c 300000000 /dev/zero | gzip -1"])
        .output()
        .unwrap();
    assert!(bomb.stdout.len() < 4 << 20);
    let server = Server::with_everything();
    server.set_fault(move |asked| {
        let headers = [JSON, ("content-encoding", "gzip")];
        if is_git(&asked.path) { reply(404, &[], "") } else { reply(200, &headers, bomb.stdout.clone()) }
    });
    let client = Client::new(&server);
    assert_eq!(client.failure("main").await.0, Exit::Network);
    assert!(client.told()[0].contains("sent more than 1048576 bytes"), "{:?}", client.told());
}

#[tokio::test]
async fn a_connection_that_brings_next_to_nothing_is_given_up() {
    // First silence from the beginning, then one byte and silence.
    for first in ["", "{"] {
        let server = Server::with_everything();
        let client = Client::new(&server);
        let (clock, asked_for) = (client.clock.clone(), Arc::new(AtomicUsize::new(0)));
        let count = asked_for.clone();
        server.set_fault(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            clock.expire();
            let silence = stream::pending::<Result<Bytes, std::io::Error>>();
            reply(200, &[JSON], Body::from_stream(stream::iter([Ok(Bytes::from(first))]).chain(silence)))
        });
        let (exit, message) = client.failure("main").await;
        assert_eq!(exit, Exit::Network);
        assert!(message.ends_with("brought next to nothing for 30 seconds"), "{message}");
        assert!((1..=4).contains(&asked_for.load(Ordering::Relaxed)));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_network_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let client = Client::of(format!("http://127.0.0.1:{port}/repos/o/r").parse().unwrap());
    assert_eq!(client.failure("main").await.0, Exit::Network);
}

#[tokio::test]
async fn a_token_is_not_sent_unencrypted_over_a_network() {
    let client = Client::of("http://git.example.org/repos/o/r".parse().unwrap());
    assert_eq!(client.told(), ["token withheld from git.example.org"]);
}

#[tokio::test]
async fn what_was_kept_is_proven_again_when_it_is_read() {
    let server = Server::with_everything();
    let client = Client::new(&server);
    let head = client.repository.resolve(&"main".parse().unwrap()).await.unwrap();
    let tree = client.repository.tree(&head).await.unwrap();
    let mut changed = 0;
    let answers = client.folder.path().join(server.address().folder_name()).join("answers-v1");
    for file in std::fs::read_dir(answers).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("bin/run") {
            std::fs::write(path, text.replace("100755", "100644")).unwrap();
            changed += 1;
        }
    }
    assert_eq!(changed, 1);
    assert_eq!(client.again(&server).repository.tree(&head).await.unwrap(), tree);
}

fn mktree(folder: &std::path::Path, rows: &str) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("git")
        .arg("mktree")
        .current_dir(folder)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rows.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim_end().to_owned()
}
