//! Installing and updating packages of Gentoo.
//!
//! What would be done is asked first, so that what cannot be done ends the update before anything of the host was
//! changed. Nothing takes packages back one by one: what can go back is a snapshot of the root that holds them. Where the
//! target is none, one is taken before anything is merged, and where that is not possible, it is said each time.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::path::Shown;

use super::snapshot::{Source, Wanted, Without, stays};
use super::step::{BuiltIn, ShownTo, Step};
use super::{Stage, shown};
use crate::config::{AbsolutePath, Keep};
use crate::output::{Output, count};

/// The protected directory of a host that names none.
const PROTECTED: &str = "etc";
/// How many pending files are named.
const NAMED: usize = 20;
/// How deep and how far it is looked for them.
const DEPTH_MAX: usize = 32;
const ENTRIES_MAX: usize = 500_000;

/// What `emerge` is to do, as it is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Emerge {
    /// Sets, such as `@world`.
    #[serde(default)]
    pub sets: Vec<String>,
    /// Packages, such as `app-editors/vim`.
    #[serde(default)]
    pub atoms: Vec<String>,
    /// Whether binary packages are taken where there are some.
    #[serde(default)]
    pub getbinpkg: bool,
    /// Further options, such as `--update`.
    #[serde(default)]
    pub options: Vec<String>,
    /// The root that is worked on, if not that of the host.
    pub root: Option<AbsolutePath>,
    /// Directories below the root in which configuration is not overwritten: those of `CONFIG_PROTECT`.
    #[serde(default)]
    pub protected: Vec<AbsolutePath>,
    /// Whether a snapshot of the root is taken before, and where it goes.
    pub snapshot: Option<Wanted>,
    /// How many snapshots are kept.
    pub keep: Option<Keep>,
}

/// How the root could be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// With the target.
    GoesBack,
    /// By a snapshot that somebody boots or mounts.
    Snapshots(Source),
    /// Not at all, and no snapshot is taken for this reason.
    Stays(String),
}

/// Looks for configuration that waits to be merged by a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    directories: Vec<PathBuf>,
}

impl Emerge {
    /// Why this cannot be done.
    pub(super) fn mistake(&self) -> Option<String> {
        if let Some(set) = self.sets.iter().find(|set| !is_set(set)) {
            return Some(format!("`{set}` is not the name of a set, such as @world"));
        }
        if let Some(atom) = self.atoms.iter().find(|atom| !is_atom(atom)) {
            return Some(format!("`{atom}` is not a package, such as app-editors/vim"));
        }
        if let Some(option) = self.options.iter().find(|option| option.is_empty() || has_controls(option)) {
            return Some(format!("`{option}` is not an option of emerge"));
        }
        let is_nothing = self.sets.is_empty() && self.atoms.is_empty();
        is_nothing.then(|| "`emerge` names no set and no package".to_owned())
    }

    /// What it is called.
    pub(super) fn title(&self) -> String {
        let what: Vec<&str> = self.sets.iter().chain(&self.atoms).map(String::as_str).collect();
        format!("emerge {}", what.join(" "))
    }

    /// Looks how the root could be taken back. One that lies in `goes_back` goes with the target.
    pub(super) fn look(&self, goes_back: Option<&Path>, notes: &Path) -> Found {
        let root = self.root();
        if goes_back.is_some_and(|directory| root.starts_with(directory)) {
            return Found::GoesBack;
        }
        match Source::find(root, self.snapshot.as_ref(), notes) {
            Ok(source) => Found::Snapshots(source),
            Err(reason) => Found::Stays(reason),
        }
    }

