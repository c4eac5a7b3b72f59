//! The command `smart-sync`: parse, run, exit.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use smart_sync::after::{confirm, way_back};
use smart_sync::args::profile::ProfileCommand;
use smart_sync::args::trust::RootCommand;
use smart_sync::args::versions::{ConfirmArgs, ListArgs, RecoverArgs, RollbackArgs};
use smart_sync::args::{Arguments, Command};
use smart_sync::commands::{
    diff, documents, kernel, key, ledger, log, packages, patched, publish, rebuild, root, tree, trust, update,
};
use smart_sync::config::Config;
use smart_sync::failure::{Exit, Failure};
use smart_sync::interrupt::Interrupt;
use smart_sync::output::{Format, Output, Verbosity};
use smart_sync::settings::TargetPolicy;
use smart_sync::sync::Surroundings;
use smart_sync::sync::look::Looked;
use smart_sync::token::Tokens;
use smart_sync::{CONFINED, WAY_BACK, hosts, profile, settings, state_dir, versions};
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::confined;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == CONFINED => return confined::serve(words),
        Some(word) if word == WAY_BACK => return way_back::serve(words),
        _ => {}
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error).into(),
    };
    let (format, verbosity) = match settings::voice(&arguments.global) {
        Ok(voice) => voice,
        Err(failure) => return fail(&Output::standard(Format::Text, Verbosity::Normal), &failure).into(),
    };
    let output = Output::standard(format, verbosity);
    run(&arguments, &output).unwrap_or_else(|failure| fail(&output, &failure)).into()
}

