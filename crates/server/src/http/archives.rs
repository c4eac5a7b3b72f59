//! Archives that are made of a part of a tree when somebody asks for one.
//!
//! The same files make the same bytes, whichever tree they are in and whenever it is: an archive is known by the names and
//! contents in it. It is made once for all who ask meanwhile, also when none of them waits for it any more, and kept as a
//! file; what was not asked for in the longest time goes when there is no more room. All of it may be deleted.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _, Shared};
use futures::{Stream, stream};
use smart_sync_store::id::{ContentId, ContentIdHasher, ObjectId};
use tokio::sync::Semaphore;

/// The bytes of all archives that are kept. One that is larger alone is kept until there is another.
const BYTES_MAX: u64 = 2 << 30;
/// The number of archives that are kept: each is an open file.
const ARCHIVES_MAX: usize = 64;
/// The archives that are made at once: each takes a processor.
const MAKING_MAX: usize = 1;
/// The number of bytes that are read at once.
const PIECE_LEN: usize = 256 << 10;
/// What an archive is called while it is made.
const UNFINISHED: &str = "unfinished";

/// An archive that was made.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    path: PathBuf,
    pub(super) id: ContentId,
    pub(super) size: u64,
}

type Making = Shared<BoxFuture<'static, Result<Arc<Archive>, Arc<anyhow::Error>>>>;

/// The archives of a server.
pub(crate) struct Archives {
    directory: PathBuf,
    bytes_max: u64,
    turn: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that are there; the one that was asked for last comes last.
    kept: VecDeque<(ObjectId, Arc<Archive>)>,
    making: HashMap<ObjectId, Making>,
}

impl Archives {
    /// Those in a directory, which need not be there.
    pub(crate) fn open(directory: PathBuf) -> Self {
        Self::with_room(directory, BYTES_MAX)
    }

