//! What a profile may do on this host: where it may place targets, and what of its words counts.
//!
//! A profile is signed by whoever publishes it, and the host belongs to whoever configures it. So a profile brings trees
//! into the directories that the host has named for it and nothing else; commands, checks and what a target takes only
//! when told to are left out where the host does not allow them, and that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::name::Channel;

use super::config::{ProfileAllowed, ProfileName};
use super::merge::{Given, Section, Source};
use crate::after::confirmation::Confirmation;
use crate::config::{Allowed, Config, TargetConfig, TargetKind};
use crate::failure::{Exit, Failure};

/// What a host lets a profile do.
#[derive(Debug)]
pub struct Rules<'a> {
    profile: &'a Channel,
    allow: &'a [ProfileAllowed],
    under: Vec<PathBuf>,
    /// The host's own targets, and whether each is an overlay.
    own: Vec<(&'a Path, bool)>,
    state_dir: &'a Path,
}

/// A target as it is followed on this host.
#[derive(Debug, PartialEq, Eq)]
pub struct Permitted {
    /// The directory, without links.
    pub directory: PathBuf,
    /// The same as it is written.
    pub named: PathBuf,
    /// What holds for it.
    pub config: TargetConfig,
    /// What the profile says of it, whether or not that counts.
    pub said: String,
    /// What of that does not count.
    pub left_out: Vec<String>,
}

impl Permitted {
    /// Whether it is a tree that lies over directories of others, in which other targets may lie.
    pub fn is_overlay(&self) -> bool {
        is_overlay(&self.config)
    }
}

fn is_overlay(config: &TargetConfig) -> bool {
    config.kind == Some(TargetKind::Overlay)
}

/// What several say of who confirms a version may make no sense together.
fn check_confirmation(target: &Permitted) -> Result<(), Failure> {
    let TargetConfig { confirm, confirm_within, .. } = &target.config;
    Confirmation::of(*confirm, *confirm_within).map(drop).map_err(|mistake| {
        Failure::message(Exit::Configuration, format!("the target {}: {mistake}", shown(&target.directory)))
    })
}

impl<'a> Rules<'a> {
    /// What the configuration and the command line say of a profile.
    pub fn new(profile: &'a Channel, typed: &[PathBuf], config: &'a Config, state_dir: &'a Path) -> Self {
        let own = config.profiles.get(&ProfileName(profile.clone()));
        let under = own.map_or(&[][..], |own| &own.under);
        Self {
            profile,
            allow: own.map_or(&[], |own| &own.allow),
            under: under.iter().map(|path| path.0.clone()).chain(typed.iter().cloned()).collect(),
            own: config.targets.iter().map(|(path, own)| (&*path.0, is_overlay(own))).collect(),
            state_dir,
        }
    }

    /// Decides what is followed of what was merged.
    pub fn permit(&self, merged: &[Section]) -> Result<Vec<Permitted>, Failure> {
        let directories = merged.iter().map(|section| resolved(&section.directory));
        let directories = directories.collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = directories.iter().find(|directory| directory.to_str().is_none()) {
            let text = format!("the path of the target {} is not UTF-8", shown(other));
            return Err(Failure::message(Exit::Configuration, text));
        }
        let permitted =
            merged.iter().zip(directories).map(|(section, directory)| self.target(section, directory));
        let permitted: Vec<Permitted> = permitted.collect::<Result<_, _>>()?;
        self.check_places(&permitted)?;
        permitted.iter().try_for_each(check_confirmation)?;
        Ok(permitted)
    }

    fn check_places(&self, permitted: &[Permitted]) -> Result<(), Failure> {
        let state_dir = fs::canonicalize(self.state_dir)?;
        let under: Vec<PathBuf> = self.under.iter().filter_map(|path| path.canonicalize().ok()).collect();
        let own = self.own.iter().filter_map(|(path, is_overlay)| Some((resolved(path).ok()?, *is_overlay)));
        let own: BTreeMap<PathBuf, bool> = own.collect();
        for target in permitted {
            check_place(target, &under, &own, &state_dir)
                .map_err(|refusal| self.refused(&target.directory, &refusal))?;
        }
        // What a profile says of a target of the host was brought together with what that says.
        let mut all = own;
        all.extend(permitted.iter().map(|target| (target.directory.clone(), target.is_overlay())));
        if let Some((outer, inner)) = overlap(&all) {
            return Err(Failure::message(
                Exit::Configuration,
                format!("the target {} lies in the target {}", shown(inner), shown(outer)),
            )
            .hint("nothing was changed; the profile or the configuration has to name another directory"));
        }
        let different: BTreeSet<&PathBuf> = permitted.iter().map(|target| &target.directory).collect();
        if different.len() < permitted.len() {
            let text = format!("two targets of {} are one directory, by way of a link", self.profile);
            return Err(Failure::message(Exit::Configuration, text));
        }
        Ok(())
    }

