//! What a run is to do: arguments, configuration and environment, brought together and checked.
//!
//! A function of its inputs: files are read before, by [`crate::config`] and [`crate::token`], and a file system is only
//! asked whether two paths are one target. The nearest word wins: the command line, then the target's own table, then
//! what holds for every target.

mod same_target;

pub use self::same_target::is_same_target;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::same_target::is_written_alike;
use crate::after::confirmation::Confirmation;
use crate::after::trigger::After;
use crate::after::trigger::nixos::Override;
use crate::args::sync::{ChannelArgs, SyncArgs, TreeArgs, WatchArgs};
use crate::args::validate::UpdateArgs;
use smart_sync_sync::apply::versions::{Kind, prune};
use smart_sync_sync::name::{Channel, Origin, RefQuery};

use crate::args::{Arguments, GlobalArgs};
use crate::config::{
    AbsolutePath, Allowed, AllowedOnNetwork, Config, Fidelity, RealmConfig, RealmName, Span, TargetConfig,
    TargetKind, WatchConfig,
};
use crate::failure::{Exit, Failure};
use crate::github::Address;
use crate::output::{Format, Verbosity};
use crate::prefer::Prefer;
use crate::profile;
use crate::realm::resolve::RealmOptions;
use crate::reference;
use crate::server_url::ServerUrl;
use crate::sync::elsewhere::Elsewhere;
use crate::token::{Token, Tokens};
use crate::validate::item::{Item, Standing};
use crate::watch::{Followed, WatchSettings};

/// What belongs to the host in every target that does not say otherwise.
pub const DEFAULT_EXCLUSIONS: [&str; 6] =
    [".git/", "result/", "target/", "tools/target/", "var/", "*.socket"];

/// A sync, completely said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncSettings {
    /// The directory.
    pub target: PathBuf,
    /// Where its tree comes from.
    pub tree: TreeSettings,
    /// What is done to it.
    pub mode: SyncMode,
    /// How far local files are believed.
    pub validation: Validation,
    /// What protects the target.
    pub policy: TargetPolicy,
    /// Whether a version is tried again that was not healthy.
    pub retries_failed: bool,
    /// What it should take as little of as possible.
    pub prefer: Option<Prefer>,
    /// Where contents are looked for before they are fetched.
    pub elsewhere: Elsewhere,
}

/// A ref and where it is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSettings {
    /// The ref.
    pub reference: RefQuery,
    /// Where from.
    pub source: TreeSource,
}

/// Where a tree comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeSource {
    /// A channel of a realm.
    Channel {
        /// The realm's origin, where the configuration says it; else trust knows it by its servers.
        realm: Option<Origin>,
        /// Those after the first are mirrors; where there are none, those that the realm was added with.
        servers: Vec<ServerUrl>,
        /// The channel.
        channel: Channel,
        /// The token for the servers.
        token: Option<Token>,
        /// How old the proof of freshness may be, where the root document is not to decide.
        max_age: Option<Duration>,
    },
    /// A repository behind GitHub's REST API.
    Repository(Address),
}

/// A channel of a realm, a ref of it, and who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// The ref.
    pub reference: RefQuery,
    /// The channel.
    pub channel: Channel,
    /// The realm, where the configuration says it.
    pub realm: Option<Origin>,
    /// The servers; where there are none, those that the realm was added with.
    pub servers: Vec<ServerUrl>,
    /// The token for the servers.
    pub token: Option<Token>,
    /// How old the proof of freshness may be.
    pub max_age: Option<Duration>,
}

/// What a sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Bring the target to the ref.
    Apply,
    /// Say what that would change.
    DryRun,
    /// Say whether there is an update.
    CheckOnly,
}

/// How far local files are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Size and time decide.
    TrustStat,
    /// What changed is read again, and a sample of the rest.
    Sample,
    /// Everything is read again, and fetched again where it differs.
    Full,
}

/// What protects a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Patterns of paths that belong to the host.
    pub exclusions: Vec<String>,
    /// The only fidelity that is taken.
    pub fidelity: Option<Fidelity>,
    /// What is taken although it is refused as a rule.
    pub allow: Vec<Allowed>,
    /// How it is kept, where that is said.
    pub kind: Option<Kind>,
    /// How many versions are kept, where they are.
    pub keep: usize,
    /// What happens after an update.
    pub after: After,
    /// The other targets of this host, in which an overlay places nothing.
    pub others: Vec<PathBuf>,
}

