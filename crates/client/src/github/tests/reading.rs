//! What a well-behaved server yields.

use super::server::{Server, git, reply};
use super::{Client, Exit};
use crate::reference;

#[tokio::test]
async fn every_form_of_ref_leads_to_its_commit() {
    let server = Server::with_everything();
    let client = Client::new(&server);
    let (one, two) = (server.git(&["rev-parse", "v1"]), server.git(&["rev-parse", "main"]));
    for (reference, commit) in [
        ("main", &two),
        ("branch:main", &two),
        ("refs/heads/main", &two),
        ("feature/a#1", &one),
        ("v1", &one),
        ("tag:v1", &one),
        ("refs/tags/v1", &one),
        ("v1-annotated", &one),
        ("v1-twice", &one),
        ("refs/pull/7/head", &two),
        (&one, &one),
        (&format!("commit:{two}"), &two),
        (&two[..7], &two),
    ] {
        let head = client.repository.resolve(&reference::parse(reference).unwrap()).await.unwrap();
        assert_eq!(&head.commit.to_string(), commit, "{reference}");
        assert_eq!(head.tree.to_string(), server.git(&["rev-parse", &format!("{commit}^{{tree}}")]));
    }
    assert_eq!(client.told(), [""; 0]);
}

#[tokio::test]
async fn a_ref_that_is_not_there_is_named() {
    let server = Server::with_everything();
    let client = Client::new(&server);
    for reference in
        ["gone", "branch:v1", "tag:main", "refs/pull/8/head", &"9".repeat(40), "deadbeef", "feature"]
    {
        let (exit, message) = client.failure(reference).await;
        let requested = reference::parse(reference).unwrap();
        assert_eq!(exit, Exit::General, "{reference}");
        assert!(message.contains(&format!("no branch, tag or commit `{requested}`")), "{message}");
    }
    let (_, message) = client.failure("tree-tag").await;
    assert_eq!(message, "`tree-tag` names a tree, not a commit");
}

#[tokio::test]
async fn a_whole_tree_is_read_as_git_has_it() {
    let server = Server::with_everything();
    let client = Client::new(&server);
    let expected = server.expected("main");
    assert_eq!(client.read("main").await.unwrap(), expected);
    assert!(expected.iter().any(|(path, mode, _)| path == "bin/run" && mode == "100755"));
    assert!(expected.iter().any(|(_, mode, content)| mode == "120000" && content == "../README"));
    assert!(expected.iter().any(|(_, mode, _)| mode == "160000"));
    assert_eq!(client.told(), [""; 0]);
}

#[tokio::test]
async fn raw_files_are_asked_for_by_commit_and_never_by_branch() {
    let server = Server::with_everything();
    let client = Client::of(server.address_with_raw());
    assert_eq!(client.read("v1").await.unwrap(), server.expected("v1"));
    let commit = server.git(&["rev-parse", "v1"]);
    let raw: Vec<_> = server.asked().into_iter().filter(|asked| asked.path.starts_with("/raw/")).collect();
    assert_eq!(raw.len(), 10, "each distinct content that is not empty, once");
    assert!(raw.iter().all(|asked| asked.path.starts_with(&format!("/raw/o/r/{commit}/"))));
    assert!(!server.asked().iter().any(|asked| asked.path.starts_with("/repos/o/r/git/blobs/")));
}

#[tokio::test]
async fn raw_files_that_are_not_shown_to_us_come_over_the_api() {
    let server = Server::with_everything();
    server.set_fault(
        |asked| if asked.path.starts_with("/raw/") { reply(404, &[], "404: Not Found") } else { None },
    );
    let client = Client::of(server.address_with_raw());
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
}

#[tokio::test]
async fn a_server_that_has_blobs_in_json_alone_is_understood() {
    use base64::Engine;
    let server = Server::start(|folder| {
        std::fs::write(folder.join("a"), vec![7; 300]).unwrap();
        git(folder, &["add", "-A"]);
        git(folder, &["commit", "-q", "-m", "one"]);
    });
    server.set_fault(|asked| {
        let content = base64::engine::general_purpose::STANDARD.encode(vec![7; 300]);
        let (first, rest) = content.split_at(60);
        let body = serde_json::json!({"encoding": "base64", "content": format!("{first}\n{rest}\n")});
        let is_blob = asked.path.contains("/git/blobs/");
        if is_blob { reply(200, &[("content-type", "application/json")], body.to_string()) } else { None }
    });
    assert_eq!(Client::new(&server).read("main").await.unwrap(), server.expected("main"));
}

