//! Work in a process of its own: archives that only corrections can rebuild, and programs that are made to do harm.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use smart_sync_store::unpack::{Dissector as _, Op, Program};
use smart_sync_sync::bundle::apply::{Parts, Rebuilder as _};
use smart_sync_sync::confined::Confined;
use smart_sync_tests::gzip::{endless, gnu_gzip, lines};
use smart_sync_tests::http::{curl, get};
use smart_sync_tests::program::{self, built};
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::{CountingProxy, Host, TestEnvironment};

const WORD: &str = "-confined";

/// What an archive is rebuilt from.
#[derive(Clone)]
struct Taken {
    program: Program,
    frames: Vec<u8>,
    members: Vec<u8>,
}

impl Taken {
    /// Takes an artifact apart as a server does.
    fn of(artifact: &[u8]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let confined = Confined::program(&built("smart-sync-server"), WORD).in_directory(scratch.path());
        let mut dissected = confined.dissect(file(&[artifact]), artifact.len() as u64).unwrap().unwrap();
        let mut frames = vec![0; usize::try_from(dissected.frames).unwrap()];
        let mut members = vec![0; usize::try_from(dissected.members.iter().sum::<u64>()).unwrap()];
        dissected.streams.read_exact(&mut frames).unwrap();
        dissected.streams.read_exact(&mut members).unwrap();
        drop(dissected.streams);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        Self { program: Program::decode(&dissected.program).unwrap(), frames, members }
    }

    /// Rebuilds as a client does, and shows that nothing is left of the process.
    fn rebuild(&self) -> std::io::Result<Vec<u8>> {
        self.rebuild_with(&Confined::program(&built("smart-sync"), WORD))
    }

    fn rebuild_with(&self, confined: &Confined) -> std::io::Result<Vec<u8>> {
        let program = self.program.encode();
        let members = self.members.len() as u64;
        let frames = members + self.frames.len() as u64;
        let parts = Parts {
            file: file(&[&self.members, &self.frames, &program]),
            members: 0..members,
            frames: members..frames,
            program: frames..frames + program.len() as u64,
            size: self.program.size,
        };
        let mut out = Vec::new();
        let result = confined.rebuild(parts, &mut out);
        assert_eq!(fs::read_to_string("/proc/thread-self/children").unwrap(), "", "a process is left");
        result.map(|()| out)
    }

    /// The corrections of each piece.
    fn corrections(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        let pieces = self.program.ops.iter_mut().filter_map(|op| match op {
            Op::Encode { pieces, .. } => Some(pieces),
            _ => None,
        });
        pieces.flatten().map(|piece| &mut piece.extra)
    }
}

fn file(parts: &[&[u8]]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    for part in parts {
        file.write_all(part).unwrap();
    }
    file.rewind().unwrap();
    file
}

#[test]
fn what_gnu_gzip_made_comes_back() {
    for plain in [lines("short", 500), lines("b", 80_000)] {
        let Some(artifact) = gnu_gzip(&plain) else { return };
        let mut taken = Taken::of(&artifact);
        assert_eq!(taken.members, plain);
        assert!(taken.rebuild().unwrap() == artifact);
        assert!(taken.program.has_corrections() == (taken.corrections().count() > 0));
    }
}

/// Something that only corrections give, taken apart.
fn corrected() -> Option<(Vec<u8>, Taken)> {
    let artifact = gnu_gzip(&lines("text", 10_000))?;
    let mut taken = Taken::of(&artifact);
    assert!(taken.corrections().count() > 0);
    Some((artifact, taken))
}

#[test]
fn a_program_that_does_not_end_is_ended() {
    let Some((_, taken)) = corrected() else { return };
    let error = Taken { program: endless(&taken.program), ..taken }.rebuild().unwrap_err();
    assert!(error.to_string().contains("SIGKILL"), "{error}");
}