/// How the network is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkSettings {
    /// How many files are downloaded at the same time.
    pub connections: usize,
    /// How long a connection may bring next to nothing.
    pub stall: Duration,
    /// How long a rate limit is waited for.
    pub rate_limit_wait: Duration,
    /// Where tokens are sent.
    pub token_way: TokenWay,
}

/// The ways on which a token is sent to a smart-sync server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenWay {
    /// Encrypted, or within this machine.
    Confidential,
    /// Over `http:` as well.
    Any,
}

/// Decides how the network is used.
pub fn network(config: &Config) -> NetworkSettings {
    let network = &config.network;
    NetworkSettings {
        connections: network.connections.map_or(8, |connections| connections.0),
        stall: network.stall.map_or(Duration::from_secs(30), |span| span.0),
        rate_limit_wait: network.rate_limit_wait.map_or(Duration::from_secs(60), |span| span.0),
        token_way: if network.allow.contains(&AllowedOnNetwork::TokenOverHttp) {
            TokenWay::Any
        } else {
            TokenWay::Confidential
        },
    }
}

/// Decides how the run speaks.
pub fn voice(global: &GlobalArgs) -> Result<(Format, Verbosity), Failure> {
    let verbosity = match (global.quiet, global.verbose) {
        (true, true) => {
            return Err(contradiction("--quiet and --verbose ask for the opposite of each other"));
        }
        (true, false) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    Ok((if global.json { Format::Json } else { Format::Text }, verbosity))
}

/// Refuses arguments of the sync in front of a subcommand, where they would mean nothing.
pub fn check_placement(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.command.is_none() || arguments.sync == SyncArgs::default() {
        return Ok(());
    }
    Err(Failure::message(Exit::Arguments, "arguments of the sync stand in front of a subcommand")
        .hint("write arguments of a subcommand behind its name: smart-sync SUBCOMMAND --ref v2.1"))
}

/// Decides what a sync is to do. `tokens` are those of the surroundings.
pub fn sync(args: &SyncArgs, config: &Config, tokens: &Tokens) -> Result<SyncSettings, Failure> {
    let target = target_directory(args.target.as_deref(), config)?;
    let section = target_section(&target, config);
    let mut policy = policy(section, config);
    policy.kind = args.kind.map(Into::into).or(policy.kind);
    if args.skip_rebuild {
        // Who confirms a version is not a matter of rebuilding.
        policy.after = After { confirm: policy.after.confirm, ..After::default() };
    }
    Ok(SyncSettings {
        tree: tree(&args.tree, section, config, tokens)?,
        mode: match (args.dry_run, args.check_only) {
            (true, true) => return Err(contradiction("--dry-run and --check-only ask different questions")),
            (true, false) => SyncMode::DryRun,
            (false, true) => SyncMode::CheckOnly,
            (false, false) => SyncMode::Apply,
        },
        validation: match (args.skip_validation, args.force_full) {
            (true, true) => {
                return Err(contradiction(
                    "--force-full reads every file again, which --skip-validation forbids",
                ));
            }
            (true, false) => Validation::TrustStat,
            (false, true) => Validation::Full,
            (false, false) => Validation::Sample,
        },
        policy,
        retries_failed: args.retry_failed,
        prefer: args.prefer.or(config.prefer),
        elsewhere: Elsewhere {
            targets: (config.targets.keys())
                .map(|path| path.0.clone())
                .filter(|other| !is_same_target(other, &target))
                .collect(),
            repositories: (args.bytes_from.iter().cloned())
                .chain(config.bytes_from.iter().map(|path| path.0.clone()))
                .collect(),
        },
        target,
    })
}

/// Decides what an update is to do.
pub fn update(args: &UpdateArgs, config: &Config, tokens: &Tokens) -> Result<SyncSettings, Failure> {
    let mut settings = sync(&args.sync(), config, tokens)?;
    let after = &settings.policy.after;
    if args.rebuild_action.is_some() && !after.run.iter().any(|trigger| trigger.nixos.is_some()) {
        return Err(Failure::message(
            Exit::Arguments,
            "this target rebuilds no NixOS system, which is what --rebuild-action is about",
        )
        .hint("`nixos = {…}` in a table [[targets.\"/DIR\".run]] rebuilds a system"));
    }
    settings.policy.after =
        after.with_nixos(&Override { action: args.rebuild_action, ..Override::default() });
    Ok(settings)
}

/// Decides what is watched, and how.
pub fn watch(args: &WatchArgs, config: &Config, tokens: &Tokens) -> Result<WatchSettings, Failure> {
    let profiles = profile::settings::followed_by(config, tokens)?;
    let one = |target: Option<PathBuf>| {
        let args = SyncArgs { tree: args.tree.clone(), target, ..SyncArgs::default() };
        let settings = sync(&args, config, tokens)?;
        let reference = &settings.tree.reference;
        if reference.at.is_none() {
            return Ok(Followed::Target(Box::new(settings)));
        }
        let text = format!("`{reference}` does not change any more: there is nothing to watch");
        Err(Failure::message(Exit::Arguments, text)
            .hint("leave the date out, or sync it once without `watch`"))
    };
    let is_none_configured = config.targets.is_empty() && profiles.is_empty();
    let targets = if args.target.is_some() || args.tree != TreeArgs::default() || is_none_configured {
        vec![one(args.target.clone())?]
    } else {
        // A table that says nothing to follow is there for what a profile says of that target.
        let is_own = |section: &TargetConfig| section.channel.is_some() || section.source.is_some();
        let all_are = profiles.is_empty();
        let own = config.targets.iter().filter(|(_, section)| all_are || is_own(section));
        let own = own.map(|(path, _)| one(Some(path.0.clone())));
        let profiles = profiles.into_iter().map(|pull| Ok(Followed::Profile(Box::new(pull))));
        own.chain(profiles).collect::<Result<_, _>>()?
    };
    let WatchConfig { every, jitter, windows } = &config.watch;
    let span = |typed: Option<Span>, configured: Option<Span>, usual| {
        typed.or(configured).map_or(Duration::from_secs(usual), |span| span.0)
    };
    Ok(WatchSettings {
        targets,
        every: span(args.every, *every, 3600).max(Duration::from_secs(1)),
        jitter: span(args.jitter, *jitter, 10),
        windows: if args.windows.is_empty() { windows.clone() } else { args.windows.clone() },
    })
}

/// Decides which tree is meant, for a target with this section or for none.
pub fn tree(
    args: &TreeArgs,
    section: Option<&TargetConfig>,
    config: &Config,
    tokens: &Tokens,
) -> Result<TreeSettings, Failure> {
    let TreeArgs { of_realm, source } = args;
    let reference = of_realm
        .reference
        .clone()
        .or_else(|| section.and_then(|section| section.reference.clone()))
        .unwrap_or_else(reference::main);
    let asks_for_channel = of_realm.channel.is_some() || !of_realm.servers.is_empty();
    if source.is_some() && asks_for_channel {
        return Err(contradiction(
            "--source names a repository, --channel and --server a realm: use one of them",
        ));
    }
    let repository = source
        .as_ref()
        .or_else(|| section.filter(|_| !asks_for_channel).and_then(|section| section.source.as_ref()));
    let source = match repository {
        Some(address) if reference.at.is_some() => {
            return Err(Failure::message(
                Exit::Arguments,
                format!("{address} cannot say what `{reference}` was: git does not record where a branch stood when"),
            )
            .hint("name a tag or a commit, or follow a smart-sync server, which can go back in time"));
        }
        Some(address) => TreeSource::Repository(address.clone()),
        None => channel(of_realm, section, config, tokens)?,
    };
    Ok(TreeSettings { reference, source })
}

/// Decides which channel of a realm is meant by a command that has no target; the default target's, if nothing is said.
pub fn channel_of(args: &ChannelArgs, config: &Config, tokens: &Tokens) -> Result<ChannelSettings, Failure> {
    let target = target_directory(None, config).ok();
    let section = target.as_deref().and_then(|target| target_section(target, config));
    let args = TreeArgs { of_realm: args.clone(), source: None };
    let TreeSettings { reference, source } = tree(&args, section, config, tokens)?;
    match source {
        TreeSource::Channel { realm, servers, channel, token, max_age } => {
            Ok(ChannelSettings { reference, channel, realm, servers, token, max_age })
        }
        TreeSource::Repository(address) => Err(Failure::message(
            Exit::Arguments,
            format!("{address} is a repository, and this command looks at channels of a realm"),
        )
        .hint("name a channel with --channel; git shows repositories")),
    }
}

/// Decides how a realm that a target followed is asked: as configured, else as trust knows it.
pub fn realm_options(
    origin: &Origin,
    config: &Config,
    tokens: &Tokens,
    network: NetworkSettings,
) -> RealmOptions {
    let configured = config.realms.get(&RealmName(origin.clone()));
    RealmOptions {
        origin: Some(origin.clone()),
        servers: configured.map_or_else(Vec::new, |realm| realm.servers.clone()),
        token: tokens.choose(configured.and_then(|realm| realm.token.as_ref())).cloned(),
        max_age: configured.and_then(|realm| realm.max_age).map(|span| span.0),
        network,
    }
}

/// Decides which target is meant, and what protects it, for commands that look at one.
pub fn target(argument: Option<&Path>, config: &Config) -> Result<(PathBuf, TargetPolicy), Failure> {
    let target = target_directory(argument, config)?;
    let policy = policy(target_section(&target, config), config);
    Ok((target, policy))
}

/// Decides which targets are meant by commands that are about all of them where none is named.
pub fn targets(argument: Option<&Path>, config: &Config) -> Result<Vec<(PathBuf, TargetPolicy)>, Failure> {
    if argument.is_some() || config.targets.is_empty() {
        return Ok(vec![target(argument, config)?]);
    }
    config.targets.keys().map(|path| target(Some(&path.0), config)).collect()
}

/// Where the target is, and whether the command line may leave it out.
fn target_directory(argument: Option<&Path>, config: &Config) -> Result<PathBuf, Failure> {
    let target = match (argument, &config.target, config.targets.len()) {
        (Some(argument), _, _) => argument.to_owned(),
        (None, Some(default), _) => default.0.clone(),
        (None, None, 1) => config.targets.keys().map(|path| path.0.clone()).collect(),
        (None, None, 0) => {
            return Err(Failure::message(
                Exit::Arguments,
                "no target: nothing says which directory to bring up to date",
            )
            .hint("name one with --target DIR, or set `target = \"/DIR\"` in /etc/smart-sync/config.toml"));
        }
        (None, None, _) => {
            let names: Vec<_> = config.targets.keys().map(|path| path.0.display().to_string()).collect();
            return Err(Failure::message(
                Exit::Arguments,
                "there are several targets, and none of them is the default",
            )
            .hint(format!("name one with --target: {}", names.join(", "))));
        }
    };
    if target.as_os_str().is_empty() {
        return Err(Failure::message(Exit::Arguments, "--target is empty"));
    }
    Ok(target)
}

/// The table of this target: the one that names it as it is typed, else one whose path leads to the same directory.
fn target_section<'a>(target: &Path, config: &'a Config) -> Option<&'a TargetConfig> {
    let find =
        |is_it: fn(&Path, &Path) -> bool| config.targets.iter().find(|(path, _)| is_it(&path.0, target));
    find(is_written_alike).or_else(|| find(is_same_target)).map(|(_, section)| section)
}