    /// What is done at a stage.
    pub(super) fn steps(&self, stage: Stage, found: &Found, manifest: Option<ManifestId>) -> Vec<Step> {
        let root = shown(self.root());
        let tell = |source: &Source, without| {
            Step::built_in("packages stay", BuiltIn::Tell(source.clone().tell(without)))
        };
        match (stage, found) {
            (Stage::Update, found) => {
                let mut steps = Vec::new();
                if let Found::Stays(reason) = found {
                    let text = format!(
                        "nothing here takes back what emerge does below {root}, and no snapshot is taken: {reason}; \
                         only another boot entry or a backup can go back"
                    );
                    steps.push(Step::built_in("packages cannot be taken back", BuiltIn::Warn(text)));
                }
                if let Found::Snapshots(source) = found {
                    let begin = BuiltIn::Begin(source.clone().begin());
                    steps.push(Step::built_in("beginning without a snapshot", begin));
                }
                steps.push(self.emerge(true));
                if let Found::Snapshots(source) = found {
                    // What cannot be merged needs none.
                    let take = BuiltIn::Snapshot(source.clone().take(manifest));
                    steps.push(Step::built_in("taking a snapshot", take));
                }
                steps.extend([self.emerge(false), self.look_for_configuration()]);
                steps
            }
            (Stage::Confirmed, Found::Snapshots(source)) => {
                let thin = BuiltIn::Thin(source.clone().thin(self.keep));
                vec![Step::built_in("removing older snapshots", thin)]
            }
            (Stage::Rollback | Stage::Undone, Found::Snapshots(source)) => {
                vec![tell(source, Without::Unchanged)]
            }
            (Stage::Chosen, Found::Snapshots(source)) => {
                vec![tell(source, Without::AsConfirmed)]
            }
            (Stage::Rollback | Stage::Undone | Stage::Chosen, Found::Stays(_)) => {
                vec![Step::built_in("packages stay", BuiltIn::Warn(stays(&root)))]
            }
            (Stage::Confirmed, Found::Stays(_)) | (_, Found::GoesBack) => Vec::new(),
        }
    }

    fn root(&self) -> &Path {
        self.root.as_ref().map_or(Path::new("/"), |root| &root.0)
    }

    fn emerge(&self, pretends: bool) -> Step {
        let mut words = vec!["emerge".to_owned()];
        words.extend(self.options.iter().cloned());
        words.extend(self.getbinpkg.then(|| "--getbinpkg".to_owned()));
        // Behind what is configured, so that it never waits for an answer.
        words.extend(["--ask=n", "--color=n", "--nospinner"].map(ToOwned::to_owned));
        if pretends {
            words.extend(["--pretend", "--verbose"].map(ToOwned::to_owned));
        }
        words.extend(self.sets.iter().chain(&self.atoms).cloned());
        let title = if pretends { format!("{} (pretending)", self.title()) } else { self.title() };
        let step = Step::run(title, words).with(|line| {
            if let Some(root) = &self.root {
                let mut option = OsString::from("--root=");
                option.push(&root.0);
                line.words.insert(1, option);
            }
        });
        if pretends { step.with(|line| line.shown = ShownTo::All) } else { step }
    }

    fn look_for_configuration(&self) -> Step {
        let root = self.root();
        let below = |directory: &Path| root.join(directory.strip_prefix("/").unwrap_or(directory));
        let directories = if self.protected.is_empty() {
            vec![root.join(PROTECTED)]
        } else {
            self.protected.iter().map(|directory| below(&directory.0)).collect()
        };
        Step::built_in("looking for configuration to be merged", BuiltIn::Report(Pending { directories }))
    }
}

impl Pending {
    /// Names the files that wait. It fails nothing: somebody has to look at them anyway.
    pub(super) fn report(&self, output: &Output) {
        let mut found = Vec::new();
        let mut left = ENTRIES_MAX;
        for directory in &self.directories {
            look_below(directory, DEPTH_MAX, &mut left, &mut found);
        }
        if found.is_empty() {
            return;
        }
        found.sort();
        for path in found.iter().take(NAMED) {
            output.warning(&format!("to be merged: {}", Shown(path.as_os_str().as_bytes())));
        }
        let files = count(found.len() as u64, "file of configuration waits", "files of configuration wait");
        output.warning(&format!("{files} to be merged; dispatch-conf shows what differs and merges"));
    }

    pub(super) fn shown(&self) -> String {
        let directories = self.directories.iter();
        let names: Vec<String> =
            directories.map(|directory| Shown(directory.as_os_str().as_bytes()).to_string()).collect();
        names.join(" and ")
    }
}

fn look_below(directory: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) {
    // What cannot be read holds nothing that this run could have protected.
    for entry in fs::read_dir(directory).into_iter().flatten().map_while(Result::ok) {
        if *left == 0 {
            return;
        }
        *left -= 1;
        // Of the entry itself: a link is not followed out of what is protected.
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && depth > 0 {
            look_below(&entry.path(), depth - 1, left, found);
        } else if !is_directory && is_pending(entry.file_name().as_bytes()) {
            found.push(entry.path());
        }
    }
}

/// `._cfg0000_NAME`, as Portage names what it did not overwrite.
fn is_pending(name: &[u8]) -> bool {
    name.strip_prefix(b"._cfg")
        .is_some_and(|rest| rest.len() > 5 && rest[..4].iter().all(u8::is_ascii_digit) && rest[4] == b'_')
}

