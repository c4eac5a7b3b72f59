//! A profile and everything that it names, as of one moment.
//!
//! Each ref is proven on its own, against the newest checkpoint of the log. What a machine shall be is one state of the
//! realm, so all of them have to be proven against the same one: where the log has grown in between, all is asked again.
//! Whoever publishes to two channels and then to the profile is never met in the middle.

use std::collections::HashMap;

use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Found, Manifest, TreePath};
use smart_sync_sync::name::{Channel, Kind, RefQuery};

use super::cache;
use super::document::{BYTES_MAX, Document, Extended, FILE, too_large};
use super::merge::Layer;
use super::settings::ProfileSettings;
use crate::commands::contents::Contents;
use crate::failure::{Exit, Failure};
use crate::realm::locate::Tree;
use crate::realm::pages::RemotePages;
use crate::realm::resolve::{Realm, RealmOptions, Resolved};
use crate::realm::trust_store::TrustStore;
use crate::sync::Surroundings;

/// How often everything is asked again because the log has grown meanwhile.
const ATTEMPTS: u32 = 8;
/// How many profiles stand one on another at most.
const DEPTH_MAX: usize = 8;
/// How many profiles there are at most, with all that they build on.
const PROFILES_MAX: usize = 32;

/// The kind of a channel that holds a profile.
pub fn kind() -> Kind {
    "profile".parse().expect("a word of small letters is a kind")
}

/// The realm of a profile.
pub fn open_realm(settings: &ProfileSettings, surroundings: &Surroundings<'_>) -> Result<Realm, Failure> {
    let channel = &settings.channel;
    let options = RealmOptions {
        origin: channel.realm.clone(),
        servers: channel.servers.clone(),
        token: channel.token.clone(),
        max_age: channel.max_age,
        network: surroundings.network,
    };
    Realm::open(&TrustStore::new(surroundings.state_dir), &options)
}

/// A profile that was proven, with those that it builds on.
#[derive(Debug)]
pub struct View {
    /// What it is.
    pub resolved: Resolved,
    /// What those that it builds on say and what it says itself, in the order in which later ones win.
    pub layers: Vec<Layer>,
    /// Those that it builds on.
    pub builds_on: Vec<(Channel, RefQuery)>,
    /// The trees that it names, in the order in which they were asked for.
    pub trees: Vec<Resolved>,
}

/// Finds out what a profile is, and the trees that `named` finds in it, all of them against one checkpoint.
pub fn resolve<T>(
    realm: &Realm,
    settings: &ProfileSettings,
    surroundings: &Surroundings<'_>,
    named: impl Fn(&[Layer]) -> Result<(T, Vec<(Channel, RefQuery)>), Failure>,
) -> Result<(View, T), Failure> {
    let mut documents = HashMap::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            surroundings.output.detail("the log has grown while it was read; all refs are asked for again");
        }
        let reader = Reader {
            realm,
            settings,
            surroundings,
            documents: &mut documents,
            size: None,
            seen: Vec::new(),
            layers: Vec::new(),
        };
        match reader.read(&named) {
            Ok(view) => {
                cache::prune(surroundings.state_dir, &documents.into_keys().collect());
                return Ok(view);
            }
            Err(Stop::Moved) => {}
            Err(Stop::Failed(failure)) => return Err(failure),
        }
    }
    let text = format!("the log of {} grows faster than a profile can be read from it", realm.origin());
    Err(Failure::message(Exit::Network, text).hint("run this again; or name a moment with --at"))
}

/// Why reading ends.
enum Stop {
    /// The log is another one than that of the answers before.
    Moved,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// One attempt to read everything from one log.
struct Reader<'a> {
    realm: &'a Realm,
    settings: &'a ProfileSettings,
    surroundings: &'a Surroundings<'a>,
    /// Files that were read, by their trees: the same in every attempt.
    documents: &'a mut HashMap<ManifestId, Document>,
    /// The size of the log that answers.
    size: Option<u64>,
    /// Profiles that were read.
    seen: Vec<(Channel, RefQuery)>,
    layers: Vec<Layer>,
}

