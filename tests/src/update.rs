//! An update with every kind of change in it, that goes wrong half-way, and what has to be true then.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::environment::TestEnvironment;
use crate::host::{Host, Saved};
use crate::noise::noise;
use crate::snapshot::Snapshot;

/// What the host had changed itself in a file that the update replaces.
const LOCAL: &str = "edited on the host\n";

/// The clock of the server signs once, at its start: what a host believes of it would change in the middle of a long test.
const CLOCK: &str = "clock-interval-seconds = 86400";

/// A host that is about to make an update with every kind of change in it.
#[derive(Debug)]
pub struct Update<'environment> {
    /// The host.
    pub host: Host<'environment>,
    before: Saved,
    old: Snapshot,
    old_trust: Vec<u8>,
    new: Snapshot,
    new_trust: Vec<u8>,
    state: BTreeSet<String>,
}

impl<'environment> Update<'environment> {
    /// The first sync of a new host.
    pub fn first(environment: &'environment TestEnvironment) -> Self {
        let host = Host::with_settings(environment, CLOCK);
        old_tree(&host);
        host.publish().success();
        Self::new(host)
    }

    /// From one version to the next, with a local change in between.
    pub fn next(environment: &'environment TestEnvironment) -> Self {
        let host = Host::with_settings(environment, CLOCK);
        old_tree(&host);
        host.publish().success();
        host.sync().success();
        // It would look as if it had been published, and be lost, if the size and the time were all that is seen.
        fs::write(host.target().join("replaced/edited"), LOCAL)
            .expect("the files of the test can be changed");
        // The update is published from elsewhere: this host's trust state does not know of it yet.
        let state = Saved::new(environment, "known", &[&environment.state_directory()]);
        change_tree(&host);
        host.publish().success();
        state.restore();
        Self::new(host)
    }

    fn new(host: Host<'environment>) -> Self {
        let environment = host.environment();
        let (target, state) = (host.target(), environment.state_directory());
        fs::create_dir_all(&target).expect("the files of the test can be changed");
        let before = Saved::new(environment, "before", &[&target, &state]);
        let (old, old_trust) = (Snapshot::of(&target), host.trust_state());
        host.sync().success();
        host.assert_synced();
        let (new, new_trust) = (Snapshot::of(&target), host.trust_state());
        let names = names_below(&state);
        before.restore();
        Self { host, before, old, old_trust, new, new_trust, state: names }
    }

    /// Makes target and state what they were before the update.
    pub fn restore(&self) {
        self.before.restore();
    }

    /// Fails the test unless target and trust are what they were before the update.
    #[track_caller]
    pub fn assert_unchanged(&self, what: &str) {
        let differences = without_stage(&self.host.target()).differences(&self.old);
        assert!(differences.is_empty(), "{what}: {differences:?}");
        assert!(self.is_trust_right(), "{what}");
    }

    /// Whether the trust state is that before the update, or that after it.
    fn is_trust_right(&self) -> bool {
        let trust = self.host.trust_state();
        trust == self.old_trust || trust == self.new_trust
    }

    /// Fails the test unless the next look at the target finds the old tree or the new one, and the next run makes it
    /// the new one and leaves nothing behind.
    #[track_caller]
    pub fn assert_recovers(&self, what: &str) {
        assert!(self.is_trust_right(), "{what}: the trust state is neither the old nor the new one");
        self.host.status().success();
        let found = without_stage(&self.host.target());
        if found != self.old {
            let differences = found.differences(&self.new);
            assert!(differences.is_empty(), "{what}: neither old nor new: {differences:?}");
        }
        let ended = self.host.sync().success();
        let differences = Snapshot::of(&self.host.target()).differences(&self.new);
        assert!(differences.is_empty(), "{what}: {differences:?}\n{}{}", ended.stdout, ended.stderr);
        assert_eq!(self.host.trust_state(), self.new_trust, "{what}");
        let names = names_below(&self.host.environment().state_directory());
        assert_eq!(names, self.state, "{what}: the state directory holds something else");
        if !self.old.nodes().is_empty() {
            assert_eq!(backed_up(&self.host), [LOCAL], "{what}");
        }
    }
}

fn old_tree(host: &Host<'_>) {
    let environment = host.environment();
    for name in
        ["kept", "replaced/one", "replaced/edited", "deleted/one", "deleted/deeper/two", "mode", "kind"]
    {
        environment.write(&format!("tree/{name}"), format!("{name}\n"));
    }
    // More than one piece of a pack: it comes as several writes.
    environment.write("tree/large", noise("large", 400_000));
    symlink("kept", host.tree().join("link")).expect("the files of the test can be changed");
}

fn change_tree(host: &Host<'_>) {
    let (environment, tree) = (host.environment(), host.tree());
    for name in ["replaced/one", "replaced/edited", "made/one", "made/deeper/two"] {
        environment.write(&format!("tree/{name}"), format!("{name} is new\n"));
    }
    environment.write("tree/large", noise("larger", 500_000));
    environment.write("tree/copy", "kept\n");
    fs::remove_dir_all(tree.join("deleted")).expect("the files of the test can be changed");
    fs::set_permissions(tree.join("mode"), fs::Permissions::from_mode(0o755))
        .expect("the files of the test can be changed");
    fs::remove_file(tree.join("link")).expect("the files of the test can be changed");
    symlink("made", tree.join("link")).expect("the files of the test can be changed");
    fs::remove_file(tree.join("kind")).expect("the files of the test can be changed");
    environment.write("tree/kind/file", "where a file was\n");
}

/// The tree without what the next run will use again.
fn without_stage(target: &Path) -> Snapshot {
    let (stage, parked) = (target.join(".smart-sync-stage"), target.with_extension("stage"));
    let is_there = fs::rename(&stage, &parked).is_ok();
    let snapshot = Snapshot::of(target);
    if is_there {
        fs::rename(&parked, &stage).expect("the files of the test can be changed");
    }
    snapshot
}

/// Every path below a directory, with the times in the names of backups left out.
fn names_below(directory: &Path) -> BTreeSet<String> {
    let is_stamp = |name: &str| name.len() > 15 && name.starts_with("20") && name.contains('T');
    let plain = |path: &PathBuf| {
        let names = path.iter().map(|name| name.to_string_lossy().into_owned());
        let names = names.map(|name| if is_stamp(&name) { "TIME".to_owned() } else { name });
        names.collect::<Vec<_>>().join("/")
    };
    Snapshot::of(directory).nodes().keys().map(plain).collect()
}

/// What is kept of the host's own changes to the edited file.
fn backed_up(host: &Host<'_>) -> Vec<String> {
    let state = host.environment().state_directory();
    let nodes = Snapshot::of(&state);
    let kept = nodes.nodes().keys().filter(|path| path.to_string_lossy().contains("/backups/"));
    let edited = kept.filter(|path| path.ends_with("replaced/edited"));
    edited
        .map(|path| fs::read_to_string(state.join(path)).expect("the files of the test can be changed"))
        .collect()
}
