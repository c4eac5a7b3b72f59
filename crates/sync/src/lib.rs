//! Trust, manifests in motion, applying.

pub mod name;
pub mod time;
