//! Drafting: the lines of a root document, and what changes in them.

use std::collections::BTreeMap;
use std::path::Path;

use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::Origin;
use smart_sync_sync::record::{NoteRecord as _, Root};
use smart_sync_sync::time::UnixTime;

use super::file::{read_signed, write};
use crate::args::trust::{RootChanges, RootEditArgs, RootNewArgs};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::realm::resolve::now;

/// How long a document is valid where nothing is said.
const LIFETIME_SECONDS: u64 = 365 * 24 * 60 * 60;
/// How long hosts go on with the newest proof where nothing is said.
const MAX_AGE_SECONDS: u64 = 7 * 24 * 60 * 60;
/// The roles that every document has.
const NEEDED: [&str; 3] = ["root", "log", "clock"];

/// Drafts the first document of a realm.
pub(super) fn new(args: &RootNewArgs, output: &Output) -> Result<Exit, Failure> {
    let mut draft = Draft {
        origin: args.origin.clone(),
        version: 1,
        prev: None,
        expires: now().plus(LIFETIME_SECONDS),
        max_age_seconds: MAX_AGE_SECONDS,
        roles: BTreeMap::new(),
        revoked: BTreeMap::new(),
    };
    draft.change(&args.changes)?;
    draft.check()?;
    keep(&draft, &args.output, output)
}

/// Drafts the next version of a document.
pub(super) fn edit(args: &RootEditArgs, output: &Output) -> Result<Exit, Failure> {
    let current = read_signed(&args.current)?;
    let mut draft = Draft::after(current.record(), current.leaf());
    draft.change(&args.changes)?;
    let drafted = draft.check()?;
    warn_of_what_is_withdrawn(current.record(), &drafted, output);
    if args.changes.expires.is_none() {
        output.warning(&format!(
            "it expires when the version before does, at {}; --expires DATE changes that",
            drafted.expires
        ));
    }
    keep(&draft, &args.output, output)
}

/// A publish key that is in its role no more takes with it everything that it ever signed.
pub(super) fn warn_of_what_is_withdrawn(old: &Root, new: &Root, output: &Output) {
    for publish in &old.publish {
        let now = new.publish.iter().find(|other| other.pattern == publish.pattern);
        for key in &publish.role.keys {
            let stays =
                now.is_some_and(|now| now.role.keys.iter().any(|own| own.public_key() == key.public_key()));
            if !stays {
                output.warning(&format!(
                    "{} is no publish key of {} any more: hosts will not accept anything that it ever signed there",
                    key.name(),
                    publish.pattern
                ));
                output.warning(&format!(
                    "to keep what it signed so far, leave it in its role and add: --revoke \"{key} after INDEX\", where \
                     INDEX is the last good leaf of the log"
                ));
            }
        }
    }
}

/// A root document that is being put together.
struct Draft {
    origin: Origin,
    version: u64,
    prev: Option<LogHash>,
    expires: UnixTime,
    max_age_seconds: u64,
    /// What follows the name of a role, by that name; `publish` with its channels.
    roles: BTreeMap<String, String>,
    /// What follows a revoked key, by the key.
    revoked: BTreeMap<String, String>,
}

impl Draft {
    fn after(current: &Root, leaf: LogHash) -> Self {
        let text = current.to_text();
        let mut draft = Self {
            origin: current.origin.clone(),
            version: current.version + 1,
            prev: Some(leaf),
            expires: current.expires,
            max_age_seconds: current.max_age_seconds,
            roles: BTreeMap::new(),
            revoked: BTreeMap::new(),
        };
        for line in text.lines() {
            if let Some((name, rest)) = line.strip_prefix("role ").and_then(split_role) {
                draft.roles.insert(name, rest);
            }
            if let Some((key, rest)) = line.strip_prefix("revoke ").and_then(|line| line.split_once(' ')) {
                draft.revoked.insert(key.to_owned(), rest.to_owned());
            }
        }
        draft
    }