fn channel(
    args: &ChannelArgs,
    section: Option<&TargetConfig>,
    config: &Config,
    tokens: &Tokens,
) -> Result<TreeSource, Failure> {
    let channel = args
        .channel
        .clone()
        .or_else(|| section.and_then(|section| section.channel.clone()))
        .ok_or_else(|| {
            Failure::message(Exit::Arguments, "no channel: nothing says which tree to follow")
                .hint("name one with --channel repos/NAME, or a repository with --source github:OWNER/REPO")
        })?;
    let max_age = args.max_age;
    let named = section.and_then(|section| section.realm.as_ref());
    // Servers on the command line replace the realm of the configuration, and with it its token: a token is only ever
    // sent where its owner put it.
    if !args.servers.is_empty() {
        let same = config
            .realms
            .iter()
            .find(|(_, realm)| args.servers.iter().all(|url| realm.servers.contains(url)));
        return Ok(TreeSource::Channel {
            realm: same.map(|(name, _)| name.0.clone()),
            servers: args.servers.clone(),
            channel,
            token: tokens.choose(same.and_then(|(_, realm)| realm.token.as_ref())).cloned(),
            max_age: max_age.or_else(|| same.and_then(|(_, realm)| realm.max_age)).map(|span| span.0),
        });
    }
    let Some((name, realm)) = realm(named, config)? else {
        // What `trust add` noted decides which realm and which servers.
        let token = tokens.choose(None).cloned();
        let max_age = max_age.map(|span| span.0);
        return Ok(TreeSource::Channel { realm: None, servers: Vec::new(), channel, token, max_age });
    };
    Ok(TreeSource::Channel {
        realm: Some(name.clone()),
        servers: realm.servers.clone(),
        channel,
        token: tokens.choose(realm.token.as_ref()).cloned(),
        max_age: max_age.or(realm.max_age).map(|span| span.0),
    })
}