fn has_controls(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// The name of a set, such as `@world`.
pub(super) fn is_set(text: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "_+-./@".contains(letter);
    text.strip_prefix('@')
        .is_some_and(|name| !name.is_empty() && name.len() <= 200 && name.chars().all(is_letter))
}

/// What Portage takes for a package: an operator, a category, a name and a version, a slot, a repository, USE flags.
pub(super) fn is_atom(text: &str) -> bool {
    let bare = text.trim_start_matches(['!', '~', '=', '<', '>']);
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "+_-./*~:=[],?!()@".contains(letter);
    let starts = bare.starts_with(|letter: char| letter.is_ascii_alphanumeric() || "_*".contains(letter));
    let has_category = bare.matches('/').count() >= 1;
    starts && has_category && text.len() <= 512 && bare.chars().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::super::tests::shown as shown_steps;
    use super::*;

    fn world() -> Emerge {
        Emerge {
            sets: vec!["@world".into()],
            atoms: vec!["app-editors/vim".into()],
            getbinpkg: true,
            options: vec!["--update".into(), "--deep".into()],
            root: Some(AbsolutePath("/mnt/x".into())),
            protected: Vec::new(),
            ..Emerge::default()
        }
    }

    fn all(emerge: &Emerge, found: &Found) -> String {
        let stages = [Stage::Update, Stage::Confirmed, Stage::Rollback, Stage::Chosen];
        let steps = |stage| shown_steps(&emerge.steps(stage, found, None));
        stages.map(|stage| format!("{stage:?}:\n{}\n", steps(stage))).concat()
    }

    #[test]
    fn it_pretends_before_it_does() {
        assert_eq!(world().look(Some(Path::new("/mnt")), Path::new("/notes")), Found::GoesBack);
        insta::assert_snapshot!(all(&world(), &Found::GoesBack));
    }

    #[test]
    fn what_nothing_takes_back_is_said() {
        let emerge = Emerge { root: None, protected: vec![AbsolutePath("/opt/conf".into())], ..world() };
        insta::assert_snapshot!(all(&emerge, &Found::Stays("none is wanted".into())));
    }

    #[test]
    fn a_snapshot_comes_between_what_would_be_done_and_doing_it() {
        let source = Source::of_subvolume("/mnt/x", "/mnt/.smart-sync-snapshots");
        insta::assert_snapshot!(all(&world(), &Found::Snapshots(source)));
    }

    #[test]
    fn a_snapshot_is_configured_by_its_directory_or_not_at_all() {
        let wanted = |text: &str| toml::from_str::<Emerge>(text).map(|emerge| emerge.snapshot.unwrap());
        assert_eq!(wanted("snapshot = false").unwrap(), Wanted::Whether(false));
        assert_eq!(wanted("snapshot = '/s'").unwrap(), Wanted::Into(AbsolutePath("/s".into())));
        let error = wanted("snapshot = 3").unwrap_err().to_string();
        assert!(error.contains("or the directory that snapshots go into"), "{error}");
        assert!(wanted("snapshot = 'relative'").is_err());
        assert!(toml::from_str::<Emerge>("keep = 0").is_err());
    }

    #[test]
    fn what_portage_would_not_take_is_refused() {
        for atom in
            ["app-editors/vim", ">=dev-lang/rust-1.90:stable/1.90[clippy,-doc]", "!=a/b-1", "*/*::gentoo"]
        {
            assert!(is_atom(atom), "{atom}");
        }
        for atom in ["", "vim", "--config-root=/a/b", "a/b c", "a/b;rm", "/a/b", "a/`b`", "a/b\n"] {
            assert!(!is_atom(atom), "{atom}");
        }
        assert!(is_set("@smart-sync") && !is_set("world") && !is_set("@") && !is_set("@a b"));
        let mistake = |emerge: Emerge| emerge.mistake().unwrap_or_default();
        assert_eq!(mistake(world()), "");
        assert_eq!(mistake(Emerge::default()), "`emerge` names no set and no package");
        let option = Emerge { options: vec![String::new()], ..world() };
        assert_eq!(mistake(option), "`` is not an option of emerge");
    }

    #[test]
    fn pending_configuration_is_found_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        write("etc/ssh/._cfg0000_sshd_config");
        write("etc/._cfg000_a");
        write("etc/._cfg0000_");
        write("elsewhere/._cfg0001_b");
        std::os::unix::fs::symlink("../elsewhere", root.path().join("etc/link")).unwrap();
        let (mut found, mut left) = (Vec::new(), ENTRIES_MAX);
        look_below(&root.path().join("etc"), DEPTH_MAX, &mut left, &mut found);
        assert_eq!(found, [root.path().join("etc/ssh/._cfg0000_sshd_config")]);
    }
}
