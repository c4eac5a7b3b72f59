//! Which hosts are meant, and what they are to do: arguments and configuration, brought together.
//!
//! What is to run on the hosts is read here as the program there will read it, so that a mistake is found before any
//! host is touched.

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser as _;
use smart_sync_sync::name::Channel;

use super::name::{Destination, Named, ProgramPath};
use super::remote_words;
use crate::args::hosts::DeployArgs;
use crate::args::{Arguments, Command};
use crate::config::Config;
use crate::failure::{Exit, Failure};

/// How long a host may take where that is not said.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// What the program is called on the hosts.
const PROGRAM: &str = "smart-sync";
/// Where it is installed where that is not configured.
const INSTALLED: &str = "/usr/local/bin/smart-sync";
/// Arguments that say which target is meant, and where the program finds it. Each has a value.
const PLACES: [&str; 3] = ["--target", "--config", "--state-dir"];

/// A host that something is done on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What people call it.
    pub name: String,
    /// What ssh calls it.
    pub destination: Destination,
    /// Where the program is there, if that is configured.
    pub program: Option<ProgramPath>,
}

impl Host {
    /// Where the program is installed.
    pub(super) fn install_path(&self) -> &str {
        self.program.as_ref().map_or(INSTALLED, ProgramPath::as_str)
    }
}

/// What is done on which hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploySettings {
    /// In their order, each once.
    pub hosts: Vec<Host>,
    /// How many of them have to be well before the others are touched.
    pub canaries: usize,
    /// How many of the others at the same time.
    pub parallel: usize,
    /// How long each may take.
    pub timeout: Duration,
    /// Whether the hosts only say what they would do.
    pub is_dry_run: bool,
    /// Whether the program is carried to hosts that do not have it.
    pub is_installed: bool,
    /// Whether it may take the place of one that a package brought.
    pub may_replace: bool,
    /// What the program is given there.
    pub words: Vec<OsString>,
    /// The same for the confirmation, where what was applied is confirmed.
    pub confirmation: Option<Vec<OsString>>,
}

/// The command line for the shell of a host that runs the program there; `carried` is where it was carried to.
pub(super) fn command_line(host: &Host, carried: Option<&str>, words: &[OsString]) -> OsString {
    let program = carried.or(host.program.as_ref().map(ProgramPath::as_str)).unwrap_or(PROGRAM);
    remote_words::command_line(program, words)
}

/// Decides what `deploy` is to do.
pub fn deploy(args: &DeployArgs, config: &Config) -> Result<DeploySettings, Failure> {
    let hosts = hosts(&args.hosts, config)?;
    let mut words = args.arguments.clone();
    if args.dry_run {
        words.push("--dry-run".into());
    }
    let pulled = check_words(&words)?;
    Ok(DeploySettings {
        canaries: args.canary.min(hosts.len()),
        hosts,
        parallel: args.parallel,
        timeout: args.timeout.map_or(TIMEOUT, |span| span.0),
        is_dry_run: args.dry_run,
        is_installed: args.install,
        may_replace: args.replace,
        words,
        confirmation: args.confirm.then(|| {
            let mut words = vec!["confirm".into()];
            words.extend(pulled.iter().flat_map(|profile| ["--profile".into(), profile.as_str().into()]));
            words.extend(places(&args.arguments));
            words
        }),
    })
}

fn hosts(named: &[Named], config: &Config) -> Result<Vec<Host>, Failure> {
    let host = |name: &Destination| {
        let configured = config.hosts.get(name);
        let destination = configured.and_then(|host| host.ssh.clone()).unwrap_or_else(|| name.clone());
        let program = configured.and_then(|host| host.program.clone());
        Host { name: name.to_string(), destination, program }
    };
    let mut hosts: Vec<Host> = Vec::new();
    for named in named {
        let found = match named {
            Named::One(name) => vec![host(name)],
            Named::Group(group) => {
                let in_group = config.hosts.iter().filter(|(_, host)| host.groups.contains(group));
                in_group.map(|(name, _)| host(name)).collect()
            }
        };
        if let (true, Named::Group(group)) = (found.is_empty(), named) {
            let message = format!("no host of the configuration is in the group {group}");
            return Err(Failure::message(Exit::Arguments, message)
                .hint(format!("add groups = [\"{group}\"] to the tables [hosts.NAME] of its hosts")));
        }
        for host in found {
            if !hosts.iter().any(|known| known.destination == host.destination) {
                hosts.push(host);
            }
        }
    }
    Ok(hosts)
}

/// Refuses what the program on the hosts would not take, or would not end with. Returns the profile that they pull, if
/// they do.
fn check_words(words: &[OsString]) -> Result<Option<Channel>, Failure> {
    let typed = [PROGRAM.into(), "--json".into()].into_iter().chain(words.iter().cloned());
    let arguments = Arguments::try_parse_from::<_, OsString>(typed).map_err(|error| {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let first = first.strip_prefix("error: ").unwrap_or(first).to_owned();
        Failure::message(Exit::Arguments, first)
            .context("what the hosts are to run is not what smart-sync takes")
            .hint("what stands behind `--` are arguments of smart-sync, such as -- --ref v2.1 --target /srv/site")
    })?;
    match arguments.command {
        Some(Command::Watch(_)) => Err(Failure::message(
            Exit::Arguments,
            "`watch` does not end, so that nobody would learn how it went",
        )),
        Some(Command::Deploy(_)) => {
            Err(Failure::message(Exit::Arguments, "hosts do not go on to other hosts: name them all here"))
        }
        Some(Command::Pull(args)) => Ok(Some(args.which.profile)),
        _ => Ok(None),
    }
}

