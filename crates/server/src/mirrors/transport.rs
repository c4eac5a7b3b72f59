//! How bytes come from upstream: over HTTP, out of a directory, or by a program that speaks what this server does not.
//!
//! Programs are given what they are to do word by word, never by a shell, and nothing of this server's environment but
//! where programs are. They end with whoever reads from them.

mod programs;

use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Response, header};
use serde::{Deserialize, Serialize};

use super::answer::Fault;
pub(super) use programs::bring;
use programs::{CURL_ABSENT, PATTERN, RSYNC_ABSENT, Running, curl_words, open_rsync, run};

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
    /// What is known of the version that is here already, which need not come again.
    pub(super) known: Option<&'a Version>,
}

/// What tells one version of a file from another, as its upstream says (RFC 9110 section 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// Its entity tag.
    pub(super) etag: Option<String>,
    /// When it was changed.
    pub(super) modified: Option<String>,
}

impl Version {
    /// What an answer says of itself, as far as it can be sent back.
    pub(super) fn of(headers: &header::HeaderMap) -> Self {
        let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
        Self { etag: text(header::ETAG), modified: text(header::LAST_MODIFIED) }
    }

    /// Whether anything can be asked with it.
    pub(super) const fn is_known(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }
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
            if let Some(Version { etag, modified }) = wanted.known {
                request =
                    etag.iter().fold(request, |request, etag| request.header(header::IF_NONE_MATCH, etag));
                let since = modified.iter();
                request =
                    since.fold(request, |request, since| request.header(header::IF_MODIFIED_SINCE, since));
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

/// Asks an upstream which names a directory has. What comes is a page over HTTP, and else what the program prints.
pub(super) async fn list(
    client: &Client,
    url: &str,
    scheme: &Scheme,
    wanted: Wanted<'_>,
) -> Result<Opened, Fault> {
    // Without the slash a web server would send us on to where it is, and curl would take it for a file.
    let below = if wanted.path.is_empty() { String::new() } else { format!("{}/", wanted.path) };
    match scheme {
        Scheme::Http => open(client, url, scheme, Wanted { path: &below, ..wanted }).await,
        Scheme::Ftp => {
            let url = format!("{url}/{}", utf8_percent_encode(&below, ENCODED));
            let running = run("curl", &curl_words(&url, wanted), CURL_ABSENT)?;
            Ok(Opened::Other(Body::of_program(running)?, None))
        }
        Scheme::Rsync => {
            if below.contains(PATTERN) {
                return Err(Fault::Absent);
            }
            let stall = format!("--timeout={}", wanted.stall.as_secs().max(1));
            let words = ["--list-only", "--no-motd", "--copy-links", "--contimeout=10", &stall, "--"];
            let mut words: Vec<String> = words.map(str::to_owned).into();
            words.push(format!("{url}/{below}"));
            Ok(Opened::Other(Body::of_program(run("rsync", &words, RSYNC_ABSENT)?)?, None))
        }
        Scheme::File(root) => {
            let directory = root.join(wanted.path);
            Err(Fault::down(format!("{} is read, not asked for", directory.display())))
        }
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
        let output = program.output().ok_or_else(|| Fault::down("it has no output"))?;
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
