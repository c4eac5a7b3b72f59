//! What the units say. Pure: from what is to run to the text of files.
//!
//! A unit is data first, because a NixOS module says the same in other words. What confines a service also confines the
//! commands that run after an update, and those rebuild and mount: so there is nothing here that takes file systems,
//! devices, system calls or set-id programs away from them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::escape::{argument, path};

/// The first line of every file that is ours. A file without it is never replaced or removed.
pub(super) const MARK: &str =
    "# Written by `smart-sync service install`; `smart-sync service remove` removes it.";

/// The longest name that a target gives to its units.
const NAME_LEN_MAX: usize = 100;

/// When targets are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// When something was published.
    Watch,
    /// From time to time.
    Every(Duration),
}

/// Whose service manager runs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// That of the machine.
    System,
    /// That of the user.
    User,
}

/// What is to run. All texts are ones that a unit can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// This program.
    pub program: String,
    /// What stands in front of every command: where the configuration and the state are.
    pub global: Vec<String>,
    /// The one target that was named; otherwise all of the configuration are meant.
    pub named: Option<String>,
    /// The targets.
    pub targets: Vec<String>,
    /// Where the state is kept.
    pub state_dir: String,
    /// When.
    pub rhythm: Rhythm,
    /// For whom.
    pub scope: Scope,
}

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// A program that runs.
    Service,
    /// What starts one from time to time.
    Timer,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// What it is.
    pub kind: UnitKind,
    /// Its name, such as `smart-sync-watch.service`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Settings of `[Unit]` beside its description.
    pub unit: Vec<(&'static str, String)>,
    /// Settings of `[Service]` or `[Timer]`.
    pub own: Vec<(&'static str, String)>,
    /// What starts it; nothing for what a timer starts.
    pub wanted_by: Option<&'static str>,
}

impl Unit {
    /// The file.
    pub fn text(&self) -> String {
        let own = match self.kind {
            UnitKind::Service => "Service",
            UnitKind::Timer => "Timer",
        };
        let install =
            self.wanted_by.map_or_else(String::new, |unit| format!("\n[Install]\nWantedBy={unit}\n"));
        format!(
            "{MARK}\n[Unit]\nDescription={}\n{}\n[{own}]\n{}{install}",
            self.description,
            lines(&self.unit),
            lines(&self.own)
        )
    }
}

fn lines(settings: &[(&str, String)]) -> String {
    let line = |(key, value): &(&str, String)| format!("{key}={value}\n");
    settings.iter().map(line).collect::<Vec<_>>().concat()
}

impl Service {
    /// The units, the one that runs at boot last.
    pub fn units(&self) -> Vec<Unit> {
        let mut units = match self.rhythm {
            Rhythm::Watch => vec![self.watch()],
            Rhythm::Every(every) => self.timers(every),
        };
        let services: Vec<&str> = units
            .iter()
            .filter(|unit| unit.kind == UnitKind::Service)
            .map(|unit| unit.name.as_str())
            .collect();
        let recover = self.recover(&services);
        units.push(recover);
        units
    }

    /// A command of this program.
    pub fn command(&self, words: &[&str]) -> String {
        let words = self.global.iter().map(String::as_str).chain(words.iter().copied());
        std::iter::once(path(&self.program)).chain(words.map(argument)).collect::<Vec<_>>().join(" ")
    }

    /// The words of a command about all that are meant.
    pub(super) fn words_for_all<'w>(&'w self, word: &'w str) -> Vec<&'w str> {
        let target = self.named.iter().flat_map(|target| ["--target", target]);
        std::iter::once(word).chain(target).collect()
    }

    fn command_for_all(&self, word: &'static str) -> String {
        self.command(&self.words_for_all(word))
    }

    const fn wanted_by(&self) -> &'static str {
        match self.scope {
            Scope::System => "multi-user.target",
            Scope::User => "default.target",
        }
    }

    /// The order in which the machine starts: after the network, and after what an interrupted run left is settled.
    fn order(&self) -> Vec<(&'static str, String)> {
        match self.scope {
            Scope::System => vec![
                ("Wants", "network-online.target".to_owned()),
                ("After", "network-online.target smart-sync-recover.service".to_owned()),
            ],
            // The network is none of the units of a user.
            Scope::User => vec![("After", "smart-sync-recover.service".to_owned())],
        }
    }

    fn watch(&self) -> Unit {
        let mut own = vec![
            ("Type", "notify".to_owned()),
            ("ExecStart", self.command_for_all("watch")),
            ("Restart", "on-failure".to_owned()),
            ("RestartSec", "30s".to_owned()),
            // Another attempt would find the same arguments and the same configuration.
            ("RestartPreventExitStatus", "4 6".to_owned()),
            // It was stopped in the middle of a sync, which the next one completes.
            ("SuccessExitStatus", "130".to_owned()),
        ];
        own.extend(usual());
        Unit {
            kind: UnitKind::Service,
            name: "smart-sync-watch.service".to_owned(),
            description: "Keep directories equal to what is published".to_owned(),
            unit: self.order(),
            own,
            wanted_by: Some(self.wanted_by()),
        }
    }

    /// A service and a timer for each target, so that one that fails does not keep the others from being synced.
    fn timers(&self, every: Duration) -> Vec<Unit> {
        let mut taken = BTreeSet::from(["watch".to_owned(), "recover".to_owned()]);
        let mut units = Vec::new();
        for target in &self.targets {
            let name = format!("smart-sync-{}", name_for(target, &mut taken));
            // What a unit shows of a path must not be taken for a specifier.
            let shown = target.replace('%', "%%");
            let mut own =
                vec![("Type", "oneshot".to_owned()), ("ExecStart", self.command(&["--target", target]))];
            // Applied, and a reboot is pending, or stopped in the middle of it: no failure.
            own.push(("SuccessExitStatus", "12 130".to_owned()));
            own.extend(usual());
            units.push(Unit {
                kind: UnitKind::Service,
                name: format!("{name}.service"),
                description: format!("Bring {shown} up to date"),
                unit: self.order(),
                own,
                wanted_by: None,
            });
            units.push(Unit {
                kind: UnitKind::Timer,
                name: format!("{name}.timer"),
                description: format!("Bring {shown} up to date from time to time"),
                unit: Vec::new(),
                own: rhythm(every),
                wanted_by: Some("timers.target"),
            });
        }
        units
    }

    /// It neither needs the network nor waits for it. It runs commands of the configuration when it goes back, and
    /// those may want any service of the machine: so it starts when these can start as well, not before them.
    fn recover(&self, services: &[&str]) -> Unit {
        let before = match self.scope {
            Scope::System => [services, &["multi-user.target"]].concat().join(" "),
            Scope::User => services.join(" "),
        };
        let mut unit = vec![("Before", before)];
        if self.scope == Scope::System {
            let places = std::iter::once(&self.state_dir).chain(&self.targets);
            unit.push(("RequiresMountsFor", places.map(|place| path(place)).collect::<Vec<_>>().join(" ")));
        }
        let mut own = vec![
            ("Type", "oneshot".to_owned()),
            ("RemainAfterExit", "yes".to_owned()),
            ("ExecStart", self.command_for_all("recover")),
            // Taken back, or a reboot is pending: that is what it is for.
            ("SuccessExitStatus", "8 12".to_owned()),
        ];
        own.extend(usual());
        Unit {
            kind: UnitKind::Service,
            name: "smart-sync-recover.service".to_owned(),
            description: "Settle what an interrupted update left".to_owned(),
            unit,
            own,
            wanted_by: Some(self.wanted_by()),
        }
    }
}

