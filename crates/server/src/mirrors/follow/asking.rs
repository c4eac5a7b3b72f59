//! Answering the questions of a look: one upstream is asked for names and for small files.

use std::fs;
use std::path::Path;

use reqwest::Response;
use smart_sync_sync::kinds::follow::{Answer, Listed, Question};
use tokio::time::timeout;

use super::super::Outside;
use super::super::answer::{Fault, Open, OpenQuestion, judge_open};
use super::super::transport::{self, Body, Opened, Scheme, Version, Wanted};
use super::super::upstreams::Source;
use super::documents::Documents;
use super::listing;
use crate::http::now;

/// What an upstream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// The names of a directory.
    Listing(Vec<Listed>),
    /// The bytes of a file.
    Document(Vec<u8>),
    /// There is no such thing.
    Absent,
}

impl Told {
    /// As kinds take it.
    pub(super) fn as_answer(&self) -> Answer<'_> {
        match self {
            Self::Listing(names) => Answer::Listing(names),
            Self::Document(bytes) => Answer::Document(bytes),
            Self::Absent => Answer::Absent,
        }
    }
}

/// One upstream that is asked.
pub(super) struct Asking<'a> {
    pub(super) outside: &'a Outside,
    pub(super) source: &'a Source,
    pub(super) documents: &'a Documents,
    /// Where what comes has room.
    pub(super) room: &'a Path,
}

impl Asking<'_> {
    /// Asks.
    pub(super) async fn ask(&self, question: &Question) -> Result<Told, Fault> {
        let turn = self.source.turns.acquire().await;
        let _turn = turn.map_err(|error| Fault::down(error.to_string()))?;
        let told = match question {
            Question::Listing { directory } => self.list(directory).await.map(Told::Listing),
            Question::Document { path, bytes_max } => self.read(path, *bytes_max).await.map(Told::Document),
        };
        match told {
            Err(Fault::Absent) => Ok(Told::Absent),
            told => told,
        }
    }

    fn wanted<'b>(&'b self, path: &'b str, bytes_max: u64, known: Option<&'b Version>) -> Wanted<'b> {
        Wanted { path, from: 0, bytes_max, stall: self.outside.stall, room: self.room, known }
    }

    async fn list(&self, directory: &str) -> Result<Vec<Listed>, Fault> {
        let (source, bytes_max) = (self.source, listing::BYTES_MAX);
        if let Scheme::File(root) = &source.scheme {
            let directory = root.join(directory);
            let reading = tokio::task::spawn_blocking(move || read_names(&directory));
            return reading.await.map_err(|error| Fault::down(error.to_string()))?;
        }
        let wanted = self.wanted(directory, bytes_max, None);
        let opened = transport::list(&self.outside.client, &source.url, &source.scheme, wanted).await?;
        let (mut body, base) = match opened {
            Opened::Http(response) => {
                let question = OpenQuestion { name: None, bytes_max, from: 0, is_conditional: false };
                judge_open(question, response.status(), response.headers(), now())?;
                let base = response.url().path().to_owned();
                (Body::Http(response), Some(base))
            }
            Opened::Other(body, _) => (body, None),
        };
        let bytes = self.whole(&mut body, bytes_max).await?;
        let parsed = match (base, &source.scheme) {
            (Some(base), _) => listing::of_page(&bytes, &base),
            (None, Scheme::Ftp) => listing::of_ftp(&bytes),
            (None, _) => listing::of_rsync(&bytes),
        };
        parsed.map_err(Fault::Wrong)
    }

    async fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, Fault> {
        let known = self.documents.get(path, bytes_max);
        let wanted = self.wanted(path, bytes_max, known.as_ref().map(|(version, _)| version));
        let (source, client) = (self.source, &self.outside.client);
        match transport::open(client, &source.url, &source.scheme, wanted).await? {
            Opened::Http(response) => self.read_http(path, bytes_max, known, response).await,
            Opened::Other(_, Some(size)) if size > bytes_max => {
                Err(Fault::Wrong(format!("its {path} is longer than {bytes_max} bytes")))
            }
            Opened::Other(mut body, _) => self.whole(&mut body, bytes_max).await,
        }
    }

    async fn read_http(
        &self,
        path: &str,
        bytes_max: u64,
        known: Option<(Version, Vec<u8>)>,
        response: Response,
    ) -> Result<Vec<u8>, Fault> {
        let name = Some(path.rsplit('/').next().unwrap_or(path));
        let question = OpenQuestion { name, bytes_max, from: 0, is_conditional: known.is_some() };
        let judged = judge_open(question, response.status(), response.headers(), now())?;
        if let (Open::Same, Some((_, bytes))) = (judged, known) {
            return Ok(bytes);
        }
        let version = Version::of(response.headers());
        let bytes = self.whole(&mut Body::Http(response), bytes_max).await?;
        if let Err(error) = self.documents.put(path, &version, &bytes) {
            tracing::warn!(path, error = format!("{error:#}"), "remembering what an upstream has answered");
        }
        Ok(bytes)
    }

    /// All that comes, if it is not too much.
    async fn whole(&self, body: &mut Body, bytes_max: u64) -> Result<Vec<u8>, Fault> {
        let (stall, mut whole) = (self.outside.stall, Vec::new());
        let (begun, mut pace) = (std::time::Instant::now(), super::super::pace::Pace::new(stall));
        loop {
            let next = timeout(stall, body.next()).await;
            let next =
                next.map_err(|_| Fault::down(format!("it gave nothing for {} seconds", stall.as_secs())))?;
            let Some(bytes) = next? else { return Ok(whole) };
            if (whole.len() + bytes.len()) as u64 > bytes_max {
                return Err(Fault::Wrong(format!("it gave more than {bytes_max} bytes")));
            }
            if pace.is_too_slow(bytes.len() as u64, begun.elapsed()) {
                return Err(Fault::down("it is too slow"));
            }
            whole.extend_from_slice(&bytes);
        }
    }
}

/// The names of a directory of this machine.
fn read_names(directory: &Path) -> Result<Vec<Listed>, Fault> {
    let failed = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Fault::Absent,
        _ => Fault::down(format!("{}: {error}", directory.display())),
    };
    let mut names = listing::Names::default();
    for entry in fs::read_dir(directory).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        // What a link leads to counts; one that leads nowhere is passed over.
        let (Some(name), Ok(metadata)) =
            (entry.file_name().to_str().map(str::to_owned), fs::metadata(entry.path()))
        else {
            continue;
        };
        if metadata.is_dir() || metadata.is_file() {
            names.add(&name, metadata.is_dir(), Some(metadata.len())).map_err(Fault::Wrong)?;
        }
    }
    Ok(names.into_list())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("old")).unwrap();
        fs::write(at("a b"), "12345").unwrap();
        std::os::unix::fs::symlink("old", at("latest")).unwrap();
        std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
        let listed = read_names(directory.path()).unwrap();
        let listed: Vec<_> = listed.iter().map(|it| (&*it.name, it.is_directory, it.size)).collect();
        assert_eq!(listed, [("a b", false, Some(5)), ("latest", true, None), ("old", true, None)]);
        assert_eq!(read_names(&at("none")), Err(Fault::Absent));
        assert_eq!(read_names(&at("a b")), Err(Fault::Absent));
    }
}
