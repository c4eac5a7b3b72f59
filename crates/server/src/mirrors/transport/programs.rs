//! The programs that speak what this server does not: curl for FTP, and rsync.

use std::fs;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Body, LOOK_EVERY, Opened, Wanted, open_file};
use crate::mirrors::answer::Fault;
use crate::mirrors::pace::Pace;

/// After how many such looks the files are measured that one brings.
const LOOKS_FOR_EACH_MEASURE: u64 = 20;
/// How curl says that there is no such file: 9 and 19 of servers that refuse, 78 of those that say so.
pub(super) const CURL_ABSENT: &[i32] = &[9, 19, 78];
/// What the other side of rsync would take for a pattern.
pub(super) const PATTERN: &[char] = &['*', '?', '[', '\\'];
/// How rsync says that there is none.
pub(super) const RSYNC_ABSENT: &[i32] = &[23];

pub(super) fn curl_words(url: &str, wanted: Wanted<'_>) -> Vec<String> {
    let words = [
        "--disable",
        "--silent",
        "--fail",
        "--globoff",
        "--proto",
        "=ftp",
        "--connect-timeout",
        "10",
        "--max-filesize",
    ];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.push(wanted.bytes_max.to_string());
    if wanted.from > 0 {
        words.extend(["--continue-at".to_owned(), wanted.from.to_string()]);
    }
    words.extend(["--url".to_owned(), url.to_owned()]);
    words
}

fn rsync_words(url: &str, wanted: Wanted<'_>, into: &Path) -> Vec<String> {
    let (most, stall) = (wanted.bytes_max.saturating_add(1), wanted.stall.as_secs().max(1));
    vec![
        "--quiet".to_owned(),
        "--no-motd".to_owned(),
        "--copy-links".to_owned(),
        "--inplace".to_owned(),
        "--contimeout=10".to_owned(),
        format!("--timeout={stall}"),
        format!("--max-size={most}b"),
        "--".to_owned(),
        format!("{url}/{}", wanted.path),
        into.display().to_string(),
    ]
}

/// Has rsync fetch a file as a whole, which can be read when that is done.
pub(super) async fn open_rsync(url: &str, wanted: Wanted<'_>) -> Result<Opened, Fault> {
    // The other side would take these for patterns.
    if wanted.path.contains(PATTERN) {
        return Err(Fault::Absent);
    }
    let directory = tempfile::tempdir_in(wanted.room).map_err(|error| Fault::down(error.to_string()))?;
    let file = directory.path().join("file");
    let mut running = run("rsync", &rsync_words(url, wanted, &file), RSYNC_ABSENT)?;
    let (begun, mut pace, mut known) = (Instant::now(), Pace::new(wanted.stall), 0);
    while !running.is_over()? {
        tokio::time::sleep(LOOK_EVERY).await;
        let length = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        if pace.is_too_slow(length.saturating_sub(known), begun.elapsed()) {
            return Err(Fault::down(format!("it is too slow, after {length} bytes")));
        }
        known = length;
    }
    // One that is larger than it may be was passed over, and is not there.
    let (file, size) = open_file(&file, wanted.from)?;
    Ok(Opened::Other(Body::of(file), Some(size)))
}

pub(super) fn run(name: &'static str, words: &[String], absent: &'static [i32]) -> Result<Running, Fault> {
    let mut command = Command::new(name);
    command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let child = command.spawn().map_err(|error| Fault::down(format!("running {name}: {error}")))?;
    Ok(Running { child, name, absent })
}

/// A program that is ended with whoever reads from it.
pub(in super::super) struct Running {
    child: Child,
    name: &'static str,
    /// The statuses with which it says that there is no such file.
    absent: &'static [i32],
}

impl Running {
    /// What it prints.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Whether it has ended, and well.
    pub(super) fn is_over(&mut self) -> Result<bool, Fault> {
        let status = self.child.try_wait().map_err(|error| Fault::down(error.to_string()))?;
        let Some(status) = status else { return Ok(false) };
        match status.code() {
            Some(0) => Ok(true),
            Some(code) if self.absent.contains(&code) => Err(Fault::Absent),
            _ => Err(Fault::down(format!("{} ended with {status}", self.name))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has rsync bring many files at once, below a directory in which each gets its path. Those that were begun before are
/// gone on with. What is there after it is for the caller to find out: one that is missing is no failure.
pub(in super::super) async fn bring(
    url: &str,
    files: &Path,
    into: &Path,
    bytes_max: u64,
    stall: Duration,
    measure: impl Fn() -> u64,
) -> Result<(), Fault> {
    let words = [
        "--quiet",
        "--no-motd",
        "--copy-links",
        "--times",
        "--partial",
        "--partial-dir=.partial",
        "--contimeout=10",
        "--from0",
        &format!("--timeout={}", stall.as_secs().max(1)),
        &format!("--max-size={bytes_max}b"),
        &format!("--files-from={}", files.display()),
        "--",
        &format!("{url}/"),
        &into.display().to_string(),
    ];
    let mut running = run("rsync", &words.map(str::to_owned), RSYNC_ABSENT)?;
    let (begun, mut pace, mut known) = (Instant::now(), Pace::new(stall), 0);
    for look in 1u64.. {
        match running.is_over() {
            Ok(true) | Err(Fault::Absent) => return Ok(()),
            Err(fault) => return Err(fault),
            Ok(false) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
        // There may be many files to measure.
        if look % LOOKS_FOR_EACH_MEASURE != 0 {
            continue;
        }
        let bytes = measure();
        if bytes > bytes_max {
            return Err(Fault::Wrong(format!("it gave more than the {bytes_max} bytes that it may")));
        }
        if pace.is_too_slow(bytes.saturating_sub(known), begun.elapsed()) {
            return Err(Fault::down(format!("it is too slow, after {bytes} bytes")));
        }
        known = bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn wanted(path: &str, from: u64) -> Wanted<'_> {
        Wanted {
            path,
            from,
            bytes_max: 100,
            stall: Duration::from_secs(30),
            room: Path::new("/"),
            known: None,
        }
    }

    #[test]
    fn programs_are_told_what_to_do_word_by_word() {
        let words = curl_words("ftp://mirror.example.org/a/b%2B1", wanted("b+1", 7)).join(" ");
        assert_eq!(
            words,
            "--disable --silent --fail --globoff --proto =ftp --connect-timeout 10 --max-filesize 100 \
             --continue-at 7 --url ftp://mirror.example.org/a/b%2B1"
        );
        let words = rsync_words("rsync://mirror.example.org/a", wanted("1b/b+1", 0), Path::new("/tmp/x"));
        assert_eq!(
            words.join(" "),
            "--quiet --no-motd --copy-links --inplace --contimeout=10 --timeout=30 --max-size=101b -- \
             rsync://mirror.example.org/a/1b/b+1 /tmp/x"
        );
    }

    #[tokio::test]
    async fn a_program_that_ends_badly_gives_nothing_that_counts() {
        let run = |status: &str| {
            let words = ["-c".to_owned(), format!("echo part; exit {status}")];
            Body::of_program(run("sh", &words, &[9]).unwrap()).unwrap()
        };
        for (status, end) in [
            ("0", Ok(None)),
            ("9", Err(Fault::Absent)),
            ("3", Err(Fault::down("sh ended with exit status: 3"))),
        ] {
            let mut body = run(status);
            assert_eq!(body.next().await, Ok(Some(Bytes::from_static(b"part\n"))));
            assert_eq!(body.next().await, end);
        }
        assert_eq!(
            super::run("no-such-program", &[], &[]).err().map(|fault| fault != Fault::Absent),
            Some(true)
        );
    }
}
