//! `service`: having the host follow its channels by itself, from its start on.
//!
//! What is written is decided first, as data, so that it can be shown; see [`units`] for what it says. Every file of ours
//! begins with the same line, and no other file is ever replaced or removed, whatever its name is.

mod escape;
mod files;
mod nixos;
mod openrc;
mod status;
mod systemctl;
mod tool;
pub mod units;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::escape::text_of;
use self::files::{Home, Installed};
use self::systemctl::Systemctl;
use self::units::{Rhythm, Scope, Service};
use crate::args::GlobalArgs;
use crate::args::service::{Init, InstallArgs, ScopeArgs, ServiceCommand};
use crate::args::sync::WatchArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::programs;
use crate::settings;
use crate::sync::Surroundings;
use crate::token::Tokens;
use crate::watch::{Followed, WatchSettings};

/// A host on which this file is makes its units from its configuration.
const MARK_OF_NIXOS: &str = "/etc/NIXOS";
/// What is there while systemd runs the machine.
const MARK_OF_SYSTEMD: &str = "/run/systemd/system";
/// A token that is there for this run alone.
const TOKEN: &str = "SMART_SYNC_TOKEN";
/// The shortest time between two runs.
const EVERY_MIN: Duration = Duration::from_secs(60);

/// Runs a subcommand of `service`.
pub fn run(
    command: &ServiceCommand,
    global: &GlobalArgs,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    match command {
        ServiceCommand::Install(args) => install(args, global, surroundings),
        ServiceCommand::Remove(args) => remove(*args, surroundings),
        ServiceCommand::Status(args) if init(*args) == Init::Openrc => {
            check_scope(*args)?;
            openrc::status(surroundings).map(|()| Exit::Success)
        }
        ServiceCommand::Status(args) => {
            let installed = Installed::find(Home::of_units(directory(scope(*args))?))?;
            status::show(&installed, &Systemctl::new(scope(*args), surroundings), surroundings.output)
        }
    }
}

const fn scope(args: ScopeArgs) -> Scope {
    if args.user { Scope::User } else { Scope::System }
}

/// The service manager, where it is not named.
fn init(args: ScopeArgs) -> Init {
    let is_there = |path: &str| Path::new(path).exists();
    args.init.unwrap_or_else(|| of_host(args.user, is_there, |program| programs::find(program).is_some()))
}

/// The service manager of a host, by what is there. Where none runs, as while a system is installed, it is the one whose
/// programs are found.
fn of_host(is_user: bool, is_there: impl Fn(&str) -> bool, is_found: impl Fn(&str) -> bool) -> Init {
    if is_there(MARK_OF_NIXOS) && !is_user {
        return Init::Nixos;
    }
    let only_openrc = || is_found("rc-service") && !is_found("systemctl");
    if !is_there(MARK_OF_SYSTEMD) && (is_there(openrc::RUNNING) || only_openrc()) {
        return Init::Openrc;
    }
    Init::Systemd
}

/// OpenRC starts the services of the machine.
fn check_scope(args: ScopeArgs) -> Result<(), Failure> {
    if !args.user {
        return Ok(());
    }
    Err(Failure::message(Exit::Arguments, "with OpenRC, what follows channels is a service of the machine")
        .hint("leave --user out and run it as root, or start `smart-sync watch` with your session"))
}

/// Where units are written.
fn directory(scope: Scope) -> Result<PathBuf, Failure> {
    match scope {
        Scope::System => Ok(PathBuf::from("/etc/systemd/system")),
        Scope::User => {
            let configured = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
            let home = || std::env::home_dir().map(|home| home.join(".config"));
            let base = configured.filter(|path| path.is_absolute()).or_else(home);
            let base = base.filter(|path| path.is_absolute()).ok_or_else(|| {
                Failure::message(
                    Exit::Arguments,
                    "there is no place for the units of a user: HOME is not set",
                )
            })?;
            Ok(base.join("systemd/user"))
        }
    }
}

fn install(
    args: &InstallArgs,
    global: &GlobalArgs,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let init = init(args.scope);
    if init == Init::Openrc {
        check_scope(args.scope)?;
    }
    let service = service(args, global, surroundings)?;
    let output = surroundings.output;
    match init {
        Init::Nixos => {
            output.data(nixos::module(&service).as_bytes())?;
            return Ok(Exit::Success);
        }
        Init::Openrc => {
            warn_of_token(output);
            openrc::install(&service, args, surroundings)?;
            return Ok(Exit::Success);
        }
        Init::Systemd => {}
    }
    let units = service.units();
    if args.print {
        let texts = units.iter().map(|unit| format!("# {}\n{}", unit.name, unit.text()));
        output.data(texts.collect::<Vec<_>>().join("\n").as_bytes())?;
        return Ok(Exit::Success);
    }
    let systemctl = Systemctl::new(service.scope, surroundings);
    Systemctl::find()?;
    warn_of_token(output);
    let installed = Installed::find(Home::of_units(directory(service.scope)?))?;
    let files: Vec<(String, String)> = units.iter().map(|unit| (unit.name.clone(), unit.text())).collect();
    let plan = installed.plan(files)?;
    let names: Vec<&str> =
        units.iter().filter(|unit| unit.wanted_by.is_some()).map(|unit| unit.name.as_str()).collect();
    let gone: Vec<&str> = plan.removed.iter().map(String::as_str).collect();
    if args.dry_run {
        plan.show(output);
        systemctl.commands_of_install(&gone, &names).iter().for_each(|words| {
            output.info(&format!("would run {}", words.join(" ")));
        });
        output.info("nothing was changed");
        return Ok(Exit::Success);
    }
    systemctl.stop(&gone)?;
    plan.act(output)?;
    systemctl.start(&names, &plan.restarted())?;
    output.info(&format!("{} run from now on, and when the machine starts", names.join(" and ")));
    Ok(Exit::Success)
}

