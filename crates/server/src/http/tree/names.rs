//! Other names of the files of a tree, which its kind knows: see [`smart_sync_sync::kinds::OtherNames`].
//!
//! They are learnt from a file of the tree, once for each tree that somebody asks for by such a name; a few trees that
//! were asked for last are remembered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt as _;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Found, Manifest, TreePath};
use smart_sync_sync::kinds::{Located, Names, OtherNames};
use tokio::sync::{OnceCell, Semaphore};

use super::super::problem::Problem;
use super::TreeView;
use super::resolve::read_problem;
use crate::realm::pages::StorePages;

/// The number of trees whose names are remembered.
const TREES_MAX: usize = 8;

type Learnt = Arc<OnceCell<Option<Arc<dyn Names>>>>;

/// The names that were learnt.
pub(crate) struct NamesCache {
    trees: Mutex<VecDeque<(ManifestId, Learnt)>>,
    /// Who reads a tree has a turn.
    turn: Semaphore,
}

impl Default for NamesCache {
    fn default() -> Self {
        Self { trees: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl NamesCache {
    fn of(&self, manifest: ManifestId) -> Learnt {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let at = trees.iter().position(|(known, _)| *known == manifest);
        let entry = at.and_then(|at| trees.remove(at)).unwrap_or_else(|| (manifest, Learnt::default()));
        let learnt = Arc::clone(&entry.1);
        trees.push_back(entry);
        if trees.len() > TREES_MAX {
            trees.pop_front();
        }
        learnt
    }
}

impl TreeView {
    /// What a path means at which nothing stands, if the kind of the tree knows.
    pub(super) async fn locate(&self, path: &[u8]) -> Result<Option<Located>, Problem> {
        let Some(kind) = self.other_names else { return Ok(None) };
        if let Some(located) = kind.locate(path) {
            return Ok(Some(located));
        }
        if !kind.is_learnt(path) {
            return Ok(None);
        }
        let learnt = self.names.of(self.manifest);
        let names = learnt.get_or_try_init(|| self.learn(kind)).await?;
        Ok(names.as_ref().and_then(|names| names.find(path)).map(Located::File))
    }

    async fn learn(&self, kind: &'static dyn OtherNames) -> Result<Option<Arc<dyn Names>>, Problem> {
        // Whoever asks for many trees in turn has them read one after the other.
        let _turn = self.names.turn.acquire().await.map_err(|error| Problem::Fault(error.into()))?;
        let (file, bytes_max) = kind.learnt_from();
        let view = self.clone();
        let found = tokio::task::spawn_blocking(move || {
            let pages = StorePages::new(Arc::clone(&view.store), view.domain.clone());
            let manifest = Manifest::open(pages, view.manifest, None).map_err(read_problem)?;
            let path = TreePath::new(file.as_bytes()).map_err(|error| Problem::Fault(error.into()))?;
            match manifest.find(&path).map_err(read_problem)? {
                Some(Found::Entry(entry)) => Ok::<_, Problem>(entry.content().copied()),
                _ => Ok(None),
            }
        })
        .await
        .map_err(|error| Problem::Fault(error.into()))??;
        let Some(content) = found.filter(|content| content.size <= bytes_max) else { return Ok(None) };
        let stream = self.store.read_content(&self.domain, content, 0..content.size);
        let pieces: Vec<bytes::Bytes> =
            stream.try_collect().await.map_err(|error| Problem::Fault(error.into()))?;
        let names = tokio::task::spawn_blocking(move || kind.read(&pieces.concat()));
        let names = names.await.map_err(|error| Problem::Fault(error.into()))?;
        Ok(names.map(Arc::from))
    }
}