/// What every service has. Commands that it runs are ended by this program, which knows what it began; when one of them
/// runs out of memory that is a failed command and not the end of the service. Tokens are in memory, so that memory is
/// never written to a file.
fn usual() -> Vec<(&'static str, String)> {
    [
        ("KillMode", "mixed"),
        ("OOMPolicy", "continue"),
        ("LimitCORE", "0"),
        ("KeyringMode", "private"),
        ("RestrictRealtime", "yes"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .to_vec()
}

/// Counted from the end of the last run and from the start of the timer: a machine that was off when a run was due has
/// one soon after it starts.
fn rhythm(every: Duration) -> Vec<(&'static str, String)> {
    let seconds = every.as_secs();
    vec![
        ("OnActiveSec", "1min".to_owned()),
        ("OnUnitInactiveSec", format!("{seconds}s")),
        ("RandomizedDelaySec", format!("{}s", (seconds / 10).clamp(1, 600))),
    ]
}

/// What the units of a target are called: its path, in letters that mean nothing anywhere.
fn name_for(target: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let name: String = target.trim_matches('/').chars().map(plain).take(NAME_LEN_MAX).collect();
    let name = if name.is_empty() { "root".to_owned() } else { name };
    let others = (2_u32..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.clone()).chain(others).find(|name| !taken.contains(name));
    let free = free.expect("there are more numbers than targets");
    taken.insert(free.clone());
    free
}

#[cfg(test)]
mod tests;