fn warn_of_token(output: &Output) {
    if std::env::var_os(TOKEN).is_some() {
        output.warning(&format!(
            "{TOKEN} is set here, and not for a service: put the token into the configuration or its file"
        ));
    }
}

/// What is to run, with everything in it checked: what does not run now would not run at night either.
fn service(
    args: &InstallArgs,
    global: &GlobalArgs,
    surroundings: &Surroundings<'_>,
) -> Result<Service, Failure> {
    let config = surroundings.config;
    let watch = WatchArgs { target: args.target.clone(), ..WatchArgs::default() };
    let watched = settings::watch(&watch, config, &Tokens::of_servers()?)?;
    let rhythm = match args.every {
        Some(every) if every.0 < EVERY_MIN => {
            return Err(Failure::message(Exit::Arguments, "a timer runs at most once a minute")
                .hint("--watch brings what is published within seconds"));
        }
        Some(_) if watched.targets.iter().any(|followed| followed.target().is_none()) => {
            return Err(Failure::message(
                Exit::Arguments,
                "a timer brings targets up to date, and no profiles",
            )
            .hint("--watch pulls profiles that the configuration lets it follow"));
        }
        Some(every) => Rhythm::Every(every.0),
        None => Rhythm::Watch,
    };
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(Failure::from).and_then(|path| text_of(&path));
    let mut words = Vec::new();
    if let Some(path) = &global.config {
        words.extend(["--config".to_owned(), absolute(path)?]);
    }
    // A user's service manager may know other variables than this shell, from which the place follows.
    if global.state_dir.is_some() || args.scope.user {
        words.extend(["--state-dir".to_owned(), absolute(surroundings.state_dir)?]);
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::from(error).context("finding out where this program is"))?;
    Ok(Service {
        program: text_of(&program)?,
        global: words,
        named: named(args.target.as_deref(), &watched, config)?.as_deref().map(absolute).transpose()?,
        targets: watched
            .targets
            .iter()
            .filter_map(Followed::target)
            .map(absolute)
            .collect::<Result<_, _>>()?,
        state_dir: absolute(surroundings.state_dir)?,
        rhythm,
        scope: scope(args.scope),
    })
}

/// The target that has to be named in commands, where not all of the configuration are meant.
fn named(
    target: Option<&Path>,
    watched: &WatchSettings,
    config: &Config,
) -> Result<Option<PathBuf>, Failure> {
    let is_one = config.targets.is_empty() && watched.targets.iter().any(|one| one.target().is_some());
    match target {
        None if is_one => settings::target(None, config).map(|(target, _)| Some(target)),
        target => Ok(target.map(Path::to_owned)),
    }
}

fn remove(args: ScopeArgs, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let output = surroundings.output;
    match init(args) {
        Init::Nixos => {
            let message = "on NixOS, units are made by the configuration alone";
            return Err(Failure::message(Exit::Arguments, message)
                .hint("take ./smart-sync.nix out of `imports`, and run nixos-rebuild switch"));
        }
        Init::Openrc => {
            check_scope(args)?;
            openrc::remove(surroundings)?;
            return Ok(Exit::Success);
        }
        Init::Systemd => {}
    }
    let installed = Installed::find(Home::of_units(directory(scope(args))?))?;
    if installed.is_empty() {
        output.info(&format!("no units of smart-sync are in {}", installed.home.directory.display()));
        return Ok(Exit::Success);
    }
    let systemctl = Systemctl::new(scope(args), surroundings);
    let names: Vec<&str> = installed.names().collect();
    if let Err(failure) = Systemctl::find() {
        // Without it, nothing runs that would have to be stopped.
        output.warning(&format!("{}: the files are removed all the same", failure.in_one_line()));
        installed.remove(output)?;
        return Ok(Exit::Success);
    }
    systemctl.stop(&names)?;
    installed.remove(output)?;
    systemctl.forget(&names)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_is_the_one_that_runs_else_the_one_that_is_installed() {
        let check = |there: &[&str], found: &[&str], is_user: bool, expected: Init| {
            let of = of_host(is_user, |path| there.contains(&path), |program| found.contains(&program));
            assert_eq!(of, expected, "{there:?} {found:?}");
        };
        check(&["/run/openrc"], &["rc-service"], false, Init::Openrc);
        check(&["/run/openrc"], &["rc-service", "systemctl"], false, Init::Openrc);
        check(&["/run/systemd/system", "/run/openrc"], &["rc-service"], false, Init::Systemd);
        check(&["/etc/NIXOS", "/run/systemd/system"], &["systemctl"], false, Init::Nixos);
        check(&["/etc/NIXOS", "/run/systemd/system"], &["systemctl"], true, Init::Systemd);
        check(&[], &["rc-service"], false, Init::Openrc);
        check(&[], &["rc-service", "systemctl"], false, Init::Systemd);
        check(&[], &[], false, Init::Systemd);
    }
}
