//! Answers that are kept, so that asking again costs little.
//!
//! What an object id names never changes and is not asked for twice; what a ref name stands for is asked for with the
//! name of the version that is kept. A file here may vanish or be broken at any time and is then one that was never
//! there, so writing it needs to be atomic but not durable.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use smart_sync_store::id::ObjectId;

/// How many answers are kept.
const ANSWERS_MAX: usize = 256;
/// How large a file may be that is read back.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A folder of answers.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// An answer that is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept<T> {
    /// What was asked for; a file with another question in it is not the answer.
    question: String,
    /// The name of the version, for what can change.
    pub(super) etag: Option<String>,
    /// The answer.
    pub(super) answer: T,
}

impl Cache {
    /// Uses this folder, which is made when something is kept. The last part names the version of its files.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.join("answers-v1") }
    }

    /// The answer that is kept, if it is there and whole.
    pub(super) fn get<T: DeserializeOwned>(&self, question: &str) -> Option<Kept<T>> {
        let path = self.path(question);
        if std::fs::metadata(&path).ok()?.len() > ANSWER_BYTES_MAX {
            return None;
        }
        let kept: Kept<T> = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (kept.question == question).then_some(kept)
    }

    /// Keeps an answer. That it cannot be kept costs a request another time, and nothing else.
    pub(super) fn put<T: Serialize>(&self, question: &str, etag: Option<String>, answer: T) {
        if let Err(error) = self.try_put(question, etag, answer) {
            tracing::debug!(folder = %self.folder.display(), %error, "an answer could not be kept");
        }
    }

    fn try_put<T: Serialize>(&self, question: &str, etag: Option<String>, answer: T) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let kept = Kept { question: question.to_owned(), etag, answer };
        let path = self.path(question);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&temporary, serde_json::to_vec(&kept)?)?;
        std::fs::rename(temporary, path)?;
        self.prune()
    }

    /// Drops the answers that were kept longest ago.
    fn prune(&self) -> std::io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        let surplus = files.len().saturating_sub(ANSWERS_MAX);
        files.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
    }

    fn path(&self, question: &str) -> PathBuf {
        self.folder.join(ObjectId::of(question.as_bytes()).to_string()).with_extension("json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_answer_is_one_that_was_never_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        cache.put("a", Some("\"1\"".to_owned()), 7);
        let kept: Kept<u32> = cache.get("a").unwrap();
        assert_eq!((kept.etag.as_deref(), kept.answer), (Some("\"1\""), 7));
        assert!(cache.get::<u32>("b").is_none());
        std::fs::copy(cache.path("a"), cache.path("b")).unwrap();
        assert!(cache.get::<u32>("b").is_none(), "the answer to another question was taken");
        std::fs::write(cache.path("a"), "{\"question\":\"a\",\"ans").unwrap();
        assert!(cache.get::<u32>("a").is_none());
    }

    #[test]
    fn no_more_than_a_bounded_number_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        for number in 0..ANSWERS_MAX + 3 {
            cache.put(&number.to_string(), None, number);
        }
        assert_eq!(std::fs::read_dir(&cache.folder).unwrap().count(), ANSWERS_MAX);
    }
}
