//! The root document: which keys count for what.
//!
//! A root is taken for one of two reasons only: somebody pinned its hash, or enough keys of the root before it
//! signed it. Either way enough of its own root keys have signed it too, so that nobody is locked out by a list of
//! keys that nobody holds.

use super::lines::{Lines, or_none};
use super::{NoteRecord, RecordError, Signed, Unverified};
use crate::key::{KeyType, PublicKey, VerifierKey};
use crate::log::merkle::{LogHash, SIZE_MAX};
use crate::name::{Channel, ChannelPattern, Origin};
use crate::note::Note;
use crate::time::UnixTime;

/// The longest time that a checkpoint may stay fresh: ten years.
pub const MAX_AGE_SECONDS_MAX: u64 = 315_360_000;
/// The most keys of a role: no note carries more signatures.
const KEYS_MAX: usize = crate::note::NOTE_SIGNATURES_MAX;

/// A root document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The realm.
    pub origin: Origin,
    /// Counts from 1, by one.
    pub version: u64,
    /// The leaf hash of the version before.
    pub prev: Option<LogHash>,
    /// After this time nothing is accepted under it.
    pub expires: UnixTime,
    /// How old the clock's word on a checkpoint may be.
    pub max_age_seconds: u64,
    /// Who signs root documents.
    pub root: Role,
    /// Who signs checkpoints.
    pub log: Role,
    /// Who says how fresh they are.
    pub clock: Role,
    /// Who else has to have seen them.
    pub witness: Option<Role>,
    /// Who publishes, sorted strictly by pattern.
    pub publish: Vec<PublishRole>,
    /// Publish keys that were retired, sorted strictly by key.
    pub revoked: Vec<Revocation>,
}

/// Keys, and how many of them have to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// How many distinct keys have to sign.
    pub threshold: usize,
    /// The keys.
    pub keys: Vec<VerifierKey>,
}

/// Who publishes to some channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRole {
    /// The channels.
    pub pattern: ChannelPattern,
    /// The keys.
    pub role: Role,
}

/// A publish key that counts in leaves up to an index, and no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The key.
    pub key: VerifierKey,
    /// The last leaf where it counts.
    pub after: u64,
}

impl Root {
    /// The role that decides about a channel: of all patterns that match, the closest one alone.
    pub fn publishers(&self, channel: &Channel) -> Option<&Role> {
        let matching = self.publish.iter().filter(|publish| publish.pattern.matches(channel));
        matching.max_by_key(|publish| publish.pattern.closeness()).map(|publish| &publish.role)
    }

    /// Where a key's signatures end to count, if it was revoked. It is the public key that is revoked, under
    /// whatever name.
    pub fn revocation(&self, key: &PublicKey) -> Option<&Revocation> {
        self.revoked.iter().find(|revocation| revocation.key.public_key() == key)
    }

    /// Checks that enough keys have signed a publication for this channel, which is leaf `index` of the log.
    pub(super) fn check_publishers(
        &self,
        note: &Note,
        channel: &Channel,
        index: u64,
    ) -> Result<(), RecordError> {
        let role = self.publishers(channel).ok_or_else(|| RecordError::NoPublisher(channel.to_string()))?;
        let mut revoked = None;
        let mut found = 0;
        for by in note.verified_by(&role.keys)? {
            match self.revocation(by.key.public_key()).filter(|revocation| index > revocation.after) {
                Some(revocation) => revoked = Some(revocation),
                None => found += 1,
            }
        }
        match revoked {
            _ if found >= role.threshold => Ok(()),
            Some(Revocation { key, after }) => {
                Err(RecordError::Revoked { key: key.name().to_string(), after: *after, index })
            }
            None => Err(RecordError::Threshold { role: "publish", needed: role.threshold, found }),
        }
    }