#[expect(clippy::too_many_lines, reason = "a few lines for each command")]
fn run(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    settings::check_placement(arguments)?;
    match &arguments.command {
        Some(Command::Completions(args)) => documents::completions(args, output),
        Some(Command::Man(args)) => documents::man(args, output),
        Some(Command::Status(args)) => {
            look(arguments, args.target.as_deref(), args.report, output, |target, policy, state_dir| {
                smart_sync::sync::look::status(target, policy, state_dir, output)
            })
        }
        Some(Command::Verify(args)) => {
            look(arguments, args.target.as_deref(), args.report, output, |target, policy, state_dir| {
                smart_sync::sync::look::verify(target, policy, args.full, state_dir, output)
            })
        }
        Some(Command::Generations(ListArgs { profile: Some(profile), .. })) => {
            let run = Run::prepare(arguments)?;
            profile::list(profile, &run.state_dir, output)
        }
        Some(Command::Rebuild(args)) => {
            with_network(arguments, output, |config, surroundings| rebuild::run(args, config, surroundings))
        }
        Some(Command::Generations(args)) => {
            on_target(arguments, args.target.as_deref(), |target, _, state_dir| {
                versions::list(target, state_dir, output)
            })
        }
        Some(Command::Rollback(args @ RollbackArgs { profile: Some(profile), .. })) => {
            with_network(arguments, output, |_, surroundings| profile::rollback(profile, args, surroundings))
        }
        Some(Command::Rollback(args)) => with_network(arguments, output, |config, surroundings| {
            let (target, policy) = settings::target(args.target.as_deref(), config)?;
            let ended = versions::rollback(&target, args, &policy, surroundings);
            if !args.dry_run {
                hosts::report::after(&target, &ended, surroundings);
            }
            ended
        }),
        Some(Command::Resume(ListArgs { profile: Some(profile), .. })) => {
            let run = Run::prepare(arguments)?;
            profile::resume(profile, &run.state_dir, output)
        }
        Some(Command::Resume(args)) => {
            on_target(arguments, args.target.as_deref(), |target, _, state_dir| {
                versions::resume(target, state_dir, output)
            })
        }
        Some(Command::Pin(args)) => on_target(arguments, args.target.as_deref(), |target, _, state_dir| {
            versions::pin(target, args.generation, true, state_dir, output)
        }),
        Some(Command::Unpin(args)) => on_target(arguments, args.target.as_deref(), |target, _, state_dir| {
            versions::pin(target, args.generation, false, state_dir, output)
        }),
        Some(Command::Prune(args)) => {
            on_target(arguments, args.target.as_deref(), |target, policy, state_dir| {
                let keep = args.keep.map(|keep| keep.0);
                versions::prune(target, policy, keep, args.yes, state_dir, output)
            })
        }
        Some(Command::Ledger(command)) => {
            let run = Run::prepare(arguments)?;
            ledger::run(command, &run.state_dir, output)
        }
        Some(Command::Recover(args)) => {
            with_network(arguments, output, |config, surroundings| recover(args, config, surroundings))
        }
        Some(Command::Confirm(args)) => {
            with_network(arguments, output, |config, surroundings| confirm(args, config, surroundings))
        }
        Some(Command::Trust(command)) => {
            with_network(arguments, output, |_, surroundings| trust::run(command, surroundings))
        }
        Some(Command::Root(RootCommand::Publish(args))) => {
            with_network(arguments, output, |config, surroundings| root::publish(args, config, surroundings))
        }
        Some(Command::Root(command)) => root::run(command, output),
        Some(Command::Key(command)) => key::run(command, output),
        Some(Command::Publish(args)) => {
            with_network(arguments, output, |config, surroundings| publish::run(args, config, surroundings))
        }
        Some(Command::Watch(args)) => with_network(arguments, output, |config, surroundings| {
            let settings = settings::watch(args, config, &Tokens::of_servers()?)?;
            smart_sync::watch::run(&settings, surroundings)
        }),
        Some(Command::Update(args)) => {
            with_network(arguments, output, |config, surroundings| update::run(args, config, surroundings))
        }
        Some(Command::Validate(args)) => {
            with_network(arguments, output, |_, surroundings| smart_sync::validate::run(args, surroundings))
        }
        Some(Command::Service(command)) => with_network(arguments, output, |_, surroundings| {
            smart_sync::service::run(command, &arguments.global, surroundings)
        }),
        Some(Command::Deploy(args)) => with_network(arguments, output, |config, surroundings| {
            hosts::deploy::run(&hosts::choose::deploy(args, config)?, surroundings)
        }),
        Some(Command::Hosts(args)) => with_network(arguments, output, |config, surroundings| {
            hosts::list::run(args, config, surroundings)
        }),
        Some(Command::Pull(args)) => with_network(arguments, output, |config, surroundings| {
            profile::pull(&profile::settings::pull(args, config, &Tokens::of_servers()?)?, surroundings)
        }),
        Some(Command::Profile(command)) => with_network(arguments, output, |config, surroundings| {
            let ProfileCommand::Show(args) = &**command;
            profile::show(&profile::settings::profile(args, config, &Tokens::of_servers()?)?, surroundings)
        }),
        Some(Command::Log(args)) => {
            with_network(arguments, output, |config, surroundings| log::run(args, config, surroundings))
        }
        Some(Command::Ls(args)) => {
            with_network(arguments, output, |config, surroundings| tree::ls(args, config, surroundings))
        }
        Some(Command::Cat(args)) => {
            with_network(arguments, output, |config, surroundings| tree::cat(args, config, surroundings))
        }
        Some(Command::Pkg(command)) => with_network(arguments, output, |config, surroundings| {
            packages::run(command, config, surroundings)
        }),
        Some(Command::Patched(args)) => {
            with_network(arguments, output, |config, surroundings| patched::run(args, config, surroundings))
        }
        Some(Command::Kernel(command)) => {
            with_network(arguments, output, |config, surroundings| kernel::run(command, config, surroundings))
        }
        Some(Command::Diff(args)) if args.generations => {
            on_target(arguments, args.target.as_deref(), |target, _, state_dir| {
                diff::of_generations(args, target, state_dir, output)
            })
        }
        Some(Command::Diff(args)) => {
            with_network(arguments, output, |config, surroundings| diff::run(args, config, surroundings))
        }
        None => with_network(arguments, output, |config, surroundings| {
            let settings = settings::sync(&arguments.sync, config, &Tokens::of_servers()?)?;
            smart_sync::sync::run(&settings, surroundings)
        }),
    }
}

/// Settles what was interrupted: of one target or profile, or of all of them.
fn recover(args: &RecoverArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    if let Some(profile) = &args.profile {
        return profile::settle_one(profile, surroundings);
    }
    let (targets, sets) = match everything(args.target.as_deref(), config, surroundings)? {
        Some(targets) => (targets, profile::settle_all(surroundings)?),
        None => (vec![settings::target(args.target.as_deref(), config)?], Exit::Success),
    };
    let exit = versions::recover(&targets, surroundings)?;
    Ok(sets.and(exit))
}

