//! The point before each effect on a file system.
//!
//! Every change that applying makes on disk is announced here first, in the one place that makes it
//! ([`TreeDir`](super::tree_dir::TreeDir)). Nothing listens in production; a test that stops at every step, or
//! lets every write fail, meets the very code that runs on a host.

use std::fmt;
use std::io;
use std::sync::Arc;

type Listener = dyn Fn(&'static str) -> io::Result<()> + Send + Sync;

/// Who is asked before each effect.
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<Listener>>);

impl Steps {
    /// Asks `listener` before each effect, which does not happen if the answer is an error.
    pub fn heard_by(listener: impl Fn(&'static str) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// Announces the effect that is about to happen.
    pub(super) fn before(&self, effect: &'static str) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |listener| listener(effect))
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Steps(heard)" } else { "Steps" })
    }
}