    fn refused(&self, directory: &Path, refusal: &Refusal) -> Failure {
        let (profile, shown) = (self.profile, shown(directory));
        match refusal {
            Refusal::NotNamed => {
                let parent = directory.parent().unwrap_or(directory).display();
                Failure::message(
                    Exit::Configuration,
                    format!("{profile} has a target {shown}, and the configuration does not let it place one there"),
                )
                .hint(format!(
                    "if it is to be there, add to the configuration: [profiles.\"{profile}\"] under = [\"{parent}\"]; or, for this run, --under {parent}"
                ))
            }
            Refusal::State => Failure::message(
                Exit::Configuration,
                format!("{profile} has a target {shown}, and the state of smart-sync is kept there"),
            ),
        }
    }

    /// Decides what holds for one target, wherever it lies.
    pub(super) fn target(&self, section: &Section, directory: PathBuf) -> Result<Permitted, Failure> {
        let mut config = section.config().map_err(|error| Failure::new(Exit::Configuration, error))?;
        let is_said =
            |key: &str| section.keys.get(key).is_some_and(|given| given.from.source != Source::Host);
        let mut left_out = BTreeSet::new();
        if is_said("run") && !config.run.is_empty() && !self.allows(ProfileAllowed::Run) {
            config.run.clear();
            left_out.insert(ProfileAllowed::Run.name().to_owned());
        }
        if is_said("check") && !config.check.is_empty() && !self.allows(ProfileAllowed::Check) {
            config.check.clear();
            left_out.insert(ProfileAllowed::Check.name().to_owned());
        }
        if is_said("allow") {
            let allows = |allowed: &Allowed| self.allows(ProfileAllowed::for_target(*allowed));
            let (kept, left): (Vec<_>, Vec<_>) = config.allow.iter().partition(|allowed| allows(allowed));
            config.allow = kept;
            left_out.extend(left.into_iter().map(|left| ProfileAllowed::for_target(left).name().to_owned()));
        }
        let said = section.table(|from| from.source != Source::Host).to_string();
        let named = section.directory.clone();
        Ok(Permitted { directory, named, config, said, left_out: left_out.into_iter().collect() })
    }

    /// Whether all of a value counts.
    pub fn uses(&self, key: &str, given: &Given) -> bool {
        let lists = |what: &str| {
            given.value.as_array().is_some_and(|all| all.iter().any(|one| one.as_str() == Some(what)))
        };
        let asked_for = |allowed: ProfileAllowed| match allowed {
            ProfileAllowed::Run | ProfileAllowed::Check => key == allowed.name(),
            _ => key == "allow" && lists(allowed.name()),
        };
        given.from.source == Source::Host
            || ProfileAllowed::ALL.into_iter().all(|allowed| self.allows(allowed) || !asked_for(allowed))
    }

    fn allows(&self, what: ProfileAllowed) -> bool {
        self.allow.contains(&what)
    }
}

/// Why a directory cannot be a target of a profile.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The host names neither it nor one that it lies in.
    NotNamed,
    /// It is where this program keeps what it knows.
    State,
}

/// All paths are without links, so that where a name lies is where its bytes go.
fn check_place(
    target: &Permitted,
    under: &[PathBuf],
    own: &BTreeMap<PathBuf, bool>,
    state_dir: &Path,
) -> Result<(), Refusal> {
    let directory = &*target.directory;
    // An overlay places nothing in the state, which may lie below it.
    if directory.starts_with(state_dir) || (state_dir.starts_with(directory) && !target.is_overlay()) {
        return Err(Refusal::State);
    }
    let is_below = |outer: &PathBuf| directory.starts_with(outer) && directory != outer;
    if own.contains_key(directory) || under.iter().any(is_below) {
        return Ok(());
    }
    Err(Refusal::NotNamed)
}

