//! Tokens: who may read what is private, and who may publish.
//!
//! A token is 32 random bytes. Only its SHA-256 is kept: a copy of the file lets nobody in, and a fast hash is
//! enough because what is hashed cannot be guessed. The file is read anew whenever it changes, so that a token is
//! made or withdrawn without a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smart_sync_store::id::to_hex;
use smart_sync_sync::name::Channel;
use smart_sync_sync::wire::report::HostName;

use crate::durable;

const PREFIX: &str = "sst_";

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    /// Reading private channels.
    Read,
    /// Uploading and publishing; the publication itself needs a signature too.
    Publish,
    /// Uploading root documents.
    Admin,
    /// Reporting how a host stands.
    Report,
    /// Reading what hosts have reported.
    Hosts,
}

/// A token as it is kept.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Token {
    /// For people: whose it is.
    pub(crate) name: String,
    /// SHA-256 of the token's text.
    pub(crate) sha256: String,
    /// What it allows.
    pub(crate) verbs: Vec<Verb>,
    /// A channel, or everything below a channel that ends in `/`; empty for all.
    pub(crate) prefix: String,
    /// The only host that it is about, of verbs that are about hosts; nothing for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<HostName>,
    /// When it ends, in seconds since 1970.
    pub(crate) expires: u64,
}

impl Token {
    /// Whether the token allows this now. A prefix matches whole components: `nixos` is not `nixos-evil`.
    pub(crate) fn allows(&self, verb: Verb, channel: &Channel, now: u64) -> bool {
        now < self.expires && self.verbs.contains(&verb) && self.covers(channel)
    }

    /// Whether the token allows this of a host now. Hosts are in no channel, so that the prefix does not count.
    pub(crate) fn allows_of_host(&self, verb: Verb, host: &HostName, now: u64) -> bool {
        let covers = self.host.as_ref().is_none_or(|only| only == host);
        now < self.expires && self.verbs.contains(&verb) && covers
    }

    fn covers(&self, channel: &Channel) -> bool {
        let channel = channel.as_str();
        match self.prefix.strip_suffix('/') {
            None => self.prefix.is_empty() || channel == self.prefix,
            Some(_) => channel.starts_with(&self.prefix),
        }
    }
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default, rename = "token")]
    tokens: Vec<Token>,
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Nobody who says so.
    Anonymous,
    /// The holder of this token.
    Holder(Arc<Token>),
}

impl Caller {
    /// Whether this caller may do this.
    pub(crate) fn allows(&self, verb: Verb, channel: &Channel, now: u64) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Holder(token) => token.allows(verb, channel, now),
        }
    }
}

/// The tokens of a server.
pub(crate) struct TokenStore {
    path: PathBuf,
    cached: Mutex<Option<(fs::Metadata, Vec<Arc<Token>>)>>,
}

impl TokenStore {
    /// The tokens in this file, which need not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, cached: Mutex::new(None) }
    }

    /// Makes a token and returns its text, which is not kept.
    pub(crate) fn create(
        &self,
        name: String,
        verbs: Vec<Verb>,
        prefix: String,
        host: Option<HostName>,
        expires: u64,
    ) -> anyhow::Result<String> {
        let mut file = self.load()?;
        if file.tokens.iter().any(|token| token.name == name) {
            bail!("there is a token named {name:?} already; revoke it first or take another name");
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).context("asking the system for random bytes")?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        file.tokens.push(Token { name, sha256: hash(&text), verbs, prefix, host, expires });
        self.save(&file)?;
        Ok(text)
    }

    /// Removes a token by its name.
    pub(crate) fn revoke(&self, name: &str) -> anyhow::Result<()> {
        let mut file = self.load()?;
        let before = file.tokens.len();
        file.tokens.retain(|token| token.name != name);
        if file.tokens.len() == before {
            bail!("there is no token named {name:?}; `smart-sync-server token list` shows them");
        }
        self.save(&file)
    }

    /// All tokens.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Token>> {
        Ok(self.load()?.tokens)
    }

    /// The token with this text, if it is known. It may be expired: what it allows is asked with the time.
    pub(crate) fn find(&self, text: &str) -> anyhow::Result<Option<Arc<Token>>> {
        // Hashes of unguessable texts are compared, so how long the comparison takes tells nothing.
        let hash = hash(text);
        Ok(self.current()?.iter().find(|token| token.sha256 == hash).cloned())
    }

    fn current(&self) -> anyhow::Result<Vec<Arc<Token>>> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.path.display())),
        };
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, tokens)) = &*cached
            && is_same_file(known, &metadata)
        {
            return Ok(tokens.clone());
        }
        let tokens: Vec<_> = self.load()?.tokens.into_iter().map(Arc::new).collect();
        *cached = Some((metadata, tokens.clone()));
        Ok(tokens)
    }

    fn load(&self) -> anyhow::Result<TokenFile> {
        match fs::read_to_string(&self.path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("in {}", self.path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(TokenFile::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", self.path.display())),
        }
    }

    fn save(&self, file: &TokenFile) -> anyhow::Result<()> {
        let text = toml::to_string(file).context("writing the tokens")?;
        durable::write_private(&self.path, text.as_bytes())
    }
}

/// The file is replaced by a rename, never written in place, so a change shows in its inode or its time.
fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    one.ino() == other.ino()
        && one.len() == other.len()
        && (one.mtime(), one.mtime_nsec()) == (other.mtime(), other.mtime_nsec())
}