fn realm<'a>(
    named: Option<&RealmName>,
    config: &'a Config,
) -> Result<Option<(&'a Origin, &'a RealmConfig)>, Failure> {
    let found = match (named, config.realms.len()) {
        (Some(name), _) => config.realms.get_key_value(name).ok_or_else(|| {
            Failure::message(
                Exit::Configuration,
                format!("the target follows the realm `{}`, which is not configured", name.0),
            )
            .hint(format!("add [realms.\"{}\"] with servers = [\"https://…\"] to the configuration", name.0))
        })?,
        (None, 1) => config.realms.first_key_value().expect("there is one realm"),
        (None, 0) => return Ok(None),
        (None, _) => {
            return Err(Failure::message(
                Exit::Configuration,
                "there are several realms, and the target names none",
            )
            .hint("set `realm = \"…\"` in the target's table, or name a server with --server URL"));
        }
    };
    Ok(Some((&found.0.0, found.1)))
}

/// What protects a target with this table, or with none.
pub fn policy(section: Option<&TargetConfig>, config: &Config) -> TargetPolicy {
    let is_overlay = |section: &TargetConfig| section.kind == Some(TargetKind::Overlay);
    let others = config.targets.iter().filter(|(_, other)| !is_overlay(other));
    let others = others.map(|(path, _)| path.0.clone()).collect();
    let usual = || DEFAULT_EXCLUSIONS.map(ToOwned::to_owned).to_vec();
    let Some(section) = section else {
        return TargetPolicy {
            exclusions: usual(),
            fidelity: None,
            allow: Vec::new(),
            kind: None,
            keep: prune::KEPT,
            after: After::default(),
            others,
        };
    };
    let mut exclusions = section.exclude.clone().unwrap_or_else(usual);
    exclusions.extend_from_slice(&section.exclude_also);
    TargetPolicy {
        exclusions,
        fidelity: section.fidelity,
        allow: section.allow.clone(),
        kind: section.kind.map(Into::into),
        keep: section.keep.map_or(prune::KEPT, |keep| keep.0),
        after: after(section),
        others,
    }
}

