//! The walk: each directory is one task, which merges its names with the records of the cache below it.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

use rustix::fs::AtFlags;
use rustix::io::Errno;
use smart_sync_store::manifest::entry::Fidelity;

use super::{Drift, Finding, Found, Rehash, Scan, ScanOptions, Untracked, is_excluded};
use crate::apply::error::ApplyError;
use crate::apply::hash::hash_at;
use crate::apply::listing::{Listing, compare};
use crate::apply::metadata::read_xattrs;
use crate::apply::stage::STAGE;
use crate::apply::stat::{FileKind, Stat};
use crate::apply::stat_cache::{Expected, Record, Seen, StatCache};
use crate::apply::tree_dir::{TreeDir, stat_at};

/// What a task found; each has one of its own and hands it in once.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) findings: Vec<Finding>,
    untracked: Vec<Untracked>,
    pub(super) excluded: Vec<Untracked>,
    mounts: Vec<Box<[u8]>>,
    pub(super) notes: Vec<(usize, Option<Seen>)>,
    pub(super) files_hashed: usize,
}

impl Output {
    pub(super) fn append(&mut self, mut other: Self) {
        self.findings.append(&mut other.findings);
        self.untracked.append(&mut other.untracked);
        self.excluded.append(&mut other.excluded);
        self.mounts.append(&mut other.mounts);
        self.notes.append(&mut other.notes);
        self.files_hashed += other.files_hashed;
    }

    /// Everything that was found, in its order, with what was learnt of files noted in the cache.
    pub(super) fn into_scan(mut self, mut cache: StatCache, options: &ScanOptions<'_>) -> Scan {
        self.findings.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.untracked.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.excluded.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.mounts.sort_unstable();
        for (position, seen) in &self.notes {
            cache.note(*position, *seen);
        }
        if !self.notes.is_empty() {
            cache.set_taken(options.started);
        }
        Scan {
            cache,
            is_cache_changed: !self.notes.is_empty(),
            findings: self.findings,
            untracked: self.untracked,
            excluded: self.excluded,
            mounts: self.mounts,
            files_hashed: self.files_hashed,
            taken: options.started,
            examined: HashMap::new(),
        }
    }
}

pub(super) struct Walk<'a> {
    pub(super) tree: &'a TreeDir,
    pub(super) cache: &'a StatCache,
    pub(super) options: &'a ScanOptions<'a>,
    pub(super) root_device: (u32, u32),
    pub(super) sample: Option<Sample>,
    pub(super) gathered: Mutex<Result<Output, ApplyError>>,
}

/// Every position that is `offset` more than a multiple of `stride`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    stride: usize,
    offset: usize,
}

pub(super) fn walk(tree: &TreeDir, cache: StatCache, options: &ScanOptions<'_>) -> Result<Scan, ApplyError> {
    let root = tree.stat(b"")?;
    let walk = Walk {
        tree,
        cache: &cache,
        options,
        root_device: root.map_or((0, 0), |stat| stat.device),
        sample: sample(options.rehash, cache.len()),
        gathered: Mutex::new(Ok(Output::default())),
    };
    rayon::scope(|scope| walk.visit(scope, Vec::new(), 0..cache.len()));
    let root_device = walk.root_device;
    let mut found = walk.gathered.into_inner().expect("no task panics while it holds the lock")?;
    found.findings.append(&mut compare_directories(tree, &cache, options, root_device)?);
    Ok(found.into_scan(cache, options))
}

pub(super) fn sample(rehash: Rehash, count: usize) -> Option<Sample> {
    match rehash {
        Rehash::Everything => Some(Sample { stride: 1, offset: 0 }),
        Rehash::Sample { files: 0, .. } => None,
        Rehash::Sample { files, seed } => {
            let stride = count.div_ceil(files).max(1);
            let offset = usize::try_from(seed % stride as u64).expect("less than a usize");
            Some(Sample { stride, offset })
        }
    }
}