    fn check(&self, lines: &Lines<'_>) -> Result<(), RecordError> {
        let refuse = |reason: &str| Err(lines.refuse(reason));
        if (self.version == 1) != self.prev.is_none() || self.version == 0 {
            return refuse("version 1 has no previous version, and every other has one");
        }
        if !(1..=MAX_AGE_SECONDS_MAX).contains(&self.max_age_seconds) {
            return refuse("max-age has to be between a second and ten years");
        }
        let online: Vec<&Role> = [&self.log, &self.clock].into_iter().chain(&self.witness).collect();
        let offline: Vec<&Role> =
            std::iter::once(&self.root).chain(self.publish.iter().map(|publish| &publish.role)).collect();
        for (place, role) in online.iter().enumerate() {
            for other in online[place + 1..].iter().chain(&offline) {
                if let Some(key) = role.keys.iter().find(|key| other.holds(key.public_key())) {
                    return refuse(&format!(
                        "the key {} is in two roles, and log, clock and witness keys may be in one only",
                        key.name()
                    ));
                }
            }
        }
        let is_typed = |role: &Role, expected| role.keys.iter().all(|key| key.key_type() == expected);
        let signing = offline.iter().chain([&&self.log]).all(|role| is_typed(role, KeyType::Ed25519));
        let cosigning = [Some(&self.clock), self.witness.as_ref()]
            .into_iter()
            .flatten()
            .all(|role| is_typed(role, KeyType::Cosignature));
        if !signing || !cosigning {
            return refuse(
                "clock and witness keys have to be cosignature keys, and all others signature keys",
            );
        }
        let text = |pattern: &ChannelPattern| pattern.to_string();
        if !self.publish.is_sorted_by(|a, b| text(&a.pattern) < text(&b.pattern)) {
            return refuse("the publish roles are not sorted, or two are for one pattern");
        }
        if !self.revoked.is_sorted_by(|a, b| a.key.to_string() < b.key.to_string()) {
            return refuse("the revoked keys are not sorted, or one is there twice");
        }
        for revocation in &self.revoked {
            let key = revocation.key.public_key();
            if revocation.after >= SIZE_MAX {
                return refuse("a key is revoked after an index that no log reaches");
            }
            if !self.publish.iter().any(|publish| publish.role.holds(key)) {
                return refuse("a revoked key stays listed in its publish role, or its line goes with it");
            }
            if self.revoked.iter().filter(|other| other.key.public_key() == key).count() > 1 {
                return refuse("a key is revoked under two names");
            }
        }
        Ok(())
    }
}

impl Role {
    fn holds(&self, key: &PublicKey) -> bool {
        self.keys.iter().any(|own| own.public_key() == key)
    }

    fn parse(lines: &Lines<'_>, text: &str) -> Result<Self, RecordError> {
        let (threshold, keys) = text.split_once(' ').ok_or_else(|| lines.refuse("a role without keys"))?;
        let threshold = lines.as_number(threshold)?;
        if keys.split(' ').count() > KEYS_MAX {
            return Err(lines.refuse(format!("a role has at most {KEYS_MAX} keys")));
        }
        let mut role = Self { threshold: 0, keys: Vec::new() };
        for key in keys.split(' ') {
            let key: VerifierKey = lines.as_parsed(key)?;
            if role.holds(key.public_key()) {
                return Err(lines.refuse(format!("the key {} is there twice", key.name())));
            }
            role.keys.push(key);
        }
        role.threshold = usize::try_from(threshold)
            .ok()
            .filter(|threshold| (1..=role.keys.len()).contains(threshold))
            .ok_or_else(|| {
                lines.refuse(format!("a threshold of {threshold} with {} keys", role.keys.len()))
            })?;
        Ok(role)
    }

    fn to_text(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        format!("{} {}", self.threshold, keys.join(" "))
    }

    fn check(&self, note: &Note, name: &'static str) -> Result<(), RecordError> {
        let found = note.verified_by(&self.keys)?.len();
        if found >= self.threshold {
            Ok(())
        } else {
            Err(RecordError::Threshold { role: name, needed: self.threshold, found })
        }
    }
}