fn after(section: &TargetConfig) -> After {
    After {
        run: section.run.clone(),
        check: section.check.clone(),
        // What is none was refused with the configuration.
        confirm: Confirmation::of(section.confirm, section.confirm_within).unwrap_or_default(),
        said: Override::default(),
    }
}

/// Refuses targets of which one lies in another, because what one of them applies, the other would take for its own,
/// unless the other is an overlay, which looks at nothing but what it has placed; and commands and checks that say too little or too much.
pub fn check_targets(config: &Config) -> Result<(), Failure> {
    let mistakes = |items: &[Item], standing| items.iter().find_map(|item| item.mistake(standing));
    if let Some(mistake) = mistakes(&config.validate, Standing::Host) {
        return Err(Failure::message(Exit::Configuration, mistake));
    }
    for (target, section) in &config.targets {
        if let Some(mistake) = mistakes(&section.validate, Standing::Target) {
            let text = format!("the target {}: {mistake}", target.0.display());
            return Err(Failure::message(Exit::Configuration, text));
        }
        let confirm = Confirmation::of(section.confirm, section.confirm_within).err().map(ToOwned::to_owned);
        if let Some(mistake) = after(section).mistake().or(confirm).or_else(|| server_of_none(section)) {
            return Err(Failure::message(
                Exit::Configuration,
                format!("the target {}: {mistake}", target.0.display()),
            ));
        }
    }
    for (name, own) in &config.profiles {
        if let Err(mistake) = Confirmation::of(own.confirm, own.confirm_within) {
            return Err(Failure::message(Exit::Configuration, format!("the profile {}: {mistake}", name.0)));
        }
    }
    let is_overlay = |section: &TargetConfig| section.kind == Some(TargetKind::Overlay);
    for (outer, _) in config.targets.iter().filter(|(_, section)| !is_overlay(section)) {
        let lies_in = |inner: &&AbsolutePath| inner.0 != outer.0 && inner.0.starts_with(&outer.0);
        if let Some(inner) = config.targets.keys().find(lies_in) {
            return Err(Failure::message(
                Exit::Configuration,
                format!("the target {} lies in the target {}", inner.0.display(), outer.0.display()),
            )
            .hint("give each target a directory that no other one has to do with"));
        }
    }
    Ok(())
}

/// A repository has no realm whose servers could be asked.
fn server_of_none(section: &TargetConfig) -> Option<String> {
    let asks = section.check.iter().any(|check| check.server);
    (asks && section.source.is_some())
        .then(|| "the check `server` asks a realm, and the target follows a repository".to_owned())
}

fn contradiction(message: &str) -> Failure {
    Failure::message(Exit::Arguments, message).hint("see smart-sync --help")
}

#[cfg(test)]
mod tests;
