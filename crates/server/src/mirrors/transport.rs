//! How bytes come from upstream: over HTTP, out of a directory, or by a program that speaks what this server does not.
//!
//! Programs are given what they are to do word by word, never by a shell, and nothing of this server's environment but
//! where programs are. They end with whoever reads from them.

use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Response, header};

use super::answer::Fault;
use super::pace::Pace;

/// What stands in a URL as it is; everything else, such as a plus, means something else to some server.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// How often it is looked whether a program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much is read at once from a file or a program.
const READ_LEN: usize = 64 << 10;

/// What an upstream is spoken to with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scheme {
    /// HTTP, encrypted or not.
    Http,
    /// FTP, which curl speaks.
    Ftp,
    /// The daemon of rsync, which rsync speaks.
    Rsync,
    /// A directory of this machine.
    File(PathBuf),
}

/// An answer that has begun.
pub(super) enum Opened {
    /// Its head is there.
    Http(Response),
    /// It has no head; the size of the whole, where that is known.
    Other(Body, Option<u64>),
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Where it is, below the URL.
    pub(super) path: &'a str,
    /// Where what is here already ends.
    pub(super) from: u64,
    /// The most bytes that it may have.
    pub(super) bytes_max: u64,
    /// How long nothing may come.
    pub(super) stall: Duration,
    /// A directory that has room for what comes.
    pub(super) room: &'a Path,
}

/// Asks an upstream.
pub(super) async fn open(
    client: &Client,
    url: &str,
    scheme: &Scheme,
    wanted: Wanted<'_>,
) -> Result<Opened, Fault> {
    match scheme {
        Scheme::Http => {
            let url = format!("{url}/{}", utf8_percent_encode(wanted.path, ENCODED));
            let mut request = client.get(url).header(header::ACCEPT_ENCODING, "identity");
            if wanted.from > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", wanted.from));
            }
            match tokio::time::timeout(wanted.stall, request.send()).await {
                Ok(Ok(response)) => Ok(Opened::Http(response)),
                Ok(Err(error)) => Err(Fault::down(described(&error))),
                Err(_) => {
                    Err(Fault::down(format!("it did not answer for {} seconds", wanted.stall.as_secs())))
                }
            }
        }
        Scheme::File(root) => {
            let (path, from) = (root.join(wanted.path), wanted.from);
            let opened = tokio::task::spawn_blocking(move || open_file(&path, from)).await;
            let (file, size) = opened.map_err(|error| Fault::down(error.to_string()))??;
            Ok(Opened::Other(Body::of(file), Some(size)))
        }
        Scheme::Ftp => {
            let url = format!("{url}/{}", utf8_percent_encode(wanted.path, ENCODED));
            let running = run("curl", &curl_words(&url, wanted), CURL_ABSENT)?;
            Ok(Opened::Other(Body::of_program(running)?, None))
        }
        Scheme::Rsync => open_rsync(url, wanted).await,
    }
}

fn open_file(path: &Path, from: u64) -> Result<(File, u64), Fault> {
    let failed = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault::Absent,
        _ => Fault::down(format!("{}: {error}", path.display())),
    };
    // A pipe of that name would be waited for.
    let metadata = fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        return Err(Fault::Absent);
    }
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    file.seek(SeekFrom::Start(from)).map_err(|error| failed(&error))?;
    Ok((file, metadata.len()))
}

/// How curl says that there is no such file: 9 and 19 of servers that refuse, 78 of those that say so.
const CURL_ABSENT: &[i32] = &[9, 19, 78];
/// How rsync says that there is none.
const RSYNC_ABSENT: &[i32] = &[23];

fn curl_words(url: &str, wanted: Wanted<'_>) -> Vec<String> {
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
async fn open_rsync(url: &str, wanted: Wanted<'_>) -> Result<Opened, Fault> {
    // The other side would take these for patterns.
    if wanted.path.contains(['*', '?', '[', '\\']) {
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

fn run(name: &'static str, words: &[String], absent: &'static [i32]) -> Result<Running, Fault> {
    let mut command = Command::new(name);
    command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let child = command.spawn().map_err(|error| Fault::down(format!("running {name}: {error}")))?;
    Ok(Running { child, name, absent })
}

/// A program that is ended with whoever reads from it.
pub(super) struct Running {
    child: Child,
    name: &'static str,
    /// The statuses with which it says that there is no such file.
    absent: &'static [i32],
}

impl Running {
    /// Whether it has ended, and well.
    fn is_over(&mut self) -> Result<bool, Fault> {
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

/// What comes.
pub(super) enum Body {
    /// Over HTTP.
    Http(Response),
    /// From a file, or from a program, which ends when this goes, and with it whatever reads from it on another thread.
    Reader {
        /// None while it is read from.
        input: Option<Box<dyn Read + Send>>,
        /// Where it comes from.
        program: Option<Running>,
    },
}

impl Body {
    fn of(file: File) -> Self {
        Self::Reader { input: Some(Box::new(file)), program: None }
    }

    fn of_program(mut program: Running) -> Result<Self, Fault> {
        let output = program.child.stdout.take().ok_or_else(|| Fault::down("it has no output"))?;
        Ok(Self::Reader { input: Some(Box::new(output)), program: Some(program) })
    }

    /// The next bytes; None at the end. Not to be asked again by whoever did not wait for the answer.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let (input, program) = match self {
            Self::Http(response) => {
                return response.chunk().await.map_err(|error| Fault::down(described(&error)));
            }
            Self::Reader { input, program } => (input, program),
        };
        let mut reader = input.take().ok_or_else(|| Fault::down("reading did not end"))?;
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; READ_LEN];
            let length = reader.read(&mut bytes)?;
            bytes.truncate(length);
            Ok::<_, std::io::Error>((Bytes::from(bytes), reader))
        });
        let read = reading.await.map_err(|error| Fault::down(error.to_string()))?;
        let (bytes, reader) = read.map_err(|error| Fault::down(error.to_string()))?;
        if !bytes.is_empty() {
            *input = Some(reader);
            return Ok(Some(bytes));
        }
        // How it ends says whether that was all.
        if let Some(program) = program {
            while !program.is_over()? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(None)
    }
}

/// An error with its causes, without the URL, which stands beside it.
fn described(error: &reqwest::Error) -> String {
    let mut text = match () {
        () if error.is_connect() => "connecting failed".to_owned(),
        () if error.is_redirect() => "it was not followed".to_owned(),
        () => "the connection broke".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, from: u64) -> Wanted<'_> {
        Wanted { path, from, bytes_max: 100, stall: Duration::from_secs(30), room: Path::new("/") }
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

    #[test]
    fn only_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "bytes").unwrap();
        let (mut file, size) = open_file(&directory.path().join("a"), 2).unwrap();
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), size), ("tes", 5));
        assert_eq!(open_file(&directory.path().join("b"), 0).err(), Some(Fault::Absent));
        assert_eq!(open_file(directory.path(), 0).err(), Some(Fault::Absent));
    }
}
