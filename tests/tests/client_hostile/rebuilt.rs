//! Contents that are stored taken apart, by whoever has prepared that.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use smart_sync_store::content::name_content;
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::Content;
use smart_sync_store::recipe::Plain;
use smart_sync_store::unpack::{Encoder, InMemory, Limits, Program, take_apart, write_plain};
use smart_sync_sync::wire::fetch_map::RebuiltContent;
use smart_sync_tests::gzip::{endless, gnu_gzip, lines};
use smart_sync_tests::hostile::{RawEntry, Reply, Tree, TreeBuilder};

use crate::scene::Publisher;

/// An artifact, and what it is rebuilt from.
#[derive(Clone)]
struct Artifact {
    bytes: Vec<u8>,
    program: Vec<u8>,
    streams: Vec<u8>,
    frames: u64,
}

impl Artifact {
    fn of(bytes: Vec<u8>) -> Self {
        let mut source = std::io::Cursor::new(&bytes);
        let taken = take_apart(&mut source, bytes.len() as u64, &Limits::default(), &mut InMemory);
        let taken = taken.expect("it is in memory").expect("it can be seen through");
        let frames = taken.views.frames_len;
        let mut plain = Vec::new();
        let cut = write_plain(taken.into(), &mut plain).expect("memory takes everything");
        let streams = plain.split_off(usize::try_from(cut.plain.program).expect("a small program"));
        Self { bytes, program: plain, streams, frames }
    }

    fn gzip(seed: &str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(&lines(seed, 2000)).expect("memory takes everything");
        Self::of(encoder.finish().expect("memory takes everything"))
    }

    fn content(&self) -> Content {
        name_content(&self.bytes)
    }

    fn changed(mut self, change: impl FnOnce(&mut Program)) -> Self {
        let mut program = Program::decode(&self.program).expect("a program that was made here");
        change(&mut program);
        self.program = program.encode();
        self
    }

    /// A tree of the artifact, with what is said of it.
    fn tree(&self, say: impl FnOnce(&mut RebuiltContent)) -> Tree {
        let content = self.content();
        let mut builder = TreeBuilder::default();
        builder.entries.push(RawEntry::file("a.gz", &content));
        let stream = builder.content(&[&self.program[..], &self.streams].concat());
        let program = self.program.len() as u64;
        let members = self.streams.len() as u64 - self.frames;
        let plain = Plain { id: stream.id, program, frames: self.frames, members };
        let mut rebuilt = RebuiltContent { id: content.id, size: content.size, source: 0, plain };
        say(&mut rebuilt);
        builder.map.rebuilt.push(rebuilt);
        builder.build()
    }
}

fn publisher() -> Publisher {
    Publisher::of(&TreeBuilder::of(&[("a.gz", "old\n")]).build())
}

#[test]
fn what_does_not_make_the_content_is_refused() {
    let mut publisher = publisher();
    let honest = Artifact::gzip("honest");
    publisher.recovers(&honest.tree(|_| ()));
    let artifact = Artifact::gzip("one");
    let mut flipped = artifact.clone();
    flipped.streams[5000] ^= 1;
    let other_encoder = Encoder { method: 1, version: b"9.9.9".to_vec(), parameters: vec![6] };
    let other = artifact.clone().changed(|program| program.encoders = vec![other_encoder]);
    let said = [
        publisher.attack("streams of something else", 7, &flipped.tree(|_| ())),
        publisher.attack("another encoder", 7, &other.tree(|_| ())),
        publisher.attack("divided otherwise", 7, &artifact.tree(|rebuilt| rebuilt.plain.frames += 1)),
        publisher.attack("another size", 7, &artifact.tree(|rebuilt| rebuilt.size += 1)),
        publisher.attack("no program", 7, &artifact.tree(|rebuilt| rebuilt.plain.program = 3)),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    streams of something else: exit 7
        [smart-sync] fetching: 80.14 KiB of 80.14 KiB
        the bytes received are not content de28aed126c29058ef63248c2ebcef666dfa247fa21153da3ab3ef3151998b60: they are 9ae6b41664b49b7a6e694e0fb12fd0c2af28552d0d9776b619646ef1ffb35344
    another encoder: exit 7
        [smart-sync] fetching: 80.13 KiB of 80.13 KiB
        content de28aed126c29058ef63248c2ebcef666dfa247fa21153da3ab3ef3151998b60 cannot be rebuilt from what the server has of it
        because: method 1 of version 9.9.9 is not built in
    divided otherwise: exit 7
        [smart-sync] fetching: 80.14 KiB of 80.14 KiB
        content de28aed126c29058ef63248c2ebcef666dfa247fa21153da3ab3ef3151998b60 cannot be rebuilt from what the server has of it
        because: the program does not fit: it is for a plain stream that is divided otherwise
    another size: exit 7
        a server names 64114 bytes for content de28aed126c29058ef63248c2ebcef666dfa247fa21153da3ab3ef3151998b60, which has 64113
    no program: exit 7
        [smart-sync] fetching: 80.14 KiB of 80.14 KiB
        content de28aed126c29058ef63248c2ebcef666dfa247fa21153da3ab3ef3151998b60 cannot be rebuilt from what the server has of it
        because: reading the program
        because: not a program of a known version
    ");
    publisher.recovers(&artifact.tree(|_| ()));
}

#[test]
fn a_content_that_cannot_be_rebuilt_here_comes_as_it_is() {
    let mut publisher = publisher();
    let artifact = Artifact::gzip("one");
    let other_encoder = Encoder { method: 1, version: b"9.9.9".to_vec(), parameters: vec![6] };
    let other = artifact.clone().changed(|program| program.encoders = vec![other_encoder]);
    let tree = other.tree(|_| ());
    let world = publisher.publish(&tree);
    let path = format!("/v1/content/{}/{}", artifact.content().id, artifact.bytes.len());
    let original = artifact.bytes.clone();
    publisher.server.set(move |request| {
        if request.path == path { Reply::Ok(original.clone()) } else { world.answer(request) }
    });
    publisher.host.sync().success();
    let found = std::fs::read(publisher.host.target().join("a.gz")).unwrap();
    assert_eq!(ContentId::of(&found), artifact.content().id);
}

#[test]
fn a_rebuild_that_does_not_end_is_ended() {
    let Some(bytes) = gnu_gzip(&lines("gnu", 3000)) else { return };
    let mut publisher = publisher();
    let artifact = Artifact::of(bytes);
    publisher.recovers(&artifact.tree(|_| ()));
    publisher.recovers(&TreeBuilder::of(&[("a.gz", "old\n")]).build());
    let hostile = artifact.changed(|program| *program = endless(program));
    let said = publisher.attack("corrections without an end", 7, &hostile.tree(|_| ()));
    assert!(said.contains("cannot be rebuilt"), "{said}");
}
