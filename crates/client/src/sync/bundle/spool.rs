//! A bundle on its way: from the network through a file to whoever decodes it.
//!
//! One task asks the servers and hands on what comes; the thread that decodes writes it to the spool first. Which
//! bundle the spool holds, and which variant of it, stands in a file beside it, which is written before the first byte.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use reqwest::StatusCode;
use smart_sync_sync::bundle::frames::whole_length;
use tokio::sync::mpsc;

use super::super::realm_tree::Run;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, interrupted};
use crate::realm::remote::{Download, Remote, RemoteError};

/// How often a bundle that breaks off is gone on with in one run.
const ATTEMPTS: usize = 4;
/// Pieces that have come and are not decoded yet.
const PIECES_AHEAD: usize = 16;

/// What came of a bundle, in the state directory of a target.
pub(super) struct Spool {
    path: PathBuf,
    about: PathBuf,
    name: String,
    /// The variant that an earlier run received the beginning of, and how much of it is whole.
    kept: Option<(String, u64)>,
}

/// How the download begins.
pub(super) struct Begun {
    start: u64,
    tag: Option<String>,
    /// What is still to come, where that is known.
    pub(super) to_come: Option<u64>,
}

/// What the task says.
enum Message {
    Begun(Begun),
    Piece(Bytes),
    Absent,
    Failed(RemoteError),
}

/// The task's end of the wire.
pub(super) struct Feed {
    messages: mpsc::Receiver<Message>,
}

impl Spool {
    /// The spool of a target. What it holds of another bundle is of no use.
    pub(super) fn open(state: &Path, name: &str) -> Self {
        let (path, about) = (state.join("incoming.bundle"), state.join("incoming.about"));
        let kept = fs::read_to_string(&about).ok().and_then(|about| {
            let (other, tag) = about.strip_suffix('\n')?.split_once('\n')?;
            (other == name).then(|| tag.to_owned())
        });
        let kept = kept.and_then(|tag| {
            let length = whole_length(BufReader::new(File::open(&path).ok()?)).ok()?;
            (length > 0).then_some((tag, length))
        });
        Self { path, about, name: name.to_owned(), kept }
    }

    /// Where a download may go on.
    pub(super) fn resume(&self) -> Option<(u64, String)> {
        self.kept.as_ref().map(|(tag, length)| (*length, tag.clone()))
    }

    /// Removes what came: it is not right.
    pub(super) fn forget(&mut self) {
        discard(&self.path, &self.about);
    }

    /// Reads the bundle: what is here already, and what comes.
    pub(super) fn reader(&mut self, begun: &Begun, feed: Feed) -> Result<SpoolReader, Failure> {
        let failed = |error: io::Error| {
            Failure::from(error).context(format!("keeping what comes in {}", self.path.display()))
        };
        if begun.start == 0 {
            discard(&self.path, &self.about);
        }
        let file = self.to_keep(begun);
        let kept: Box<dyn Read + Send> = if begun.start == 0 {
            Box::new(io::empty())
        } else {
            let file = File::open(&self.path).map_err(failed)?;
            Box::new(BufReader::with_capacity(1 << 18, file.take(begun.start)))
        };
        Ok(SpoolReader { kept, file, feed, piece: Bytes::new() })
    }

    /// The file that what comes is kept in. Without a name for the variant, or without room, nothing is kept, and the next
    /// run begins again.
    fn to_keep(&self, begun: &Begun) -> Option<File> {
        let tag = begun.tag.as_ref()?;
        let open = || {
            if begun.start == 0 {
                // Neither of the two has to outlast a power cut: what is wrong with them is found out.
                fs::write(&self.about, format!("{}\n{tag}\n", self.name))?;
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut file = options.open(&self.path)?;
            file.set_len(begun.start)?;
            file.seek(SeekFrom::End(0))?;
            Ok::<_, io::Error>(file)
        };
        open().inspect_err(|error| tracing::debug!(%error, "what comes of the bundle is not kept")).ok()
    }
}

/// Removes what is kept of a bundle.
fn discard(path: &Path, about: &Path) {
    // What cannot be removed is found to be of another bundle, or damaged, when it is read.
    let _ = fs::remove_file(about);
    let _ = fs::remove_file(path);
}

/// Removes what was received of any bundle for a target, once it has the tree.
pub(in crate::sync) fn discard_received(state: &Path) {
    discard(&state.join("incoming.bundle"), &state.join("incoming.about"));
}

/// A bundle as it comes.
pub(super) struct SpoolReader {
    kept: Box<dyn Read + Send>,
    file: Option<File>,
    feed: Feed,
    piece: Bytes,
}

impl SpoolReader {
    /// Reads a bundle that is here as a whole.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let (_, messages) = mpsc::channel(1);
        let kept = Box::new(io::Cursor::new(bytes.to_vec()));
        Self { kept, file: None, feed: Feed { messages }, piece: Bytes::new() }
    }
}