    fn with_room(directory: PathBuf, bytes_max: u64) -> Self {
        let kept = kept_in(&directory);
        let state = State { kept, making: HashMap::new() };
        Self { directory, bytes_max, turn: Semaphore::new(MAKING_MAX), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The archive of this name, which `write` makes if it is not there.
    pub(super) async fn get(
        self: &Arc<Self>,
        name: ObjectId,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()> + Send + 'static,
    ) -> Result<Arc<Archive>, Arc<anyhow::Error>> {
        let making = {
            let mut state = self.state();
            if let Some(at) = state.kept.iter().position(|(kept, _)| *kept == name)
                && let Some(entry) = state.kept.remove(at)
            {
                let archive = Arc::clone(&entry.1);
                state.kept.push_back(entry);
                return Ok(archive);
            }
            state.making.entry(name).or_insert_with(|| Arc::clone(self).start(name, write)).clone()
        };
        making.await
    }

    /// Begins to make an archive. It goes on when whoever asked for it has gone.
    fn start(
        self: Arc<Self>,
        name: ObjectId,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()> + Send + 'static,
    ) -> Making {
        let task = tokio::spawn(async move {
            let made = {
                let _turn = self.turn.acquire().await?;
                let archives = Arc::clone(&self);
                tokio::task::spawn_blocking(move || archives.make(name, write)).await
            };
            let made = made.map_err(anyhow::Error::from).and_then(|made| made);
            let mut state = self.state();
            state.making.remove(&name);
            let archive = Arc::new(made?);
            state.kept.push_back((name, Arc::clone(&archive)));
            self.make_room(&mut state);
            Ok(archive)
        });
        let ended = async move { task.await.map_err(anyhow::Error::from).and_then(|made| made) };
        ended.map(|made: anyhow::Result<_>| made.map_err(Arc::new)).boxed().shared()
    }

    fn make(
        &self,
        name: ObjectId,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<Archive> {
        let writing = || format!("writing below {}", self.directory.display());
        fs::create_dir_all(&self.directory).with_context(writing)?;
        let temporary = self.directory.join(format!("{name}.{UNFINISHED}"));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&temporary);
        let mut out =
            Hashing { file: file.with_context(writing)?, hasher: ContentIdHasher::default(), size: 0 };
        let made = write(&mut out).and_then(|()| {
            out.file.sync_all().with_context(writing)?;
            let path = self.directory.join(format!("{name}.{}", out.hasher.finish()));
            fs::rename(&temporary, &path).with_context(writing)?;
            Ok(path)
        });
        match made {
            Ok(path) => {
                let id = id_of(&path).context("the name of an archive has its id")?;
                Ok(Archive { file: out.file, path, id, size: out.size })
            }
            Err(error) => {
                // The error of the making is the one to report.
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    /// Removes what there is no room for. Who reads one goes on: it has the file.
    fn make_room(&self, state: &mut State) {
        let bytes =
            |state: &State| state.kept.iter().map(|(_, archive)| archive.size).fold(0, u64::saturating_add);
        while state.kept.len() > 1 && (bytes(state) > self.bytes_max || state.kept.len() > ARCHIVES_MAX) {
            if let Some((_, archive)) = state.kept.pop_front()
                && let Err(error) = fs::remove_file(&archive.path)
            {
                tracing::warn!(%error, path = %archive.path.display(), "removing an archive");
            }
        }
    }
}

/// The archives that an earlier process has left, in the order in which they were made. What is not finished goes.
fn kept_in(directory: &Path) -> VecDeque<(ObjectId, Arc<Archive>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().map_while(Result::ok) {
        let path = entry.path();
        match archive_at(&path) {
            Ok((name, made, archive)) => found.push((made, name, Arc::new(archive))),
            Err(error) => {
                tracing::info!(%error, path = %path.display(), "an archive is not gone on with");
                // It is made again when it is asked for.
                let _ = fs::remove_file(&path);
            }
        }
    }
    found.sort_by_key(|(made, name, _)| (*made, *name));
    found.into_iter().map(|(_, name, archive)| (name, archive)).collect()
}

fn archive_at(path: &Path) -> io::Result<(ObjectId, std::time::SystemTime, Archive)> {
    let name = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let (Some(name), Some(id)) = (name, id_of(path)) else {
        return Err(io::Error::other("its name is not that of one"));
    };
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let archive = Archive { file, path: path.to_owned(), id, size: metadata.len() };
    Ok((name, metadata.modified()?, archive))
}

fn id_of(path: &Path) -> Option<ContentId> {
    path.extension()?.to_str()?.parse().ok()
}

impl Archive {
    /// The bytes of a part of it.
    pub(super) fn bytes(
        self: Arc<Self>,
        range: std::ops::Range<u64>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold((self, range), |(archive, range)| async move {
            if range.start >= range.end {
                return Ok(None);
            }
            let reading = tokio::task::spawn_blocking(move || {
                let len = usize::try_from(range.end - range.start).unwrap_or(PIECE_LEN).min(PIECE_LEN);
                let mut piece = vec![0; len];
                archive.file.read_exact_at(&mut piece, range.start)?;
                let next = range.start + piece.len() as u64..range.end;
                Ok::<_, io::Error>((Bytes::from(piece), (archive, next)))
            });
            reading.await.map_err(io::Error::other)?.map(Some)
        })
    }
}

/// Writes to a file, and knows what it has written.
struct Hashing {
    file: File,
    hasher: ContentIdHasher,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.hasher.update(&bytes[..len]);
        self.size += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn name(text: &str) -> ObjectId {
        ObjectId::of(text.as_bytes())
    }

    async fn text_of(archive: &Arc<Archive>, range: std::ops::Range<u64>) -> String {
        let pieces: Vec<Bytes> = Arc::clone(archive).bytes(range).try_collect().await.unwrap();
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn writes(text: &'static str) -> impl FnOnce(&mut dyn Write) -> anyhow::Result<()> + Send + 'static {
        move |out| Ok(out.write_all(text.as_bytes())?)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_many_ask_for_is_made_once_also_when_they_go() {
        let place = tempfile::tempdir().unwrap();
        let archives = Arc::new(Archives::open(place.path().join("archives")));
        let (go, gone) = mpsc::channel::<()>();
        let times = Arc::new(AtomicUsize::new(0));
        let first = {
            let times = Arc::clone(&times);
            archives.get(name("a"), move |out| {
                times.fetch_add(1, Ordering::SeqCst);
                gone.recv()?;
                Ok(out.write_all(b"0123456789")?)
            })
        };
        let mut first = Box::pin(first);
        // Whoever asked first goes before anything is there.
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let archives = Arc::clone(&archives);
                tokio::spawn(async move { archives.get(name("a"), writes("not this")).await.unwrap() })
            })
            .collect();
        go.send(()).unwrap();
        for waiting in waiting {
            let archive = waiting.await.unwrap();
            assert_eq!(text_of(&archive, 0..archive.size).await, "0123456789");
            assert_eq!(text_of(&archive, 4..6).await, "45");
        }
        assert_eq!(times.load(Ordering::SeqCst), 1);
        // Another process goes on with it.
        drop(archives);
        fs::write(place.path().join(format!("archives/{}.{UNFINISHED}", name("b"))), "half").unwrap();
        let again = Arc::new(Archives::open(place.path().join("archives")));
        let archive = again.get(name("a"), writes("not this")).await.unwrap();
        assert_eq!(text_of(&archive, 0..archive.size).await, "0123456789");
        assert_eq!(fs::read_dir(place.path().join("archives")).unwrap().count(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_not_asked_for_in_the_longest_time_goes() {
        let place = tempfile::tempdir().unwrap();
        let archives = Arc::new(Archives::with_room(place.path().to_owned(), 10));
        let a = archives.get(name("a"), writes("aaaa")).await.unwrap();
        archives.get(name("b"), writes("bbbb")).await.unwrap();
        archives.get(name("a"), writes("not this")).await.unwrap();
        archives.get(name("c"), writes("cccc")).await.unwrap();
        let kept: Vec<ObjectId> = archives.state().kept.iter().map(|(kept, _)| *kept).collect();
        assert_eq!(kept, [name("a"), name("c")]);
        archives.get(name("d"), writes("dddddddddddd")).await.unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        // Who had one goes on reading it.
        assert_eq!(text_of(&a, 0..4).await, "aaaa");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_fails_is_made_again_by_the_next_who_asks() {
        let place = tempfile::tempdir().unwrap();
        let archives = Arc::new(Archives::open(place.path().to_owned()));
        let fails = |out: &mut dyn Write| {
            out.write_all(b"half")?;
            anyhow::bail!("no more")
        };
        let error = archives.get(name("a"), fails).await.unwrap_err();
        assert_eq!(error.to_string(), "no more");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        let archive = archives.get(name("a"), writes("whole")).await.unwrap();
        assert_eq!(text_of(&archive, 0..5).await, "whole");
    }
}
