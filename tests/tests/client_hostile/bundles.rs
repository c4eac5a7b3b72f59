//! Bundles that are broken, lie, or break off: the tree comes all the same, or nothing of it does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;

use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::content::{cut_content, name_content};
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::{Attributes, Content, Entry, Fidelity, GitMode, Node, TreePath};
use smart_sync_store::unpack::{self, Dissected, Dissector, Program, take_apart};
use smart_sync_sync::bundle::encode::{ContentSource, Effort, arrange};
use smart_sync_sync::bundle::frames::MAGIC;
use smart_sync_sync::bundle::plan::draft;
use smart_sync_sync::wire::update::BUNDLE_BYTES_MAX;
use smart_sync_tests::gzip::{endless, gnu_gzip, lines};
use smart_sync_tests::hostile::{Reply, Request, Tree, TreeBuilder};
use smart_sync_tests::noise::noise;

use crate::scene::Publisher;

type Files<'a> = [(&'a str, &'a [u8])];

/// What is answered, given the right bundle and one of another step.
type Attack = dyn Fn(&[u8], &[u8]) -> Reply;

struct Contents(HashMap<ContentId, Vec<u8>>);

impl ContentSource for Contents {
    fn read(&self, content: &Content, range: Range<u64>) -> io::Result<Vec<u8>> {
        let place = |at| usize::try_from(at).map_err(io::Error::other);
        Ok(self.0[&content.id][place(range.start)?..place(range.end)?].to_vec())
    }

    fn chunks(&self, content: &Content) -> io::Result<Vec<ChunkRef>> {
        Ok(cut_content(&self.0[&content.id], |_, _| ()).chunks)
    }

    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile()
    }
}

fn entries(files: &Files<'_>) -> impl Iterator<Item = Result<Entry, Infallible>> {
    let entries = files.iter().map(|(path, bytes)| {
        let path = TreePath::new(path.as_bytes()).expect("the path is sound");
        Ok(Entry { path, node: Node::File(name_content(bytes)), attributes: Attributes::Git(GitMode::FILE) })
    });
    entries.collect::<Vec<_>>().into_iter()
}

