//! Answers that never end, end too early, or are another thing than what was asked for.
//!
//! The client's own limits have to end each of them; its memory is bounded in every run here.

use std::os::unix::fs::PermissionsExt as _;

use smart_sync_tests::hostile::{Host, HostileServer, Reply, Servers, World, at, evidence};
use smart_sync_tests::program;

use crate::scene::Scene;

/// What an update asks for, one after the other, with the head of a right answer.
const STEPS: [(&str, &str); 3] = [
    ("/v1/update/", "HTTP/1.1 200 OK"),
    ("/v1/delta/", "HTTP/1.1 200 OK"),
    ("/pack/", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 8-11/21"),
];

/// A host that has an update before it, and the server's honest answers.
fn updating() -> (Scene, World) {
    let scene = Scene::new();
    let world = World::new(evidence(&scene.updated(), scene.base(), at(200)), &[&scene.old, &scene.new]);
    (scene, world)
}

/// Plays a reply in the place of each step of an update, and returns what the host said. `reply` is given the head
/// of a right answer.
#[track_caller]
fn play(scene: &Scene, world: &World, code: i32, what: &str, reply: impl Fn(&str) -> Reply) -> String {
    let mut said = String::new();
    for (step, head) in STEPS {
        let (world, reply) = (world.clone(), reply(head));
        scene.server.set(
            move |request| {
                if request.path.starts_with(step) { reply.clone() } else { world.answer(request) }
            },
        );
        said.push_str(&scene.host.keeps_target(&format!("{what} for {step}"), code));
    }
    // What is asked for is the same every time, and not what this is about.
    for tree in [&scene.old, &scene.new] {
        said = said.replace(&tree.id.to_string(), "MANIFEST").replace(&tree.pack.0, "PACK");
    }
    // Of the causes only the last one says something.
    let hidden =
        ["hint: check the address", "because: error ", "because: client error", "because: request or"];
    let is_shown = |line: &&str| !hidden.iter().any(|hidden| line.contains(hidden));
    said.lines().filter(is_shown).fold(String::new(), |said, line| said + line + "\n")
}

#[test]
fn answers_that_do_not_end_are_given_up() {
    let (scene, world) = updating();
    let endless = |rest: &'static str| move |head: &str| Reply::Endless(format!("{head}{rest}"));
    let said = [
        play(&scene, &world, 5, "an endless body", endless("\r\n\r\n")),
        play(
            &scene,
            &world,
            5,
            "a piece without an end",
            endless("\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n"),
        ),
        play(&scene, &world, 5, "an endless head", endless("\r\nX: ")),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    an endless body for /v1/update/: exit 5
        the answer of SERVER1/v1/update/repos~2fnixos/branch~3amain is longer than the 5251072 bytes that it could have
    an endless body for /v1/delta/: exit 5
        the answer of SERVER1/v1/delta/MANIFEST/MANIFEST is longer than the 1052800 bytes that it could have
    an endless body for /pack/: exit 5
        the answer of SERVER1/pack/PACK is longer than the 4 bytes that it could have
    a piece without an end for /v1/update/: exit 5
        the answer of SERVER1/v1/update/repos~2fnixos/branch~3amain is longer than the 5251072 bytes that it could have
    a piece without an end for /v1/delta/: exit 5
        the answer of SERVER1/v1/delta/MANIFEST/MANIFEST is longer than the 1052800 bytes that it could have
    a piece without an end for /pack/: exit 5
        the answer of SERVER1/pack/PACK is longer than the 4 bytes that it could have
    an endless head for /v1/update/: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain could not be reached
        because: message head is too large
    an endless head for /v1/delta/: exit 5
        SERVER1/v1/delta/MANIFEST/MANIFEST could not be reached
        because: message head is too large
    an endless head for /pack/: exit 5
        SERVER1/pack/PACK could not be reached
        because: message head is too large
");
}

#[test]
fn answers_that_trickle_are_given_up() {
    let (scene, world) = updating();
    scene.host.configure("max-age = \"40000d\"", "stall = \"2s\"");
    let said =
        play(&scene, &world, 5, "a byte now and then", |head| Reply::Trickle(format!("{head}\r\n\r\n")));
    insta::assert_snapshot!(said, @r"
    a byte now and then for /v1/update/: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain stopped sending: fewer than 4096 bytes came in 2 s
    a byte now and then for /v1/delta/: exit 5
        SERVER1/v1/delta/MANIFEST/MANIFEST stopped sending: fewer than 4096 bytes came in 2 s
    a byte now and then for /pack/: exit 5
        SERVER1/pack/PACK stopped sending: fewer than 4096 bytes came in 2 s
");
    scene.server.set(|_| Reply::Trickle("HTTP/1.1 200 OK\r\nX: ".to_owned()));
    let said = scene.host.refuses("a head with a byte now and then", 5);
    insta::assert_snapshot!(said, @r"
    a head with a byte now and then: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain could not be reached
        because: error sending request
        because: operation timed out
        hint: check the address and the network; what was received so far is kept
");
}

#[test]
fn answers_that_are_cut_off_or_of_another_length_are_not_used() {
    let (scene, world) = updating();
    let raw = |rest: &'static str, body: &'static [u8]| {
        move |head: &str| Reply::Raw(format!("{head}{rest}"), body.to_vec())
    };
    let said = [
        play(&scene, &world, 5, "less than was promised", raw("\r\nContent-Length: 4", b"s")),
        play(&scene, &world, 5, "a length that no answer has", raw("\r\nContent-Length: 9000000000", b"s")),
        play(&scene, &world, 5, "two lengths", raw("\r\nContent-Length: 4\r\nContent-Length: 5", b"sssss")),
        play(&scene, &world, 5, "nothing at all", |_| Reply::Close),
        play(&scene, &world, 5, "no HTTP", |_| Reply::raw("SSH-2.0-OpenSSH", *b"")),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    less than was promised for /v1/update/: exit 5
        the answer of SERVER1/v1/update/repos~2fnixos/branch~3amain broke off
        because: end of file before message length reached
    less than was promised for /v1/delta/: exit 5
        the answer of SERVER1/v1/delta/MANIFEST/MANIFEST broke off
        because: end of file before message length reached
    less than was promised for /pack/: exit 5
        the answer of SERVER1/pack/PACK broke off
        because: end of file before message length reached
    a length that no answer has for /v1/update/: exit 5
        the answer of SERVER1/v1/update/repos~2fnixos/branch~3amain is longer than the 5251072 bytes that it could have
    a length that no answer has for /v1/delta/: exit 5
        the answer of SERVER1/v1/delta/MANIFEST/MANIFEST is longer than the 1052800 bytes that it could have
    a length that no answer has for /pack/: exit 5
        the answer of SERVER1/pack/PACK is longer than the 4 bytes that it could have
    two lengths for /v1/update/: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain could not be reached
        because: invalid content-length parsed
    two lengths for /v1/delta/: exit 5
        SERVER1/v1/delta/MANIFEST/MANIFEST could not be reached
        because: invalid content-length parsed
    two lengths for /pack/: exit 5
        SERVER1/pack/PACK could not be reached
        because: invalid content-length parsed
    nothing at all for /v1/update/: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain could not be reached
        because: connection closed before message completed
    nothing at all for /v1/delta/: exit 5
        SERVER1/v1/delta/MANIFEST/MANIFEST could not be reached
        because: connection closed before message completed
    nothing at all for /pack/: exit 5
        SERVER1/pack/PACK could not be reached
        because: connection closed before message completed
    no HTTP for /v1/update/: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain could not be reached
        because: invalid HTTP version parsed
    no HTTP for /v1/delta/: exit 5
        SERVER1/v1/delta/MANIFEST/MANIFEST could not be reached
        because: invalid HTTP version parsed
    no HTTP for /pack/: exit 5
        SERVER1/pack/PACK could not be reached
        because: invalid HTTP version parsed
");
}

#[test]
fn answers_that_lead_elsewhere_are_not_followed() {
    let (scene, world) = updating();
    let other = HostileServer::start(|_| Reply::Ok(Vec::new()));
    let elsewhere = format!("{}/x", other.url());
    let said = [
        play(&scene, &world, 5, "a redirect to a file", |_| Reply::redirect("file:///etc/passwd")),
        play(&scene, &world, 5, "a redirect to another server", |_| Reply::redirect(&elsewhere)),
        play(&scene, &world, 5, "an error", |_| Reply::Status(500, "a fault\u{1b}[31m of the server")),
    ];
    assert_eq!(other.take_requests(), [], "a redirect was followed to another server");
    insta::assert_snapshot!(said.concat().replace(&other.url(), "OTHER"), @r"
    a redirect to a file for /v1/update/: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain answered 302 Found
    a redirect to a file for /v1/delta/: exit 5
        SERVER1/v1/delta/MANIFEST/MANIFEST answered 302 Found
    a redirect to a file for /pack/: exit 5
        SERVER1/pack/PACK answered 302 Found
    a redirect to another server for /v1/update/: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain could not be reached
        because: a redirect to another server is not followed
    a redirect to another server for /v1/delta/: exit 5
        SERVER1/v1/delta/MANIFEST/MANIFEST could not be reached
        because: a redirect to another server is not followed
    a redirect to another server for /pack/: exit 5
        SERVER1/pack/PACK could not be reached
        because: a redirect to another server is not followed
    an error for /v1/update/: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain answered 500 Internal Server Error: a fault\u{1b}[31m of the server
    an error for /v1/delta/: exit 5
        SERVER1/v1/delta/MANIFEST/MANIFEST answered 500 Internal Server Error: a fault\u{1b}[31m of the server
    an error for /pack/: exit 5
        SERVER1/pack/PACK answered 500 Internal Server Error: a fault\u{1b}[31m of the server
");

    scene.server.set(|request| Reply::redirect(&request.path));
    let said = scene.host.refuses("a redirect to itself", 5);
    insta::assert_snapshot!(said, @r"
    a redirect to itself: exit 5
        SERVER1/v1/update/repos~2fnixos/branch~3amain could not be reached
        because: error following redirect
        because: too many redirects
        hint: check the address and the network; what was received so far is kept
");
}

/// What a captive portal or a proxy puts in the place of an answer.
#[test]
fn answers_that_are_pages_for_people_are_not_used() {
    let (scene, world) = updating();
    let page = |head: &str| Reply::Raw(head.to_owned(), b"<!DOCTYPE html><title>Sign in</title>".to_vec());
    let zeros = program::run(
        scene.host.environment().command("sh").args(["-c", "head -c 1G /dev/zero | gzip -9 > bomb.gz"]),
    );
    zeros.success();
    let bomb = std::fs::read(scene.host.environment().path("bomb.gz")).expect("gzip wrote it");
    let mut said = String::new();
    for (what, reply) in [
        ("a page for people", page(STEPS[0].1)),
        ("a bomb for gzip", Reply::Raw(format!("{}\r\nContent-Encoding: gzip", STEPS[0].1), bomb)),
    ] {
        scene.server.set(move |_| reply.clone());
        said.push_str(&scene.host.refuses(what, 5));
    }
    insta::assert_snapshot!(said, @r"
    a page for people: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: not evidence of a known version
        hint: check the address: something else, such as a proxy, may answer in the server's place
    a bomb for gzip: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: not evidence of a known version
        hint: check the address: something else, such as a proxy, may answer in the server's place
");
    let world = world.clone();
    scene.server.set(move |request| {
        if request.path.starts_with("/v1/delta/") { page(STEPS[0].1) } else { world.answer(request) }
    });
    insta::assert_snapshot!(scene.host.keeps_target("a page for people as changes", 7), @r"
    a page for people as changes: exit 7
        the list of changes from SERVER1 is refused
        because: the delta does not decompress to at most 1052800 bytes
        because: Unknown frame descriptor
        hint: nothing was changed; try another mirror with --server
");
}

/// Whoever is on the way reads it, and could use it until somebody notices.
#[test]
fn a_token_is_not_sent_to_another_machine_unencrypted() {
    // An address that is nobody's: a client that asked there would fail in another way.
    let host = Host::new(Servers(vec!["http://192.0.2.1:8080".to_owned()]));
    host.configure("token = \"sst_secret\"", "");
    let config = host.environment().configuration_file();
    std::fs::set_permissions(config, std::fs::Permissions::from_mode(0o600)).expect("closing it");
    insta::assert_snapshot!(host.refuses("a token over http", 3), @r#"
    a token over http: exit 3
        the token is not sent to SERVER1: everybody on the way there could read it
        hint: name the server with https:, or leave the token out if the server is public
        hint: for a network that is trusted, set `allow = ["token-over-http"]` in [network] of the configuration
"#);
    for command in [&["log"][..], &["ls"]] {
        host.ask(command).expect_code(3).stderr_contains("the token is not sent");
    }
}

/// A port that nobody listens at, as that of a server that is switched off.
fn dead() -> String {
    HostileServer::start(|_| Reply::Close).url()
}

/// What a mirror answers in the place of the honest answer.
type Lie = fn(&World, &str) -> Option<Reply>;

#[test]
fn two_mirrors_of_three_may_be_dead_or_lie() {
    let scene = Scene::new();
    let update = scene.updated();
    let world = World::new(evidence(&update, 0, at(200)), &[&scene.old, &scene.new]);
    let honest = world.clone();
    scene.server.set(move |request| honest.answer(request));
    let lies: [(&str, Lie); 6] = [
        ("is a page for people", |_, _| Some(Reply::Ok(b"<!DOCTYPE html>".to_vec()))),
        ("has no evidence", |_, path| path.starts_with("/v1/update").then_some(Reply::Status(404, "no"))),
        ("sends garbled evidence", |world, path| {
            path.starts_with("/v1/update").then(|| Reply::Ok(garbled(&world.evidence)))
        }),
        ("sends a page as changes", |_, path| {
            path.starts_with("/v1/delta").then(|| Reply::Ok(b"<!DOCTYPE html>".to_vec()))
        }),
        ("sends other changes", |world, path| {
            path.starts_with("/v1/delta").then(|| Reply::Ok(world.trees[0].delta.clone()))
        }),
        ("sends other chunks", |world, path| {
            path.starts_with("/pack/").then(|| Reply::Ok(vec![0; world.trees[1].pack.1.len()]))
        }),
    ];
    for (what, lie) in lies {
        let world = world.clone();
        let liar = HostileServer::start(move |request| {
            lie(&world, &request.path).unwrap_or_else(|| world.answer(request))
        });
        let host = Host::new(Servers(vec![dead(), liar.url(), scene.server.url()]));
        let finished = host.sync();
        assert_eq!(finished.code, Some(0), "one mirror {what}: {finished:?}");
        let text = std::fs::read_to_string(host.target().join("a")).expect("the target has its file");
        assert_eq!(text, "new\n", "one mirror {what}");
    }
}

fn garbled(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}