    fn change(&mut self, changes: &RootChanges) -> Result<(), Failure> {
        for line in &changes.roles {
            let (name, rest) = split_role(line).ok_or_else(|| {
                Failure::message(Exit::Arguments, format!("--role {line:?} names no role and its keys"))
                    .hint("for instance: --role \"root 1 VKEY\", --role \"publish repos/* 1 VKEY\", --role \"publish repos/* none\"")
            })?;
            match rest.as_str() {
                "none" => self.roles.remove(&name),
                _ => self.roles.insert(name, rest),
            };
        }
        for line in &changes.revoke {
            let (key, rest) = line.split_once(' ').ok_or_else(|| {
                Failure::message(
                    Exit::Arguments,
                    format!("--revoke {line:?} is not of the form \"VKEY after INDEX\""),
                )
            })?;
            self.revoked.insert(key.to_owned(), rest.to_owned());
        }
        if let Some(expires) = &changes.expires {
            self.expires = UnixTime::parse_typed(expires).filter(|time| *time > now()).ok_or_else(|| {
                Failure::message(Exit::Arguments, format!("--expires {expires:?} is no date in the future"))
                    .hint("for instance: --expires 2027-11-01")
            })?;
        }
        self.max_age_seconds = changes.max_age.unwrap_or(self.max_age_seconds);
        Ok(())
    }

    fn to_text(&self) -> String {
        let prev = self.prev.map_or_else(|| "none".to_owned(), |prev| prev.to_string());
        let mut lines = vec![
            Root::HEADER.to_owned(),
            format!("origin {}", self.origin),
            format!("version {}", self.version),
            format!("prev {prev}"),
            format!("expires {}", self.expires.seconds()),
            format!("max-age {}", self.max_age_seconds),
        ];
        let ordered = NEEDED.into_iter().chain(["witness"]);
        lines.extend(ordered.filter_map(|name| Some(format!("role {name} {}", self.roles.get(name)?))));
        let publish = self.roles.iter().filter(|(name, _)| name.starts_with("publish "));
        lines.extend(publish.map(|(name, rest)| format!("role {name} {rest}")));
        lines.extend(self.revoked.iter().map(|(key, rest)| format!("revoke {key} {rest}")));
        lines.join("\n") + "\n"
    }

    fn check(&self) -> Result<Root, Failure> {
        if let Some(missing) = NEEDED.into_iter().find(|name| !self.roles.contains_key(*name)) {
            return Err(Failure::message(Exit::Arguments, format!("the role `{missing}` has no keys")).hint(
                format!("name them: --role \"{missing} 1 VKEY\"; `smart-sync key show FILE` shows a VKEY"),
            ));
        }
        Root::parse(&self.to_text()).map_err(|error| {
            Failure::new(Exit::Arguments, error).context("these changes make no root document")
        })
    }
}

/// The name of a role, with its channels where it is for publishing, and what follows.
fn split_role(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.trim().split_once(' ')?;
    match name {
        "publish" => {
            let (pattern, rest) = rest.split_once(' ')?;
            Some((format!("publish {pattern}"), rest.to_owned()))
        }
        "root" | "log" | "clock" | "witness" => Some((name.to_owned(), rest.to_owned())),
        _ => None,
    }
}

fn keep(draft: &Draft, path: &Path, output: &Output) -> Result<Exit, Failure> {
    if path.symlink_metadata().is_ok() {
        let text = format!("{} exists already, and may hold signatures", path.display());
        return Err(Failure::message(Exit::Arguments, text).hint("name another with --output FILE"));
    }
    write(path, draft.to_text().as_bytes())?;
    output.info(&format!(
        "the draft of version {} of {} is in {}",
        draft.version,
        draft.origin,
        path.display()
    ));
    output.info(&format!(
        "each holder of a root key reads it and signs: smart-sync root sign {} --key FILE",
        path.display()
    ));
    Ok(Exit::Success)
}
