//! What is published: which refs, and the trees behind them.

use std::path::{Path, PathBuf};

use smart_sync_store::id::ObjectId;
use smart_sync_store::manifest::{Entry, Fidelity, FileTime, Node};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{Destination, IngestError, IngestOptions, Ingested, ingest, ingest_and_show};
use smart_sync_sync::key::{SidecarDigests, SidecarHasher};
use smart_sync_sync::name::{RefName, TypedRef};
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::source::git::{GitCommit, GitError, GitRepository, ReferenceKind};
use smart_sync_sync::source::listed::{ListedSource, Listing};
use smart_sync_sync::source::tar::{TarOptions, TarSource, spool_file};
use smart_sync_sync::source::{SourceError, TreeSource};
use smart_sync_sync::sums;

use crate::args::publish::FidelityArg;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::realm::resolve::now;

/// Where trees are read from.
pub(super) enum Origin {
    /// A git repository.
    Git { repository: GitRepository, path: PathBuf },
    /// A directory.
    Directory { path: PathBuf, fidelity: Fidelity },
    /// A tar on standard input.
    Tar { fidelity: Fidelity },
}

/// A ref to publish, and the commit that it is to be; none where the tree is not one of git.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) reference: RefName,
    pub(super) commit: Option<GitCommit>,
}

/// How a tree is read that is published as it is.
pub(super) struct Reading<'a> {
    pub(super) exclusions: Exclusions,
    pub(super) state_dir: &'a Path,
    pub(super) wants_sums: bool,
    /// Looks at all of it before anything of it is stored.
    pub(super) judge: Option<JudgeListing<'a>>,
}

/// Refuses what must not be published.
pub(super) type JudgeListing<'a> = &'a mut dyn FnMut(&Listing) -> Result<(), Failure>;

/// A tree that was read and stored.
pub(super) struct Stored {
    pub(super) tree: Ingested,
    /// The digests of its checksums, where they are to be signed.
    pub(super) sums: Option<SidecarDigests>,
}

impl Origin {
    pub(super) fn git(path: &Path) -> Result<Self, Failure> {
        Ok(Self::Git { repository: GitRepository::open(path)?, path: path.to_owned() })
    }

    /// The fidelity that was asked for.
    pub(super) fn fidelity(asked: Option<FidelityArg>) -> Fidelity {
        match asked {
            Some(FidelityArg::System) => Fidelity::System,
            Some(FidelityArg::Git) | None => Fidelity::Git,
        }
    }

    /// The refs to publish where all are asked for. What cannot be named in a channel is said and left out.
    pub(super) fn all_jobs(repository: &GitRepository, output: &Output) -> Result<Vec<Job>, Failure> {
        let mut jobs = Vec::new();
        for reference in repository.references()? {
            let name = String::from_utf8_lossy(&reference.name);
            let named = match reference.kind {
                ReferenceKind::Branch => RefName::branch(&name),
                ReferenceKind::Tag => RefName::tag(&name),
            };
            match named {
                Ok(named) => jobs.push(Job { reference: named, commit: Some(reference.commit) }),
                Err(error) => output.warning(&format!("{name} is left out: {error}")),
            }
        }
        Ok(jobs)
    }

    /// The ref to publish where one or none is named.
    pub(super) fn job(&self, typed: Option<&TypedRef>) -> Result<Job, Failure> {
        match (self, typed) {
            (Self::Git { repository, .. }, typed) => job_of_git(repository, typed),
            (_, Some(TypedRef::Exact(RefName::Commit(commit)))) => Err(Failure::message(
                Exit::Arguments,
                format!("{commit} is a commit, and this tree is not read from a git repository"),
            )
            .hint("name a branch or a tag with --ref, or the repository with --git DIR")),
            (_, Some(TypedRef::Exact(reference))) => Ok(Job { reference: reference.clone(), commit: None }),
            (_, typed) => {
                let name = typed.map_or_else(|| "main".to_owned(), ToString::to_string);
                let reference =
                    RefName::branch(&name).map_err(|error| Failure::new(Exit::Arguments, error))?;
                Ok(Job { reference, commit: None })
            }
        }
    }

