//! What is watched, and how.

use std::path::PathBuf;
use std::time::Duration;

use super::sync;
use crate::args::sync::{SyncArgs, TreeArgs, WatchArgs};
use crate::config::{Config, Span, TargetConfig, WatchConfig};
use crate::failure::{Exit, Failure};
use crate::profile;
use crate::token::Tokens;
use crate::watch::{Followed, WatchSettings};

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
