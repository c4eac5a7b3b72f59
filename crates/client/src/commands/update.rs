//! `update`: validate, sync and rebuild in one.
//!
//! Each part is the one that the other commands are: this only puts them in their order, and stops before anything is
//! changed when the host is not fit for it.

use crate::args::validate::UpdateArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::question;
use crate::settings;
use crate::sync::{self, Surroundings};
use crate::token::Tokens;
use crate::validate::{self, Depth, Trees};

/// Runs the command.
pub fn run(args: &UpdateArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let settings = settings::update(args, config, &Tokens::of_servers()?)?;
    if !args.check_only && !args.skip_validation {
        let report = validate::all(Depth::Full, Some(&settings.target), Trees::AreReplaced, surroundings)?;
        if let Err(failure) = report.say_and_advise(surroundings.output) {
            go_on(args, failure, surroundings)?;
        }
    }
    sync::run(&settings, surroundings)
}

/// Whether to go on although a check has failed: as it was typed, else as a person says.
fn go_on(args: &UpdateArgs, failure: Failure, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let output = surroundings.output;
    if args.yes {
        output.warning("going on although the host is not as it should be");
        return Ok(());
    }
    let failure =
        failure.hint("nothing was changed; --yes goes on all the same, and --skip-validation does not look");
    if args.no {
        return Err(failure);
    }
    match question::ask("The host is not as it should be. Go on with the update?", surroundings)? {
        Some(true) => Ok(()),
        Some(false) | None => Err(failure),
    }
}
