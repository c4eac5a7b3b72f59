//! Trust, manifests in motion, applying.

pub mod apply;
pub mod bundle;
pub mod confined;
pub mod evidence;
pub mod exclude;
pub mod fetch_plan;
pub mod ingest;
pub mod key;
pub mod kinds;
pub mod log;
pub mod name;
pub mod note;
pub mod openpgp;
pub mod publish;
pub mod record;
pub mod source;
pub mod sums;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod trust;
pub mod wire;
