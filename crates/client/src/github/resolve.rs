//! From what was asked for to a commit and its tree.
//!
//! One small request where the ref is known already: it names the version that is kept, and the answer "not modified"
//! costs nothing of the rate limit. What stands below an object id is asked for once.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smart_sync_store::id::{CommitId, TreeId};

use smart_sync_sync::name::{RefName, RefQuery, RefText, TypedRef};

use super::address::encode_path;
use super::error::{SourceError, excerpt};
use super::http::{Answer, Request, not_the_api};
use super::{Api, Head};
use crate::reference::is_abbreviation;

/// The largest answer about a ref, a tag or a commit of git's own.
const OBJECT_BYTES_MAX: u64 = 1 << 20;
/// The largest answer about a commit with its changes.
const COMMIT_BYTES_MAX: u64 = 16 << 20;
/// How many tags of tags are followed.
const TAG_DEPTH_MAX: usize = 8;
/// What asks for JSON.
pub(super) const JSON: &str = "application/vnd.github+json";

/// Something that an id names.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Object {
    #[serde(rename = "type")]
    kind: String,
    sha: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct RefAnswer {
    #[serde(rename = "ref")]
    name: String,
    object: Object,
}

#[derive(Debug, Serialize, Deserialize)]
struct TagAnswer {
    object: Object,
}

/// A commit, in either of the two shapes in which the API shows one.
#[derive(Debug, Serialize, Deserialize)]
struct CommitAnswer {
    sha: String,
    tree: Option<TreeAnswer>,
    commit: Option<InnerCommit>,
}

#[derive(Debug, Serialize, Deserialize)]
struct InnerCommit {
    tree: TreeAnswer,
}

#[derive(Debug, Serialize, Deserialize)]
struct TreeAnswer {
    sha: String,
}

impl Api {
    /// Finds the commit that is meant.
    pub(super) async fn resolve(&self, requested: &RefQuery) -> Result<Head, SourceError> {
        let found = match &requested.reference {
            TypedRef::Exact(RefName::Commit(id)) => return self.head(*id, requested).await,
            TypedRef::Exact(name) => self.of_ref(&below_refs(name)).await?,
            TypedRef::Bare(name) => match name.as_str().strip_prefix("refs/") {
                Some(other) => self.of_ref(other).await?,
                None => match self.of_branch_or_tag(name).await? {
                    Some(object) => Some(object),
                    None => return self.by_any_name(name.as_str(), requested).await,
                },
            },
        };
        let object = found.ok_or_else(|| self.no_such(requested))?;
        self.head(self.peel(object, requested).await?, requested).await
    }

    async fn of_branch_or_tag(&self, name: &RefText) -> Result<Option<Object>, SourceError> {
        match self.of_ref(&format!("heads/{name}")).await? {
            Some(object) => Ok(Some(object)),
            None => self.of_ref(&format!("tags/{name}")).await,
        }
    }

    /// What a ref names; nothing where there is no ref of exactly this name.
    async fn of_ref(&self, name: &str) -> Result<Option<Object>, SourceError> {
        let path = format!("git/ref/{}", encode_path(name.as_bytes()));
        // Some servers answer a name that is not there with all that begin with it.
        let answer: Option<serde_json::Value> = self.changeable(&path).await?;
        let answer = answer.and_then(|answer| serde_json::from_value::<RefAnswer>(answer).ok());
        Ok(answer.filter(|answer| answer.name == format!("refs/{name}")).map(|answer| answer.object))
    }

    /// Follows tags of their own to what they are put on.
    async fn peel(&self, mut object: Object, requested: &RefQuery) -> Result<CommitId, SourceError> {
        for _ in 0..TAG_DEPTH_MAX {
            match object.kind.as_str() {
                "commit" => return self.parse_id(&object.sha),
                "tag" => {
                    let path = format!("git/tags/{}", self.parse_id::<CommitId>(&object.sha)?);
                    let answer: Option<TagAnswer> = self.unchanging(&path, OBJECT_BYTES_MAX).await?;
                    object = answer
                        .ok_or_else(|| SourceError::Absent(format!("tag object {}", object.sha)))?
                        .object;
                }
                _ => break,
            }
        }
        let found = excerpt(object.kind.as_bytes());
        Err(SourceError::NotACommit { reference: requested.to_string(), found })
    }

