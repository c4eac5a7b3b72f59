//! Trust, manifests in motion, applying.

pub mod evidence;
pub mod key;
pub mod log;
pub mod name;
pub mod note;
pub mod record;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod trust;