    /// Reads a tree and stores it.
    pub(super) fn store(
        &self,
        job: &Job,
        destination: &mut dyn Destination,
        reading: Reading<'_>,
    ) -> Result<Stored, Failure> {
        let Reading { exclusions, state_dir, wants_sums, judge } = reading;
        match self {
            Self::Git { repository, path } => {
                let Some(commit) = &job.commit else {
                    return Err(Failure::message(Exit::Arguments, "no commit is named"));
                };
                let cache = Cache::of(path, state_dir)?;
                let mut source = repository.tree(commit, cache.load()).map_err(of_source)?;
                let stored = take_in_judged(&mut source, destination, wants_sums, judge);
                cache.save(&source.into_cache(), stored.is_ok())?;
                stored
            }
            Self::Directory { path, fidelity } => {
                let cache = Cache::of(path, state_dir)?;
                let options = directory_options(*fidelity, exclusions);
                let mut source = DirectorySource::open(path, options, cache.load()).map_err(of_source)?;
                let stored = take_in_judged(&mut source, destination, wants_sums, judge);
                cache.save(&source.into_cache(), stored.is_ok())?;
                stored
            }
            Self::Tar { fidelity } => {
                let spool = spool_file(state_dir).map_err(|error| {
                    Failure::from(error)
                        .context(format!("making room for the stream in {}", state_dir.display()))
                })?;
                let options = TarOptions { fidelity: *fidelity, exclusions };
                let mut source =
                    TarSource::read(std::io::stdin().lock(), spool, &options).map_err(of_source)?;
                take_in_judged(&mut source, destination, wants_sums, judge)
            }
        }
    }

    /// What it is called in messages.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Git { path, .. } | Self::Directory { path, .. } => path.display().to_string(),
            Self::Tar { .. } => "the stream".to_owned(),
        }
    }
}

fn take_in_judged(
    source: &mut dyn TreeSource,
    destination: &mut dyn Destination,
    wants_sums: bool,
    judge: Option<JudgeListing<'_>>,
) -> Result<Stored, Failure> {
    let Some(judge) = judge else { return Ok(take_in(source, destination, wants_sums)?) };
    let mut listed = ListedSource::read(source).map_err(of_source)?;
    judge(listed.listing())?;
    Ok(take_in(&mut listed, destination, wants_sums)?)
}

fn job_of_git(repository: &GitRepository, typed: Option<&TypedRef>) -> Result<Job, Failure> {
    let named = |reference: RefName, revision: String| -> Result<Job, Failure> {
        Ok(Job { reference, commit: Some(repository.resolve(&revision)?) })
    };
    let invalid = |error| Failure::new(Exit::Arguments, error);
    match typed {
        None => {
            let branch = repository.checked_out()?;
            let branch =
                branch.map_or_else(|| "main".to_owned(), |name| String::from_utf8_lossy(&name).into());
            named(RefName::branch(&branch).map_err(invalid)?, format!("refs/heads/{branch}"))
        }
        Some(TypedRef::Exact(reference)) => {
            let revision = match reference {
                RefName::Branch(name) => format!("refs/heads/{name}"),
                RefName::Tag(name) => format!("refs/tags/{name}"),
                RefName::Commit(commit) => commit.to_string(),
            };
            named(reference.clone(), revision)
        }
        Some(TypedRef::Bare(name)) => {
            let (branch, tag) = (format!("refs/heads/{name}"), format!("refs/tags/{name}"));
            if let Ok(job) = named(RefName::branch(name.as_str()).map_err(invalid)?, branch) {
                return Ok(job);
            }
            if let Ok(job) = named(RefName::tag(name.as_str()).map_err(invalid)?, tag) {
                return Ok(job);
            }
            let commit = repository.resolve(name.as_str())?;
            Ok(Job { reference: RefName::Commit(commit.id), commit: Some(commit) })
        }
    }
}