impl Read for SpoolReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.kept.read(bytes)?;
        if read > 0 || bytes.is_empty() {
            return Ok(read);
        }
        while self.piece.is_empty() {
            match self.feed.messages.blocking_recv() {
                Some(Message::Piece(piece)) => {
                    if let Some(file) = &mut self.file
                        && file.write_all(&piece).is_err()
                    {
                        // A part of it is of no use to anybody.
                        self.file = None;
                    }
                    self.piece = piece;
                }
                Some(Message::Failed(error)) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error));
                }
                Some(Message::Begun(_) | Message::Absent) | None => return Ok(0),
            }
        }
        let taken = bytes.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut bytes[..taken]);
        Ok(taken)
    }
}

/// Whether reading a bundle failed because of the way that it came.
pub(super) fn is_of_network(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

/// Whether a server says that nothing follows what is here.
fn is_beyond_end(error: &RemoteError) -> bool {
    error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE)
}

impl Feed {
    /// Waits for the answer; nothing where no server has the bundle.
    pub(super) fn begin(&mut self) -> Result<Option<Begun>, Failure> {
        match self.messages.blocking_recv() {
            Some(Message::Begun(begun)) => Ok(Some(begun)),
            Some(Message::Failed(error)) => Err(error.into()),
            Some(Message::Absent | Message::Piece(_)) => Ok(None),
            None => Err(interrupted()),
        }
    }
}

impl Run<'_> {
    /// Begins to ask for a bundle.
    pub(super) fn feed(&self, name: &str, resume: Option<(u64, String)>, limit: u64) -> Feed {
        let (sender, messages) = mpsc::channel(PIECES_AHEAD);
        let work = Feeding {
            remotes: self.remotes().to_vec(),
            name: name.to_owned(),
            interrupt: self.interrupt().clone(),
            limit,
            sender,
        };
        self.runtime().spawn(work.run(resume));
        Feed { messages }
    }
}

/// Asks for a bundle, and hands on what comes.
struct Feeding {
    remotes: Vec<Remote>,
    name: String,
    interrupt: Interrupt,
    limit: u64,
    sender: mpsc::Sender<Message>,
}

impl Feeding {
    async fn run(self, resume: Option<(u64, String)>) {
        tokio::select! {
            biased;
            () = self.interrupt.requested() => {}
            () = self.download(resume) => {}
        }
    }

    async fn download(&self, resume: Option<(u64, String)>) {
        let (mut download, remote) = match self.first(resume.as_ref()).await {
            Ok(Some(begun)) => begun,
            Ok(None) => return self.say(Message::Absent).await,
            // All of it has come already.
            Err(error) if is_beyond_end(&error) => {
                let begun = resume.map(|(start, tag)| Begun { start, tag: Some(tag), to_come: Some(0) });
                return self.say(begun.map_or(Message::Failed(error), Message::Begun)).await;
            }
            Err(error) => return self.say(Message::Failed(error)).await,
        };
        let mut at = download.start();
        let tag = download.tag().map(str::to_owned);
        let to_come = download.length();
        self.say(Message::Begun(Begun { start: at, tag: tag.clone(), to_come })).await;
        let mut attempt = 0;
        loop {
            let broken = match download.next().await {
                Ok(Some(piece)) => {
                    at += piece.len() as u64;
                    if self.sender.send(Message::Piece(piece)).await.is_err() {
                        return;
                    }
                    continue;
                }
                // What follows was not made yet when the server answered.
                Ok(None) if download.is_growing() => None,
                Ok(None) => return,
                Err(error) => Some(error),
            };
            let was_growing = broken.is_none();
            // Where something came, it is the server that takes its time.
            attempt = if was_growing && at > download.start() { 0 } else { attempt + 1 };
            let may_pass = broken.as_ref().is_none_or(RemoteError::is_passing);
            let next = match tag.as_deref().filter(|_| attempt < ATTEMPTS && may_pass) {
                Some(tag) => remote.download(&self.name, Some((at, tag)), self.limit).await,
                None => Err(broken.unwrap_or(RemoteError::Absent { url: self.name.clone() })),
            };
            match next {
                // Another variant may have taken its place, and begins at its own beginning.
                Ok(next) if next.start() == at => download = next,
                Ok(_) => {
                    return self.say(Message::Failed(RemoteError::Absent { url: self.name.clone() })).await;
                }
                // It ended where the last answer did.
                Err(error) if was_growing && is_beyond_end(&error) => return,
                Err(error) => return self.say(Message::Failed(error)).await,
            }
        }
    }

    /// The answer of the first server that has the bundle.
    async fn first(
        &self,
        resume: Option<&(u64, String)>,
    ) -> Result<Option<(Download, &Remote)>, RemoteError> {
        let mut last = None;
        for remote in &self.remotes {
            let resume = resume.map(|(start, tag)| (*start, tag.as_str()));
            match remote.download(&self.name, resume, self.limit).await {
                Ok(download) => return Ok(Some((download, remote))),
                Err(error) if is_beyond_end(&error) => return Err(error),
                Err(error) if error.status().is_some() => {}
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(None), Err)
    }

    async fn say(&self, message: Message) {
        // Nobody listens any more when the run has ended.
        let _ = self.sender.send(message).await;
    }
}