    /// A commit and its tree.
    async fn head(&self, commit: CommitId, requested: &RefQuery) -> Result<Head, SourceError> {
        let mut answer: Option<CommitAnswer> =
            self.unchanging(&format!("git/commits/{commit}"), OBJECT_BYTES_MAX).await?;
        if answer.is_none() {
            answer = self.unchanging(&format!("commits/{commit}"), COMMIT_BYTES_MAX).await?;
        }
        let head = self.parse_commit(&answer.ok_or_else(|| self.no_such(requested))?)?;
        if head.commit == commit {
            return Ok(head);
        }
        Err(not_the_api(self.address.api_base(), &format!("commit {} instead of {commit}", head.commit)))
    }

    /// Asks for whatever the server takes the name for: the beginning of a commit id, as a rule.
    async fn by_any_name(&self, name: &str, requested: &RefQuery) -> Result<Head, SourceError> {
        let path = format!("commits/{}", encode_path(name.as_bytes()));
        let answer: Option<CommitAnswer> = self.json(&path, COMMIT_BYTES_MAX).await?;
        let head = self.parse_commit(&answer.ok_or_else(|| self.no_such(requested))?)?;
        if is_abbreviation(name) && !head.commit.to_string().starts_with(&name.to_ascii_lowercase()) {
            return Err(self.no_such(requested));
        }
        Ok(head)
    }

    fn parse_commit(&self, answer: &CommitAnswer) -> Result<Head, SourceError> {
        let tree = answer.tree.as_ref().or(answer.commit.as_ref().map(|commit| &commit.tree));
        let tree = tree.ok_or_else(|| not_the_api(self.address.api_base(), "a commit without a tree"))?;
        Ok(Head { commit: self.parse_id(&answer.sha)?, tree: self.parse_id::<TreeId>(&tree.sha)? })
    }

    fn parse_id<T: std::str::FromStr<Err = smart_sync_store::id::ParseIdError>>(
        &self,
        text: &str,
    ) -> Result<T, SourceError> {
        text.parse().map_err(|error: smart_sync_store::id::ParseIdError| {
            not_the_api(self.address.api_base(), &excerpt(error.to_string().as_bytes()))
        })
    }

    fn no_such(&self, requested: &RefQuery) -> SourceError {
        SourceError::NoSuchRef { reference: requested.to_string(), repository: self.address.to_string() }
    }

    /// An answer that an object id names, from the cache where it is there.
    async fn unchanging<T: DeserializeOwned + Serialize>(
        &self,
        path: &str,
        limit: u64,
    ) -> Result<Option<T>, SourceError> {
        let question = self.address.api(path).to_string();
        if let Some(kept) = self.cache.get::<T>(&question) {
            return Ok(Some(kept.answer));
        }
        let Some(answer) = self.json::<T>(path, limit).await? else { return Ok(None) };
        self.cache.put(&question, None, &answer);
        Ok(Some(answer))
    }

    /// An answer that may change; the version that is kept is named.
    async fn changeable<T: DeserializeOwned + Serialize>(
        &self,
        path: &str,
    ) -> Result<Option<T>, SourceError> {
        let question = self.address.api(path).to_string();
        let kept = self.cache.get::<T>(&question);
        let etag = kept.as_ref().and_then(|kept| kept.etag.clone());
        let request = Request { url: self.address.api(path), accept: JSON, etag };
        match (self.http.get(&request, OBJECT_BYTES_MAX).await?, kept) {
            (Answer::NotModified, Some(kept)) => Ok(Some(kept.answer)),
            (Answer::NotModified, None) => {
                Err(not_the_api(&request.url, "not modified, though nothing is known"))
            }
            (Answer::Absent, _) => Ok(None),
            (Answer::Body { bytes, etag }, _) => {
                let answer = parse_json(&request, &bytes)?;
                self.cache.put(&question, etag, &answer);
                Ok(Some(answer))
            }
        }
    }

    /// An answer in JSON; nothing where there is no such thing.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: u64,
    ) -> Result<Option<T>, SourceError> {
        let request = Request { url: self.address.api(path), accept: JSON, etag: None };
        match self.http.get(&request, limit).await? {
            Answer::Body { bytes, .. } => parse_json(&request, &bytes).map(Some),
            Answer::Absent | Answer::NotModified => Ok(None),
        }
    }
}

/// Where git keeps a ref, below `refs/`.
pub(super) fn below_refs(name: &RefName) -> String {
    match name {
        RefName::Branch(name) => format!("heads/{name}"),
        RefName::Tag(name) => format!("tags/{name}"),
        RefName::Commit(id) => id.to_string(),
    }
}

fn parse_json<T: DeserializeOwned>(request: &Request, bytes: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if error.is_data() {
            error.to_string()
        } else {
            format!("not JSON, it begins with {}", excerpt(bytes))
        };
        not_the_api(&request.url, &excerpt(what.as_bytes()))
    })
}
