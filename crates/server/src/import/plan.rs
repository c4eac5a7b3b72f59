//! What of a backend becomes which channel. It looks at names and kinds of files only, and follows no link.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use smart_sync_store::manifest::Shown;
use smart_sync_sync::kinds;
use smart_sync_sync::name::{Channel, Kind};
use smart_sync_sync::source::git::{GitRepository, ReferenceKind};

use super::scan::Rule;
use super::{host_cfg, mirror_files};

/// The most names of a directory that is looked at.
const NAMES_MAX: usize = 10_000;
/// The most files of a git repository that are looked at before it is opened.
const GIT_FILES_MAX: usize = 2_000_000;
/// States that kernels lie by.
const KERNEL_STATES: [&str; 3] = ["current", "deprecated", "compat"];
/// What begins a Manifest that somebody has signed.
const SIGNED: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// Everything that a backend holds, for whoever takes it over.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) channels: Vec<Planned>,
    /// Lists of upstreams, by what they are of.
    pub(crate) mirrors: Vec<(String, mirror_files::MirrorFile)>,
    /// Files that say what a host follows.
    pub(crate) hosts: Vec<(PathBuf, Vec<u8>)>,
    /// What is not taken over, and why.
    pub(crate) not_taken: Vec<(PathBuf, String)>,
}

/// A channel that something of a backend becomes.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Where it lies, below the backend.
    pub(crate) place: PathBuf,
    pub(crate) channel: Channel,
    pub(crate) kind: Kind,
    pub(crate) made: Made,
}

impl Planned {
    /// Whether its files bear signatures of those who made them, which keys can judge. What distfiles have to be stands in
    /// the ebuild tree, and not in signatures of their own.
    pub(crate) fn is_signed_elsewhere(&self) -> bool {
        kinds::find(&self.kind).is_some_and(|kind| kind.judges_signatures() && !kind.verifies())
    }
}

/// What a channel is made of.
#[derive(Debug)]
pub(crate) enum Made {
    /// A directory, looked through by this rule.
    Directory(Rule),
    /// The refs of a git repository: as they are called there, and in the channel.
    Git(Vec<(String, String)>),
}

impl Plan {
    /// Looks at a backend. Its channels are called with this in front.
    pub(crate) fn of(backend: &Path, prefix: &str) -> anyhow::Result<Self> {
        let looking = Looking { backend, prefix };
        let mut plan = Self::default();
        for name in looking.names(Path::new(""), &mut plan)? {
            looking.take(&name, &mut plan)?;
        }
        Ok(plan)
    }
}

struct Looking<'a> {
    backend: &'a Path,
    prefix: &'a str,
}

