//! Trust, manifests in motion, applying.

pub mod key;
pub mod name;
pub mod note;
pub mod time;
