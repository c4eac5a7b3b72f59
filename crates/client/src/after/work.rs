//! Running the commands and checks of a target, and what they are told.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::versions::{CURRENT, Kind};

use super::process;
use super::server;
use super::trigger::{After, Changed, Stage};
use crate::failure::Failure;
use crate::sync::Surroundings;
use crate::sync::place::Label;
use crate::sync::session::Session;

/// Lines of a failed command that are shown.
const LINES: usize = 20;

/// Commands and checks, and what they are told.
pub(crate) struct Work<'a> {
    surroundings: &'a Surroundings<'a>,
    changed: Changed<'a>,
    stage: Stage,
    variables: Vec<(&'static str, String)>,
    label: Option<Label>,
    tree: PathBuf,
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
        let tree = match place.kind {
            Kind::Generations => place.target.join(CURRENT),
            _ => place.target.clone(),
        };
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
        Ok(Self { surroundings, changed, stage, variables, label, tree, list })
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(&self.tree);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        // A token is for this program alone.
        command.env_remove("SMART_SYNC_TOKEN");
    }

    /// Runs the commands for what changed; returns why one of them did not do what it was to do.
    pub(crate) fn run(&self, after: &After) -> Result<(), String> {
        let output = self.surroundings.output;
        for trigger in after.chosen(self.changed, self.stage) {
            let title = Shown(trigger.title().as_bytes()).to_string();
            output.info(&format!("running {title}"));
            let mut command = Command::new(&trigger.command[0]);
            command.args(&trigger.command[1..]);
            self.prepare(&mut command);
            let timeout = trigger.timeout();
            let ran = process::run(&mut command, timeout, self.surroundings.interrupt)
                .map_err(|error| format!("{title} cannot be started: {error}"))?;
            if ran.left > 0 {
                output.warning(&format!(
                    "{title} had left {} running, which were ended; start services with the service manager",
                    crate::output::count(ran.left as u64, "process", "processes")
                ));
            }
            let lines = ran.last_lines(if ran.is_success() { usize::MAX } else { LINES });
            for line in lines {
                let line = format!("{title}: {}", Shown(line.as_bytes()));
                if ran.is_success() { output.detail(&line) } else { output.warning(&line) }
            }
            if !ran.is_success() {
                return Err(format!("{title} {}", ran.how(timeout)));
            }
        }
        Ok(())
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

impl Drop for Work<'_> {
    fn drop(&mut self) {
        // One that stays is overwritten by the next.
        let _ = fs::remove_file(&self.list);
    }
}