#[test]
fn what_does_not_go_together_is_an_error() {
    let Some((artifact, taken)) = corrected() else { return };
    let refused = |change: &dyn Fn(&mut Taken)| {
        let mut taken = taken.clone();
        change(&mut taken);
        assert!(taken.rebuild().is_err());
    };
    refused(&|taken| taken.program.size += 1);
    refused(&|taken| taken.program.size -= 1);
    refused(&|taken| taken.members.truncate(1000));
    refused(&|taken| taken.frames.truncate(1));
    refused(&|taken| taken.program.encoders[0].version = b"preflate-rs 0".to_vec());
    refused(&|taken| taken.corrections().next().unwrap().truncate(5));
    assert!(taken.rebuild().unwrap() == artifact);
}

#[test]
fn a_process_that_says_something_else_is_not_believed() {
    let Some((artifact, taken)) = corrected() else { return };
    let say = |what: &str| {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{what}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let confined = Confined::program(&program, WORD);
        (
            taken.rebuild_with(&confined).map(drop),
            confined.dissect(file(&[&artifact]), artifact.len() as u64).map(drop),
        )
    };
    for what in
        ["exit 1", "kill -9 $$", "echo too little", "yes", "echo too little; exit 1", "cat /proc/self/exe"]
    {
        let (rebuilt, dissected) = say(what);
        assert!(rebuilt.is_err() && dissected.is_err(), "{what}");
    }
    let nothing = Confined::program(Path::new("/nowhere"), WORD);
    assert!(taken.rebuild_with(&nothing).is_err());
    // No word begins anything but what it is told, and nobody else is served.
    for arguments in [&["rebuild"][..], &["rebuild", "1", "9", "0", "9", "0", "0", "0", "0"], &["other"], &[]]
    {
        let mut command = Command::new(built("smart-sync"));
        command.arg(WORD).args(arguments).stdin(Stdio::null());
        let ended = command.output().unwrap();
        assert_eq!(
            (ended.status.code(), ended.stdout.len(), ended.stderr.len()),
            (Some(1), 0, 0),
            "{arguments:?}"
        );
    }
}

/// A tar of two files, of which the second one is the same in every version, compressed by GNU gzip.
fn tarball(environment: &TestEnvironment, version: &str) -> Option<Vec<u8>> {
    environment.write("package/first", [lines(version, 200), b"the end\n".to_vec()].concat());
    environment.write("package/second", lines("second", 20_000));
    let mut tar = environment.command("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--mtime=@1",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "package",
    ]);
    let tar = tar.output().unwrap();
    assert!(tar.status.success());
    gnu_gzip(&tar.stdout)
}

#[test]
fn an_update_of_what_gnu_gzip_made_costs_what_changed_in_it() {
    let environment = TestEnvironment::new();
    let host = Host::new(&environment);
    let proxy = CountingProxy::start(host.realm.server().address(), Protocol::Http).unwrap();
    let mut versions = Vec::new();
    let mut size = 0;
    for version in ["1", "2"] {
        let Some(artifact) = tarball(&environment, version) else { return };
        size = artifact.len();
        environment.write("tree/package.tar.gz", artifact);
        host.realm.publish_local(&environment, Host::CHANNEL, "main", &host.tree(), &[]).success();
        let refs = get(&environment, &host.realm.url("v1/refs/repos%2Ftree"), None).expect(200);
        let refs: Value = serde_json::from_slice(&refs.body).unwrap();
        let manifest = refs[0]["manifest"].as_str().unwrap();
        versions.push(manifest.strip_prefix("blake3:").unwrap().to_owned());
        if version == "1" {
            host.sync().success();
        }
    }
    let url = host.realm.url(&format!("bundle/{}/{}", versions[0], versions[1]));
    while !curl(&environment, &url, ["--head"]).header("etag").starts_with("\"best-") {}
    proxy.take_totals();
    program::run(&mut host.sync_command_from(&proxy.url())).success();
    let update = proxy.take_totals();
    host.assert_synced();
    assert!(update.bytes() * 10 < size as u64, "{update:?} of {size}");
}