impl Unverified<Root> {
    /// Takes the root whose leaf hash somebody vouches for: the pin, or the first leaf of one's own log.
    pub fn verify_pinned(self, pin: &LogHash) -> Result<Signed<Root>, RecordError> {
        if self.leaf() != *pin {
            return Err(RecordError::Chain(format!("the root is {}, and {pin} is pinned", self.leaf())));
        }
        self.verify_own()
    }

    /// Takes the root that follows `old`.
    pub fn verify_next(self, old: &Signed<Root>) -> Result<Signed<Root>, RecordError> {
        old.record().root.check(self.note(), "previous root")?;
        let signed = self.verify_own()?;
        let (old_root, new) = (old.record(), signed.record());
        let refuse = |reason: String| Err(RecordError::Chain(reason));
        if new.origin != old_root.origin {
            return refuse(format!("the root is of {}, not of {}", new.origin, old_root.origin));
        }
        if Some(new.version) != old_root.version.checked_add(1) {
            return refuse(format!(
                "root version {} does not follow version {}",
                new.version, old_root.version
            ));
        }
        if new.prev != Some(old.leaf()) {
            return refuse(format!(
                "root version {} was made for another version {}",
                new.version, old_root.version
            ));
        }
        Ok(signed)
    }

    /// Checks that enough of the root's own root keys have signed it. That says nothing about who they are.
    pub fn verify_own(self) -> Result<Signed<Root>, RecordError> {
        let root = self.claims()?;
        root.root.check(self.note(), "root")?;
        Ok(self.into_signed(root))
    }
}

impl NoteRecord for Root {
    const HEADER: &'static str = "smart-sync/root/v1";

    fn parse(text: &str) -> Result<Self, RecordError> {
        let mut lines = Lines::open(Self::HEADER, text)?;
        let origin = lines.parse("origin")?;
        let version = lines.number("version")?;
        let prev = lines.hash_or_none("prev")?;
        let expires = lines.time("expires")?;
        let max_age_seconds = lines.number("max-age")?;
        let mut role = |key| {
            let text = lines.value(key)?;
            Role::parse(&lines, text)
        };
        let (root, log, clock) = (role("role root")?, role("role log")?, role("role clock")?);
        let witness = match lines.value_if("role witness") {
            Some(text) => Some(Role::parse(&lines, text)?),
            None => None,
        };
        let mut publish = Vec::new();
        while let Some(text) = lines.value_if("role publish") {
            let (pattern, role) = text.split_once(' ').ok_or_else(|| lines.refuse("a role without keys"))?;
            publish
                .push(PublishRole { pattern: lines.as_parsed(pattern)?, role: Role::parse(&lines, role)? });
        }
        let mut revoked = Vec::new();
        while let Some(text) = lines.value_if("revoke") {
            let [key, after, index] = lines.as_parts(text)?;
            if after != "after" {
                return Err(lines.refuse("expected `revoke KEY after INDEX`"));
            }
            revoked.push(Revocation { key: lines.as_parsed(key)?, after: lines.as_number(index)? });
        }
        let root = Self {
            origin,
            version,
            prev,
            expires,
            max_age_seconds,
            root,
            log,
            clock,
            witness,
            publish,
            revoked,
        };
        root.check(&lines)?;
        lines.finish()?;
        Ok(root)
    }

    fn to_text(&self) -> String {
        use std::fmt::Write;
        let mut text = format!(
            "{}\norigin {}\nversion {}\nprev {}\nexpires {}\nmax-age {}\nrole root {}\nrole log {}\nrole clock {}\n",
            Self::HEADER,
            self.origin,
            self.version,
            or_none(self.prev.as_ref()),
            self.expires.seconds(),
            self.max_age_seconds,
            self.root.to_text(),
            self.log.to_text(),
            self.clock.to_text(),
        );
        if let Some(witness) = &self.witness {
            let _ = writeln!(text, "role witness {}", witness.to_text());
        }
        for publish in &self.publish {
            let _ = writeln!(text, "role publish {} {}", publish.pattern, publish.role.to_text());
        }
        for revocation in &self.revoked {
            let _ = writeln!(text, "revoke {} after {}", revocation.key, revocation.after);
        }
        text
    }
}