#[tokio::test]
async fn nothing_new_is_one_conditional_request() {
    let server = Server::with_everything();
    let first = Client::new(&server);
    for reference in ["main", "v1-twice"] {
        let head = first.repository.resolve(&reference::parse(reference).unwrap()).await.unwrap();
        let tree = first.repository.tree(&head).await.unwrap();
        server.take_asked();
        let second = first.again(&server);
        let requested = reference::parse(&format!(
            "refs/{}/{reference}",
            if reference == "main" { "heads" } else { "tags" }
        ))
        .unwrap();
        let again = second.repository.resolve(&requested).await.unwrap();
        assert_eq!((again, second.repository.tree(&again).await.unwrap()), (head, tree));
        let asked = server.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(asked[0].headers.contains_key("if-none-match"));
        assert_eq!((second.repository.cost().requests, second.repository.cost().bytes), (1, 0));
    }
}

#[tokio::test]
async fn a_listing_that_is_cut_off_is_completed_directory_by_directory() {
    let server = Server::with_everything();
    let client = Client::new(&server);
    server.set_listing_rows_max(12);
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
    assert_eq!(client.told(), ["listing in parts"]);
}

#[tokio::test]
async fn a_directory_that_is_cut_off_itself_is_fetched_by_git() {
    let server = Server::with_everything();
    let client = Client::new(&server);
    server.set_listing_rows_max(3);
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
    let told = client.told();
    assert_eq!(told[0], "listing in parts");
    assert!(told[1].starts_with("using git: the listing of `/` is incomplete"), "{told:?}");
}

#[tokio::test]
async fn names_that_json_cannot_hold_are_fetched_by_git() {
    use std::os::unix::ffi::OsStrExt;
    let server = Server::start(|folder| {
        std::fs::write(folder.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "latin\n").unwrap();
        git(folder, &["add", "-A"]);
        git(folder, &["commit", "-q", "-m", "one"]);
    });
    let client = Client::new(&server);
    let read = client.read("main").await.unwrap();
    assert_eq!(read, [("caf\\xe9".to_owned(), "100644".to_owned(), "latin\n".to_owned())]);
    assert!(client.told()[0].contains("does not hash to it"), "{:?}", client.told());
}

#[tokio::test]
async fn git_finds_every_form_of_ref_too() {
    let server = Server::with_everything();
    let (one, two) = (server.git(&["rev-parse", "v1"]), server.git(&["rev-parse", "main"]));
    server
        .set_fault(|asked| if asked.path.starts_with("/repos/") { reply(200, &[], "<html>") } else { None });
    let client = Client::new(&server);
    for (reference, commit) in [
        ("main", &two),
        ("v1-twice", &one),
        ("tag:v1", &one),
        ("feature/a#1", &one),
        ("refs/pull/7/head", &two),
        (&one, &one),
    ] {
        let head = client.repository.resolve(&reference::parse(reference).unwrap()).await.unwrap();
        assert_eq!(&head.commit.to_string(), commit, "{reference}");
    }
    let (exit, message) = client.failure("gone").await;
    assert_eq!(exit, Exit::General);
    assert!(message.contains("no branch, tag or commit `gone`"), "{message}");
    assert_eq!(client.again(&server).read("v1").await.unwrap(), server.expected("v1"));
}

#[tokio::test]
async fn git_fetches_what_is_new_and_drops_what_is_old() {
    let server = Server::with_everything();
    server
        .set_fault(|asked| if asked.path.starts_with("/repos/") { reply(200, &[], "<html>") } else { None });
    let client = Client::new(&server);
    for reference in ["v1", "main", "v1"] {
        assert_eq!(client.again(&server).read(reference).await.unwrap(), server.expected(reference));
    }
    let folder = client.folder.path().join(server.address().folder_name()).join("objects-v1.git");
    let refs = git(&folder, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(String::from_utf8(refs).unwrap(), "refs/heads/last\n");
}

/// More blobs than the questions for them fit into a pipe.
#[tokio::test]
async fn a_sink_that_fails_ends_the_download() {
    let server = Server::start(|folder| {
        for number in 0..1800 {
            std::fs::write(folder.join(number.to_string()), format!("content {number}\n").repeat(40))
                .unwrap();
        }
        git(folder, &["add", "-A"]);
        git(folder, &["commit", "-q", "-m", "one"]);
    });
    for has_api in [true, false] {
        server.set_fault(move |asked| {
            let is_api = asked.path.starts_with("/repos/");
            if is_api && !has_api { reply(200, &[], "<html>") } else { None }
        });
        let client = Client::new(&server);
        let head = client.repository.resolve(&"main".parse().unwrap()).await.unwrap();
        let tree = client.repository.tree(&head).await.unwrap();
        assert_eq!(tree.entries.len(), 1800);
        let mut sink = |_| Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let error = client.repository.download(&tree, &tree.entries, &mut sink).await.unwrap_err();
        assert!(matches!(error, crate::github::SourceError::Sink(_)), "{error}");
    }
}