/// Two directories of which one lies in the other, where that is not an overlay.
fn overlap(directories: &BTreeMap<PathBuf, bool>) -> Option<(&PathBuf, &PathBuf)> {
    directories.iter().filter(|(_, is_overlay)| !**is_overlay).find_map(|(outer, _)| {
        let lies_in = |inner: &&PathBuf| *inner != outer && inner.starts_with(outer);
        directories.keys().find(lies_in).map(|inner| (outer, inner))
    })
}

/// A path without links; only its last part may be missing.
fn resolved(directory: &Path) -> Result<PathBuf, Failure> {
    match directory.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => {
            return found
                .map_err(|error| Failure::from(error).context(format!("opening {}", shown(directory))));
        }
    }
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Ok(directory.to_owned());
    };
    let parent = parent.canonicalize().map_err(|error| {
        Failure::from(error)
            .context(format!("looking for a place for the target {}", shown(directory)))
            .hint("make the directories above it first")
    })?;
    Ok(parent.join(name))
}

fn shown(path: &Path) -> String {
    Shown(path.as_os_str().as_encoded_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::document::Document;
    use crate::profile::merge::{Layer, merge};

    /// A host with the directories `srv/inner`, `etc` and `state`, and what it says of the profile.
    struct Host {
        root: tempfile::TempDir,
        config: String,
        typed: Vec<PathBuf>,
    }

    impl Host {
        fn new(config: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            for name in ["srv/inner", "etc", "state"] {
                fs::create_dir_all(root.path().join(name)).unwrap();
            }
            std::os::unix::fs::symlink("../etc", root.path().join("srv/link")).unwrap();
            Self { root, config: config.to_owned(), typed: Vec::new() }
        }

        fn text(&self, text: &str) -> String {
            text.replace("ROOT", self.root.path().canonicalize().unwrap().to_str().unwrap())
        }

        fn permit(&self, document: &str) -> Result<Vec<Permitted>, Failure> {
            let document = Document::parse("profiles/x", self.text(document).as_bytes()).unwrap();
            let config = self.text(&self.config);
            let config = Config::parse(Path::new("config.toml"), &config).unwrap();
            let merged = merge([&document.layer], &Layer::of_host(&self.text(&self.config)));
            let (profile, state_dir) = ("profiles/x".parse().unwrap(), self.root.path().join("state"));
            Rules::new(&profile, &self.typed, &config, &state_dir).permit(&merged)
        }

        #[track_caller]
        fn refuses(&self, document: &str, expected: &str) {
            let failure = self.permit(document).unwrap_err();
            assert_eq!(failure.exit(), Exit::Configuration);
            let message = failure.in_one_line();
            assert!(message.contains(&self.text(expected)), "{message}");
        }
    }

    const MAY: &str = "[profiles.\"profiles/x\"]\nunder = [\"ROOT/srv\"]\n";

    fn target(path: &str) -> String {
        format!("[targets.\"ROOT/{path}\"]\nchannel = \"repos/a\"\n")
    }

    #[test]
    fn targets_lie_where_the_host_says() {
        Host::new("").refuses(&target("srv/a"), "does not let it place one there");
        let host = Host::new(MAY);
        let found = host.permit(&(target("srv/a") + &target("srv/inner/b"))).unwrap();
        assert_eq!(found[0].directory.to_str(), Some(&*host.text("ROOT/srv/a")));
        assert_eq!(found[1].directory.to_str(), Some(&*host.text("ROOT/srv/inner/b")));
        // Not that directory itself, nothing beside it, and nothing that a link makes look as if it lay below.
        host.refuses(&target("srv"), "does not let it");
        host.refuses(&target("etc/a"), "does not let it");
        host.refuses(&target("srv/link/a"), "a target ROOT/etc/a");
        host.refuses(&target("srv/link"), "a target ROOT/etc");
        assert!(
            host.permit(&target("srv/missing/a")).unwrap_err().hints()[0].contains("make the directories")
        );
        // What the command line names, and what the host follows anyway.
        let typed = Host { typed: vec![host.root.path().join("etc")], ..Host::new("") };
        typed.refuses(&target("etc/a"), "does not let it");
        let mut typed = Host::new("");
        typed.typed = vec![typed.root.path().join("etc")];
        typed.permit(&target("etc/a")).unwrap();
        Host::new("[targets.\"ROOT/etc\"]\n").permit(&target("etc")).unwrap();
    }

    #[test]
    fn targets_do_not_overlap_with_each_other_with_those_of_the_host_or_with_the_state() {
        let host = Host::new(MAY);
        host.refuses(&(target("srv/inner") + &target("srv/inner/b")), "srv/inner/b lies in the target");
        let host = Host::new(&format!("{MAY}[targets.\"ROOT/srv/inner/own\"]\n"));
        host.refuses(&target("srv/inner"), "srv/inner/own lies in the target ROOT/srv/inner");
        let host = Host::new("[profiles.\"profiles/x\"]\nunder = [\"ROOT\", \"/\"]\n");
        host.refuses(&target("state"), "the state of smart-sync is kept there");
        host.refuses(&target("state/targets"), "the state of smart-sync is kept there");
        host.refuses(&(target("srv/link") + &target("etc")), "are one directory, by way of a link");
    }

    #[test]
    fn only_an_overlay_lies_around_others_and_it_is_where_the_host_says() {
        let overlay = |path: &str| target(path) + "kind = \"overlay\"\n";
        let host = Host::new(MAY);
        host.permit(&(overlay("srv/inner") + &target("srv/inner/b"))).unwrap();
        host.permit(&(overlay("srv/inner") + &overlay("srv/inner/b"))).unwrap();
        host.refuses(&(target("srv/inner") + &overlay("srv/inner/b")), "srv/inner/b lies in the target");
        host.refuses(&overlay("srv"), "does not let it");
        host.refuses(&overlay("etc"), "does not let it");
        // One of the host, whatever the profile says of it.
        let of_host =
            |kind: &str| Host::new(&format!("{MAY}[targets.\"ROOT/srv/inner\"]\nkind = \"{kind}\"\n"));
        of_host("overlay").permit(&(target("srv/inner") + &target("srv/inner/b"))).unwrap();
        of_host("generations")
            .refuses(&(overlay("srv/inner") + &target("srv/inner/b")), "lies in the target");
        // The state may lie in one, and none in the state.
        let host = Host::new(
            "[profiles.\"profiles/x\"]\nunder = [\"ROOT\"]\n[targets.\"ROOT\"]\nkind = \"overlay\"\n",
        );
        host.permit("[targets.\"ROOT\"]\nchannel = \"repos/a\"\n").unwrap();
        host.refuses(&overlay("state/inner"), "the state of smart-sync is kept there");
    }

    #[test]
    fn what_several_say_of_confirming_has_to_make_sense_together() {
        let document = target("srv/a") + "confirm-within = \"5m\"\n";
        Host::new(MAY).refuses(&document, "srv/a: `confirm-within` says how long a person has");
        let host = Host::new(&format!("{MAY}[targets.\"ROOT/srv/a\"]\nconfirm = \"person\"\n"));
        host.permit(&document).unwrap();
    }

    #[test]
    fn commands_and_risks_count_where_the_host_allows_them() {
        let document = target("srv/a")
            + "allow = [\"set-id\", \"devices\"]\n[[targets.\"ROOT/srv/a\".run]]\ncommand = [\"x\"]\n[[targets.\"ROOT/srv/a\".check]]\ntcp = \"a:1\"\n";
        let found = &Host::new(MAY).permit(&document).unwrap()[0];
        assert!(
            found.config.run.is_empty() && found.config.check.is_empty() && found.config.allow.is_empty()
        );
        assert_eq!(found.left_out, ["check", "devices", "run", "set-id"]);
        let host = Host::new(&format!("{MAY}allow = [\"run\", \"set-id\"]\n"));
        let found = &host.permit(&document).unwrap()[0];
        assert_eq!((found.config.run.len(), &*found.config.allow), (1, &[Allowed::SetId][..]));
        assert_eq!(found.left_out, ["check", "devices"]);
        // What the host says itself of the target is its own affair.
        let own = "[targets.\"ROOT/srv/a\"]\n[[targets.\"ROOT/srv/a\".run]]\ncommand = [\"own\"]\n";
        let found = &Host::new(own).permit(&document).unwrap()[0];
        assert_eq!(found.config.run[0].title(), "own");
        assert_eq!(found.left_out, ["check", "devices", "set-id"]);
        assert!(!found.said.contains("own"), "{}", found.said);
    }
}