impl Reader<'_> {
    fn read<T>(
        mut self,
        named: impl Fn(&[Layer]) -> Result<(T, Vec<(Channel, RefQuery)>), Failure>,
    ) -> Result<(View, T), Stop> {
        let top = Extended {
            channel: self.settings.channel.channel.clone(),
            reference: self.settings.channel.reference.clone(),
        };
        let resolved = self.profile(&top, &mut Vec::new())?;
        let (result, trees) = named(&self.layers)?;
        let mut known: HashMap<(Channel, String), Resolved> = HashMap::new();
        let mut found = Vec::new();
        for (channel, reference) in trees {
            let key = (channel, reference.to_string());
            if !known.contains_key(&key) {
                let resolved = self.ask(&key.0, &reference, None)?;
                known.insert(key.clone(), resolved);
            }
            found.push(known[&key].clone());
        }
        let view = View { resolved, layers: self.layers, builds_on: self.seen, trees: found };
        Ok((view, result))
    }

    /// Reads a profile and, before it, those that it builds on. `path` leads to it.
    fn profile(&mut self, one: &Extended, path: &mut Vec<Channel>) -> Result<Resolved, Stop> {
        let Extended { channel, reference } = one;
        if path.contains(channel) {
            return Err(Stop::Failed(refused(format!(
                "{channel} builds on itself, by way of {}",
                named(path)
            ))));
        }
        if path.len() >= DEPTH_MAX || self.seen.len() >= PROFILES_MAX {
            let text = format!(
                "a profile has at most {PROFILES_MAX} others to build on, {DEPTH_MAX} one on another: {}",
                named(path)
            );
            return Err(Stop::Failed(refused(text)));
        }
        let mut reference = reference.clone();
        reference.at = match (reference.at, self.settings.at) {
            (Some(own), Some(at)) => Some(own.min(at)),
            (own, at) => own.or(at),
        };
        let resolved = self.ask(channel, &reference, Some(&kind()))?;
        let document = self.document(&resolved)?;
        path.push(channel.clone());
        for other in &document.extends {
            let key = (other.channel.clone(), other.reference.clone());
            if self.seen.contains(&key) {
                continue;
            }
            self.profile(other, path)?;
            self.seen.push(key);
        }
        path.pop();
        self.layers.push(document.layer);
        Ok(resolved)
    }

    fn ask(
        &mut self,
        channel: &Channel,
        reference: &RefQuery,
        kind: Option<&Kind>,
    ) -> Result<Resolved, Stop> {
        let Surroundings { runtime, interrupt, output, .. } = self.surroundings;
        let asking = self.realm.resolve(channel, reference, kind, output);
        let resolved = runtime.block_on(interrupt.guard(asking)).map_err(|failure| {
            failure.context(format!("finding out what {channel} {reference} is, which the profile names"))
        })?;
        match self.size.replace(resolved.verified.size) {
            Some(size) if size != resolved.verified.size => Err(Stop::Moved),
            _ => Ok(resolved),
        }
    }

    fn document(&mut self, resolved: &Resolved) -> Result<Document, Failure> {
        let manifest = resolved.verified.manifest.id;
        if let Some(known) = self.documents.get(&manifest) {
            return Ok(known.clone());
        }
        let publication = resolved.verified.publication.record();
        let name = format!("{} {}", publication.channel, resolved.reference);
        let state_dir = self.surroundings.state_dir;
        let known = cache::find(state_dir, manifest);
        let bytes = match &known {
            Some(bytes) => bytes.clone(),
            None => fetch(resolved, &name, self.surroundings)?,
        };
        let document = Document::parse(&name, &bytes)?;
        if known.is_none() {
            cache::keep(state_dir, manifest, &bytes)?;
        }
        self.documents.insert(manifest, document.clone());
        Ok(document)
    }
}

/// Fetches the file of a profile.
fn fetch(resolved: &Resolved, name: &str, surroundings: &Surroundings<'_>) -> Result<Vec<u8>, Failure> {
    let pages = RemotePages::new(&resolved.remotes, surroundings);
    let signed = resolved.verified.manifest;
    let manifest =
        Manifest::open(&pages, signed.id, Some(signed.bytes)).map_err(|error| pages.failure(error))?;
    let path = TreePath::new(FILE.as_bytes()).expect("it is the name of a file");
    let content = match manifest.find(&path).map_err(|error| pages.failure(error))? {
        Some(Found::Entry(entry)) => entry.content().copied(),
        _ => None,
    };
    let content = content.ok_or_else(|| refused(format!("{name} holds no {FILE}")))?;
    if content.size > BYTES_MAX {
        return Err(too_large(name));
    }
    let contents = Contents::new(&resolved.remotes, vec![Tree::of(&resolved.verified)], surroundings);
    let mut found = contents.small(&[content])?;
    Ok(found.remove(&content.id).unwrap_or_default())
}

fn named(path: &[Channel]) -> String {
    path.iter().map(Channel::as_str).collect::<Vec<_>>().join(", ")
}

fn refused(text: String) -> Failure {
    Failure::message(Exit::Configuration, text)
        .hint("nothing was changed; whoever publishes the profile has to repair it")
}
