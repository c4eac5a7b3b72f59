//! Running the triggers and checks of a target, and what they are told.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::versions::{CURRENT, Kind};

use super::begun;
use super::process;
use super::server;
use super::trigger::step::{Act, CommandLine, ShownTo, Step};
use super::trigger::{After, Changed, Purpose, Scene, Stage, Trigger};
use crate::failure::Failure;
use crate::state_dir::make_private;
use crate::sync::Surroundings;
use crate::sync::place::{Label, Place};
use crate::sync::session::Session;

/// Lines of a failed command that are shown.
const LINES: usize = 20;

/// Triggers and checks, and what they are told.
pub(crate) struct Work<'a> {
    surroundings: &'a Surroundings<'a>,
    changed: Changed<'a>,
    stage: Stage,
    variables: Vec<(&'static str, String)>,
    label: Option<Label>,
    tree: PathBuf,
    scene: Scene,
    /// The paths that changed, each with a NUL behind it; none where they are not known.
    list: PathBuf,
}

impl<'a> Work<'a> {
    pub(crate) fn new(
        session: &Session<'a>,
        changed: Changed<'a>,
        stage: Stage,
        surroundings: &'a Surroundings<'a>,
    ) -> Result<Self, Failure> {
        let place = session.place();
        let list = place.state.join("changed");
        let paths = if let Changed::Paths(paths) = changed { paths } else { &[] };
        fs::write(&list, paths.iter().flat_map(|path| [&**path, b"\0"]).collect::<Vec<_>>().concat())?;
        let (tree, scene) = (tree(place), scene(place, session.manifest(), Purpose::Doing));
        let label = session.applied.as_ref().and_then(Label::of);
        let manifest = session.manifest().map_or_else(String::new, |manifest| manifest.to_string());
        let mut variables = vec![
            ("SMART_SYNC_ACTION", stage.name().to_owned()),
            ("SMART_SYNC_TARGET", place.target.to_string_lossy().into_owned()),
            ("SMART_SYNC_TREE", tree.to_string_lossy().into_owned()),
            ("SMART_SYNC_MANIFEST", manifest),
            ("SMART_SYNC_CHANGED", list.to_string_lossy().into_owned()),
        ];
        if let Some(label) = &label {
            variables.extend([
                ("SMART_SYNC_CHANNEL", label.channel.clone()),
                ("SMART_SYNC_REF", label.r#ref.clone()),
                ("SMART_SYNC_COMMIT", label.commit.clone().unwrap_or_default()),
            ]);
        }
        Ok(Self { surroundings, changed, stage, variables, label, tree, scene, list })
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(&self.tree);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        // A token is for this program alone.
        command.env_remove("SMART_SYNC_TOKEN");
    }

    /// Runs the triggers for what changed; returns why one of them did not do what it was to do.
    pub(crate) fn run(&self, after: &After) -> Result<(), String> {
        after.chosen(self.changed, self.stage).into_iter().try_for_each(|trigger| {
            if matches!(self.stage, Stage::Update | Stage::Confirmed) {
                // What could not be noted might never be taken back.
                begun::note(&self.scene.state, trigger).map_err(|failure| failure.in_one_line())?;
            }
            self.pull(trigger)
        })
    }

    /// Runs one trigger.
    pub(super) fn pull(&self, trigger: &Trigger) -> Result<(), String> {
        for stage in trigger.stages(self.stage) {
            // What a stage does may depend on what the one before has left.
            for step in trigger.steps(*stage, &self.scene) {
                self.perform(&step, trigger.timeout())?;
            }
        }
        Ok(())
    }

    fn perform(&self, step: &Step, timeout: Duration) -> Result<(), String> {
        let output = self.surroundings.output;
        let title = Shown(step.title.as_bytes()).to_string();
        match &step.act {
            Act::Run(line) => {
                output.info(&format!("running {title}"));
                self.run_command(&title, line, timeout)
            }
            Act::BuiltIn(built_in) => {
                output.detail(&title);
                built_in.perform(output).map_err(|reason| format!("{title} failed: {reason}"))
            }
        }
    }

    fn run_command(&self, title: &str, line: &CommandLine, timeout: Duration) -> Result<(), String> {
        let output = self.surroundings.output;
        output.detail(&format!("the command line: {line}"));
        let mut command = Command::new(&line.words[0]);
        command.args(&line.words[1..]);
        if let Some(entry) = &line.grub_entry {
            command.arg(entry.find()?);
        }
        self.prepare(&mut command);
        command.envs(line.variables.iter().copied());
        if let Some(directory) = &line.directory {
            make_private(directory)
                .map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
            command.current_dir(directory);
        }
        let ran = process::run(&mut command, timeout, self.surroundings.interrupt)
            .map_err(|error| format!("{title} cannot be started: {error}"))?;
        if ran.left > 0 {
            output.warning(&format!(
                "{title} had left {} running, which were ended; start services with the service manager",
                crate::output::count(ran.left as u64, "process", "processes")
            ));
        }
        for text in ran.last_lines(if ran.is_success() { usize::MAX } else { LINES }) {
            let text = format!("{title}: {}", Shown(text.as_bytes()));
            match (ran.is_success(), line.shown) {
                (false, _) => output.warning(&text),
                (true, ShownTo::All) => output.info(&text),
                (true, ShownTo::Curious) => output.detail(&text),
            }
        }
        if ran.is_success() { Ok(()) } else { Err(format!("{title} {}", ran.how(timeout))) }
    }

    /// Looks whether all is well; returns why not.
    pub(crate) fn check(&self, after: &After) -> Result<(), String> {
        let Surroundings { runtime, interrupt, output, .. } = self.surroundings;
        for check in &after.check {
            let title = Shown(check.title().as_bytes()).to_string();
            output.detail(&format!("checking {title}"));
            check
                .run(
                    runtime,
                    interrupt,
                    |command| self.prepare(command),
                    |timeout| server::answers(self.label.as_ref(), timeout, self.surroundings),
                )
                .map_err(|reason| format!("the check {title} fails: {}", Shown(reason.as_bytes())))?;
        }
        Ok(())
    }
}

/// Where readers find the tree.
fn tree(place: &Place) -> PathBuf {
    match place.kind {
        Kind::Generations => place.target.join(CURRENT),
        _ => place.target.clone(),
    }
}

/// Where triggers of a target work. The directory of a version that is not there yet has no name: it is shown as the
/// link that will lead there.
pub(super) fn scene(place: &Place, manifest: Option<ManifestId>, purpose: Purpose) -> Scene {
    let tree = tree(place);
    let resolved = tree.canonicalize().ok().filter(|_| purpose == Purpose::Doing);
    // A dataset of ZFS is changed in place, and what is not of the tree stays.
    let goes_back = (place.kind == Kind::Btrfs).then(|| place.target.clone());
    Scene { tree: resolved.unwrap_or(tree), state: place.state.clone(), manifest, goes_back, purpose }
}

/// Whether something that runs at a stage for these paths only counts after a reboot.
pub(crate) fn needs_reboot(place: &Place, after: &After, changed: Changed<'_>, stage: Stage) -> bool {
    let scene = scene(place, None, Purpose::Doing);
    after.chosen(changed, stage).into_iter().any(|trigger| trigger.needs_reboot(&scene))
}

/// What was placed for this start of the machine has to be what runs. Where it did not come up, what ran before does
/// again, and there all checks may be well.
pub(crate) fn came_up(place: &Place, after: &After, changed: Changed<'_>) -> Result<(), String> {
    let scene = scene(place, None, Purpose::Doing);
    let chosen = after.chosen(changed, Stage::Update);
    match chosen.into_iter().find(|trigger| trigger.did_not_come_up(&scene)) {
        None => Ok(()),
        Some(trigger) => {
            Err(format!("{}: the machine was started again, and runs something else", trigger.title()))
        }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        // One that stays is overwritten by the next.
        let _ = fs::remove_file(&self.list);
    }
}