/// How a directory is read now.
pub(super) fn directory_options(fidelity: Fidelity, exclusions: Exclusions) -> DirectoryOptions {
    let seconds = i64::try_from(now().seconds()).unwrap_or(i64::MAX);
    DirectoryOptions { fidelity, exclusions, now: FileTime { seconds, nanoseconds: 0 } }
}

pub(super) fn take_in(
    source: &mut dyn TreeSource,
    destination: &mut dyn Destination,
    wants_sums: bool,
) -> Result<Stored, IngestError> {
    if wants_sums {
        return take_in_and_show(source, destination, true, &mut |_| ());
    }
    Ok(Stored { tree: ingest(source, destination, IngestOptions::default())?, sums: None })
}

/// The same, and shows every entry.
pub(super) fn take_in_and_show(
    source: &mut dyn TreeSource,
    destination: &mut dyn Destination,
    wants_sums: bool,
    also: &mut dyn FnMut(&Entry),
) -> Result<Stored, IngestError> {
    let mut hasher = wants_sums.then(SidecarHasher::default);
    let mut show = |entry: &Entry| {
        if let (Some(hasher), Node::File(content)) = (&mut hasher, &entry.node) {
            hasher.update(sums::line(entry.path.as_bytes(), &content.id).as_bytes());
        }
        also(entry);
    };
    let tree = ingest_and_show(source, destination, IngestOptions::default(), &mut show)?;
    Ok(Stored { tree, sums: hasher.map(SidecarHasher::finish) })
}

/// What is remembered of one place that is published from.
pub(super) struct Cache(PathBuf);

impl Cache {
    pub(super) fn of(place: &Path, state_dir: &Path) -> Result<Self, Failure> {
        Self::beside(place, state_dir, "contents").map(Self)
    }

    /// Where something else is remembered of that place.
    pub(super) fn beside(place: &Path, state_dir: &Path, what: &str) -> Result<PathBuf, Failure> {
        let place = place.canonicalize().map_err(|error| {
            Failure::new(Exit::Arguments, error).context(format!("opening {}", place.display()))
        })?;
        let directory = state_dir.join("publish");
        std::fs::create_dir_all(&directory)
            .map_err(|error| Failure::from(error).context(format!("making {}", directory.display())))?;
        let name = ObjectId::of(place.as_os_str().as_encoded_bytes());
        Ok(directory.join(format!("{name}.{what}")))
    }

    pub(super) fn load(&self) -> ContentCache {
        ContentCache::load(&self.0)
    }

    /// Keeps what was found out. A run that failed has seen only a part, which is better than nothing but not than
    /// what an earlier run has seen.
    pub(super) fn save(&self, cache: &ContentCache, is_whole: bool) -> Result<(), Failure> {
        if is_whole || !self.0.exists() {
            cache.save(&self.0).map_err(|error| Failure::new(Exit::General, error))?;
        }
        Ok(())
    }
}

pub(super) fn of_source(error: SourceError) -> Failure {
    let kind = match &error {
        SourceError::Io { source, .. } => Some(source.kind()),
        _ => None,
    };
    match (error, kind) {
        (SourceError::Git(error), _) => error.into(),
        (error, Some(std::io::ErrorKind::PermissionDenied)) => Failure::new(Exit::Permission, error),
        (error, Some(std::io::ErrorKind::NotFound)) => Failure::new(Exit::Arguments, error),
        (error, _) => Failure::new(Exit::General, error),
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        let exit = match &error {
            GitError::Open { .. }
            | GitError::NoSuchRevision(_)
            | GitError::Ambiguous(_)
            | GitError::NotACommit(..) => Exit::Arguments,
            _ => Exit::General,
        };
        let is_unknown = matches!(error, GitError::NoSuchRevision(_));
        let failure = Self::new(exit, error);
        if is_unknown {
            failure.hint("`git branch --all` lists branches; without --ref it is the one that is checked out")
        } else {
            failure
        }
    }
}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Source(error) => of_source(error),
            error => Self::new(Exit::General, error),
        }
    }
}