impl Walk<'_> {
    fn visit<'scope>(&'scope self, scope: &rayon::Scope<'scope>, path: Vec<u8>, range: Range<usize>) {
        if self.gathered.lock().is_ok_and(|gathered| gathered.is_err()) {
            return;
        }
        let mut task = Task::new(self, path);
        let outcome = task.run(range);
        let Task { output, below, .. } = task;
        {
            let mut gathered = self.gathered.lock().expect("no task panics while it holds the lock");
            match (&mut *gathered, outcome) {
                (Ok(gathered), Ok(())) => gathered.append(output),
                (Ok(_), Err(error)) => *gathered = Err(error),
                (Err(_), _) => return,
            }
        }
        for (path, range) in below {
            scope.spawn(move |scope| self.visit(scope, path, range));
        }
    }
}

pub(super) struct Task<'a, 'w> {
    pub(super) walk: &'w Walk<'a>,
    path: Vec<u8>,
    pub(super) output: Output,
    below: Vec<(Vec<u8>, Range<usize>)>,
}

/// A child of the directory as the cache has it. Directories are those that paths of records imply; records of
/// directories themselves are looked at once the walk is over.
struct Child<'c> {
    name: &'c [u8],
    is_directory: bool,
    records: Range<usize>,
}

/// The children of a directory in the order of [`compare`].
struct Children<'c> {
    cache: &'c StatCache,
    rest: Range<usize>,
    prefix: usize,
}

impl<'c> Iterator for Children<'c> {
    type Item = Child<'c>;

    fn next(&mut self) -> Option<Child<'c>> {
        while !self.rest.is_empty() {
            let first = self.rest.start;
            let path = self.cache.path(first);
            let name = &path[self.prefix..];
            if let Some(slash) = name.iter().position(|byte| *byte == b'/') {
                let until = &path[..=self.prefix + slash];
                let end = self.cache.position(first + 1..self.rest.end, |path| path.starts_with(until));
                self.rest.start = end;
                return Some(Child { name: &name[..slash], is_directory: true, records: first..end });
            }
            self.rest.start += 1;
            if self.cache.expected(first).kind() != FileKind::Directory {
                return Some(Child { name, is_directory: false, records: first..first + 1 });
            }
        }
        None
    }
}

impl<'a, 'w> Task<'a, 'w> {
    pub(super) fn new(walk: &'w Walk<'a>, path: Vec<u8>) -> Self {
        Self { walk, path, output: Output::default(), below: Vec::new() }
    }

    fn run(&mut self, range: Range<usize>) -> Result<(), ApplyError> {
        let directory = match self.walk.tree.open_directory(&self.path) {
            // It was there a moment ago.
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {
                self.missing(range);
                return Ok(());
            }
            directory => directory?,
        };
        let stat = stat_at(directory.as_fd(), c"", AtFlags::EMPTY_PATH).map_err(|errno| self.error(errno))?;
        if stat.device != self.walk.root_device {
            self.output.mounts.push(self.path.as_slice().into());
        }
        let listing = Listing::read(directory.as_fd()).map_err(|errno| self.error(errno))?;
        self.merge(directory.as_fd(), &listing, range)
    }

    fn merge(
        &mut self,
        directory: BorrowedFd<'_>,
        listing: &Listing,
        range: Range<usize>,
    ) -> Result<(), ApplyError> {
        let prefix = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
        let mut children = Children { cache: self.walk.cache, rest: range, prefix }.peekable();
        let (mut absent, mut strangers) = (Vec::new(), Vec::new());
        for (name, kind) in listing.names() {
            let bytes = name.to_bytes();
            if self.path.is_empty() && (bytes == STAGE || self.walk.tree.is_reserved(bytes)) {
                continue;
            }
            let is_directory = kind == FileKind::Directory;
            let order = |child: &Child<'_>| compare(child.name, child.is_directory, bytes, is_directory);
            while let Some(child) = children.next_if(|child| order(child).is_lt()) {
                absent.push(child);
            }
            match children.next_if(|child| order(child).is_eq()) {
                Some(child) if is_directory => self.enter(bytes, child.records),
                Some(child) => self.compare_file(directory, name, child.records.start)?,
                None => strangers.push((name, kind)),
            }
        }
        absent.extend(children);
        self.settle(directory, &strangers, absent)
    }