impl Looking<'_> {
    /// What a directory of the top becomes.
    fn take(&self, name: &str, plan: &mut Plan) -> anyhow::Result<()> {
        let place = Path::new(name);
        if !self.is_directory(place) {
            plan.not_taken
                .push((place.to_owned(), "it is no directory that belongs to a backend".to_owned()));
            return Ok(());
        }
        match name {
            "binpkgs" => {
                for architecture in self.directories(place, plan)? {
                    for version in self.directories(&architecture, plan)? {
                        self.add(version, "binpkgs", Rule::Files, plan);
                    }
                }
            }
            "kernels"
                if self.directories(place, &mut Plan::default())?.iter().any(|below| is_state(below)) =>
            {
                self.add(place.to_owned(), "kernels", Rule::Files, plan);
            }
            "kernels" => {
                for architecture in self.directories(place, plan)? {
                    self.add(architecture, "kernels", Rule::Files, plan);
                }
            }
            "distfiles" => self.add(place.to_owned(), "distfiles", Rule::Names, plan),
            "snapshots" => self.add(place.to_owned(), "treesnapshots", Rule::Names, plan),
            "releases" => self.add(place.to_owned(), "stages", Rule::Names, plan),
            "packages" | "patchfiles" | "profiles" | "meta" => {
                self.add(place.to_owned(), name, Rule::Lines, plan);
            }
            "source" => self.add(place.to_owned(), "tree", Rule::Lines, plan),
            "repository" if is_git(&self.backend.join(place)) => self.add_git(place.to_owned(), plan),
            "repos" | "repository" => {
                for repository in self.directories(place, plan)? {
                    self.add_repository(repository, plan);
                }
            }
            "config" => self.take_configuration(place, plan)?,
            _ => plan.not_taken.push((place.to_owned(), "it is not known what it is".to_owned())),
        }
        Ok(())
    }

    fn add_repository(&self, place: PathBuf, plan: &mut Plan) {
        let directory = self.backend.join(&place);
        if is_git(&directory) {
            return self.add_git(place, plan);
        }
        let manifest = fs::symlink_metadata(directory.join("Manifest"));
        let is_file = manifest.is_ok_and(|metadata| metadata.is_file());
        let is_signed =
            is_file && fs::read(directory.join("Manifest")).is_ok_and(|text| text.starts_with(SIGNED));
        self.add(place, "repo", if is_signed { Rule::Names } else { Rule::Files }, plan);
    }

    fn add_git(&self, place: PathBuf, plan: &mut Plan) {
        match refs_of(&self.backend.join(&place)) {
            Ok(refs) => self.add_from(place, "repo", Made::Git(refs), plan),
            Err(error) => plan.not_taken.push((place, format!("{error:#}"))),
        }
    }

    fn add(&self, place: PathBuf, kind: &str, rule: Rule, plan: &mut Plan) {
        self.add_from(place, kind, Made::Directory(rule), plan);
    }

    fn add_from(&self, place: PathBuf, kind: &str, made: Made, plan: &mut Plan) {
        let name = place.to_string_lossy();
        let name = format!("{}{}", self.prefix, name.strip_suffix(".git").unwrap_or(&name));
        let (channel, kind) = match (name.parse::<Channel>(), kind.parse::<Kind>()) {
            (Ok(channel), Ok(kind)) => (channel, kind),
            (Err(error), _) | (_, Err(error)) => return plan.not_taken.push((place, error.to_string())),
        };
        if kinds::find(&kind).is_some() || kind.as_str() == "tree" {
            plan.channels.push(Planned { place, channel, kind, made });
        } else {
            plan.not_taken.push((place, format!("this server has no kind {kind}")));
        }
    }

    /// What lies in `config`: lists of mirrors, and what is said of hosts.
    fn take_configuration(&self, place: &Path, plan: &mut Plan) -> anyhow::Result<()> {
        for name in self.names(place, plan)? {
            let place = place.join(&name);
            match &*name {
                "mirrors" if self.is_directory(&place) => {
                    for name in self.names(&place, plan)? {
                        self.take_mirrors(place.join(&name), &name, plan);
                    }
                }
                "host.cfg" => self.take_host(place, plan),
                _ if self.is_directory(&place) => {
                    let host = place.join("host.cfg");
                    if fs::symlink_metadata(self.backend.join(&host)).is_ok() {
                        self.take_host(host, plan);
                    } else {
                        plan.not_taken.push((place, "it is not known what it is".to_owned()));
                    }
                }
                _ => plan.not_taken.push((place, "it is not known what it is".to_owned())),
            }
        }
        Ok(())
    }

    fn take_mirrors(&self, place: PathBuf, name: &str, plan: &mut Plan) {
        match self.small_file(&place, mirror_files::BYTES_MAX) {
            Ok(text) => {
                let found = mirror_files::parse(&text);
                for (line, why) in &found.not_taken {
                    plan.not_taken.push((place.clone(), format!("line {line}: {why}")));
                }
                plan.mirrors.push((name.strip_suffix(".mirrors").unwrap_or(name).to_owned(), found));
            }
            Err(error) => plan.not_taken.push((place, format!("{error:#}"))),
        }
    }

    fn take_host(&self, place: PathBuf, plan: &mut Plan) {
        match self.small_file(&place, host_cfg::BYTES_MAX) {
            Ok(text) => plan.hosts.push((place, text)),
            Err(error) => plan.not_taken.push((place, format!("{error:#}"))),
        }
    }

    fn small_file(&self, place: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
        let path = self.backend.join(place);
        let metadata = fs::symlink_metadata(&path).context("it cannot be looked at")?;
        if !metadata.is_file() || metadata.len() > bytes_max {
            bail!("it is no file of at most {} KiB", bytes_max >> 10);
        }
        fs::read(&path).context("it cannot be read")
    }

    /// The directories in a directory. What else is there is said.
    fn directories(&self, place: &Path, plan: &mut Plan) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for name in self.names(place, plan)? {
            let below = place.join(name);
            if self.is_directory(&below) {
                found.push(below);
            } else {
                plan.not_taken.push((below, "it is not known what it is".to_owned()));
            }
        }
        Ok(found)
    }

    /// The names in a directory, but for links and what is no text.
    fn names(&self, place: &Path, plan: &mut Plan) -> anyhow::Result<Vec<String>> {
        let directory = self.backend.join(place);
        let reading = || format!("reading {}", directory.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let below = place.join(entry.file_name());
            let is_link = entry.file_type().with_context(reading)?.is_symlink();
            match entry.file_name().into_string() {
                _ if is_link => plan.not_taken.push((below, IS_LINK.to_owned())),
                Ok(name) if name.starts_with('.') => plan.not_taken.push((below, "it is hidden".to_owned())),
                Ok(name) => names.push(name),
                Err(name) => {
                    let why = format!("{} is no text", Shown(name.as_encoded_bytes()));
                    plan.not_taken.push((below, why));
                }
            }
            if names.len() + plan.not_taken.len() > NAMES_MAX {
                bail!("{} holds more than {NAMES_MAX} names: is it a backend?", directory.display());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn is_directory(&self, place: &Path) -> bool {
        fs::symlink_metadata(self.backend.join(place)).is_ok_and(|metadata| metadata.is_dir())
    }
}

/// What is said of a link.
const IS_LINK: &str = "it is a link, and none is followed";

fn is_state(place: &Path) -> bool {
    place.file_name().and_then(|name| name.to_str()).is_some_and(|name| KERNEL_STATES.contains(&name))
}

/// Whether a directory is a git repository without a working tree.
fn is_git(directory: &Path) -> bool {
    let is_directory =
        |name: &str| fs::symlink_metadata(directory.join(name)).is_ok_and(|metadata| metadata.is_dir());
    directory.join("HEAD").is_file() && is_directory("objects") && is_directory("refs")
}

/// The branches and tags of a git repository, one that holds all that it consists of.
fn refs_of(directory: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut waiting = vec![directory.to_owned()];
    let mut left = GIT_FILES_MAX;
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            left = left.checked_sub(1).context("it has too many files")?;
            if kind.is_symlink() {
                bail!("{} is a link, and none is followed", entry.path().display());
            }
            if kind.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    for elsewhere in ["objects/info/alternates", "objects/info/http-alternates", "commondir"] {
        if directory.join(elsewhere).exists() {
            bail!("its objects lie elsewhere, as {elsewhere} says: clone it, and publish the clone");
        }
    }
    let repository = GitRepository::open(directory)?;
    let mut refs = Vec::new();
    for reference in repository.references()? {
        let name = String::from_utf8(reference.name).context("a ref is called by what is no text")?;
        let (full, published) = match reference.kind {
            ReferenceKind::Branch => (format!("refs/heads/{name}"), format!("branch:{name}")),
            ReferenceKind::Tag => (format!("refs/tags/{name}"), format!("tag:{name}")),
        };
        refs.push((full, published));
    }
    Ok(refs)
}
