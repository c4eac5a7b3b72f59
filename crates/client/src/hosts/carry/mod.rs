//! Carrying this program to a host that does not have it.
//!
//! Two scripts for a POSIX shell do it: one looks and changes nothing, the other takes the program from its standard
//! input, under a name of its own until it is whole and has run once, and then moves it to its place. In between,
//! [`decide`] says whether it is to be done at all.

mod decide;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use smart_sync_store::id::to_hex;
use tokio::task::spawn_blocking;

use self::decide::{Decision, Had, Own, Refusal};
use super::choose::{DeploySettings, Host};
use super::heard::Heard;
use super::outcome::{Ended, Outcome};
use super::ssh::{self, Answer};
use crate::failure::{Exit, Failure};
use crate::shell_words::quote;
use crate::sync::Surroundings;

const LOOK: &str = include_str!("look.sh");
const PLACE: &str = include_str!("place.sh");
/// The bytes that are hashed at once.
const COPY_BYTES: usize = 256 << 10;
/// How the program ends the answer to `PLACE`.
const PLACED: &str = "smart-sync:placed ";

/// This program, as it is carried.
#[derive(Debug)]
pub(super) struct Program {
    file: File,
    own: Own,
}

/// How a host stands when it has been seen to.
#[derive(Debug)]
pub(super) enum Carried {
    /// The program is there, at this path.
    There(String),
    /// It is not there, or in another version; at this path, if there is any. Only what would be done was asked for.
    WouldCarry(Option<String>),
    /// It was not possible.
    Ended(Outcome),
}

impl Program {
    /// Opens it. It stays the same file also where another one takes its place meanwhile.
    pub(super) async fn open() -> Result<Self, Failure> {
        let opened = spawn_blocking(|| {
            let mut file = File::open("/proc/self/exe")?;
            let (mut hasher, mut buffer) = (Sha256::new(), vec![0; COPY_BYTES]);
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    length => hasher.update(&buffer[..length]),
                }
            }
            Ok::<_, io::Error>((file, to_hex(&hasher.finalize())))
        });
        let opened = opened.await.map_err(io::Error::other).flatten();
        let (file, sum) = opened.map_err(|error| Failure::from(error).context("reading this program"))?;
        Ok(Self { file, own: Own { sum, machine: std::env::consts::ARCH } })
    }

    /// The same file, from its beginning.
    fn again(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// Sees to it that a host has the program.
pub(super) async fn carry(
    program: &Program,
    host: &Host,
    settings: &DeploySettings,
    surroundings: &Surroundings<'_>,
) -> Result<Carried, Failure> {
    let (path, output) = (host.install_path(), surroundings.output);
    let asked = ask(host, &line(LOOK, &[path]), None, settings, surroundings).await?;
    if asked.ended != Ended::Exited(0) {
        return Ok(Carried::Ended(ended(host, &asked)));
    }
    let had = Had::parse(&asked.output);
    let replaced = match had.decide(path, &program.own, settings.may_replace) {
        Ok(Decision::IsThere(path)) => return Ok(Carried::There(path)),
        Ok(Decision::Carry { replaced, has_other }) => {
            if has_other && !settings.is_dry_run {
                output.info(&format!("{}: {} stays beside it", host.name, had.other()));
            }
            replaced
        }
        Err(Refusal { exit, reason, hint }) => {
            return Ok(Carried::Ended(Outcome::failed(host, exit, reason, hint)));
        }
    };
    let instead = replaced.map_or_else(String::new, |version| format!(" in place of {version}"));
    let version = env!("CARGO_PKG_VERSION");
    if settings.is_dry_run {
        output.info(&format!("{}: would install smart-sync {version} as {path}{instead}", host.name));
        return Ok(Carried::WouldCarry(had.any(path)));
    }
    let file = program.again().map_err(|error| Failure::from(error).context("reading this program"))?;
    let placed =
        ask(host, &line(PLACE, &[path, &program.own.sum]), Some(file), settings, surroundings).await?;
    if placed.ended != Ended::Exited(0) || !is_placed(&placed.output, &program.own.sum) {
        return Ok(Carried::Ended(ended(host, &placed)));
    }
    output.info(&format!("{}: smart-sync {version} is installed as {path}{instead}", host.name));
    output.event(&json!({
        "event": "installed", "host": host.name, "path": path, "sha256": program.own.sum,
    }));
    Ok(Carried::There(path.to_owned()))
}

fn is_placed(answer: &[u8], sum: &str) -> bool {
    String::from_utf8_lossy(answer).lines().any(|line| line.strip_prefix(PLACED) == Some(sum))
}

/// What came of a host on which a script did not get to its end.
fn ended(host: &Host, answer: &Answer) -> Outcome {
    let complaint = answer.complaint.as_deref();
    match answer.ended {
        Ended::Exited(0) => {
            let reason = "nobody said that the program is in its place".to_owned();
            Outcome::failed(host, Exit::General, reason, None)
        }
        Ended::Exited(127) => {
            let reason =
                complaint.unwrap_or("a program that every system has was not found there").to_owned();
            Outcome::failed(host, Exit::MissingDependency, reason, None)
        }
        ended => Outcome::of(host, ended, &Heard::default(), complaint),
    }
}

async fn ask(
    host: &Host,
    line: &OsString,
    input: Option<File>,
    settings: &DeploySettings,
    surroundings: &Surroundings<'_>,
) -> Result<Answer, Failure> {
    ssh::ask(host, line, input, settings.timeout, surroundings.interrupt)
        .await
        .map_err(|error| ssh::not_run(error, host))
}

/// The command line that runs a script with arguments.
fn line(script: &str, words: &[&str]) -> OsString {
    let mut line = b"sh -c ".to_vec();
    for word in [script, "smart-sync"].iter().chain(words) {
        if !line.ends_with(b" ") {
            line.push(b' ');
        }
        quote(word.as_bytes(), &mut line);
    }
    OsString::from_vec(line)
}