    /// Decides about names that have no child of their kind, and children that have no name of theirs.
    fn settle(
        &mut self,
        directory: BorrowedFd<'_>,
        strangers: &[(&CStr, FileKind)],
        absent: Vec<Child<'_>>,
    ) -> Result<(), ApplyError> {
        let mut in_the_way: HashMap<&[u8], &CStr> = HashMap::new();
        let expected: HashSet<&[u8]> = absent.iter().map(|child| child.name).collect();
        for (name, kind) in strangers {
            let bytes = name.to_bytes();
            if expected.contains(bytes) {
                in_the_way.insert(bytes, name);
            } else {
                self.stranger(bytes, *kind);
            }
        }
        for child in absent {
            let path = self.join(child.name);
            if (self.walk.options.excluded)(&path, child.is_directory) {
                continue;
            }
            let found = match in_the_way.get(child.name) {
                Some(name) => self.look(directory, name)?,
                None => None,
            };
            // A directory that has a record is looked at with the others that have one.
            let is_reported_here = found.is_some()
                && self
                    .walk
                    .cache
                    .find(&path)
                    .is_none_or(|at| self.walk.cache.expected(at).kind() != FileKind::Directory);
            match found {
                Some(found) if is_reported_here => {
                    let finding = Finding { path: path.into(), drift: Drift::Type, found: Some(found) };
                    self.output.findings.push(finding);
                    if child.is_directory {
                        self.missing(child.records);
                    } else {
                        self.output.notes.push((child.records.start, None));
                    }
                }
                _ => self.missing(child.records),
            }
        }
        Ok(())
    }

    /// A name that no file of the manifest has; a directory may have a record all the same.
    fn stranger(&mut self, name: &[u8], kind: FileKind) {
        let path = self.join(name);
        if (self.walk.options.excluded)(&path, kind == FileKind::Directory) {
            self.output.excluded.push(Untracked { path: path.into(), kind });
            return;
        }
        match self.walk.cache.find(&path).map(|position| self.walk.cache.expected(position)) {
            Some(Expected::Directory) if kind == FileKind::Directory => self.below.push((path, 0..0)),
            Some(_) => {}
            None => self.output.untracked.push(Untracked { path: path.into(), kind }),
        }
    }

    fn enter(&mut self, name: &[u8], records: Range<usize>) {
        let path = self.join(name);
        if (self.walk.options.excluded)(&path, true) {
            self.output.excluded.push(Untracked { path: path.into(), kind: FileKind::Directory });
        } else {
            self.below.push((path, records));
        }
    }

    pub(super) fn compare_file(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        position: usize,
    ) -> Result<(), ApplyError> {
        let record = self.walk.cache.record(position);
        let stat = match stat_at(directory, name, AtFlags::empty()) {
            Err(Errno::NOENT) => {
                self.missing(position..position + 1);
                return Ok(());
            }
            stat => stat.map_err(|errno| self.error(errno))?,
        };
        let is_sampled = self.walk.sample.is_some_and(|sample| position % sample.stride == sample.offset);
        let have_many_names = self.walk.options.have_many_names;
        if self.walk.cache.is_certain(&record, &stat, self.walk.root_device, have_many_names)
            && !(is_sampled && record.expected.has_content())
        {
            return Ok(());
        }
        if (self.walk.options.excluded)(record.path, false) {
            self.output.excluded.push(Untracked { path: record.path.into(), kind: stat.kind });
            return Ok(());
        }
        let (drift, found) = self.compare_content(directory, name, &record, stat)?;
        let Some(drift) = drift else {
            self.output.notes.push((position, Some(Seen::new(&found.stat, self.walk.root_device))));
            return Ok(());
        };
        if record.verified.is_some() {
            self.output.notes.push((position, None));
        }
        self.output.findings.push(Finding { path: record.path.into(), drift, found: Some(found) });
        Ok(())
    }

