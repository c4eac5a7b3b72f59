//! `rebuild`: what runs after an update, for the tree that is there.

use crate::after::trigger::After;
use crate::after::trigger::nixos::Override;
use crate::after::{self, Settled};
use crate::args::rebuild::RebuildArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::profile;
use crate::settings::{self, Validation};
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::Session;

/// Runs all triggers of a target for the tree that it holds, and looks whether all is well then.
pub fn run(args: &RebuildArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let (target, policy) = settings::target(args.target.as_deref(), config)?;
    let by = chosen(args, &policy.after)?;
    let nothing = || {
        Failure::message(Exit::General, format!("nothing was applied to {} yet", target.display()))
            .hint("`smart-sync` syncs it, and rebuilds after that")
    };
    let place = Place::known(&target, surroundings.state_dir).ok_or_else(nothing)?;
    let session = Session::begin(&place, &policy, Validation::TrustStat, surroundings.output)?;
    // What is noted of a set is not in the state of this target, and what runs for it would be taken for what ran before.
    if let Some(exit) = profile::between::waits(&place, surroundings.output)? {
        return Ok(exit);
    }
    let session = match after::settle(session, &policy.after, surroundings)? {
        Settled::Nothing(session) | Settled::Confirmed(session) => *session,
        Settled::Undone(exit) | Settled::Waits(exit) => return Ok(exit),
    };
    if session.applied.is_none() {
        return Err(nothing());
    }
    after::rebuild(session, &policy.after, &by, surroundings)
}

/// What the command line says of what is configured to run.
fn chosen(args: &RebuildArgs, configured: &After) -> Result<Override, Failure> {
    let RebuildArgs { action, target: _, flake, host, show_trace, impure } = args.clone();
    let by = Override { action, flake, host, show_trace, impure };
    if configured.run.is_empty() {
        return Err(Failure::message(Exit::Arguments, "nothing is configured to run for this target")
            .hint("add a table [[targets.\"/DIR\".run]] to the configuration"));
    }
    let is_system = configured.run.iter().any(|trigger| trigger.nixos.is_some());
    if by != Override::default() && !is_system {
        return Err(Failure::message(
            Exit::Arguments,
            "this target rebuilds no NixOS system, which is what an action and its options are about",
        )
        .hint(
            "`smart-sync rebuild` runs what is configured; `nixos = {…}` in a table `run` rebuilds a system",
        ));
    }
    match configured.with_nixos(&by).mistake() {
        None => Ok(by),
        Some(mistake) => Err(Failure::message(Exit::Arguments, mistake)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::after::trigger::Trigger;
    use crate::after::trigger::nixos::Action;

    #[test]
    fn the_command_line_goes_before_the_configuration() {
        let trigger = |text: &str| -> Trigger { toml::from_str(text).unwrap() };
        let after = |text: &str| After { run: vec![trigger(text)], ..After::default() };
        let system = after("nixos = { action = 'boot', host = 'a', impure = true }");
        let test = RebuildArgs { action: Some(Action::Test), ..RebuildArgs::default() };
        let by = chosen(&test, &system).unwrap();
        let nixos = system.with_nixos(&by).run.remove(0).nixos.unwrap();
        assert_eq!((nixos.action, nixos.host.as_deref(), nixos.impure), (Action::Test, Some("a"), true));
        let options = RebuildArgs { flake: Some("github:o/r#x".into()), ..RebuildArgs::default() };
        assert_eq!(chosen(&options, &system).unwrap_err().exit(), Exit::Arguments);
        let other = after("command = ['true']");
        chosen(&RebuildArgs::default(), &other).unwrap();
        assert_eq!(chosen(&test, &other).unwrap_err().exit(), Exit::Arguments);
        assert_eq!(chosen(&test, &After::default()).unwrap_err().exit(), Exit::Arguments);
    }
}