/// Of the arguments of a run, those that a confirmation needs as well.
fn places(words: &[OsString]) -> Vec<OsString> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if PLACES.iter().any(|place| word == place) {
            found.push(word.clone());
            found.extend(words.next().cloned());
        } else if word
            .to_str()
            .is_some_and(|word| word.split_once('=').is_some_and(|(name, _)| PLACES.contains(&name)))
        {
            found.push(word.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const CONFIG: &str = r#"
[hosts.web1]
ssh = "root@web1.example.org"
groups = ["web", "all"]
[hosts.web2]
groups = ["web"]
[hosts.db]
ssh = "root@db.example.org"
program = "/opt/smart-sync"
groups = ["all"]
"#;

    fn settings(line: &str) -> Result<DeploySettings, Failure> {
        let config = Config::parse(Path::new("config.toml"), CONFIG).unwrap();
        let words = ["smart-sync", "deploy"].into_iter().chain(line.split_whitespace());
        let Some(Command::Deploy(args)) = Arguments::try_parse_from(words).unwrap().command else {
            panic!("{line}: another command");
        };
        deploy(&args, &config)
    }

    /// What the first host runs.
    fn line_of(settings: &DeploySettings, words: &[OsString]) -> String {
        command_line(&settings.hosts[0], None, words).into_string().unwrap()
    }

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let hosts = settings(line).unwrap().hosts;
        let hosts: Vec<String> =
            hosts.iter().map(|host| format!("{}={}", host.name, host.destination)).collect();
        assert_eq!(hosts, expected, "{line}");
    }

    #[test]
    fn hosts_are_those_of_the_configuration_else_what_ssh_calls_them() {
        check("web1", &["web1=root@web1.example.org"]);
        check("web2 pi@kitchen", &["web2=web2", "pi@kitchen=pi@kitchen"]);
        check("@all", &["db=root@db.example.org", "web1=root@web1.example.org"]);
        check("web2 @web root@web1.example.org", &["web2=web2", "web1=root@web1.example.org"]);
        let failure = settings("@mail").unwrap_err();
        assert_eq!(failure.exit(), Exit::Arguments);
        assert_eq!(failure.messages().next().unwrap(), "no host of the configuration is in the group mail");
    }

    #[test]
    fn what_the_hosts_run_is_read_before_any_is_touched() {
        let plain = settings("web1").unwrap();
        assert_eq!(line_of(&plain, &plain.words), "smart-sync --json");
        assert_eq!((plain.confirmation, plain.canaries, plain.timeout), (None, 0, TIMEOUT));
        let dry = settings("web1 --dry-run --canary 5 -- --ref v2").unwrap();
        assert_eq!(line_of(&dry, &dry.words), "smart-sync --json --ref v2 --dry-run");
        assert_eq!(dry.canaries, 1);
        let elsewhere = settings("db").unwrap();
        assert_eq!(line_of(&elsewhere, &elsewhere.words), "/opt/smart-sync --json");
        assert_eq!(elsewhere.hosts[0].install_path(), "/opt/smart-sync");
        assert_eq!(plain.hosts[0].install_path(), INSTALLED);
        let carried = command_line(&plain.hosts[0], Some("/usr/bin/smart-sync"), &plain.words);
        assert_eq!(carried, "/usr/bin/smart-sync --json");
        for (line, expected) in [
            ("web1 -- --reff v2", "what the hosts are to run is not what smart-sync takes"),
            ("web1 --dry-run -- rebuild", "what the hosts are to run is not what smart-sync takes"),
            ("web1 -- --help", "what the hosts are to run is not what smart-sync takes"),
            ("web1 -- watch", "`watch` does not end, so that nobody would learn how it went"),
            ("web1 -- deploy web2", "hosts do not go on to other hosts: name them all here"),
        ] {
            let failure = settings(line).unwrap_err();
            assert_eq!(failure.exit(), Exit::Arguments, "{line}");
            assert_eq!(failure.messages().next().unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_confirmation_is_about_the_target_of_the_run() {
        let confirmation = |line: &str| {
            let settings = settings(line).unwrap();
            line_of(&settings, settings.confirmation.as_ref().unwrap())
        };
        assert_eq!(confirmation("web1 --confirm"), "smart-sync --json confirm");
        assert_eq!(
            confirmation("web1 --confirm -- --ref v2 --target /srv/site --state-dir=/s --verbose"),
            "smart-sync --json confirm --target /srv/site --state-dir=/s"
        );
        assert_eq!(
            confirmation("web1 --confirm -- pull profiles/web --state-dir=/s"),
            "smart-sync --json confirm --profile profiles/web --state-dir=/s"
        );
    }
}