    /// How a file differs from its record, if it does.
    fn compare_content(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        record: &Record<'_>,
        stat: Stat,
    ) -> Result<(Option<Drift>, Found), ApplyError> {
        let unread = |stat| Found { stat, content: None, xattrs: Vec::new() };
        if stat.kind != record.expected.kind() {
            return Ok((Some(Drift::Type), unread(stat)));
        }
        if !record.expected.has_content() {
            return Ok((Some(Drift::Metadata), self.with_xattrs(directory, name, stat)?));
        }
        if stat.size != record.content.size {
            return Ok((Some(Drift::Content), unread(stat)));
        }
        self.output.files_hashed += 1;
        let hashed = hash_at(directory, name, stat.kind)
            .map_err(|source| self.walk.tree.failed("reading", record.path, source))?;
        let Some((stat, content)) = hashed else {
            return Ok((Some(Drift::Content), unread(stat)));
        };
        let is_system = self.walk.options.fidelity == Fidelity::System;
        let mut found = if is_system { self.with_xattrs(directory, name, stat)? } else { unread(stat) };
        found.content = Some(content);
        let bit_differs =
            stat.kind == FileKind::File && stat.is_executable() != (record.expected == Expected::Executable);
        let drift = if content != record.content.id {
            Some(Drift::Content)
        } else if is_system {
            // The walk does not know the manifest's metadata; planning does, and compares.
            let is_as_recorded = record.verified.is_some_and(|verified| {
                verified == stat.fingerprint()
                    || self.walk.options.have_many_names
                        && verified.has_content_of(&stat.fingerprint())
                        && record.mode == stat.mode
            });
            (!is_as_recorded).then_some(Drift::Metadata)
        } else {
            bit_differs.then_some(Drift::ExecutableBit)
        };
        Ok((drift, found))
    }

    pub(super) fn missing(&mut self, records: Range<usize>) {
        for position in records {
            let record = self.walk.cache.record(position);
            let is_directory = record.expected.kind() == FileKind::Directory;
            if is_directory || is_excluded(self.walk.options.excluded, record.path, false) {
                continue;
            }
            if record.verified.is_some() {
                self.output.notes.push((position, None));
            }
            self.output.findings.push(Finding {
                path: record.path.into(),
                drift: Drift::Missing,
                found: None,
            });
        }
    }

    fn look(&self, directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<Found>, ApplyError> {
        match stat_at(directory, name, AtFlags::empty()) {
            Ok(stat) => Ok(Some(Found { stat, content: None, xattrs: Vec::new() })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(errno)),
        }
    }

    fn with_xattrs(&self, directory: BorrowedFd<'_>, name: &CStr, stat: Stat) -> Result<Found, ApplyError> {
        let xattrs = read_xattrs(directory, name, stat.kind).map_err(|source| {
            self.walk.tree.failed("reading extended attributes of", &self.join(name.to_bytes()), source)
        })?;
        Ok(Found { stat, content: None, xattrs })
    }

    fn join(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { name.to_vec() } else { [&self.path, name].join(&b'/') }
    }

    fn error(&self, errno: Errno) -> ApplyError {
        self.walk.tree.error("reading the directory", &self.path, errno)
    }
}

/// Compares the directories that have records of their own.
fn compare_directories(
    tree: &TreeDir,
    cache: &StatCache,
    options: &ScanOptions<'_>,
    root_device: (u32, u32),
) -> Result<Vec<Finding>, ApplyError> {
    let mut findings = Vec::new();
    for position in 0..cache.len() {
        let expected = cache.expected(position);
        if expected.kind() != FileKind::Directory {
            continue;
        }
        let record = cache.record(position);
        if is_excluded(options.excluded, record.path, true) {
            continue;
        }
        let stat = tree.stat(record.path)?;
        let drift = match stat {
            None => Drift::Missing,
            Some(stat) if stat.kind != FileKind::Directory => Drift::Type,
            Some(stat) if options.fidelity == Fidelity::System => {
                if cache.is_certain(&record, &stat, root_device, false) {
                    continue;
                }
                Drift::Metadata
            }
            Some(_) => continue,
        };
        let xattrs = match drift {
            Drift::Metadata => tree.xattrs(record.path)?,
            _ => Vec::new(),
        };
        let found = stat.map(|stat| Found { stat, content: None, xattrs });
        findings.push(Finding { path: record.path.into(), drift, found });
    }
    Ok(findings)
}