fn slices<'a>(files: &'a [(&'a str, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    files.iter().map(|(path, bytes)| (*path, &bytes[..])).collect()
}

/// The bundle that an honest server makes.
fn bundle(old: &Files<'_>, new: &Files<'_>) -> Vec<u8> {
    make(&Contents(contents(old, new)), Effort::Quick, old, new)
}

fn contents(old: &Files<'_>, new: &Files<'_>) -> HashMap<ContentId, Vec<u8>> {
    old.iter().chain(new).map(|(_, bytes)| (ContentId::of(bytes), bytes.to_vec())).collect()
}

fn make(source: &dyn ContentSource, effort: Effort, old: &Files<'_>, new: &Files<'_>) -> Vec<u8> {
    let Ok(draft) = draft(Fidelity::Git, entries(old), entries(new));
    let mut out = Vec::new();
    let arranged = arrange(draft, source, effort).expect("contents are in memory");
    arranged.write(source, effort, &mut out).expect("memory takes everything");
    out
}

/// A server that changes the programs that it makes.
struct Changing(Contents, fn(&Program) -> Program);

impl ContentSource for Changing {
    fn read(&self, content: &Content, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.0.read(content, range)
    }

    fn chunks(&self, content: &Content) -> io::Result<Vec<ChunkRef>> {
        self.0.chunks(content)
    }

    fn scratch(&self) -> io::Result<File> {
        self.0.scratch()
    }

    fn dissector(&self) -> Option<&dyn Dissector> {
        Some(self)
    }
}

impl Dissector for Changing {
    fn dissect(&self, mut artifact: File, size: u64) -> io::Result<Option<Dissected>> {
        let taken = take_apart(&mut artifact, size, &unpack::Limits::default(), &mut unpack::InMemory)?;
        Ok(taken.map(|taken| Dissected {
            program: self.1(&taken.program).encode(),
            frames: taken.views.frames_len,
            members: taken.views.members.clone(),
            streams: Box::new(taken.frames.chain(taken.members)),
        }))
    }
}

fn is_for_bundle(request: &Request) -> bool {
    request.path.starts_with("/bundle/")
}

fn is_for_delta(request: &Request) -> bool {
    request.path.contains("/v1/delta/")
}

/// Plays a bundle against a host that has a tree and wants another one, which it has to get chunk by chunk.
#[track_caller]
fn passed_over(publisher: &mut Publisher, what: &str, tree: &Tree, reply: Reply) {
    let requests = play(publisher, tree, reply);
    assert!(requests.iter().any(is_for_bundle), "{what}: no bundle was asked for");
    assert!(requests.iter().any(is_for_delta), "{what}: it was taken");
}

/// Answers with a bundle when a tree is synced that was published just now; returns what was asked for.
#[track_caller]
fn play(publisher: &mut Publisher, tree: &Tree, reply: Reply) -> Vec<Request> {
    let world = publisher.publish(tree);
    publisher.server.take_requests();
    publisher.server.set(
        move |request| {
            if is_for_bundle(request) { reply.clone() } else { world.answer(request) }
        },
    );
    publisher.host.sync().success();
    publisher.server.take_requests()
}

/// How a reply is played.
type Play = dyn Fn(&mut Publisher, &str, &Tree, Reply);

/// The same with a bundle that comes with the evidence.
#[track_caller]
fn passed_over_along(publisher: &mut Publisher, what: &str, tree: &Tree, reply: Reply) {
    let Reply::Ok(bundle) = reply else { return };
    let is_one = (1..=BUNDLE_BYTES_MAX).contains(&bundle.len());
    let requests = play_along(publisher, tree, if is_one { bundle } else { b"?".to_vec() });
    assert!(!requests.iter().any(is_for_bundle), "{what}: another one was asked for");
    assert!(requests.iter().any(is_for_delta), "{what}: it was taken");
}

#[track_caller]
fn play_along(publisher: &mut Publisher, tree: &Tree, bundle: Vec<u8>) -> Vec<Request> {
    let world = publisher.publish(tree);
    publisher.server.take_requests();
    publisher.server.set(move |request| with_evidence(world.answer(request), request, &bundle));
    publisher.host.sync().success();
    publisher.server.take_requests()
}

/// An answer, with a bundle behind it where that is asked for.
fn with_evidence(reply: Reply, request: &Request, bundle: &[u8]) -> Reply {
    match reply {
        Reply::Ok(evidence)
            if request.path.starts_with("/v1/update/") && request.query.contains("bundle=") =>
        {
            Reply::Ok([&evidence, bundle].concat())
        }
        reply => reply,
    }
}

fn zstd_block(bytes: &[u8], claimed: u64) -> Vec<u8> {
    let packed = zstd::bulk::compress(bytes, 3).expect("bytes in memory are compressed");
    let mut block = vec![1];
    smart_sync_store::codec::put_number(&mut block, claimed);
    smart_sync_store::codec::put_number(&mut block, packed.len() as u64);
    [block, packed].concat()
}

/// A stream in one frame, as a bundle has them.
fn framed(stream: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for frame in stream.chunks(1 << 20) {
        smart_sync_store::codec::put_number(&mut out, frame.len() as u64);
        out.extend_from_slice(&blake3::hash(frame).as_bytes()[..4]);
        out.extend_from_slice(frame);
    }
    out
}

#[test]
fn a_bundle_that_is_no_good_is_passed_over() {
    let mut old: Vec<(&str, Vec<u8>)> = vec![("a", b"old\n".to_vec()), ("b", noise("b", 3000))];
    let mut publisher = Publisher::of(&TreeBuilder::of(&old).build());
    let mut many = b"ssbh\x02\x00".to_vec();
    smart_sync_store::codec::put_number(&mut many, 10_000_000);
    many.resize(1024, 0);
    let page = b"<html>welcome</html>".to_vec();
    let attacks: Vec<(&str, Box<Attack>)> = vec![
        ("nothing", Box::new(|_, _| Reply::Ok(Vec::new()))),
        ("a page of HTML", Box::new(move |_, _| Reply::Ok(page.clone()))),
        ("another version", Box::new(|good, _| Reply::Ok([b"ssbn\x02", &good[5..]].concat()))),
        ("half of it", Box::new(|good, _| Reply::Ok(good[..good.len() / 2].to_vec()))),
        ("bytes after it", Box::new(|good, _| Reply::Ok([good, &framed(b"more")[5..]].concat()))),
        (
            "a flipped bit",
            Box::new(|good, _| {
                let mut bytes = good.to_vec();
                let at = bytes.len() - 10;
                bytes[at] ^= 1;
                Reply::Ok(bytes)
            }),
        ),
        ("that of another step", Box::new(|_, other| Reply::Ok(other.to_vec()))),
        ("a bomb", Box::new(|_, _| Reply::Ok(framed(&zstd_block(&vec![0; 256 << 20], 300))))),
        (
            "a bomb that is announced",
            Box::new(|_, _| Reply::Ok(framed(&zstd_block(&vec![0; 256 << 20], 256 << 20)))),
        ),
        ("ten million edits in a KiB", Box::new(move |_, _| Reply::Ok(framed(&zstd_block(&many, 1024))))),
        ("an endless body", Box::new(|_, _| Reply::Endless("HTTP/1.1 200 OK\r\n\r\nssbn\x01".to_owned()))),
        ("a server that is busy", Box::new(|_, _| Reply::Status(503, "busy"))),
        ("a connection that is closed", Box::new(|_, _| Reply::Close)),
    ];
    for (number, (what, attack)) in attacks.iter().enumerate() {
        let mut step = |what: &str, publisher: &mut Publisher, play: &Play| {
            let new =
                vec![("a", format!("version {number}, {what}\n").into_bytes()), ("b", noise(what, 3000))];
            let other = vec![("a", b"another\n".to_vec()), ("b", noise("other", 3000))];
            let step = |to: &[(&'static str, Vec<u8>)]| bundle(&slices(&old), &slices(to));
            play(publisher, what, &TreeBuilder::of(&new).build(), attack(&step(&new), &step(&other)));
            old = new;
        };
        step(what, &mut publisher, &passed_over);
        step(&format!("{what}, with the evidence"), &mut publisher, &passed_over_along);
    }
}

#[test]
fn a_bundle_that_comes_with_the_evidence_is_asked_for_by_nobody() {
    let (old, new) = ([("a", &b"old\n"[..])], [("a", &b"new\n"[..])]);
    let mut publisher = Publisher::of(&TreeBuilder::of(&old).build());
    let requests = play_along(&mut publisher, &TreeBuilder::of(&new).build(), bundle(&old, &new));
    assert_eq!(requests.len(), 1, "{requests:?}");
    let long = vec![0; BUNDLE_BYTES_MAX + 1];
    let world = publisher.publish(&TreeBuilder::of(&old).build());
    publisher.server.set(move |request| with_evidence(world.answer(request), request, &long));
    assert_eq!(publisher.host.sync().code, Some(5));
}

#[test]
fn a_bundle_that_breaks_off_is_gone_on_with_and_nothing_comes_twice() {
    let (small, large) = (noise("small", 1000), noise("large", 3_500_000));
    let (old, new) = ([("a", &small[..])], [("a", &small[..]), ("big", &large[..])]);
    let mut publisher = Publisher::of(&TreeBuilder::of(&old).build());
    let bytes = bundle(&old, &new);
    let world = publisher.publish(&TreeBuilder::of(&new).build());

    // The first run gets a good half, and nothing else. What it got is whole up to a frame.
    let half = bytes.len() / 2;
    let head = format!("HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: {}", bytes.len());
    let begun = Reply::raw(&head, bytes[..half].to_vec());
    publisher.server.set(move |request| match request {
        request if is_for_bundle(request) && request.range.is_none() => begun.clone(),
        request if request.path.starts_with("/v1/update/") => world.answer(request),
        _ => Reply::Close,
    });
    assert_eq!(publisher.host.sync().code, Some(5));
    publisher.server.take_requests();

    // The second one asks for the rest alone.
    let world = publisher.publish(&TreeBuilder::of(&new).build());
    publisher.server.set(move |request| match &request.range {
        Some(range) if is_for_bundle(request) => {
            let start = range.start;
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nETag: \"one\"\r\nContent-Range: bytes {start}-{}/{}\r\nContent-Length: {}",
                bytes.len() - 1,
                bytes.len(),
                bytes.len() - start
            );
            Reply::raw(&head, bytes[start..].to_vec())
        }
        None if request.path.starts_with("/v1/update/") => world.answer(request),
        _ => Reply::Close,
    });
    publisher.host.sync().success();
    let starts: Vec<usize> = publisher
        .server
        .take_requests()
        .iter()
        .filter_map(|request| Some(request.range.as_ref()?.start))
        .collect();
    assert!(
        matches!(starts[..], [start] if start <= half && start > half - (1 << 20) - 16),
        "{starts:?} of {half}"
    );
    assert_eq!(std::fs::read(publisher.host.target().join("big")).expect("the file came"), large);
}

#[test]
fn a_bundle_whose_programs_do_not_end_is_passed_over() {
    let text = lines("text", 10_000);
    let versions = [1, 2, 3].map(|version| gnu_gzip(&[format!("{version}\n").as_bytes(), &text].concat()));
    let [Some(first), Some(second), Some(third)] = versions else { return };
    let trees = [first, second, third].map(|bytes| [("a.gz", bytes)]);
    let mut publisher = Publisher::of(&TreeBuilder::of(&trees[0]).build());
    let make = |change, step: usize| {
        let (old, new) = (slices(&trees[step]), slices(&trees[step + 1]));
        let source = Changing(Contents(contents(&old, &new)), change);
        (TreeBuilder::of(&trees[step + 1]).build(), Reply::Ok(make(&source, Effort::Best, &old, &new)))
    };
    let (tree, reply) = make(Program::clone, 0);
    let requests = play(&mut publisher, &tree, reply);
    assert!(!requests.iter().any(is_for_delta), "what is as it should be is taken");
    let (tree, reply) = make(endless, 1);
    passed_over(&mut publisher, "a program without an end", &tree, reply);
    let size = trees[2][0].1.len().to_string();
    let left =
        std::fs::read_dir("/proc").expect("there is a list of processes").flatten().filter(|process| {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = words.split(|byte| *byte == 0).collect();
            words.contains(&&b"-confined"[..]) && words.contains(&size.as_bytes())
        });
    assert_eq!(left.count(), 0, "processes are left");
}
