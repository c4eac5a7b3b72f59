//! Compressors and decoders that are used again: memory for a new one costs as much as the work on a small frame.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What nobody uses at the moment. There is never more of it than there were threads at once.
pub(super) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Lends one to `work`, a new one if none is there.
    pub(super) fn lend<R>(&self, make: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let idle = self.idle().pop();
        let mut lent = idle.unwrap_or_else(make);
        let result = work(&mut lent);
        self.idle().push(lent);
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.idle().len())
    }
}