fn hash(text: &str) -> String {
    to_hex(&Sha256::digest(text.as_bytes()))
}

/// Checks a prefix as an operator types it.
pub(crate) fn check_prefix(prefix: &str) -> anyhow::Result<()> {
    let channel = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() {
        channel.parse::<Channel>().with_context(|| {
            format!("{prefix:?} is neither a channel (repos/nixos) nor a prefix that ends in / (repos/)")
        })?;
    }
    Ok(())
}

/// The path of the file of tokens in a data directory.
pub(crate) fn path_in(data: &Path) -> PathBuf {
    data.join("tokens.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(prefix: &str) -> Token {
        Token {
            name: "test".into(),
            sha256: String::new(),
            verbs: vec![Verb::Publish],
            prefix: prefix.into(),
            host: None,
            expires: 100,
        }
    }

    #[track_caller]
    fn check(prefix: &str, channel: &str, expected: bool) {
        let channel = channel.parse().unwrap();
        assert_eq!(token(prefix).allows(Verb::Publish, &channel, 99), expected, "{prefix:?} {channel}");
    }

    #[test]
    fn a_prefix_matches_whole_components() {
        check("", "repos/nixos", true);
        check("repos/", "repos/nixos", true);
        check("repos/", "repos-evil/nixos", false);
        check("repos/nixos", "repos/nixos", true);
        check("repos/nixos", "repos/nixos-evil", false);
        check("repos/nixos", "repos/nixos/sub", false);
        check("repos/nixos/", "repos/nixos/sub", true);
    }

    #[test]
    fn a_token_has_verbs_and_an_end() {
        let channel = "repos/nixos".parse().unwrap();
        assert!(!token("").allows(Verb::Read, &channel, 99));
        assert!(!token("").allows(Verb::Publish, &channel, 100));
    }

    #[test]
    fn a_token_of_one_host_is_about_no_other() {
        let (web, other) = ("web1".parse().unwrap(), "web10".parse().unwrap());
        let of = |host: Option<&HostName>| Token {
            verbs: vec![Verb::Report],
            host: host.cloned(),
            ..token("repos/")
        };
        assert!(of(None).allows_of_host(Verb::Report, &other, 99));
        assert!(of(Some(&web)).allows_of_host(Verb::Report, &web, 99));
        assert!(!of(Some(&web)).allows_of_host(Verb::Report, &other, 99));
        assert!(!of(Some(&web)).allows_of_host(Verb::Hosts, &web, 99));
        assert!(!of(Some(&web)).allows_of_host(Verb::Report, &web, 100));
        // One that was made before there were such verbs.
        let old = "[[token]]\nname = \"a\"\nsha256 = \"\"\nverbs = [\"read\"]\nprefix = \"\"\nexpires = 1\n";
        let old: TokenFile = toml::from_str(old).unwrap();
        assert_eq!(old.tokens[0].host, None);
    }

    #[test]
    fn tokens_are_found_by_their_text_and_kept_as_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(path_in(dir.path()));
        assert!(store.find("sst_x").unwrap().is_none());
        let text = store.create("ci".into(), vec![Verb::Publish], "repos/".into(), None, 100).unwrap();
        assert!(!fs::read_to_string(path_in(dir.path())).unwrap().contains(&text));
        assert_eq!(store.find(&text).unwrap().unwrap().name, "ci");
        assert!(store.create("ci".into(), vec![], String::new(), None, 1).is_err());
        store.revoke("ci").unwrap();
        assert!(store.find(&text).unwrap().is_none());
        assert!(store.revoke("ci").is_err());
    }
}