/// Confirms what waits for it: of one target or profile, or of all of them.
fn confirm(args: &ConfirmArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let over = if args.same_connection { confirm::Over::Any } else { confirm::Over::NewConnections };
    if let Some(profile) = &args.profile {
        return profile::confirm(profile, over, surroundings);
    }
    let Some(targets) = everything(args.target.as_deref(), config, surroundings)? else {
        return confirm::run(&settings::targets(args.target.as_deref(), config)?, over, surroundings);
    };
    // What waits with others is confirmed with them.
    let alone = profile::alone(targets, surroundings.state_dir)?;
    let sets = profile::confirm_all(over, surroundings)?;
    let exit = confirm::run(&alone, over, surroundings)?;
    Ok(sets.and(exit))
}

/// The targets of the configuration, where a command is about all of them and all profiles.
fn everything(
    target: Option<&Path>,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Vec<(PathBuf, TargetPolicy)>>, Failure> {
    let is_all = target.is_none() && (!config.targets.is_empty() || profile::is_any(surroundings.state_dir)?);
    let targets = config.targets.keys().map(|path| settings::target(Some(&path.0), config));
    is_all.then(|| targets.collect()).transpose()
}

/// What every command that does something needs.
struct Run {
    config: Config,
    state_dir: PathBuf,
}

impl Run {
    fn prepare(arguments: &Arguments) -> Result<Self, Failure> {
        let config = Config::load(arguments.global.config.as_deref())?;
        settings::check_targets(&config)?;
        let surroundings = state_dir::Surroundings::of_process(arguments.global.state_dir.clone());
        let state_dir = state_dir::locate(&surroundings)?;
        state_dir::prepare(&state_dir)?;
        Ok(Self { config, state_dir })
    }
}

/// Runs a command that is about one target and asks nobody.
fn on_target(
    arguments: &Arguments,
    target: Option<&Path>,
    act: impl FnOnce(&Path, &TargetPolicy, &Path) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let Run { config, state_dir } = Run::prepare(arguments)?;
    let (target, policy) = settings::target(target, &config)?;
    act(&target, &policy, &state_dir)
}

/// Looks at a target, and reports what was found if that is asked for.
fn look(
    arguments: &Arguments,
    target: Option<&Path>,
    is_reported: bool,
    output: &Output,
    act: impl Fn(&Path, &TargetPolicy, &Path) -> Result<Looked, Failure>,
) -> Result<Exit, Failure> {
    if !is_reported {
        return on_target(arguments, target, |target, policy, state_dir| {
            Ok(act(target, policy, state_dir)?.exit)
        });
    }
    with_network(arguments, output, |config, surroundings| {
        let (target, policy) = settings::target(target, config)?;
        let looked = act(&target, &policy, surroundings.state_dir)?;
        hosts::report::looked(&target, looked, surroundings)
    })
}

/// Runs a command that may ask servers and be interrupted.
fn with_network(
    arguments: &Arguments,
    output: &Output,
    act: impl FnOnce(&Config, &Surroundings<'_>) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let Run { config, state_dir } = Run::prepare(arguments)?;
    let runtime =
        tokio::runtime::Runtime::new().map_err(|error| Failure::from(error).context("starting threads"))?;
    let interrupt = runtime.block_on(async { Interrupt::install() })?;
    let surroundings = Surroundings {
        runtime: runtime.handle(),
        interrupt: &interrupt,
        output,
        state_dir: &state_dir,
        config_path: arguments.global.config.as_deref(),
        network: settings::network(&config),
        config: &config,
    };
    act(&config, &surroundings)
}

fn fail(output: &Output, failure: &Failure) -> Exit {
    output.failure(failure);
    failure.exit()
}

/// Help and version go to standard output and are no failure; everything else is a wrong command line.
fn explain(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has seen enough is no failure either.
            let _ = error.print();
            Exit::Success
        }
        _ => {
            let text = error.render().to_string();
            let mut stderr = std::io::stderr().lock();
            for line in text.lines().filter(|line| !line.is_empty()) {
                let line = line.strip_prefix("error: ").unwrap_or(line);
                let _ = writeln!(stderr, "[smart-sync ERROR] {}", Shown(line.as_bytes()));
            }
            Exit::Arguments
        }
    }
}
